use serde_json::json;

use super::*;
use crate::upstream::testing::{asked, conversation, end, read};

const DONE: &str = r#"{"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}"#;

#[test]
fn thinking_text_and_calls() {
    let frames = [
        r#"{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
        r#"{"message":{"role":"assistant","content":"Hi"},"done":false}"#,
        r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}}]}}"#,
        DONE,
    ];
    assert_eq!(
        read(&Ollama, &frames),
        [
            r#"{"type":"reasoning.start","part":"reasoning-0"}"#,
            r#"{"type":"reasoning.delta","part":"reasoning-0","text":"hm"}"#,
            r#"{"type":"reasoning.end","part":"reasoning-0"}"#,
            r#"{"type":"text.start","part":"text-1"}"#,
            r#"{"type":"text.delta","part":"text-1","text":"Hi"}"#,
            r#"{"type":"text.end","part":"text-1"}"#,
            r#"{"type":"tool_call.started","call_id":"call-r-0","name":"f","executor":"client"}"#,
            r#"{"type":"tool_call.input_delta","call_id":"call-r-0","text":"{\"x\":1}"}"#,
            r#"{"type":"tool_call.input_end","call_id":"call-r-0","input":{"x":1}}"#,
            r#"finished tool_calls {"input":3,"output":2}"#,
        ]
    );
}

#[test]
fn ends() {
    let text = r#"{"message":{"content":"Hi"}}"#;
    for (frames, wanted) in [
        (vec![text, DONE], r#"finished stop {"input":3,"output":2}"#),
        (vec![text, r#"{"done":true}"#], "finished stop null"),
        (vec![text, r#"{"done":true,"done_reason":"length"}"#], "finished length null"),
        (vec![text], "upstream_eof"),
        (vec![text, r#"{"error":"no"}"#], "upstream_error: no"),
        (vec!["{"], "upstream_malformed"),
        (vec![r#"{"message":{"tool_calls":[{}]}}"#], "upstream_malformed: a tool call has no name"),
    ] {
        let end = end(&Ollama, &frames);
        assert!(end.starts_with(wanted), "{frames:?}: {end}");
    }
}

#[test]
fn a_conversation_is_said_in_messages() {
    assert_eq!(
        asked(&Ollama, &conversation(&json!("s")), "messages"),
        json!([
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "what is it?", "images": ["AA=="]},
            {"role": "assistant", "content": "look", "tool_calls": [
                {"function": {"name": "find", "arguments": {"q": 1}}},
            ]},
            {"role": "tool", "tool_name": "find", "content": "none"},
            {"role": "user", "content": "go on"},
        ])
    );
}
