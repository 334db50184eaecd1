//! What a start asked for holds over `kill -9`.

use serde_json::{Value, json};

use crate::support::{Answer, Home, Server, post, until};

fn keyed(server: &Server, body: &Value) -> Answer {
    post(&server.address, "/v1/sessions/s/runs", body).header("idempotency-key", "k").send()
}

#[test]
fn e10_a_key_and_a_run_id_hold_over_a_kill() {
    let home = Home::new();
    let server = Server::start(&home);
    let body = json!({"agent": "push", "input": "hello"});
    let named = json!({"agent": "push", "run_id": "mine"});
    let first = keyed(&server, &body);
    assert_eq!(first.status, 202);
    assert_eq!(server.start_run("t", &named), "mine");
    let address = server.address.clone();
    server.kill();

    let server = Server::start_at(&home, &address);
    let again = keyed(&server, &body);
    assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]));
    assert_eq!(again.json()["status"], "interrupted");
    let other = keyed(&server, &json!({"agent": "push", "input": "bye"}));
    assert_eq!((other.status, other.code().as_str()), (422, "different_start"));
    let mine = server.post("/v1/sessions/t/runs", &named);
    assert_eq!((mine.status, &mine.json()["id"]), (200, &json!("mine")));
    let runs = server.get("/v1/runs").json();
    assert_eq!(runs["data"].as_array().unwrap().len(), 2);
}

#[test]
fn runs_that_asked_for_it_go_on_after_a_kill() {
    let home = Home::new();
    let server = Server::start(&home);
    let awaited = json!({"agent": "push", "run_id": "awaited", "on_restart": "await"});
    let queued = |id: &str, on_restart: Value| {
        json!({"agent": "demo", "params": {"speed": 0}, "run_id": id, "policy": "queue",
               "on_restart": on_restart})
    };
    server.start_run("s", &awaited);
    server.start_run("s", &queued("first", json!("start")));
    server.start_run("s", &queued("dropped", Value::Null));
    server.start_run("s", &queued("second", json!("start")));
    let words = json!({"type": "text.delta", "part": "p", "text": "before, "});
    server.append("awaited", &words);
    let address = server.address.clone();
    server.kill();

    let server = Server::start_at(&home, &address);
    let status = |run: &str| server.run(run)["status"].clone();
    assert_eq!(status("dropped"), "interrupted");
    assert_eq!((status("first"), status("second")), (json!("queued"), json!("queued")));
    let words = json!({"type": "text.delta", "part": "p", "text": "after"});
    server.append("awaited", &words);
    server.finish("awaited");
    assert_eq!(server.text("awaited"), "before, after");
    until("the last has ended", || (status("second") == "finished").then_some(()));
    let began = |run: &str| server.run(run)["started_at"].as_str().unwrap().to_owned();
    assert!(began("first") <= began("second"));
    assert_eq!(status("first"), "finished");
}
