use serde_json::json;

use super::*;
use crate::upstream::testing::{asked, conversation, end, read};

#[test]
fn thinking_text_a_call_and_the_usage() {
    let frames = [
        r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1,"cache_read_input_tokens":4}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Ab"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Cd"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Hi"}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","url":"http://a","title":"A"}}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        r#"{"type":"content_block_stop","index":3}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":7}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    assert_eq!(
        read(&Anthropic, &frames),
        [
            r#"{"type":"reasoning.start","part":"reasoning-0"}"#,
            r#"{"type":"reasoning.delta","part":"reasoning-0","text":"hm"}"#,
            r#"{"type":"reasoning.end","part":"reasoning-0","signature":"AbCd"}"#,
            r#"{"type":"reasoning.start","part":"reasoning-1"}"#,
            r#"{"type":"reasoning.end","part":"reasoning-1","signature":{"redacted":"x"}}"#,
            r#"{"type":"text.start","part":"text-2"}"#,
            r#"{"type":"text.delta","part":"text-2","text":"Hi"}"#,
            r#"{"type":"source","url":"http://a","title":"A"}"#,
            r#"{"type":"text.end","part":"text-2"}"#,
            r#"{"type":"tool_call.started","call_id":"t","name":"f","executor":"client"}"#,
            r#"{"type":"tool_call.input_delta","call_id":"t","text":"{\"x\":"}"#,
            r#"{"type":"tool_call.input_delta","call_id":"t","text":"1}"}"#,
            r#"{"type":"tool_call.input_end","call_id":"t","input":{"x":1}}"#,
            r#"finished tool_calls {"input":9,"output":7,"cached":4}"#,
        ]
    );
}

#[test]
fn tools_of_the_provider_have_their_results() {
    let frames = [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"s","content":[{"type":"web_search_result","url":"http://a"}]}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
    ];
    let lines = read(&Anthropic, &frames);
    assert!(lines[0].contains(r#""executor":"provider""#), "{lines:?}");
    assert_eq!(lines[2], r#"{"type":"tool_call.input_end","call_id":"s","input":{"query":"q"}}"#);
    assert!(
        lines[3].starts_with(r#"{"type":"tool_result","call_id":"s","output":[{"#),
        "{lines:?}"
    );
    assert_eq!(lines[4], r#"{"type":"source","url":"http://a"}"#);
    let failed = r#"{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"s","content":{"type":"web_search_tool_result_error","error_code":"busy"}}}"#;
    assert!(read(&Anthropic, &[failed])[0].contains(r#""error":{"#));
}

#[test]
fn ends() {
    let reason = |reason: &str| {
        json!({"type": "message_delta", "delta": {"stop_reason": reason}}).to_string()
    };
    for (said, told) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ] {
        assert_eq!(end(&Anthropic, &[&reason(said)]), format!("finished {told} null"));
    }
    let overloaded =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for (frames, fault) in [
        (vec![overloaded], "upstream_error: Overloaded"),
        (vec![&reason("end_turn"), overloaded], "upstream_error: Overloaded"),
        (vec![], "upstream_eof"),
        (vec![r#"{"type":"message_start"}"#], "upstream_eof"),
        (vec!["{"], "upstream_malformed"),
        (vec![&reason("end_turn"), &reason("max_tokens")], "upstream_malformed"),
        (
            vec![
                r#"{"type":"content_block_delta","index":7,"delta":{"type":"input_json_delta","partial_json":"1"}}"#,
            ],
            "upstream_malformed",
        ),
    ] {
        let end = end(&Anthropic, &frames);
        assert!(end.starts_with(fault), "{frames:?}: {end}");
    }
}

#[test]
fn an_answer_that_was_not_streamed_is_read_all_the_same() {
    let whole = r#"{"type":"message","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"t","name":"f","input":{"x":1}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let lines = read(&Anthropic, &[whole]);
    assert_eq!(lines.last().expect("an end"), r#"finished tool_calls {"input":1,"output":2}"#);
    assert!(
        lines.contains(
            &r#"{"type":"tool_call.input_end","call_id":"t","input":{"x":1}}"#.to_owned()
        )
    );
}

#[test]
fn a_conversation_is_said_in_blocks() {
    assert_eq!(asked(&Anthropic, &json!("hi"), "system"), json!("be brief"));
    let call = json!({"type": "tool_use", "id": "c", "name": "find", "input": {"q": 1}});
    let result =
        json!({"type": "tool_result", "tool_use_id": "c", "content": "none", "is_error": true});
    let image = json!({"type": "base64", "media_type": "image/png", "data": "AA=="});
    let said = |reasoning: Vec<Value>| {
        let assistant =
            [reasoning, vec![json!({"type": "text", "text": "look"}), call.clone()]].concat();
        json!([
            {"role": "user", "content": [
                {"type": "text", "text": "what is it?"}, {"type": "image", "source": image},
            ]},
            {"role": "assistant", "content": assistant},
            {"role": "user", "content": [result, {"type": "text", "text": "go on"}]},
        ])
    };
    let asked = |signature: Value| asked(&Anthropic, &conversation(&signature), "messages");
    let signed = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    assert_eq!(asked(json!("s")), said(vec![signed]));
    let redacted = json!({"type": "redacted_thinking", "data": "x"});
    assert_eq!(asked(json!({"redacted": "x"})), said(vec![redacted]));
    // Of another API.
    assert_eq!(asked(json!({"thought_signature": "x"})), said(vec![]));
}
