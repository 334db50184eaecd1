use serde_json::json;

use super::*;
use crate::upstream::testing::{asked, conversation, end, read};

fn parts(parts: &Value) -> String {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}}]}).to_string()
}

const STOP: &str = r#"{"candidates":[{"index":0,"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"thoughtsTokenCount":1}}"#;

#[test]
fn thoughts_text_calls_code_and_files() {
    let frames = [
        parts(&json!([{"text": "hm", "thought": true}])),
        parts(&json!([{"text": "Hi"}, {"text": " you"}])),
        parts(&json!([{"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "s"}])),
        parts(&json!([{"executableCode": {"language": "PYTHON", "code": "1"}}])),
        parts(&json!([{"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}])),
        parts(&json!([{"inlineData": {"mimeType": "image/png", "data": "AA=="}}])),
        STOP.to_owned(),
    ];
    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
    assert_eq!(
        read(&Gemini, &frames),
        [
            r#"{"type":"reasoning.start","part":"reasoning-0"}"#,
            r#"{"type":"reasoning.delta","part":"reasoning-0","text":"hm"}"#,
            r#"{"type":"reasoning.end","part":"reasoning-0"}"#,
            r#"{"type":"text.start","part":"text-1"}"#,
            r#"{"type":"text.delta","part":"text-1","text":"Hi"}"#,
            r#"{"type":"text.delta","part":"text-1","text":" you"}"#,
            r#"{"type":"text.end","part":"text-1"}"#,
            r#"{"type":"reasoning.start","part":"reasoning-2"}"#,
            r#"{"type":"reasoning.end","part":"reasoning-2","signature":{"thought_signature":"s"}}"#,
            r#"{"type":"tool_call.started","call_id":"call-r-0","name":"f","executor":"client"}"#,
            r#"{"type":"tool_call.input_delta","call_id":"call-r-0","text":"{\"x\":1}"}"#,
            r#"{"type":"tool_call.input_end","call_id":"call-r-0","input":{"x":1}}"#,
            r#"{"type":"tool_call.started","call_id":"call-r-1","name":"code_execution","executor":"provider"}"#,
            r#"{"type":"tool_call.input_delta","call_id":"call-r-1","text":"{\"language\":\"PYTHON\",\"code\":\"1\"}"}"#,
            r#"{"type":"tool_call.input_end","call_id":"call-r-1","input":{"language":"PYTHON","code":"1"}}"#,
            r#"{"type":"tool_result","call_id":"call-r-1","output":{"outcome":"OUTCOME_OK","output":"1"}}"#,
            r#"{"type":"file","media_type":"image/png","url":"data:image/png;base64,AA=="}"#,
            r#"finished tool_calls {"input":3,"output":2,"reasoning":1}"#,
        ]
    );
}

#[test]
fn ends() {
    let text = parts(&json!([{"text": "Hi"}]));
    let reason = |reason: &str| json!({"candidates": [{"finishReason": reason}]}).to_string();
    for (said, told) in [
        ("STOP", "finished stop null"),
        ("MAX_TOKENS", "finished length null"),
        ("SAFETY", "finished content_filter null"),
        ("OTHER", "finished other null"),
        ("MALFORMED_FUNCTION_CALL", "upstream_error: MALFORMED_FUNCTION_CALL"),
        ("", "upstream_eof"),
    ] {
        let end = end(&Gemini, &[&text, &reason(said)]);
        assert!(end.starts_with(told), "{said}: {end}");
    }
    for (frame, fault) in [
        (r#"{"error":{"code":503,"message":"no","status":"UNAVAILABLE"}}"#, "upstream_error: no"),
        (r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, "upstream_refused"),
        (r#"[{"error":{"message":"no"}}]"#, "upstream_error: no"),
        ("{", "upstream_malformed"),
        (&parts(&json!([{"functionCall": {}}])), "upstream_malformed: a tool call has no name"),
    ] {
        let end = end(&Gemini, &[frame]);
        assert!(end.starts_with(fault), "{frame}: {end}");
    }
}

#[test]
fn sources_are_given_once_and_an_array_is_read_too() {
    let grounded = r#"[{"candidates":[{"groundingMetadata":{"groundingChunks":[{"web":{"uri":"http://a","title":"A"}}]}}]},
        {"candidates":[{"groundingMetadata":{"groundingChunks":[{"web":{"uri":"http://a","title":"A"}},{"web":{"uri":"http://b"}}]}}]}]"#;
    let lines = read(&Gemini, &[grounded, STOP]);
    assert_eq!(
        lines[..2],
        [
            r#"{"type":"source","url":"http://a","title":"A"}"#.to_owned(),
            r#"{"type":"source","url":"http://b"}"#.to_owned(),
        ]
    );
}

#[test]
fn a_conversation_is_said_in_contents() {
    let system = asked(&Gemini, &json!("hi"), "systemInstruction");
    assert_eq!(system, json!({"parts": [{"text": "be brief"}]}));
    let said = asked(&Gemini, &conversation(&json!({"thought_signature": "s"})), "contents");
    assert_eq!(
        said,
        json!([
            {"role": "user", "parts": [
                {"text": "what is it?"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
            ]},
            {"role": "model", "parts": [
                {"text": "look", "thoughtSignature": "s"},
                {"functionCall": {"name": "find", "args": {"q": 1}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "find", "response": {"error": "none"}}},
            ]},
            {"role": "user", "parts": [{"text": "go on"}]},
        ])
    );
}
