//! The AI SDK's routes, where the client itself cannot go.

use serde_json::json;

use crate::support::{Host, Setup};

#[tokio::test]
async fn a_body_that_is_too_large_is_413_in_words_for_the_user() {
    let mut setup = Setup::default();
    setup.options.body_bytes = 1_000;
    let host = Host::start(setup).await;
    let message = |text: String| {
        let parts = json!([{"type": "text", "text": text}]);
        json!({"id": "c", "agent": "push", "messages": [{"id": "m", "role": "user", "parts": parts}]})
    };
    let refused = host.post("/api/chat", &message("x".repeat(1_000))).await;
    assert_eq!(refused.status, 413);
    assert_eq!(refused.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(refused.text.contains("1000"), "{}", refused.text);
    assert_eq!(host.get("/v1/runs").await.json()["data"], json!([]));
    host.end().await;
}
