//! `Host`, `Origin` and the token.

use serde_json::json;

use crate::support::{
    Host, Setup, TOKEN, host,
    raw::{Raw, status},
    read,
};

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{fields}\r\n")
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_on_every_route() {
    let host = host().await;
    let run = host.run("push").await;
    let port = host.address.port();
    for path in ["/", "/healthz", "/metrics", "/v1/runs", &format!("/v1/runs/{run}/events"), "/x"] {
        let foreign = Raw::exchange(host.address, get(path, "host: evil.example\r\n")).await;
        assert_eq!(status(&foreign), "421", "{path}");
        let fields = format!("host: localhost:{port}\r\norigin: https://evil.example\r\n");
        let foreign = Raw::exchange(host.address, get(path, &fields)).await;
        assert_eq!(status(&foreign), "403", "{path}");
        assert!(foreign.contains("\"bad_origin\""));
    }
    let fields = format!("host: localhost:{port}\r\norigin: http://localhost:{port}\r\n");
    assert_eq!(status(&Raw::exchange(host.address, get("/v1/runs", &fields)).await), "200");
    host.end().await;
}

#[tokio::test]
async fn configured_hosts_and_origins_are_let_in() {
    let mut setup = Setup::default();
    setup.options.allowed_hosts = vec!["segue.example".into()];
    setup.options.allowed_origins = vec!["https://app.example".into()];
    let host = Host::start(setup).await;
    let fields = "host: segue.example\r\norigin: https://app.example\r\n";
    let answer = Raw::exchange(host.address, get("/v1/runs", fields)).await;
    assert_eq!(status(&answer), "200");
    assert!(answer.contains("access-control-allow-origin: https://app.example\r\n"));
    let ask = get("/v1/runs", &format!("{fields}access-control-request-method: POST\r\n"));
    let preflight = Raw::exchange(host.address, ask.replacen("GET", "OPTIONS", 1)).await;
    assert_eq!(status(&preflight), "204");
    let allowed = "access-control-allow-headers: authorization, content-type, idempotency-key, \
                   last-event-id, prefer, producer-epoch, producer-id, producer-seq, ";
    assert!(preflight.contains(allowed), "{preflight}");
    assert!(preflight.contains(" x-stainless-retry-count, "), "{preflight}");
    assert!(preflight.contains("vary: origin\r\n"));
    assert!(preflight.contains("access-control-allow-methods: GET, POST, PATCH, DELETE\r\n"));
    assert!(!preflight.contains("allow-credentials") && !preflight.contains('*'));
    for own in ["host: localhost\r\norigin: http://localhost\r\n", "host: localhost\r\n"] {
        let answer = Raw::exchange(host.address, get("/v1/runs", own)).await;
        assert!(!answer.contains("access-control"));
        assert!(answer.contains("vary: origin\r\n"), "a cache must not share it");
    }
    let foreign = "host: localhost\r\norigin: https://evil.example\r\n";
    let refused = Raw::exchange(host.address, get("/v1/runs", foreign)).await;
    assert!(refused.contains("vary: origin\r\n") && !refused.contains("access-control"));
    let script = Raw::exchange(host.address, get("/segue-resume.js", fields)).await;
    assert!(script.contains("content-type: text/javascript"));
    assert!(script.contains("access-control-allow-origin: https://app.example\r\n"));
    host.end().await;
}

#[tokio::test]
async fn m02_the_check_comes_before_the_replay_and_before_the_registration() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..3).await;
    let path = format!("/v1/runs/{run}/events");
    let refused = [
        get(&path, "host: evil.example\r\naccept: text/event-stream\r\n"),
        get(&path, "host: localhost\r\norigin: null\r\naccept: text/event-stream\r\n"),
        get(&path, "host: localhost\r\nauthorization: Bearer no\r\naccept: text/event-stream\r\n"),
    ];
    for (request, expected) in refused.iter().zip(["421", "403", "401"]) {
        let answer = Raw::exchange(host.address, request).await;
        assert_eq!(status(&answer), expected);
        assert!(!answer.contains("run.started") && !answer.contains("text.delta"));
        assert_eq!(host.clients(&run).await, 0);
    }
    // Nor does a refusal tell whether the run exists.
    let unknown = get("/v1/runs/nobody/events", "host: localhost\r\nauthorization: Bearer no\r\n");
    assert_eq!(status(&Raw::exchange(host.address, unknown).await), "401");
    host.end().await;
}

#[tokio::test]
async fn a_refused_write_leaves_nothing() {
    let host = host().await;
    let run = host.run("push").await;
    let body = "{\"type\":\"text.delta\",\"part\":\"p\",\"text\":\"x\"}";
    let request = format!(
        "POST /v1/runs/{run}/events HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\n\
         connection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(status(&Raw::exchange(host.address, request).await), "403");
    assert_eq!(host.log(&run).await.len(), 1);
    host.end().await;
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_refused_everywhere() {
    let host = host().await;
    for path in ["/v1/runs", "/v1/agents", "/healthz"] {
        let request = host.request(reqwest::Method::GET, path).bearer_auth("nope");
        let reply = read(request).await;
        reply.problem(401, "bad_token");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        let request = host.request(reqwest::Method::GET, path).bearer_auth(TOKEN);
        assert_eq!(read(request).await.status, 200);
    }
    host.end().await;
}

#[tokio::test]
async fn anything_but_loopback_refuses_to_start() {
    let host = host().await;
    let options = segue_server::ServerOptions {
        listen: "0.0.0.0:0".parse().expect("an address"),
        ..segue_server::ServerOptions::default()
    };
    let bound = segue_server::Server::bind(options, host.engine.clone()).await;
    assert!(matches!(bound, Err(segue_server::BindError::NotLoopback(_))));
    let taken = segue_server::ServerOptions {
        listen: host.address,
        ..segue_server::ServerOptions::default()
    };
    let bound = segue_server::Server::bind(taken, host.engine.clone()).await;
    assert!(matches!(bound, Err(segue_server::BindError::Listen { .. })));
    host.end().await;
}

#[tokio::test]
async fn bodies_have_to_say_that_they_are_json() {
    let host = host().await;
    let run = host.run("push").await;
    let body = json!({"agent": "push"}).to_string();
    for (path, media) in [
        ("/v1/sessions/x/runs".to_owned(), "text/plain"),
        ("/v1/sessions".to_owned(), "application/x-www-form-urlencoded"),
        (format!("/v1/runs/{run}/events"), "multipart/form-data"),
    ] {
        let request = host.request(reqwest::Method::POST, &path).body(body.clone());
        let reply = read(request.header("content-type", media)).await;
        reply.problem(415, "bad_content_type");
    }
    host.end().await;
}
