//! Going down in order.

use std::time::Duration;

use serde_json::json;

use crate::support::host;

#[tokio::test]
async fn clients_get_the_terminals_of_a_shutdown() {
    let host = host().await;
    let run = host.run("waits").await;
    let mut tab = host.attach(&run, "", None).await;
    tab.take(1).await;
    assert_eq!(host.get("/readyz").await.text, "ready\n");
    host.engine.shutdown(Duration::from_secs(20)).await;
    let last = tab.rest().await.pop().expect("a terminal");
    assert_eq!((&last["type"], &last["reason"]), (&json!("run.stopped"), &json!("shutdown")));
    host.get("/readyz").await.problem(503, "shutting_down");
    let refused = host.post("/v1/sessions/new/runs", &json!({"agent": "push"})).await;
    refused.problem(503, "shutting_down");
    assert_eq!(refused.header("retry-after"), Some("2"));
    assert_eq!(host.get("/healthz").await.status, 200);
    host.end().await;
}

#[tokio::test]
async fn a_client_that_comes_while_the_server_drains_is_told_to_come_back() {
    let host = host().await;
    // It takes its grace to end.
    let run = host.run("push").await;
    let down = host.engine.shutdown(Duration::from_secs(20));
    let late = async {
        while host.engine.is_ready() {
            tokio::task::yield_now().await;
        }
        host.attach(&run, "", None).await
    };
    let (_, mut late) = tokio::join!(down, late);
    assert_eq!(late.status(), 200);
    assert_eq!(late.block().await.expect("a hint").retry.as_deref(), Some("2000"));
    drop(late.rest().await);
    host.end().await;
}

#[tokio::test]
async fn streams_end_cleanly_when_the_server_closes() {
    let host = host().await;
    let run = host.run("push").await;
    let mut tab = host.attach(&run, "", None).await;
    tab.take(1).await;
    let (events, ()) = tokio::join!(tab.rest(), host.end());
    assert_eq!(events.len(), 0);
}
