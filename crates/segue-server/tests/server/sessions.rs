//! Sessions.

use reqwest::Method;
use serde_json::json;

use crate::support::{host, read};

#[tokio::test]
async fn a_session_is_made_shown_changed_and_listed() {
    let host = host().await;
    let body = json!({"id": "s1", "title": "First", "metadata": {"a": 1}});
    let made = host.post("/v1/sessions", &body).await;
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/sessions/s1")));
    let shown = host.get("/v1/sessions/s1").await.json();
    assert_eq!(made.json(), shown);
    assert_eq!((&shown["title"], &shown["status"]), (&json!("First"), &json!("idle")));
    assert_eq!((&shown["clients"], &shown["active_runs"]), (&json!(0), &json!([])));
    host.post("/v1/sessions", &body).await.problem(409, "session_exists");
    let patch = |body| read(host.request(Method::PATCH, "/v1/sessions/s1").json(&body));
    let changed = patch(json!({"metadata": {"b": 2}})).await.json();
    assert_eq!((&changed["title"], &changed["metadata"]), (&json!("First"), &json!({"b": 2})));
    assert_eq!(patch(json!({"title": null})).await.json()["title"], json!(null));
    patch(json!({"status": "idle"})).await.problem(400, "malformed");
    let other = host.post("/v1/sessions", &json!({})).await.json();
    let page = host.get("/v1/sessions?limit=1").await.json();
    assert_eq!(page["data"].as_array().expect("a list").len(), 1);
    let next = page["next"].as_str().expect("one more");
    let rest = host.get(&format!("/v1/sessions?limit=1&after={next}")).await.json();
    let ids = [&page["data"][0]["id"], &rest["data"][0]["id"]];
    assert!(ids.contains(&&json!("s1")) && ids.contains(&&other["id"]));
    host.get("/v1/sessions/nobody").await.problem(404, "not_found");
    host.end().await;
}

#[tokio::test]
async fn e14_a_session_shows_its_runs_and_its_clients() {
    let host = host().await;
    let run = host.run("push").await;
    let mut tab = host.attach(&run, "", None).await;
    tab.take(1).await;
    host.until_clients(&run, 1).await;
    let session = host.get("/v1/sessions/s0").await.json();
    assert_eq!((&session["status"], &session["active_runs"]), (&json!("busy"), &json!([run])));
    let beside = json!({"agent": "push", "run_id": "beside", "policy": "parallel"});
    host.post("/v1/sessions/s0/runs", &beside).await;
    let behind = json!({"agent": "push", "run_id": "behind", "policy": "queue"});
    assert_eq!(host.post("/v1/sessions/s0/runs", &behind).await.json()["status"], "queued");
    let mut other = host.attach("beside", "", None).await;
    other.take(1).await;
    host.until_clients(&run, 2).await;
    let listed = host.get("/v1/sessions").await.json();
    let session = &listed["data"][0];
    let active = json!([run, "beside", "behind"]);
    assert_eq!((&session["active_runs"], &session["clients"]), (&active, &json!(2)));
    host.finish(&run).await;
    tab.rest().await;
    host.finish("beside").await;
    other.rest().await;
    host.until_clients(&run, 0).await;
    host.post("/v1/sessions/s0/stop", &json!({"wait": 20})).await;
    let session = host.get("/v1/sessions/s0").await.json();
    assert_eq!((&session["status"], &session["active_runs"]), (&json!("idle"), &json!([])));
    host.end().await;
}

#[tokio::test]
async fn what_comes_later_does_not_exist() {
    let host = host().await;
    host.run("push").await;
    read(host.request(Method::PUT, "/v1/sessions/s0")).await.problem(405, "method_not_allowed");
    for path in ["/v1/sessions/s0/events", "/v1/events", "/openapi.json", "/v2"] {
        host.get(path).await.problem(404, "not_found");
    }
    host.end().await;
}
