//! What is kept of ended runs, and sessions that are deleted, as clients see it.

use std::time::Duration;

use reqwest::Method;
use segue_engine::{Retain, Settings};
use serde_json::json;

use crate::support::{HANG, Host, Reply, Setup, TOKEN, host, read, texts};

/// A server that keeps one ended run whole.
async fn forgetful() -> Host {
    let retain = Retain { runs: 1, ..Retain::default() };
    Host::start(Setup { settings: Settings { retain, ..Settings::default() }, ..Setup::default() })
        .await
}

/// An ended run with five texts that is trimmed, and its last seq.
async fn trimmed(host: &Host) -> (String, u64) {
    let run = host.run("push").await;
    host.append_texts(&run, 0..5).await;
    host.finish(&run).await;
    let last = host.log(&run).await.len() as u64;
    let newer = host.run("push").await;
    host.finish(&newer).await;
    until(async || {
        let page = host.get(&format!("/v1/runs/{run}/events?after={run}:0")).await;
        page.status == 410
    })
    .await;
    (run, last)
}

async fn until(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, waiting).await.expect("it becomes so");
}

async fn delete(host: &Host, session: &str) -> Reply {
    let path = format!("/v1/sessions/{session}");
    read(host.request(Method::DELETE, &path).bearer_auth(TOKEN)).await
}

#[tokio::test]
async fn l08_a_cursor_of_a_trimmed_run_is_answered_as_gone() {
    let host = forgetful().await;
    let (run, last) = trimmed(&host).await;
    let gone = host.get(&format!("/v1/runs/{run}/events?after={run}:3")).await;
    let problem = gone.problem(410, "cursor_trimmed");
    assert_eq!(problem["available_from"], last);
    let link = problem["snapshot"].as_str().expect("a link");
    let page = host.get(link).await.json();
    assert_eq!(page["snapshot"]["message"]["parts"][0]["text"], "0 1 2 3 4 ");
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "its end");
    assert_eq!((&page["closed"], &page["status"]), (&json!(true), &json!("finished")));
    let view = host.get(&format!("/v1/runs/{run}")).await.json();
    assert_eq!((&view["status"], &view["last_seq"]), (&json!("finished"), &json!(last)));
    host.end().await;
}

#[tokio::test]
async fn a_trimmed_run_is_still_a_response_and_a_completion() {
    let host = forgetful().await;
    let (run, _) = trimmed(&host).await;
    let response = host.get(&format!("/openai/v1/responses/resp_{run}")).await.json();
    assert_eq!(response["output"][0]["content"][0]["text"], "0 1 2 3 4 ", "{response}");
    assert_eq!(response["status"], "completed");
    let chat = host.get(&format!("/openai/v1/chat/completions/chatcmpl-{run}")).await.json();
    let choice = &chat["choices"][0];
    assert_eq!(choice["message"]["content"], "0 1 2 3 4 ");
    assert_eq!(choice["finish_reason"], "stop");
    let stream = host.get(&format!("/openai/v1/responses/resp_{run}?stream=true")).await;
    assert_eq!((stream.status, &stream.json()["error"]["code"]), (410, &json!("cursor_trimmed")));
    host.end().await;
}

#[tokio::test]
async fn a_browser_with_an_old_id_gets_the_gap_the_message_and_the_end() {
    let host = forgetful().await;
    let (run, last) = trimmed(&host).await;
    for id in [Some(format!("{run}:2")), None] {
        let mut sse = host.attach(&run, "", id.as_deref()).await;
        let gap = sse.frame().await.expect("open");
        assert_eq!(gap.event.as_deref(), Some("control.gap"));
        let snapshot = sse.frame().await.expect("open");
        assert_eq!(snapshot.id, Some(format!("{run}:{}", last - 1)));
        assert_eq!(snapshot.json()["message"]["parts"][0]["text"], "0 1 2 3 4 ");
        let rest = sse.rest().await;
        assert_eq!((rest.len(), &rest[0]["type"]), (1, &json!("run.finished")));
    }
    let path = format!("/v1/runs/{run}/events");
    let request = host.request(Method::GET, &path).header("accept", "text/event-stream");
    let over = read(request.header("last-event-id", format!("{run}:{last}"))).await;
    assert_eq!((over.status, over.header("segue-run-status")), (204, Some("finished")));
    host.end().await;
}

/// While runs are trimmed as soon as they have ended, nobody without a cursor is told of one.
#[tokio::test]
async fn l05_an_attach_that_races_the_trim_is_answered() {
    let retain = Retain { age: Some(Duration::ZERO), ..Retain::default() };
    let settings = Settings { retain, ..Settings::default() };
    let host = Host::start(Setup { settings, ..Setup::default() }).await;
    for _ in 0..60 {
        let run = host.run("push").await;
        host.append_texts(&run, 0..3).await;
        let path = format!("/v1/runs/{run}/events?live=false");
        let attaches = async {
            let mut replies = Vec::new();
            for form in ["text/event-stream", "application/x-ndjson", "application/json"] {
                replies.push(read(host.request(Method::GET, &path).header("accept", form)).await);
            }
            replies
        };
        let ((), replies) = tokio::join!(host.finish(&run), attaches);
        for reply in replies {
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert!(reply.text.contains("0 "), "all of it or its message: {}", reply.text);
        }
    }
    host.end().await;
}

#[tokio::test]
async fn o04_a_deleted_session_is_unknown_at_once_and_its_clients_end() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..3).await;
    let mut sse = host.attach(&run, "", None).await;
    while sse.frame().await.expect("open").event.as_deref() != Some("text.delta") {}
    assert_eq!(delete(&host, "s0").await.status, 204);
    for path in
        ["/v1/sessions/s0".to_owned(), format!("/v1/runs/{run}"), format!("/v1/runs/{run}/events")]
    {
        host.get(&path).await.problem(404, "not_found");
    }
    host.append(&run, &json!({"type": "state"})).await.problem(404, "not_found");
    let seen = tokio::time::timeout(HANG, sse.rest()).await.expect("its client is let go");
    if let Some(end) = seen.last().filter(|event| event["type"] != "text.delta") {
        assert_eq!((&end["type"], &end["reason"]), (&json!("run.stopped"), &json!("deleted")));
    }
    delete(&host, "s0").await.problem(404, "not_found");
    host.end().await;
}

#[tokio::test]
async fn o05_ids_of_erased_runs_are_never_used_again() {
    let host = host().await;
    let body = json!({"agent": "push", "run_id": "mine"});
    assert_eq!(host.post("/v1/sessions/a/runs", &body).await.status, 202);
    host.append_texts("mine", 0..2).await;
    assert_eq!(delete(&host, "a").await.status, 204);
    until(async || host.post("/v1/sessions/b/runs", &body).await.status == 409).await;
    host.post("/v1/sessions/b/runs", &body).await.problem(409, "run_exists");
    until(async || host.post("/v1/sessions", &json!({"id": "a"})).await.status == 201).await;
    let body = json!({"agent": "push", "run_id": "other"});
    assert_eq!(host.post("/v1/sessions/a/runs", &body).await.status, 202);
    assert_eq!(texts(&host.log("other").await), Vec::<String>::new());
    host.end().await;
}

#[tokio::test]
async fn o06_a_deletion_needs_the_admin_scope_and_a_name() {
    let host = host().await;
    host.run("push").await;
    read(host.request(Method::DELETE, "/v1/sessions/s0")).await.problem(403, "admin_only");
    for (id, status, code) in [
        // A client resolves `.` and `..` itself, so they never come alone.
        ("..%2fs0", 400, "bad_id"),
        ("a%00b", 400, "bad_id"),
        ("none", 404, "not_found"),
    ] {
        delete(&host, id).await.problem(status, code);
    }
    assert_eq!(host.get("/v1/sessions/s0").await.status, 200);
    host.end().await;
}

#[tokio::test]
async fn h08_a_full_session_takes_no_run() {
    let usual = Setup::default();
    let settings = Settings { session_bytes: 1_000, ..usual.settings };
    let host = Host::start(Setup { settings, ..usual }).await;
    let body = json!({"agent": "push"});
    let start = async || host.post("/v1/sessions/s/runs", &body).await;
    let run = start().await.json()["id"].as_str().expect("an id").to_owned();
    let text = json!({"type": "text.delta", "part": "p", "text": "x".repeat(900)});
    host.append(&run, &text).await.problem(409, "run_limit");
    until(async || {
        let reply = start().await;
        let limit = reply.status == 409 && reply.json()["code"] == "session_full";
        if reply.status == 202 {
            let id = reply.json()["id"].as_str().expect("an id").to_owned();
            host.finish(&id).await;
        }
        limit
    })
    .await;
    start().await.problem(409, "session_full");
    host.end().await;
}
