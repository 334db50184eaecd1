//! Export and import.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Host, Reply, TOKEN, host, read};

const NDJSON: &str = "application/x-ndjson";

async fn import(host: &Host, body: String) -> Reply {
    let request = host.request(Method::POST, "/v1/import").bearer_auth(TOKEN);
    read(request.header("content-type", NDJSON).body(body)).await
}

async fn export(host: &Host) -> Reply {
    read(host.request(Method::GET, "/v1/sessions/s0/export").bearer_auth(TOKEN)).await
}

#[tokio::test]
async fn a_session_goes_from_one_server_to_another() {
    let (here, there) = (host().await, host().await);
    let run = here.run_with(json!({"agent": "push", "input": "question"})).await;
    here.append_texts(&run, 0..300).await;
    here.finish(&run).await;
    let exported = export(&here).await;
    assert_eq!((exported.status, exported.header("content-type")), (200, Some(NDJSON)));
    let made = import(&there, exported.text.clone()).await;
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/sessions/s0")));
    assert_eq!(here.get("/v1/sessions/s0").await.json(), made.json());
    for path in ["/v1/sessions/s0/messages", "/v1/runs", &format!("/v1/runs/{run}/events")] {
        assert_eq!(there.get(path).await.text, here.get(path).await.text, "{path}");
    }
    assert_eq!(export(&there).await.text, exported.text);
    import(&there, exported.text).await.problem(409, "session_exists");
    here.end().await;
    there.end().await;
}

#[tokio::test]
async fn an_import_that_is_none_is_refused_and_told_where() {
    let host = host().await;
    let told = |reply: &Reply| reply.problem(400, "bad_import")["line"].clone();
    assert_eq!(told(&import(&host, "{}\n".into()).await), json!(1));
    assert_eq!(told(&import(&host, String::new()).await), Value::Null);
    let newer = r#"{"segue_export":9,"session_id":"s","runs":[]}"#;
    import(&host, format!("{newer}\n")).await.problem(400, "newer_import");
    host.post("/v1/import", &json!({})).await.problem(403, "admin_only");
    let json = host.request(Method::POST, "/v1/import").bearer_auth(TOKEN).json(&json!({}));
    read(json).await.problem(415, "bad_content_type");
    host.get("/v1/sessions/s0/export").await.problem(403, "admin_only");
    export(&host).await.problem(404, "not_found");
    host.end().await;
}
