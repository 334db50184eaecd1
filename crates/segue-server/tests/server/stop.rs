//! Stopping over HTTP.

use serde_json::json;

use crate::support::host;

#[tokio::test]
async fn a_stop_is_idempotent_and_waits_if_asked() {
    let host = host().await;
    let run = host.run("waits").await;
    let path = format!("/v1/runs/{run}/stop");
    let first = host.post(&path, &json!({"wait": 20})).await.json();
    assert_eq!(first, json!({"stopped": true, "status": "stopped"}));
    let second = host.post(&path, &json!({})).await.json();
    assert_eq!(second, json!({"stopped": false, "status": "stopped"}));
    let unknown = host.post("/v1/runs/nobody/stop", &json!({"wait": 20})).await.json();
    assert_eq!(unknown, json!({"stopped": false, "status": "pending"}));
    host.post(&path, &json!({"wait": -1})).await.problem(400, "bad_query");
    host.post(&path, &json!({"force": true})).await.problem(400, "malformed");
    host.end().await;
}

#[tokio::test]
async fn a_session_stop_hits_the_run_that_is_meant() {
    let host = host().await;
    let body = json!({"agent": "waits", "run_id": "r1"});
    host.post("/v1/sessions/s/runs", &body).await;
    let path = "/v1/sessions/s/stop";
    let other = host.post(path, &json!({"run_id": "r0"})).await.json();
    assert_eq!(other, json!({"stopped": false, "status": null}));
    assert_eq!(host.get("/v1/runs/r1").await.json()["status"], "running");
    let meant = host.post(path, &json!({"run_id": "r1", "wait": 20})).await.json();
    assert_eq!(meant, json!({"stopped": true, "status": "stopped"}));
    let idle = host.post(path, &json!({})).await.json();
    assert_eq!(idle, json!({"stopped": false, "status": null}));
    host.post("/v1/sessions/nobody/stop", &json!({})).await.problem(404, "not_found");
    let wrong = host.post("/v1/runs/r1/stop", &json!({"run_id": "r2"})).await.json();
    assert_eq!(wrong, json!({"stopped": false, "status": "stopped"}));
    host.end().await;
}

#[tokio::test]
async fn a_stop_needs_no_body() {
    let host = host().await;
    let run = host.run("waits").await;
    let path = format!("/v1/runs/{run}/stop");
    let reply = crate::support::read(host.request(reqwest::Method::POST, &path)).await;
    assert_eq!(reply.json()["stopped"], true);
    let request = host.request(reqwest::Method::POST, &path).header("content-type", "text/plain");
    crate::support::read(request.body("{}")).await.problem(415, "bad_content_type");
    host.end().await;
}
