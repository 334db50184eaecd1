//! Messages, branches and search.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Host, Reply, TOKEN, host, read};

const MESSAGES: &str = "/v1/sessions/s0/messages";

impl Host {
    /// A run that says this and finishes.
    async fn answer(&self, body: Value, text: &str) -> Value {
        let mut body = body;
        body["agent"] = json!("push");
        let run = self.post("/v1/sessions/s0/runs", &body).await.json();
        let id = run["id"].as_str().expect("a run").to_owned();
        self.append(&id, &json!({"type": "text.delta", "part": "p", "text": text})).await;
        self.finish(&id).await;
        run
    }

    async fn said(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("{MESSAGES}{query}")).await.json();
        let messages = list["data"].as_array().expect("a list").iter();
        let text = |message: &Value| message["parts"][0]["text"].as_str().map(str::to_owned);
        messages.filter_map(text).collect()
    }

    async fn delete(&self, path: &str) -> Reply {
        read(self.request(Method::DELETE, path).bearer_auth(TOKEN)).await
    }
}

#[tokio::test]
async fn a_message_is_made_shown_listed_found_and_deleted() {
    let host = host().await;
    let body = json!({"id": "m1", "content": "Crème brûlée", "metadata": {"a": 1}});
    let made = host.post(MESSAGES, &body).await;
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/messages/m1")));
    let shown = host.get("/v1/messages/m1").await.json();
    assert_eq!(made.json(), shown);
    assert_eq!((&shown["role"], &shown["status"]), (&json!("user"), &json!("complete")));
    assert_eq!((&shown["session_id"], &shown["metadata"]), (&json!("s0"), &json!({"a": 1})));
    host.post(MESSAGES, &body).await.problem(409, "message_exists");
    let system = json!({"role": "system", "parts": [{"type": "text", "text": "be brief"}]});
    host.post(MESSAGES, &system).await;
    assert_eq!(host.said("").await, ["Crème brûlée", "be brief"]);
    assert_eq!(host.said("?role=system").await, ["be brief"]);
    assert_eq!(host.said("?order=desc&limit=1").await, ["be brief"]);
    let found = host.get("/v1/search?q=CR%C3%88ME").await.json();
    let hit = &found["data"][0];
    assert_eq!((&hit["message_id"], &hit["session_id"]), (&json!("m1"), &json!("s0")));
    assert_eq!((&hit["snippet"], &found["next"]), (&json!("Crème brûlée"), &json!(null)));
    let refused = read(host.request(Method::DELETE, "/v1/messages/m1")).await;
    refused.problem(403, "admin_only");
    assert_eq!(host.delete("/v1/messages/m1").await.status, 204);
    host.delete("/v1/messages/m1").await.problem(404, "not_found");
    host.get("/v1/messages/m1").await.problem(404, "not_found");
    assert_eq!(host.get("/v1/search?q=cr%C3%A8me").await.json()["data"], json!([]));
    host.end().await;
}

#[tokio::test]
async fn what_is_no_message_or_query_is_refused_by_its_name() {
    let host = host().await;
    for (body, told) in [
        (json!({"content": "x", "colour": 1}), "a message has no field `colour`"),
        (json!({"content": "x", "role": "poet"}), "has no known role"),
        (json!({"role": "user"}), "has neither `parts` nor `content`"),
        (json!({"parts": [{"type": "text"}]}), "part 0 has no text"),
        (json!({"content": "x", "id": "a/b"}), "has no usable id"),
        (json!({"content": "x", "is_summary": "yes"}), "expected a boolean"),
    ] {
        let problem = host.post(MESSAGES, &body).await.problem(400, "malformed");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(told), "{detail}");
    }
    let replacing = json!({"content": "x", "replaces": "nobody"});
    host.post(MESSAGES, &replacing).await.problem(404, "not_found");
    host.get(MESSAGES).await.problem(404, "not_found");
    host.post(MESSAGES, &json!({"content": "x"})).await;
    for query in ["?role=poet", "?order=up", "?after=x", "?limit=-1"] {
        host.get(&format!("{MESSAGES}{query}")).await.problem(400, "bad_query");
    }
    for query in ["", "?q=", "?q=%22-%22", "?q=x&after=1", "?q=x&session=a/b"] {
        host.get(&format!("/v1/search{query}")).await.problem(400, "bad_query");
    }
    host.end().await;
}

#[tokio::test]
async fn an_answer_is_regenerated_and_continued() {
    let host = host().await;
    let first = host.answer(json!({"input": "question"}), "old").await;
    let second = host.answer(json!({"replaces": first["message_id"]}), "new").await;
    assert_eq!(host.said("").await, ["question", "new"]);
    assert_eq!(host.said("?superseded=true").await, ["question", "old", "new"]);
    let third = host.answer(json!({"continue": second["id"]}), "er").await;
    assert_eq!(third["message_id"], second["message_id"]);
    assert_eq!(third["continues"], second["id"]);
    let id = second["message_id"].as_str().expect("an id");
    let message = host.get(&format!("/v1/messages/{id}")).await.json();
    let parts = message["parts"].as_array().expect("parts").iter();
    let texts: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
    assert_eq!(texts, ["new", "er"]);
    assert_eq!((&message["status"], &message["run_id"]), (&json!("complete"), &third["id"]));
    let log = host.log(third["id"].as_str().expect("an id")).await;
    assert_eq!((&log[0]["message_id"], &log[0]["continues"]), (&json!(id), &second["id"]));
    let both = json!({"agent": "push", "continue": "r", "replaces": "m"});
    host.post("/v1/sessions/s0/runs", &both).await.problem(400, "malformed");
    let nobody = json!({"agent": "push", "continue": "nobody"});
    host.post("/v1/sessions/s0/runs", &nobody).await.problem(404, "not_found");
    host.end().await;
}

#[tokio::test]
async fn a_conversation_is_forked_and_a_run_taken_back() {
    let host = host().await;
    let first = host.answer(json!({"input": "one"}), "1").await;
    let second = host.answer(json!({"input": "two"}), "2").await;
    let body = json!({"at": first["message_id"], "id": "f", "title": "Other"});
    let made = host.post("/v1/sessions/s0/fork", &body).await;
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/sessions/f")));
    assert_eq!((&made.json()["title"], &made.json()["id"]), (&json!("Other"), &json!("f")));
    let copies = host.get("/v1/sessions/f/messages").await.json();
    assert_eq!(copies["data"].as_array().expect("a list").len(), 2);
    host.post("/v1/sessions/s0/fork", &body).await.problem(409, "session_exists");
    host.post("/v1/sessions/no/fork", &json!({})).await.problem(404, "not_found");
    host.post("/v1/sessions/s0/fork", &json!({"at": "no"})).await.problem(404, "not_found");
    let path = format!("/v1/runs/{}/rollback", second["id"].as_str().expect("an id"));
    host.post(&path, &json!({})).await.problem(403, "admin_only");
    let back = read(host.request(Method::POST, &path).bearer_auth(TOKEN)).await;
    assert_eq!(back.json()["deleted"].as_array().expect("a list").len(), 2);
    assert_eq!(host.said("").await, ["one", "1"]);
    host.end().await;
}
