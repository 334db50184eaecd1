//! Policies, keys and bound runs over HTTP.

use std::time::Duration;

use reqwest::Method;
use segue_engine::Settings;
use serde_json::{Value, json};

use crate::support::{Host, Reply, Setup, Sse, host, read, text, texts};

const RUNS: &str = "/v1/sessions/s/runs";

async fn keyed(host: &Host, key: &str, body: &Value) -> Reply {
    let request = host.request(Method::POST, RUNS).header("idempotency-key", key);
    read(request.json(body)).await
}

#[tokio::test]
async fn e06_each_state_of_a_run_has_its_own_answer() {
    let host = Host::start(Setup { run_cap: Some(4), ..Setup::default() }).await;
    let status =
        async |run: &str| host.get(&format!("/v1/runs/{run}")).await.json()["status"].clone();
    host.get("/v1/runs/nobody").await.problem(404, "not_found");
    host.get("/v1/runs/nobody/events").await.problem(404, "not_found");
    host.post(RUNS, &json!({"agent": "push", "run_id": "a"})).await;
    host.post(RUNS, &json!({"agent": "push", "run_id": "b", "policy": "queue"})).await;
    assert_eq!((status("a").await, status("b").await), (json!("running"), json!("queued")));
    host.append_texts("a", 0..8).await;
    host.finish("a").await;
    assert_eq!(status("a").await, "finished");
    // What its beginning was is gone, and said to be.
    let gone = host.get("/v1/runs/a/events?after=a:1").await.problem(410, "cursor_trimmed");
    assert!(gone["available_from"].as_u64() > Some(2));
    host.end().await;
}

#[tokio::test]
async fn a_queued_run_is_shown_and_its_answer_can_wait_for_its_beginning() {
    let host = host().await;
    host.post(RUNS, &json!({"agent": "push", "run_id": "a"})).await;
    let body = json!({"agent": "push", "run_id": "b", "policy": "queue", "wait": "started"});
    let finishing = async {
        while host.get("/v1/runs/b").await.status != 200 {
            tokio::task::yield_now().await;
        }
        assert_eq!(host.get("/v1/runs?status=queued").await.json()["data"][0]["id"], "b");
        let early = host.append("b", &text("early")).await;
        early.problem(503, "retry");
        host.finish("a").await;
    };
    let (started, ()) = tokio::join!(host.post(RUNS, &body), finishing);
    let run = started.json();
    assert_eq!((started.status, &run["status"]), (202, &json!("running")));
    assert!(run["started_at"].as_str() >= run["created_at"].as_str());
    host.append_texts("b", 0..1).await;
    host.finish("b").await;
    let events = host.log("b").await;
    assert_eq!(
        (&events[0]["type"], &events[1]["type"]),
        (&json!("run.queued"), &json!("run.started"))
    );
    host.end().await;
}

#[tokio::test]
async fn e10_a_key_makes_a_start_safe_to_send_again() {
    let host = host().await;
    let body = json!({"agent": "push", "input": "hello", "metadata": {"a": 1, "b": 2}});
    let first = keyed(&host, "k", &body).await;
    assert_eq!(first.status, 202);
    let again =
        json!({"metadata": {"b": 2, "a": 1}, "input": "hello", "agent": "push", "wait": "started"});
    let again = keyed(&host, "k", &again).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]));
    assert_eq!(again.header("location"), first.header("location"));
    let run = first.json()["id"].as_str().expect("an id").to_owned();
    let differs = keyed(&host, "k", &json!({"agent": "push", "input": "bye"})).await;
    assert_eq!(differs.problem(422, "different_start")["run_id"], run);
    host.finish(&run).await;
    let ended = keyed(&host, "k", &body).await;
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("finished")));
    for bad in ["", " ", &"k".repeat(256)] {
        keyed(&host, bad, &body).await.problem(400, "bad_header");
    }
    let twice = host.request(Method::POST, RUNS).header("idempotency-key", "a");
    let twice = read(twice.header("idempotency-key", "b").json(&body)).await;
    twice.problem(400, "bad_header");
    host.end().await;
}

async fn bound(host: &Host, run: &str, key: Option<&str>) -> Sse {
    let body = json!({"agent": "waits", "run_id": run, "detached": false});
    let request = host.request(Method::POST, RUNS).header("accept", "text/event-stream");
    let request =
        key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    Sse::of(request.json(&body).send().await.expect("an answer"))
}

#[tokio::test]
async fn e09_a_bound_run_is_stopped_when_its_client_leaves() {
    let host = host().await;
    let mut client = bound(&host, "a", None).await;
    assert_eq!((client.status(), client.header("location")), (200, Some("/v1/runs/a/events")));
    client.take(1).await;
    let mut other = host.attach("a", "", None).await;
    other.take(1).await;
    drop(client);
    let rest = other.rest().await;
    let last = rest.last().expect("a terminal");
    assert_eq!((&last["type"], &last["reason"]), (&json!("run.stopped"), &json!("disconnected")));
    assert_eq!(texts(&rest), ["0 "], "the partial is stored once");
    host.end().await;
}

#[tokio::test]
async fn e09_a_bound_run_cannot_ask_to_outlive_the_server() {
    let host = host().await;
    for on_restart in ["start", "await"] {
        let body =
            json!({"agent": "push", "run_id": "a", "detached": false, "on_restart": on_restart});
        let request = host.request(Method::POST, RUNS).header("accept", "text/event-stream");
        read(request.json(&body)).await.problem(400, "malformed");
    }
    host.get("/v1/runs/a").await.problem(404, "not_found");
    host.end().await;
}

#[tokio::test]
async fn e09_only_the_response_that_started_it_binds_a_run() {
    let host = host().await;
    let mut first = bound(&host, "a", Some("k")).await;
    first.take(1).await;
    let mut again = bound(&host, "a", Some("k")).await;
    assert_eq!(again.status(), 200);
    again.take(1).await;
    drop(again);
    host.until_clients("a", 1).await;
    assert_eq!(host.get("/v1/runs/a").await.json()["status"], "running");
    drop(first);
    let events = host.attach("a", "", None).await.rest().await;
    assert_eq!(events.last().expect("a terminal")["reason"], "disconnected");
    host.end().await;
}

#[tokio::test]
async fn e09_a_bound_run_that_ends_is_not_told_otherwise() {
    let host = host().await;
    let body = json!({"agent": "demo", "params": {"speed": 0}, "detached": false});
    let request = host.request(Method::POST, RUNS).header("accept", "text/event-stream");
    let mut client = Sse::of(request.json(&body).send().await.expect("an answer"));
    let path = client.header("location").expect("a location").to_owned();
    client.rest().await;
    drop(client);
    let run = path.strip_suffix("/events").expect("the place of the stream");
    assert_eq!(host.get(run).await.json()["status"], "finished");
    host.end().await;
}

#[tokio::test]
async fn e09_a_bound_run_that_waits_is_stopped_as_well() {
    let host = host().await;
    host.post(RUNS, &json!({"agent": "push", "run_id": "a"})).await;
    let body = json!({"agent": "push", "run_id": "b", "policy": "queue", "wait": "started", "detached": false});
    let request = host.request(Method::POST, RUNS).header("accept", "text/event-stream");
    let queued = async {
        while host.get("/v1/runs/b").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    // The client leaves while its answer is held.
    tokio::select! {
        _ = request.json(&body).send() => panic!("the run has not started"),
        () = queued => {}
    }
    let events = host.attach("b", "", None).await.rest().await;
    assert_eq!(events.last().expect("a terminal")["reason"], "disconnected");
    host.end().await;
}

#[tokio::test]
async fn k05_a_stop_may_come_before_its_run() {
    let host = host().await;
    let pending = host.post("/v1/runs/mine/stop", &json!({})).await.json();
    assert_eq!(pending, json!({"stopped": false, "status": "pending"}));
    let other = host.post("/v1/runs/else/stop", &json!({"run_id": "mine2"})).await;
    other.problem(404, "not_found");
    let start = host.post(RUNS, &json!({"agent": "push", "run_id": "mine"})).await;
    assert_eq!((start.status, &start.json()["status"]), (202, &json!("stopped")));
    assert_eq!(start.json()["reason"], "user");
    for garbage in [
        json!({"wait": "long"}),
        json!({"wait": -1}),
        json!({"run_id": "a/b"}),
        json!({"reason": "user"}),
    ] {
        let reply = host.post("/v1/runs/mine/stop", &garbage).await;
        assert_eq!(reply.status, 400, "{garbage}: {}", reply.text);
    }
    host.end().await;
}

#[tokio::test]
async fn k09_the_longest_wait_of_a_stop_is_bounded() {
    let stop_wait = Duration::from_millis(30);
    let settings = Settings { stop_wait, ..Setup::default().settings };
    let settings = Settings { grace: Duration::from_hours(1), ..settings };
    let host = Host::start(Setup { settings, ..Setup::default() }).await;
    let run = host.run("push").await;
    let stop = host.post(&format!("/v1/runs/{run}/stop"), &json!({"wait": 1e9})).await.json();
    assert_eq!(stop, json!({"stopped": true, "status": "stopping"}));
    host.finish(&run).await;
    host.end().await;
}

#[tokio::test]
async fn q03_what_comes_with_or_after_the_end_is_refused_and_the_end_is_last() {
    let host = host().await;
    let run = host.run("push").await;
    let mut tab = host.attach(&run, "", None).await;
    let after = json!([{"type": "run.finished"}, {"type": "data", "name": "title", "value": "x"}]);
    host.append(&run, &after).await.problem(400, "bad_event");
    assert_eq!(host.get(&format!("/v1/runs/{run}")).await.json()["status"], "running");
    host.append_texts(&run, 0..1).await;
    host.finish(&run).await;
    host.append(&run, &json!({"type": "data", "name": "title"})).await.problem(409, "run_ended");
    let events = tab.rest().await;
    assert_eq!(events.last().expect("a terminal")["type"], "run.finished");
    // A title that comes after the answer is the session's.
    let title = host.request(Method::PATCH, "/v1/sessions/s0").json(&json!({"title": "x"}));
    assert_eq!(read(title).await.json()["title"], "x");
    host.end().await;
}

#[tokio::test]
async fn q04_a_client_that_knows_only_the_end_or_only_the_status_settles_to_the_same() {
    let host = host().await;
    let run = host.run("push").await;
    let mut tab = host.attach(&run, "", None).await;
    host.finish(&run).await;
    let last = tab.rest().await.pop().expect("a terminal");
    let status = host.get(&format!("/v1/runs/{run}")).await.json();
    let over = host.attach(&run, &format!("?after={run}:{}", last["seq"]), None).await;
    assert_eq!(over.status(), 204);
    assert_eq!(over.header("segue-run-status"), last["status"].as_str());
    assert_eq!(status["status"], last["status"]);
    host.end().await;
}

#[tokio::test]
async fn q06_a_terminal_repeats_what_a_client_needs_to_settle() {
    let host = host().await;
    for agent in ["push", "fails", "waits"] {
        let run = host.run(agent).await;
        match agent {
            "push" => host.finish(&run).await,
            "waits" => drop(host.post(&format!("/v1/runs/{run}/stop"), &json!({})).await),
            _ => {}
        }
        let last = host.attach(&run, "", None).await.rest().await.pop().expect("a terminal");
        let view = host.get(&format!("/v1/runs/{run}")).await.json();
        assert_eq!((&last["message_id"], &last["status"]), (&view["message_id"], &view["status"]));
        assert_eq!(last["run_id"], run.as_str());
    }
    host.end().await;
}
