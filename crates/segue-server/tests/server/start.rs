//! Starting runs.

use serde_json::json;

use crate::support::{Sse, TOKEN, host, read, texts};

#[tokio::test]
async fn e03_a_start_is_answered_before_the_first_event_and_checked_at_once() {
    let host = host().await;
    let reply = host.post("/v1/sessions/s/runs", &json!({"agent": "waits"})).await;
    assert_eq!(reply.status, 202);
    let run = reply.json();
    let id = run["id"].as_str().expect("an id");
    assert_eq!(reply.header("location"), Some(format!("/v1/runs/{id}").as_str()));
    assert_eq!((&run["status"], &run["session_id"]), (&json!("running"), &json!("s")));
    assert_eq!(host.get(&format!("/v1/runs/{id}")).await.json()["status"], "running");
    for (body, status, code) in [
        (json!({"agent": "nobody"}), 400, "unknown_agent"),
        (json!({"agent": "a/b"}), 400, "malformed"),
        (json!({"agent": "push", "color": 1}), 400, "malformed"),
        (json!({"agent": 1}), 400, "malformed"),
        (json!({"agent": "push", "input": 1}), 400, "malformed"),
        (json!({"agent": "push", "metadata": []}), 400, "malformed"),
        (json!({"agent": "push", "limits": {"wall": 1}}), 400, "malformed"),
        (json!({"agent": "push", "run_id": ".."}), 400, "malformed"),
        (json!({"agent": "push", "policy": "overtake"}), 400, "malformed"),
        (json!({"agent": "push", "policy": 1}), 400, "malformed"),
        (json!({"agent": "push", "wait": "ended"}), 400, "malformed"),
        (json!({"agent": "push", "detached": "no"}), 400, "malformed"),
        (json!({"agent": "push", "detached": false}), 406, "not_acceptable"),
        (json!({"agent": "push", "on_restart": "begin"}), 400, "malformed"),
        (json!({"agent": "waits", "on_restart": "await"}), 400, "malformed"),
        (json!({"agent": "push", "limits": {"bytes": -1}}), 400, "malformed"),
        (json!({"agent": "push", "limits": {"idle_s": 1.5}}), 400, "malformed"),
        (json!({"agent": "push", "limits": {"events": 1e30}}), 400, "malformed"),
        (json!({"agent": "push", "limits": {"lease_s": "1"}}), 400, "malformed"),
        (json!({"agent": "push"}), 409, "session_busy"),
    ] {
        let reply = host.post("/v1/sessions/s/runs", &body).await;
        let problem = reply.problem(status, code);
        assert!(code != "session_busy" || problem["run_id"] == id);
    }
    host.end().await;
}

#[tokio::test]
async fn a_run_id_of_the_clients_own_is_used_once() {
    let host = host().await;
    let body = json!({"agent": "push", "run_id": "mine", "policy": "reject", "wait": "started"});
    assert_eq!(host.post("/v1/sessions/s/runs", &body).await.json()["id"], "mine");
    let same = host.post("/v1/sessions/s/runs", &body).await;
    assert_eq!((same.status, &same.json()["id"]), (200, &json!("mine")));
    let again = host.post("/v1/sessions/other/runs", &body).await;
    again.problem(409, "run_exists");
    host.end().await;
}

#[tokio::test]
async fn a_start_can_be_answered_with_the_stream_itself() {
    let host = host().await;
    let body = json!({"agent": "demo", "params": {"speed": 0}, "input": "hello"});
    let request = host.request(reqwest::Method::POST, "/v1/sessions/s/runs").json(&body);
    let response = request.header("accept", "text/event-stream").send().await.expect("an answer");
    let mut sse = Sse::of(response);
    assert_eq!(sse.status(), 200);
    let location = sse.header("location").expect("a location").to_owned();
    let events = sse.rest().await;
    assert_eq!(events.last().expect("a terminal")["type"], "run.finished");
    let run = location.strip_suffix("/events").expect("the place of the stream");
    assert_eq!(host.get(run).await.json()["status"], "finished");
    host.end().await;
}

#[tokio::test]
async fn a_source_in_the_request_needs_the_admin_token() {
    let host = host().await;
    let body = json!({"source": {"kind": "push"}});
    let path = "/v1/sessions/s/runs";
    host.post(path, &body).await.problem(403, "admin_only");
    let with = |token| host.request(reqwest::Method::POST, path).bearer_auth(token).json(&body);
    read(with("wrong")).await.problem(401, "bad_token");
    assert_eq!(read(with(TOKEN)).await.status, 202);
    let unknown = json!({"source": {"kind": "nothing"}});
    let request = host.request(reqwest::Method::POST, path).bearer_auth(TOKEN).json(&unknown);
    read(request).await.problem(400, "bad_source");
    host.end().await;
}

#[tokio::test]
async fn q01_a_producers_error_is_one_frame_then_the_end_and_replays_alike() {
    let host = host().await;
    let run = host.run("fails").await;
    let live = host.attach(&run, "", None).await.rest().await;
    assert_eq!(texts(&live), ["0 ", "1 "]);
    let errors: Vec<_> = live.iter().filter(|event| event["type"] == "run.failed").collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["error"]["code"], "upstream_error");
    assert_eq!(live.last(), errors.first().copied());
    assert_eq!(host.attach(&run, "", None).await.rest().await, live);
    let over = host.attach(&run, &format!("?after={run}:{}", live.len()), None).await;
    assert_eq!(over.header("segue-run-reason"), Some("upstream_error"));
    host.end().await;
}

#[tokio::test]
async fn q02_an_error_ends_every_client() {
    let host = host().await;
    let run = host.run("push").await;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        tabs.push(host.attach(&run, "", None).await);
    }
    let error = json!({"code": "boom", "message": "it broke"});
    host.append(&run, &json!({"type": "run.failed", "error": error})).await;
    for mut tab in tabs {
        let last = tab.rest().await.pop().expect("a terminal");
        assert_eq!((&last["type"], &last["error"]), (&json!("run.failed"), &error));
    }
    host.end().await;
}

#[tokio::test]
async fn q08_an_error_before_the_first_event_is_a_terminal_and_no_hang() {
    let host = host().await;
    let run = host.run("fails-at-once").await;
    let events = host.attach(&run, "", None).await.rest().await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[1]["type"], "run.failed");
    host.end().await;
}

#[tokio::test]
async fn q09_a_handler_that_panics_costs_its_own_request_only() {
    let host = host().await;
    let run = host.run("push").await;
    let mut tab = host.attach(&run, "", None).await;
    let body = json!({"source": {"kind": "panics"}});
    let request = host.request(reqwest::Method::POST, "/v1/sessions/other/runs");
    read(request.bearer_auth(TOKEN).json(&body)).await.problem(500, "internal");
    host.append_texts(&run, 0..1).await;
    host.finish(&run).await;
    assert_eq!(texts(&tab.rest().await), ["0 "]);
    let metrics = host.get("/metrics").await.text;
    assert!(metrics.contains("segue_handler_panics_total"));
    host.end().await;
}

#[tokio::test]
async fn runs_are_listed_by_what_is_asked_for() {
    let host = host().await;
    let ended = host.run("push").await;
    host.finish(&ended).await;
    let open = host.run("waits").await;
    let ids = async |query: &str| {
        let list = host.get(&format!("/v1/runs?{query}")).await.json();
        let data = list["data"].as_array().expect("a list").clone();
        data.iter().map(|run| run["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await.len(), 2);
    assert_eq!(ids("status=finished").await.join(""), ended);
    assert_eq!(ids("agent=waits").await.join(""), open);
    assert_eq!(ids("session=s0").await.join(""), ended);
    assert_eq!(ids("since=2999-01-01T00:00:00Z").await, Vec::<String>::new());
    host.get("/v1/runs?status=odd").await.problem(400, "bad_query");
    host.get("/v1/runs?since=yesterday").await.problem(400, "bad_query");
    host.get("/v1/runs?after=junk").await.problem(400, "bad_query");
    host.get("/v1/runs/nobody").await.problem(404, "not_found");
    let agents = host.get("/v1/agents").await.json();
    let push = json!({"name": "push", "kind": "push", "default": true});
    assert!(agents["data"].as_array().expect("a list").contains(&push));
    host.end().await;
}
