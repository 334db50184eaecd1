//! Going down in order.

use std::time::Duration;

use segue_server::ServerOptions;
use serde_json::json;

use crate::support::{Host, Setup, host, seqs};

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

#[tokio::test]
async fn n08_a_client_of_a_server_that_leaves_goes_on_at_another() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..3).await;
    let other = host.beside().await;
    let mut tab = host.attach(&run, "", None).await;
    let mut seen = tab.take(3).await;
    let (rest, ()) = tokio::join!(tab.rest(), host.end());
    seen.extend(rest);
    let cursor = format!("{run}:{}", seen.len());
    other.append_texts(&run, 3..5).await;
    other.finish(&run).await;
    let mut tab = other.attach(&run, "", Some(&cursor)).await;
    seen.extend(tab.rest().await);
    assert_eq!(seen, other.log(&run).await);
    assert_eq!(seqs(&seen), (1..=seen.len() as u64).collect::<Vec<_>>());
    other.end().await;
}

#[tokio::test]
async fn p05_an_old_stream_ends_cleanly_and_goes_on_with_its_cursor() {
    let (age, heartbeat) = (Duration::from_millis(100), Duration::from_millis(20));
    let options = ServerOptions { stream_age: age, heartbeat, ..Setup::default().options };
    let host = Host::start(Setup { options, ..Setup::default() }).await;
    let run = host.run("push").await;
    let mut seen = Vec::new();
    for round in 0..3 {
        host.append_texts(&run, round..round + 1).await;
        let log = host.log(&run).await;
        // On a slow machine a stream may be old before it gave anything.
        while seen.len() < log.len() {
            let cursor = (!seen.is_empty()).then(|| format!("{run}:{}", seen.len()));
            let mut tab = host.attach(&run, "", cursor.as_deref()).await;
            assert_eq!(tab.block().await.expect("a hint").retry.as_deref(), Some("2000"));
            // It ends, although the run goes on.
            seen.extend(tab.rest().await);
        }
        assert_eq!(seen, log);
    }
    host.end().await;
}
