//! `OpenAI`'s routes.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Host, Reply, Setup, Sse, TOKEN, host, read, sse::Block, text};

const RESPONSES: &str = "/openai/v1/responses";

impl Reply {
    /// Checks a refusal in the API's shape and gives it.
    #[track_caller]
    pub(crate) fn refusal(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/json"));
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].is_string() && error["type"].is_string());
        error
    }
}

/// Starts a response in the background; gives its id and its run's.
async fn start(host: &Host, body: Value) -> (String, String) {
    let mut body = body;
    body["background"] = json!(true);
    let reply = host.post(RESPONSES, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let id = reply.json()["id"].as_str().expect("an id").to_owned();
    let run = id.strip_prefix("resp_").expect("a response's id").to_owned();
    (id, run)
}

async fn retrieve(host: &Host, id: &str) -> Value {
    host.get(&format!("{RESPONSES}/{id}")).await.json()
}

async fn stream(host: &Host, id: &str, query: &str, last_id: Option<&str>) -> Sse {
    let url = host.url(&format!("{RESPONSES}/{id}?stream=true{query}"));
    Sse::open(&host.client, &url, last_id).await
}

/// The text of a response.
fn text_of(response: &Value) -> String {
    let items = response["output"].as_array().expect("items").iter();
    items.filter_map(|item| item["content"][0]["text"].as_str()).collect()
}

fn post(host: &Host, body: &Value) -> RequestBuilder {
    host.request(Method::POST, RESPONSES).json(body)
}

async fn session_of(host: &Host, run: &str) -> Value {
    host.get(&format!("/v1/runs/{run}")).await.json()["session_id"].clone()
}

#[tokio::test]
async fn a_response_is_the_whole_answer_of_a_run() {
    let host = host().await;
    let body = json!({
        "model": "demo", "params": {"speed": 0}, "input": "hello", "instructions": "be brief", "metadata": {"k": "v"},
        "temperature": 0.5, "unheard_of": {"x": 1},
    });
    let reply = read(post(&host, &body).bearer_auth("sk-of-somebody-else")).await;
    let response = reply.json();
    assert_eq!((reply.status, &response["status"]), (200, &json!("completed")), "{response}");
    assert_eq!((&response["model"], &response["metadata"]), (&json!("demo"), &json!({"k": "v"})));
    assert_eq!(response["temperature"], 0.5);
    assert!(text_of(&response).contains("Segue"), "{response}");
    let kinds: Vec<_> = response["output"].as_array().expect("items").iter().collect();
    let kinds: Vec<_> = kinds.iter().map(|item| item["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["reasoning", "mcp_call", "message"]);
    assert!(response["usage"]["total_tokens"].as_u64() > Some(0));
    let id = response["id"].as_str().expect("an id");
    assert_eq!(retrieve(&host, id).await, response);
    host.end().await;
}

#[tokio::test]
async fn what_is_asked_of_the_model_is_the_agents_to_do() {
    let host = host().await;
    let mut body = json!({
        "model": "asked", "input": "x", "instructions": "be brief", "temperature": 0.5,
        "tools": [{"type": "function", "name": "f"}], "store": false, "params": {"own": 1},
    });
    let asked = host.post(RESPONSES, &body).await.json();
    let asked: Value = serde_json::from_str(&text_of(&asked)).expect("parameters");
    let wanted = json!({"temperature": 0.5, "tools": body["tools"], "own": 1});
    assert_eq!(asked, wanted);
    body["tools"] = json!([{"type": "web_search"}]);
    let error = host.post(RESPONSES, &body).await.refusal(400, "invalid_value");
    assert_eq!(
        (&error["param"], &error["message"]),
        (&json!("tools"), &json!("it has no such tools"))
    );
    host.end().await;
}

#[tokio::test]
async fn at_every_number_and_every_id_the_stream_goes_on_exactly_after_it() {
    let host = host().await;
    let (id, run) = start(&host, json!({"input": "hello"})).await;
    for event in [
        json!({"type": "reasoning.delta", "part": "r", "text": "hm"}),
        json!({"type": "tool_call.started", "call_id": "c", "name": "f", "executor": "client"}),
        json!({"type": "tool_call.input_end", "call_id": "c", "input": {}}),
        text("hi"),
    ] {
        host.append(&run, &event).await;
    }
    let mut live = stream(&host, &id, "", None).await;
    let first = live.frame().await.expect("a frame");
    host.finish(&run).await;
    let mut whole = vec![first];
    while let Some(frame) = live.frame().await {
        whole.push(frame);
    }
    let location = live.header("location").expect("a location").to_owned();
    for (number, frame) in whole.iter().enumerate() {
        assert_eq!(frame.json()["sequence_number"], number);
        let rest: Vec<Value> = whole[number + 1..].iter().map(Block::json).collect();
        let after = format!("&starting_after={number}");
        assert_eq!(stream(&host, &id, &after, None).await.rest().await, rest);
        let mut resumed = Sse::open(&host.client, &host.url(&location), frame.id.as_deref()).await;
        assert_eq!(resumed.status(), if rest.is_empty() { 204 } else { 200 });
        assert_eq!(resumed.rest().await, rest, "{:?}", frame.id);
    }
    host.get(&format!("{RESPONSES}/{id}?stream=true&starting_after=x"))
        .await
        .refusal(400, "invalid_value");
    let last = whole.last().expect("a terminal").json();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"], retrieve(&host, &id).await);
    host.end().await;
}

#[tokio::test]
async fn leaving_stops_nothing_and_a_cancellation_does() {
    let host = host().await;
    let body = json!({"model": "push", "input": "hello", "stream": true});
    let mut left = Sse::of(post(&host, &body).send().await.expect("an answer"));
    let created = left.event().await.expect("an event");
    let id = created["response"]["id"].as_str().expect("an id").to_owned();
    let run = id.strip_prefix("resp_").expect("a response's id").to_owned();
    host.until_clients(&run, 1).await;
    drop(left);
    host.until_clients(&run, 0).await;
    host.append(&run, &text("still here")).await;
    assert_eq!(retrieve(&host, &id).await["status"], "in_progress");
    let mut tab = stream(&host, &id, "", None).await;
    let cancelled = host.post(&format!("{RESPONSES}/{id}/cancel"), &json!({})).await.json();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(text_of(&cancelled), "still here");
    let last = tab.rest().await.pop().expect("a terminal");
    assert_eq!((&last["type"], &last["response"]), (&json!("response.incomplete"), &cancelled));
    let again = read(host.request(Method::POST, &format!("{RESPONSES}/{id}/cancel"))).await;
    assert_eq!(again.json(), cancelled, "without a body and idempotent");
    host.end().await;
}

#[tokio::test]
async fn a_response_goes_on_in_the_session_of_the_one_before() {
    let host = host().await;
    let (first, run) = start(&host, json!({"model": "push", "input": "one"})).await;
    host.append(&run, &text("answer one")).await;
    let go_on =
        |input: &str| json!({"model": "push", "input": input, "previous_response_id": first});
    let (second, waiting) = start(&host, go_on("two")).await;
    assert_eq!(retrieve(&host, &second).await["status"], "queued");
    host.finish(&run).await;
    let mut tab = stream(&host, &second, "", None).await;
    let kinds: Vec<Value> = tab.take(3).await.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["response.created", "response.queued", "response.in_progress"]);
    assert_eq!(session_of(&host, &waiting).await, session_of(&host, &run).await);
    assert_eq!(host.log(&waiting).await[0]["input"], "two");
    assert_eq!(retrieve(&host, &second).await["previous_response_id"], json!(first));

    // From an older response another way is gone, with the conversation up to there.
    let (third, other) = start(&host, go_on("three")).await;
    let session = session_of(&host, &other).await;
    assert_ne!(session, session_of(&host, &run).await);
    assert_eq!(host.log(&other).await[0]["input"], "three");
    let path = format!("/v1/sessions/{}/messages", session.as_str().expect("an id"));
    let messages = host.get(&path).await.json()["data"].clone();
    let said: Vec<_> = messages
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| (message["role"].as_str(), message["parts"][0]["text"].as_str()))
        .collect();
    let wanted = [("user", "one"), ("assistant", "answer one"), ("user", "three")];
    assert_eq!(said[..3], wanted.map(|(role, text)| (Some(role), Some(text))));
    let items = host.get(&format!("{RESPONSES}/{third}/input_items")).await.json();
    assert_eq!(items["data"].as_array().expect("items").len(), 1, "{items}");
    assert_eq!(items["data"][0]["content"][0]["text"], "three");
    host.end().await;
}

#[tokio::test]
async fn a_clients_tool_is_called_and_its_output_is_the_next_input() {
    let host = host().await;
    let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object"}}]);
    let (first, run) =
        start(&host, json!({"model": "push", "input": "look", "tools": tools})).await;
    let call = json!({"type": "tool_call.started", "call_id": "c", "name": "look"});
    let input = json!({"type": "tool_call.input_delta", "call_id": "c", "text": "{\"q\":1}"});
    host.append(&run, &json!([call, input, {"type": "tool_call.input_end", "call_id": "c"}])).await;
    host.finish(&run).await;
    let response = retrieve(&host, &first).await;
    assert_eq!((&response["status"], &response["tools"]), (&json!("completed"), &tools));
    let item = response["output"][0].clone();
    assert_eq!((&item["type"], &item["call_id"]), (&json!("function_call"), &json!("c")));
    assert_eq!((&item["arguments"], &item["status"]), (&json!("{\"q\":1}"), &json!("completed")));
    let output = json!([{"type": "function_call_output", "call_id": "c", "output": "42"}]);
    let body = json!({"model": "push", "input": output, "previous_response_id": first});
    let (second, run) = start(&host, body).await;
    let part = json!({"type": "tool_result", "call_id": "c", "output": "42"});
    assert_eq!(host.log(&run).await[0]["input"], json!([{"role": "tool", "parts": [part]}]));
    let items = host.get(&format!("{RESPONSES}/{second}/input_items?order=asc")).await.json();
    assert_eq!(items["data"][0]["type"], "function_call_output");
    assert_eq!(items["data"][0]["output"], "42");
    host.end().await;
}

#[tokio::test]
async fn input_items_come_in_pages() {
    let host = host().await;
    let input: Vec<Value> =
        (0..5).map(|n| json!({"role": "user", "content": format!("{n}")})).collect();
    let body = json!({"model": "push", "input": input, "instructions": "be brief"});
    let (id, _) = start(&host, body).await;
    let page = async |query: &str| {
        host.get(&format!("{RESPONSES}/{id}/input_items?limit=2{query}")).await.json()
    };
    let texts = |page: &Value| {
        let items = page["data"].as_array().expect("items").iter();
        items.map(|item| item["content"][0]["text"].as_str().expect("text").to_owned()).collect()
    };
    let (mut seen, mut after) = (Vec::<String>::new(), String::new());
    loop {
        let got = page(&after).await;
        let texts: Vec<String> = texts(&got);
        seen.extend(texts);
        if got["has_more"] == false {
            break;
        }
        after = format!("&after={}", got["last_id"].as_str().expect("an id"));
    }
    assert_eq!(seen, ["4", "3", "2", "1", "0"]);
    host.get(&format!("{RESPONSES}/{id}/input_items?limit=0")).await.refusal(400, "invalid_value");
    host.end().await;
}

#[tokio::test]
async fn a_failed_run_is_a_failed_response_and_no_reason_to_send_it_again() {
    let host = host().await;
    let reply = host.post(RESPONSES, &json!({"model": "fails", "input": "x"})).await;
    let response = reply.json();
    assert_eq!((reply.status, &response["status"]), (200, &json!("failed")));
    let error = json!({"code": "server_error", "message": "the model is not there"});
    assert_eq!((&response["error"], text_of(&response)), (&error, "0 1 ".to_owned()));
    host.end().await;
}

#[tokio::test]
async fn the_same_request_again_is_the_same_run() {
    let host = host().await;
    let body = json!({"model": "push", "input": "x", "background": true});
    let send = async |body: &Value, name: &str, value: &str| {
        let reply = read(post(&host, body).header(name, value)).await;
        reply.json()["id"].clone()
    };
    let first = send(&body, "idempotency-key", "k").await;
    assert_eq!(send(&body, "idempotency-key", "k").await, first);
    let other = json!({"model": "push", "input": "y", "background": true});
    let different = read(post(&host, &other).header("idempotency-key", "k")).await;
    different.refusal(422, "different_start");

    let run = first.as_str().expect("an id").strip_prefix("resp_").expect("a run").to_owned();
    host.finish(&run).await;
    let next = json!({
        "model": "push", "input": "y", "background": true, "previous_response_id": first,
    });
    let second = send(&next, "idempotency-key", "l").await;
    assert_eq!(send(&next, "idempotency-key", "l").await, second, "also of a conversation");
    let other_way = send(&next, "idempotency-key", "m").await;
    assert_eq!(send(&next, "idempotency-key", "m").await, other_way, "and of its fork");
    assert_ne!(other_way, second);

    // Without a key the client says how often it has tried.
    let fresh = send(&other, "x-stainless-retry-count", "0").await;
    assert_eq!(send(&other, "x-stainless-retry-count", "1").await, fresh);
    assert_ne!(send(&other, "x-stainless-retry-count", "0").await, fresh);
    host.end().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_in_the_protocols_shape() {
    let host = host().await;
    let refused = async |body: Value| host.post(RESPONSES, &body).await;
    let error =
        refused(json!({"model": "gpt-x", "input": "x"})).await.refusal(404, "model_not_found");
    assert_eq!(error["param"], "model");
    assert!(error["message"].as_str().expect("words").contains("gpt-x"));
    refused(json!({"model": "a/b", "input": "x"})).await.refusal(404, "model_not_found");
    refused(json!({"model": 1, "input": "x"})).await.refusal(400, "invalid_value");
    refused(json!({"input": "x", "stream": "yes"})).await.refusal(400, "invalid_value");
    refused(json!({"input": [{"type": "computer_call"}]})).await.refusal(400, "invalid_value");
    refused(json!({"input": "x", "params": 1})).await.refusal(400, "invalid_value");
    let fast = json!({"model": "demo", "input": "x", "params": {"speed": "fast"}});
    refused(fast).await.refusal(400, "bad_params");
    refused(json!({"input": "x", "conversation": "c"})).await.refusal(400, "invalid_value");
    let (id, _) = start(&host, json!({"input": "x"})).await;
    let echo = json!([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]);
    let error = refused(json!({"input": echo, "previous_response_id": id})).await;
    assert_eq!(error.refusal(400, "invalid_value")["param"], "input");
    let unknown = json!({"input": "x", "previous_response_id": "resp_nobody"});
    let error = refused(unknown).await.refusal(400, "previous_response_not_found");
    assert_eq!(error["param"], "previous_response_id");
    for path in ["resp_nobody", "nobody", "resp_nobody/input_items", "resp_a%2Fb"] {
        host.get(&format!("{RESPONSES}/{path}")).await.refusal(404, "not_found");
    }
    host.post(&format!("{RESPONSES}/resp_x/cancel"), &json!({})).await.refusal(404, "not_found");
    for path in ["", "/", "/nothing"] {
        host.get(&format!("/openai/v1{path}")).await.refusal(404, "not_found");
    }
    host.get(&format!("{RESPONSES}/%FF")).await.refusal(400, "bad_id");
    host.get(&format!("{RESPONSES}/x?stream=a&stream=b")).await.refusal(400, "bad_query");
    host.get(RESPONSES).await.refusal(405, "method_not_allowed");
    let list = read(post(&host, &json!([]))).await;
    list.refusal(400, "malformed");
    host.end().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let mut setup = Setup::default();
    setup.options.body_bytes = 1000;
    let host = Host::start(setup).await;
    let body = json!({"model": "push", "input": "x".repeat(2000)});
    host.post(RESPONSES, &body).await.refusal(413, "body_too_large");
    host.end().await;
}

#[tokio::test]
async fn a_deleted_response_is_gone_and_needs_the_admin_token() {
    let host = host().await;
    let (id, run) = start(&host, json!({"model": "push", "input": "x"})).await;
    let path = format!("{RESPONSES}/{id}");
    let delete = |token| host.request(Method::DELETE, &path).bearer_auth(token);
    read(delete("sk-x")).await.refusal(403, "admin_only");
    host.finish(&run).await;
    let (_, next) = start(&host, json!({"input": "y", "previous_response_id": id})).await;
    read(delete(TOKEN)).await.refusal(400, "part_of_conversation");
    host.finish(&next).await;
    let (id, _) = start(&host, json!({"model": "push", "input": "x"})).await;
    let path = format!("{RESPONSES}/{id}");
    let deleted = read(host.request(Method::DELETE, &path).bearer_auth(TOKEN)).await;
    assert_eq!(deleted.json(), json!({"id": id, "object": "response", "deleted": true}));
    host.get(&path).await.refusal(404, "not_found");
    host.end().await;
}

#[tokio::test]
async fn a_server_that_drains_refuses_and_gives_the_terminals() {
    let host = host().await;
    let (id, _) = start(&host, json!({"model": "push", "input": "x"})).await;
    let path = format!("{RESPONSES}/{id}?stream=true");
    let open = host.request(Method::GET, &path).send().await.expect("an answer");
    // The run takes its grace to end.
    let down = host.engine.shutdown(std::time::Duration::from_secs(20));
    let late = async {
        while host.engine.is_ready() {
            tokio::task::yield_now().await;
        }
        read(host.request(Method::GET, &path)).await
    };
    let (body, late, _) = tokio::join!(open.text(), late, down);
    assert!(body.expect("to its end").contains("response.incomplete"));
    late.refusal(503, "shutting_down");
    host.end().await;
}

#[tokio::test]
async fn a_stream_of_a_run_that_goes_on_never_ends_as_if_it_were_whole() {
    let host = host().await;
    let (id, _) = start(&host, json!({"model": "push", "input": "x"})).await;
    let path = format!("{RESPONSES}/{id}?stream=true");
    let open = host.request(Method::GET, &path).send().await.expect("an answer");
    let (body, ()) = tokio::join!(open.text(), host.end());
    assert!(body.is_err(), "{body:?}");
}
