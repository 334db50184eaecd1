//! `OpenAI`'s Chat Completions and models.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Host, Setup, Sse, TOKEN, host, read, sse::Block, text};

const CHAT: &str = "/openai/v1/chat/completions";

fn asks(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

fn streams(model: &str) -> Value {
    let mut body = asks(model);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

async fn open(host: &Host, body: &Value) -> Sse {
    Sse::of(host.request(Method::POST, CHAT).json(body).send().await.expect("an answer"))
}

/// The first chunk's completion and its run.
async fn begun(sse: &mut Sse) -> (String, String) {
    let first = sse.event().await.expect("a chunk");
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let id = first["id"].as_str().expect("an id").to_owned();
    let run = id.strip_prefix("chatcmpl-").expect("a completion's id").to_owned();
    (id, run)
}

/// Reads to the end; gives all frames, also those from before.
async fn frames(mut sse: Sse) -> Vec<Block> {
    while sse.frame().await.is_some() {}
    sse.seen.into_iter().filter(|block| block.data.is_some()).collect()
}

fn data(frames: &[Block]) -> Vec<&str> {
    frames.iter().map(|frame| frame.data.as_deref().expect("data")).collect()
}

/// The last frame of a stream.
async fn last(sse: Sse) -> String {
    frames(sse).await.pop().and_then(|frame| frame.data).expect("a frame")
}

#[tokio::test]
async fn a_completion_is_the_whole_answer_of_a_run() {
    let host = host().await;
    let mut body = asks("demo");
    body["params"] = json!({"speed": 0});
    body["metadata"] = json!({"k": "v"});
    body["unheard_of"] = json!({"x": 1});
    let request = host.request(Method::POST, CHAT).bearer_auth("sk-of-somebody-else");
    let reply = read(request.json(&body)).await;
    let chat = reply.json();
    assert_eq!((reply.status, &chat["object"]), (200, &json!("chat.completion")), "{chat}");
    let choice = &chat["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
    assert!(choice["message"]["content"].as_str().expect("text").contains("Segue"));
    assert!(choice["message"].get("tool_calls").is_none(), "the agent has run them itself");
    assert!(chat["usage"]["total_tokens"].as_u64() > Some(0));
    assert_eq!((&chat["model"], &chat["metadata"]), (&json!("demo"), &json!({"k": "v"})));
    let id = chat["id"].as_str().expect("an id");
    assert_eq!(host.get(&format!("{CHAT}/{id}")).await.json(), chat);
    let run = id.strip_prefix("chatcmpl-").expect("a completion's id");
    assert_eq!(host.log(run).await[0]["input"], "hello");
    host.end().await;
}

#[tokio::test]
async fn a_streamed_completion_resumes_exactly_after_every_frame() {
    let host = host().await;
    let mut live = open(&host, &streams("push")).await;
    let location = live.header("location").expect("a location").to_owned();
    let (_, run) = begun(&mut live).await;
    host.append(&run, &json!({"type": "reasoning.delta", "part": "r", "text": "hm"})).await;
    host.append(&run, &text("hi ")).await;
    host.append(&run, &text("there")).await;
    let end = json!({"type": "run.finished", "finish_reason": "length", "usage": {"input": 1, "output": 2}});
    host.append(&run, &end).await;
    let whole = frames(live).await;
    for (index, frame) in whole.iter().enumerate() {
        let rest = &whole[index + 1..];
        let resumed = Sse::open(&host.client, &host.url(&location), frame.id.as_deref()).await;
        assert_eq!(resumed.status(), if rest.is_empty() { 204 } else { 200 });
        assert_eq!(frames(resumed).await, rest, "{:?}", frame.id);
    }
    let last = data(&whole[whole.len() - 3..]);
    assert_eq!(last[2], "[DONE]");
    let usage: Value = serde_json::from_str(last[1]).expect("JSON");
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(3)));
    let finish: Value = serde_json::from_str(last[0]).expect("JSON");
    assert_eq!(
        (&finish["choices"][0]["finish_reason"], &finish["usage"]),
        (&json!("length"), &Value::Null)
    );
    host.end().await;
}

#[tokio::test]
async fn a_clients_function_is_called_and_its_result_is_told() {
    let host = host().await;
    let mut body = streams("push");
    body["tools"] = json!([{"type": "function", "function": {"name": "look", "parameters": {}}}]);
    let mut live = open(&host, &body).await;
    let (id, run) = begun(&mut live).await;
    for event in [
        json!({"type": "tool_call.started", "call_id": "own", "name": "search", "executor": "server"}),
        json!({"type": "tool_result", "call_id": "own", "output": "found"}),
        json!({"type": "tool_call.started", "call_id": "c", "name": "look"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "{\"q\":1}"}),
        json!({"type": "tool_call.input_end", "call_id": "c"}),
    ] {
        host.append(&run, &event).await;
    }
    host.finish(&run).await;
    assert!(!data(&frames(live).await).concat().contains("search"), "a client would run it again");
    let chat = host.get(&format!("{CHAT}/{id}")).await.json();
    let choice = &chat["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let function = json!({"name": "look", "arguments": "{\"q\":1}"});
    let calls = json!([{"id": "c", "type": "function", "function": function}]);
    assert_eq!(choice["message"]["tool_calls"], calls);

    let mut next = streams("push");
    next["messages"] = json!([
        {"role": "user", "content": "hello"}, choice["message"],
        {"role": "tool", "tool_call_id": "c", "content": "42"},
    ]);
    let mut live = open(&host, &next).await;
    let (_, run) = begun(&mut live).await;
    let input = host.log(&run).await[0]["input"].clone();
    let roles: Vec<_> = input.as_array().expect("messages").iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "tool"]);
    assert_eq!(input[2]["parts"][0]["output"], "42");
    host.end().await;
}

#[tokio::test]
async fn what_is_not_the_whole_answer_is_an_error() {
    let host = host().await;
    let reply = host.post(CHAT, &asks("fails")).await;
    reply.refusal(502, "upstream_error");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    let failed = open(&host, &streams("fails")).await;
    let error: Value = serde_json::from_str(&last(failed).await).expect("JSON");
    assert_eq!(error["error"]["message"], "the model is not there");

    let mut live = open(&host, &streams("push")).await;
    let (id, run) = begun(&mut live).await;
    host.append(&run, &text("half")).await;
    let run = format!("/openai/v1/responses/resp_{run}/cancel");
    assert_eq!(host.post(&run, &json!({})).await.json()["status"], "cancelled");
    let last = last(live).await;
    assert!(last.contains("\"error\"") && last.contains("stopped: user"), "{last}");
    let chat = host.get(&format!("{CHAT}/{id}")).await.json();
    let choice = &chat["choices"][0];
    assert_eq!(
        (&choice["message"]["content"], &choice["finish_reason"]),
        (&json!("half"), &Value::Null)
    );
    assert_eq!(chat["error"]["code"], "stopped");
    host.end().await;
}

#[tokio::test]
async fn a_stream_of_a_run_that_goes_on_never_ends_as_if_it_were_whole() {
    let host = host().await;
    let open = host.request(Method::POST, CHAT).json(&streams("push"));
    let open = open.send().await.expect("an answer");
    let (body, ()) = tokio::join!(open.text(), host.end());
    assert!(body.is_err(), "{body:?}");
}

#[tokio::test]
async fn the_same_request_again_is_the_same_run() {
    let host = host().await;
    let body = streams("push");
    let send = async |name: &str, value: &str| {
        let request = host.request(Method::POST, CHAT).header(name, value).json(&body);
        let mut sse = Sse::of(request.send().await.expect("an answer"));
        begun(&mut sse).await.0
    };
    let first = send("idempotency-key", "k").await;
    assert_eq!(send("idempotency-key", "k").await, first);
    let fresh = send("x-stainless-retry-count", "0").await;
    assert_ne!(fresh, first);
    assert_eq!(send("x-stainless-retry-count", "1").await, fresh);
    host.end().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_in_the_protocols_shape() {
    let host = host().await;
    let with = |name: &str, value: Value| {
        let mut body = asks("push");
        body[name] = value;
        body
    };
    let audio = json!([{"role": "user", "content": [{"type": "input_audio"}]}]);
    for (name, value, param) in [
        ("n", json!(2), "n"),
        ("functions", json!([]), "functions"),
        ("audio", json!({}), "audio"),
        ("stream", json!("yes"), "stream"),
        ("stream_options", json!(true), "stream_options"),
        ("messages", json!([]), "messages"),
        ("messages", json!("hi"), "messages"),
        ("messages", audio, "messages[0].content[0]"),
        ("messages", json!([{"role": "cook"}]), "messages[0].role"),
    ] {
        let error = host.post(CHAT, &with(name, value)).await.refusal(400, "invalid_value");
        assert_eq!(error["param"], param);
    }
    let error = host.post(CHAT, &asks("gpt-x")).await.refusal(404, "model_not_found");
    assert!(error["message"].as_str().expect("words").contains("gpt-x"));
    host.get(CHAT).await.refusal(405, "method_not_allowed");
    host.get(&format!("{CHAT}/chatcmpl-nobody")).await.refusal(404, "not_found");
    read(host.request(Method::POST, CHAT).body("{").header("content-type", "application/json"))
        .await
        .refusal(400, "malformed");
    read(host.request(Method::POST, CHAT).body("{}")).await.refusal(415, "bad_content_type");
    host.end().await;
}

#[tokio::test]
async fn without_a_model_the_default_agent_answers_and_a_large_body_is_413() {
    let mut setup = Setup::default();
    setup.options.body_bytes = 1000;
    let host = Host::start(setup).await;
    let mut body = streams("push");
    body.as_object_mut().expect("an object").remove("model");
    let mut live = open(&host, &body).await;
    let first = live.event().await.expect("a chunk");
    assert_eq!(first["model"], "push");
    body["messages"] = json!([{"role": "user", "content": "x".repeat(2000)}]);
    host.post(CHAT, &body).await.refusal(413, "body_too_large");
    host.end().await;
}

#[tokio::test]
async fn a_deleted_completion_is_gone_and_needs_the_admin_token() {
    let host = host().await;
    let mut live = open(&host, &streams("push")).await;
    let (id, _) = begun(&mut live).await;
    let path = format!("{CHAT}/{id}");
    let delete = |token| host.request(Method::DELETE, &path).bearer_auth(token);
    read(delete("sk-x")).await.refusal(403, "admin_only");
    let deleted = read(delete(TOKEN)).await.json();
    assert_eq!(deleted, json!({"id": id, "object": "chat.completion.deleted", "deleted": true}));
    host.get(&path).await.refusal(404, "not_found");
    host.end().await;
}

#[tokio::test]
async fn the_base_url_is_a_setting() {
    let mut setup = Setup::default();
    setup.options.openai_prefix = "/v9".to_owned();
    let host = Host::start(setup).await;
    assert_eq!(host.get("/v9/models/demo").await.json()["id"], "demo");
    let request = host.request(Method::POST, "/v9/chat/completions").json(&streams("push"));
    let live = Sse::of(request.send().await.expect("an answer"));
    assert!(live.header("location").expect("a location").starts_with("/v9/chat/completions/"));
    assert_eq!(host.get("/openai/v1/models").await.status, 404);
    host.end().await;
}

#[tokio::test]
async fn the_models_are_the_agents() {
    let host = host().await;
    let list = host.get("/openai/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let demo = json!({"id": "demo", "object": "model", "created": 0, "owned_by": "replay"});
    assert!(list["data"].as_array().expect("models").contains(&demo), "{list}");
    assert_eq!(host.get("/openai/v1/models/demo").await.json(), demo);
    let error = host.get("/openai/v1/models/a%2Fb").await.refusal(404, "model_not_found");
    assert!(error["message"].as_str().expect("words").contains("a/b"));
    host.end().await;
}
