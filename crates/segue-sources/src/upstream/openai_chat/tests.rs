use serde_json::{Value, json};

use super::*;
use crate::upstream::{UpstreamSpec, testing};

fn read(frames: &[&str]) -> Vec<String> {
    testing::read(&OpenAiChat, frames)
}

/// The last of what frames become, the others joined.
fn ends(frames: &[&str]) -> (String, String) {
    let mut lines = read(frames);
    let end = lines.pop().unwrap_or_default();
    (lines.join("\n"), end)
}

fn delta(delta: &Value) -> String {
    json!({"choices": [{"index": 0, "delta": delta}]}).to_string()
}

/// The calls of an answer: id, name, and input or what is wrong with it.
fn calls(pieces: &[Value]) -> Vec<(String, String, Value)> {
    let mut frames: Vec<String> =
        pieces.iter().map(|piece| delta(&json!({"tool_calls": [piece]}))).collect();
    frames.push(r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#.to_owned());
    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
    let lines = read(&frames);
    let events: Vec<Value> =
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_type = |wanted: &str| {
        let wanted = json!(wanted);
        events.iter().filter(move |event| event["type"] == wanted).cloned().collect::<Vec<_>>()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ends = of_type("tool_call.input_end");
    let started = of_type("tool_call.started");
    let found = started.iter().map(|call| {
        let end = ends.iter().find(|end| end["call_id"] == call["call_id"]).expect("an end");
        let input = end.get("input").or_else(|| end.get("raw")).cloned();
        (text(&call["call_id"]), text(&call["name"]), input.expect("an input"))
    });
    found.collect()
}

#[test]
fn text_and_usage() {
    let frames = [
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"lo"}}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,
            "completion_tokens_details":{"reasoning_tokens":1},"prompt_tokens_details":{"cached_tokens":0}}}"#,
        "[DONE]",
    ];
    assert_eq!(
        read(&frames),
        [
            r#"{"type":"text.start","part":"text-0"}"#,
            r#"{"type":"text.delta","part":"text-0","text":"Hel"}"#,
            r#"{"type":"text.delta","part":"text-0","text":"lo"}"#,
            r#"{"type":"text.end","part":"text-0"}"#,
            r#"finished stop {"input":3,"output":2,"reasoning":1,"cached":0}"#,
        ]
    );
}

#[test]
fn reasoning_under_any_name_comes_before_the_text() {
    let text = delta(&json!({"content": "b"}));
    let done = "[DONE]";
    for reasoning in [
        delta(&json!({"reasoning_content": "a"})),
        delta(&json!({"reasoning": "a"})),
        delta(&json!({"reasoning": "a", "reasoning_content": "a"})),
        delta(&json!({"content": "<think>a</think>"})),
        delta(
            &json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}),
        ),
    ] {
        let (events, end) = ends(&[&reasoning, &text, done]);
        let wanted = [
            r#"{"type":"reasoning.start","part":"reasoning-0"}"#,
            r#"{"type":"reasoning.delta","part":"reasoning-0","text":"a"}"#,
            r#"{"type":"reasoning.end","part":"reasoning-0"}"#,
            r#"{"type":"text.start","part":"text-1"}"#,
            r#"{"type":"text.delta","part":"text-1","text":"b"}"#,
            r#"{"type":"text.end","part":"text-1"}"#,
        ];
        assert_eq!((events, end), (wanted.join("\n"), "finished  null".to_owned()), "{reasoning}");
    }
}

#[test]
fn calls_of_every_dialect() {
    let call = |id: &str, name: &str, input: Value| (id.to_owned(), name.to_owned(), input);
    let piece = |index: Value, id: Value, name: Value, arguments: Value| {
        json!({"index": index, "id": id, "type": "function",
               "function": {"name": name, "arguments": arguments}})
    };
    let null = Value::Null;
    // Pieces by index, of two calls at once.
    assert_eq!(
        calls(&[
            piece(json!(0), json!("a"), json!("f"), json!("")),
            piece(json!(1), json!("b"), json!("g"), json!("{")),
            piece(json!(0), null.clone(), null.clone(), json!("{\"x\":")),
            piece(json!(1), null.clone(), null.clone(), json!("}")),
            piece(json!(0), null.clone(), null.clone(), json!("1}")),
        ]),
        [call("a", "f", json!({"x": 1})), call("b", "g", json!({}))]
    );
    // The id again with every piece, no index.
    assert_eq!(
        calls(&[
            piece(null.clone(), json!("a"), json!("f"), json!("{\"x\"")),
            piece(null.clone(), json!("a"), json!("f"), json!(":1}")),
        ]),
        [call("a", "f", json!({"x": 1}))]
    );
    // Whole calls, all of index 0; arguments that are an object; none at all.
    assert_eq!(
        calls(&[
            piece(json!(0), json!("a"), json!("f"), json!({"x": 1})),
            piece(json!(0), json!("b"), json!("g"), null.clone()),
        ]),
        [call("a", "f", json!({"x": 1})), call("b", "g", json!({}))]
    );
    // Neither id nor index: a name begins a call. The id late, the name late.
    assert_eq!(
        calls(&[
            piece(null.clone(), null.clone(), json!("f"), json!("{}")),
            piece(null.clone(), null.clone(), json!("g"), json!("{\"y\"")),
            piece(null.clone(), null.clone(), null.clone(), json!(":2}")),
        ]),
        [call("call-r-0", "f", json!({})), call("call-r-1", "g", json!({"y": 2}))]
    );
    assert_eq!(
        calls(&[
            piece(json!(0), json!("a"), null.clone(), json!("[")),
            piece(json!(0), null.clone(), json!("f"), json!("]")),
        ]),
        [call("a", "f", json!([]))]
    );
    // Input that is no JSON is kept as it is.
    assert_eq!(
        calls(&[piece(json!(0), json!("a"), json!("f"), json!("{\"x\":"))]),
        [call("a", "f", json!("{\"x\":"))]
    );
}

#[test]
fn what_is_not_whole_is_no_success() {
    let text = delta(&json!({"content": "a"}));
    let stop = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let nameless =
        delta(&json!({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]}));
    let homeless = delta(&json!({"tool_calls": [{"function": {"arguments": "{}"}}]}));
    let long_id =
        delta(&json!({"tool_calls": [{"id": "i".repeat(300), "function": {"name": "f"}}]}));
    let large = delta(
        &json!({"tool_calls": [{"id": "i", "function": {"name": "f", "arguments": "x".repeat(2000)}}]}),
    );
    for (frames, fault) in [
        (vec![text.as_str()], "upstream_eof"),
        (vec![], "upstream_eof"),
        (vec![&text, "{"], "upstream_malformed"),
        (vec![&text, "<html>"], "upstream_malformed"),
        (vec![&text, stop, r#"{"choices":[{"finish_reason":"length"}]}"#], "upstream_malformed"),
        (vec![&text, stop, r#"{"error":{"message":"late"}}"#], "upstream_error: late"),
        (vec![&text, r#"{"error":"overloaded"}"#], "upstream_error: overloaded"),
        (vec![r#"{"choices":[{"error":{"message":"no","code":5}}]}"#], "upstream_error: no"),
        (vec![&nameless, stop], "upstream_malformed: a tool call has no name"),
        (vec![&homeless], "upstream_malformed"),
        (vec![&long_id], "upstream_malformed"),
        (vec![&large], "upstream_too_large"),
        (vec![r#"{"choices":7}"#], "upstream_malformed"),
    ] {
        let (_, end) = ends(&frames);
        assert!(end.starts_with(fault), "{frames:?}: {end}");
    }
    assert_eq!(ends(&[&text, stop, stop]).1, "finished stop null");
}

#[test]
fn an_error_event_is_an_error_whatever_it_says() {
    for (data, message) in [("busy", "busy"), (r#"{"message":"busy"}"#, "busy")] {
        let frame = Frame { event: "error".to_owned(), data: data.to_owned() };
        let mut answer = Answer::new("r", 1 << 10);
        let fault = OpenAiChat.reader().frame(&frame, &mut answer).expect_err("an error");
        assert_eq!((fault.code, fault.message.as_str()), ("upstream_error", message));
    }
}

#[test]
fn other_answers_unknown_fields_and_whole_answers() {
    let frames = [
        r#"{"id":"x","object":"chat.completion.chunk","choices":[{"index":1,"delta":{"content":"no"}},
            {"index":0,"delta":{"content":"a","padding":[1],"annotations":[{"type":"url_citation","url_citation":{"url":"http://a","title":"A"}}]}}]}"#,
        r#"{"object":"keepalive"}"#,
        r#"{"choices":null}"#,
        "[DONE]",
    ];
    let (events, end) = ends(&frames);
    assert!(events.contains(r#"{"type":"source","url":"http://a","title":"A"}"#), "{events}");
    assert!(!events.contains("no"), "{events}");
    assert_eq!(end, "finished  null");
    let whole = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;
    let (events, end) = ends(&[whole]);
    assert!(events.contains(r#""text":"a""#), "{events}");
    assert_eq!(end, r#"finished stop {"input":1}"#);
}

#[test]
fn the_request_has_the_parameters_of_the_start_over_the_configured_ones() {
    let params = json!({"temperature": 1, "top_p": 1}).as_object().cloned().expect("an object");
    let spec = UpstreamSpec { params, ..UpstreamSpec::new("http://a", "m") };
    let start = json!({"temperature": 0, "model": "other"});
    let body = OpenAiChat.body(spec.model(&start), Some("s"), &json!("hi")).expect("a body");
    assert_eq!(
        Value::Object(spec.with_params(body, &start)),
        json!({
            "model": "other", "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}],
            "temperature": 0, "top_p": 1,
        })
    );
}
