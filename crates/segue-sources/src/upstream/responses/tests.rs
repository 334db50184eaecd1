use serde_json::json;

use super::*;
use crate::upstream::testing::{asked, conversation, end, read};

#[test]
fn reasoning_text_a_call_and_the_usage() {
    let frames = [
        r#"{"type":"response.created","response":{"id":"r"}}"#,
        r#"{"type":"keepalive"}"#,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs"}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"delta":"hm"}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"e"}}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"message"}}"#,
        r#"{"type":"response.output_text.delta","output_index":1,"delta":"Hi"}"#,
        r#"{"type":"response.output_text.annotation.added","output_index":1,"annotation":{"type":"url_citation","url":"http://a","title":"A"}}"#,
        r#"{"type":"response.output_text.done","output_index":1,"text":"Hi"}"#,
        r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"message","content":[{"type":"output_text","text":"Hi"}]}}"#,
        r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","call_id":"c","name":"f","arguments":""}}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{}"}"#,
        r#"{"type":"response.function_call_arguments.done","output_index":2,"arguments":"{}"}"#,
        r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}}"#,
        r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":2,"output_tokens_details":{"reasoning_tokens":1}}}}"#,
    ];
    assert_eq!(
        read(&Responses, &frames),
        [
            r#"{"type":"reasoning.start","part":"reasoning-0"}"#,
            r#"{"type":"reasoning.delta","part":"reasoning-0","text":"hm"}"#,
            r#"{"type":"reasoning.end","part":"reasoning-0","signature":{"id":"rs","encrypted_content":"e"}}"#,
            r#"{"type":"text.start","part":"text-1"}"#,
            r#"{"type":"text.delta","part":"text-1","text":"Hi"}"#,
            r#"{"type":"source","url":"http://a","title":"A"}"#,
            r#"{"type":"text.end","part":"text-1"}"#,
            r#"{"type":"tool_call.started","call_id":"c","name":"f","executor":"client"}"#,
            r#"{"type":"tool_call.input_delta","call_id":"c","text":"{}"}"#,
            r#"{"type":"tool_call.input_end","call_id":"c","input":{}}"#,
            r#"finished tool_calls {"input":3,"output":2,"reasoning":1}"#,
        ]
    );
}

#[test]
fn ends() {
    let incomplete = |reason: &str| {
        json!({"type": "response.incomplete",
               "response": {"incomplete_details": {"reason": reason}}})
        .to_string()
    };
    let text = r#"{"type":"response.output_text.delta","output_index":0,"delta":"Hi"}"#;
    let done = r#"{"type":"response.completed","response":{}}"#;
    for (frames, wanted) in [
        (vec![text, done], "finished stop null"),
        (vec![text, &incomplete("max_output_tokens")], "finished length null"),
        (vec![text, &incomplete("content_filter")], "finished content_filter null"),
        (vec![text], "upstream_eof"),
        (
            vec![
                text,
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"no"}}}"#,
            ],
            "upstream_error: no",
        ),
        (vec![r#"{"type":"error","message":"no"}"#], "upstream_error: no"),
        (vec![r#"{"type":"error","error":{"message":"no"}}"#], "upstream_error: no"),
        (vec![r#"{"type":"response.cancelled","response":{}}"#], "upstream_error"),
        (vec!["{"], "upstream_malformed"),
        (
            vec![
                r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"x"}"#,
            ],
            "upstream_malformed",
        ),
    ] {
        let end = end(&Responses, &frames);
        assert!(end.starts_with(wanted), "{frames:?}: {end}");
    }
}

#[test]
fn an_answer_that_was_not_streamed_is_read_all_the_same() {
    let whole = r#"{"object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{\"x\":1}"}]}"#;
    let lines = read(&Responses, &[whole]);
    assert!(
        lines.contains(&r#"{"type":"text.delta","part":"text-0","text":"Hi"}"#.to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(
            &r#"{"type":"tool_call.input_end","call_id":"c","input":{"x":1}}"#.to_owned()
        ),
        "{lines:?}"
    );
    assert_eq!(lines.last().expect("an end"), "finished tool_calls null");
    let failed = r#"{"object":"response","status":"failed","error":{"message":"no"}}"#;
    assert_eq!(end(&Responses, &[failed]), "upstream_error: no");
}

#[test]
fn a_conversation_is_said_in_items() {
    assert_eq!(asked(&Responses, &json!("hi"), "instructions"), json!("be brief"));
    let said = |reasoning: Vec<Value>| {
        let before = json!({"role": "user", "content": [
            {"type": "input_text", "text": "what is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        ]});
        let after = [
            json!({"role": "assistant", "content": [{"type": "output_text", "text": "look"}]}),
            json!({"type": "function_call", "call_id": "c", "name": "find", "arguments": "{\"q\":1}"}),
            json!({"type": "function_call_output", "call_id": "c", "output": "none"}),
            json!({"role": "user", "content": [{"type": "input_text", "text": "go on"}]}),
        ];
        Value::Array([vec![before], reasoning, after.to_vec()].concat())
    };
    let asked = |signature: Value| asked(&Responses, &conversation(&signature), "input");
    let reasoning = json!({"type": "reasoning", "id": "rs", "encrypted_content": "e",
                           "summary": [{"type": "summary_text", "text": "hm"}]});
    assert_eq!(asked(json!({"id": "rs", "encrypted_content": "e"})), said(vec![reasoning]));
    assert_eq!(asked(json!("of another API")), said(vec![]));
}
