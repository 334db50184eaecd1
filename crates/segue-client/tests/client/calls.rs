//! Plain calls: what goes out, and how answers are read.

use std::time::Duration;

use segue_client::{Client, ClientError, Identity, RunFilter, StartRun, Wait};
use segue_core::{AgentName, ProducerId, RunStatus, SessionId};
use serde_json::{Value, json};

use crate::{client, run, scripted::Server};

const RUN: &str = r#"{"id":"r","session_id":"s","agent":"demo","status":"running","last_seq":0,
    "message_id":"msg_r","created_at":"2026-11-20T12:00:00.000Z","metadata":{}}"#;

/// A server that gives `answer` to the one request it expects.
async fn expect(request: &'static str, body: Value, answer: &'static str) -> Server {
    Server::start(move |_, mut peer| {
        let expected = body.clone();
        async move {
            assert_eq!(peer.request_line(), request);
            if !expected.is_null() {
                assert_eq!(peer.header("content-type"), Some("application/json"));
                assert_eq!(serde_json::from_str::<Value>(&peer.body().await).unwrap(), expected);
            }
            peer.answer("200 OK", "application/json", answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_start_is_posted_to_its_session() {
    let body = json!({"agent": "demo", "input": "hi", "params": {"speed": 10}});
    let server = expect("POST /v1/sessions/s/runs", body, RUN).await;
    let start =
        StartRun::of_agent(AgentName::parse("demo").unwrap()).input("hi").param("speed", 10);
    let started = client(&server).start(&SessionId::parse("s").unwrap(), &start).await.unwrap();
    assert_eq!((started.id, started.status), (run(), RunStatus::Running));
}

#[tokio::test]
async fn a_run_is_read() {
    let server = expect("GET /v1/runs/r", Value::Null, RUN).await;
    assert_eq!(client(&server).run(&run()).await.unwrap().agent, "demo");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let request = "GET /v1/runs?status=failed&after=x%2F1&limit=5";
    let server = expect(request, Value::Null, r#"{"data":[],"next":"y"}"#).await;
    let filter = RunFilter {
        status: Some(RunStatus::Failed),
        after: Some("x/1".to_owned()),
        limit: Some(5),
        ..RunFilter::default()
    };
    assert_eq!(client(&server).runs(&filter).await.unwrap().next.as_deref(), Some("y"));

    let answer = r#"{"data":[{"id":"s","title":"t","status":"busy","active_runs":["r"],
        "clients":2,"created_at":"2026-11-20T12:00:00Z","updated_at":"2026-11-20T12:00:00Z"}]}"#;
    let server = expect("GET /v1/sessions?after=z", Value::Null, answer).await;
    let sessions = client(&server).sessions(Some("z")).await.unwrap();
    assert_eq!((&sessions.data[0].active_runs[..], sessions.next), (&[run()][..], None));

    let answer = r#"{"data":[{"name":"demo","kind":"replay","default":true}],"next":null}"#;
    let server = expect("GET /v1/agents", Value::Null, answer).await;
    assert_eq!(client(&server).agents().await.unwrap().data[0].kind, "replay");
}

#[tokio::test]
async fn a_stop_waits_when_told_to() {
    for (wait, body) in
        [(Wait::No, json!({})), (Wait::AtMost(Duration::from_secs(30)), json!({"wait": 30}))]
    {
        let answer = r#"{"stopped":true,"status":"stopping"}"#;
        let server = expect("POST /v1/runs/r/stop", body, answer).await;
        assert!(client(&server).stop(&run(), wait).await.unwrap().stopped);
    }
}

#[tokio::test]
async fn an_append_names_its_producer() {
    let server = Server::start(|_, mut peer| async move {
        assert_eq!(peer.request_line(), "POST /v1/runs/r/events");
        for (name, value) in [("producer-id", "p"), ("producer-epoch", "3"), ("producer-seq", "7")]
        {
            assert_eq!(peer.header(name), Some(value), "{name}");
        }
        let answer = r#"{"first_seq":2,"last_seq":4,"duplicate":true,"stop_requested":false}"#;
        peer.answer("200 OK", "application/json", answer).await;
    })
    .await;
    let identity = Identity { id: ProducerId::parse("p").unwrap(), epoch: 3 };
    let events = json!([{"type": "text.delta", "part": "p", "text": "x"}]);
    let answer = client(&server).append(&run(), &events, Some((&identity, 7))).await.unwrap();
    assert_eq!((answer.first_seq, answer.last_seq, answer.duplicate), (2, 4, true));
}

#[tokio::test]
async fn a_token_is_shown_and_a_refusal_is_typed() {
    let server = Server::start(|_, mut peer| async move {
        match peer.header("authorization") {
            Some("Bearer secret") => peer.answer("200 OK", "application/json", RUN).await,
            _ => peer.problem("403 Forbidden", "admin_required").await,
        }
    })
    .await;
    let error = client(&server).run(&run()).await.expect_err("no token");
    let ClientError::Problem(problem) = error else { panic!("{error}") };
    assert_eq!((problem.status, problem.code.as_str()), (403, "admin_required"));
    let known = Client::new(&server.url(), Some("secret".to_owned())).unwrap();
    assert!(known.run(&run()).await.is_ok());
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_a_protocol_error() {
    let server = expect("GET /v1/runs/r", Value::Null, r#"{"hello":1}"#).await;
    let error = client(&server).run(&run()).await.expect_err("no run");
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
}

#[tokio::test]
async fn readiness_is_what_readyz_says() {
    for (status, ready) in [("200 OK", true), ("503 Service Unavailable", false)] {
        let server = Server::start(move |_, mut peer| async move {
            assert_eq!(peer.request_line(), "GET /readyz");
            peer.answer(status, "text/plain", "").await;
        })
        .await;
        assert_eq!(client(&server).is_ready().await, ready);
    }
    assert!(!Client::new("http://127.0.0.1:1", None).unwrap().is_ready().await);
}
