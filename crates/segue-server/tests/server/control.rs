//! A producer's inbox.

use std::time::Duration;

use serde_json::json;

use crate::support::{Host, Setup, Sse, read};

async fn patient() -> Host {
    let mut setup = Setup::default();
    setup.settings.grace = Duration::from_secs(20);
    Host::start(setup).await
}

#[tokio::test]
async fn a_stop_comes_as_a_frame_with_an_id_to_resume_from() {
    let host = patient().await;
    let run = host.run("push").await;
    let url = host.url(&format!("/v1/runs/{run}/control"));
    let mut inbox = Sse::open(&host.client, &url, None).await;
    assert!(inbox.block().await.expect("open").is_comment());
    host.post(&format!("/v1/runs/{run}/stop"), &json!({})).await;
    let frame = inbox.frame().await.expect("open");
    assert_eq!((frame.id.as_deref(), frame.event.as_deref()), (Some("1"), Some("stop")));
    assert_eq!(frame.json(), json!({"id": 1, "type": "stop", "reason": "user"}));
    let mut seen = Sse::open(&host.client, &url, Some("1")).await;
    host.finish(&run).await;
    assert_eq!(inbox.frame().await, None);
    assert_eq!(seen.frame().await, None);
    let over = Sse::open(&host.client, &url, Some("1")).await;
    assert_eq!((over.status(), over.header("segue-run-status")), (204, Some("stopped")));
    host.end().await;
}

#[tokio::test]
async fn a_long_poll_gives_the_item_or_nothing() {
    let host = patient().await;
    let run = host.run("push").await;
    let path = format!("/v1/runs/{run}/control");
    let quiet = host.get(&format!("{path}?wait=0")).await.json();
    assert_eq!(quiet, json!({"data": [], "next": "0", "closed": false}));
    let (stop, empty) = (format!("/v1/runs/{run}/stop"), json!({}));
    let waiting = format!("{path}?wait=20");
    let (asked, _) = tokio::join!(host.get(&waiting), host.post(&stop, &empty));
    let asked = asked.json();
    assert_eq!((&asked["data"][0]["type"], &asked["next"]), (&json!("stop"), &json!("1")));
    host.finish(&run).await;
    let over = host.get(&format!("{path}?wait=20&after=1")).await.json();
    assert_eq!(over, json!({"data": [], "next": null, "closed": true}));
    host.end().await;
}

#[tokio::test]
async fn odd_questions_have_their_answers() {
    let host = patient().await;
    let run = host.run("push").await;
    host.get("/v1/runs/nobody/control").await.problem(404, "not_found");
    host.get(&format!("/v1/runs/{run}/control?after=x")).await.problem(400, "bad_cursor");
    let request = host.request(reqwest::Method::GET, &format!("/v1/runs/{run}/control"));
    read(request.header("accept", "application/x-ndjson")).await.problem(406, "not_acceptable");
    host.end().await;
}
