//! What the tests of the dialects share.

use segue_core::Inbound;
use serde_json::Value;

use super::{Dialect, answer::Answer, frames::Frame};

/// What an answer of these frames becomes: its events on a line each, then its end or fault.
pub(super) fn read(dialect: &dyn Dialect, frames: &[&str]) -> Vec<String> {
    let mut answer = Answer::new("r", 1 << 10);
    let mut reader = dialect.reader();
    let frame = |data: &&str| Frame { event: "message".to_owned(), data: (*data).to_owned() };
    let read = frames.iter().map(frame).try_for_each(|frame| reader.frame(&frame, &mut answer));
    reader.finish(&mut answer);
    let end = read.and_then(|()| answer.close()).map(|()| answer.end());
    let mut lines: Vec<String> = std::iter::from_fn(|| answer.next())
        .map(|event| String::from_utf8_lossy(event.json()).into_owned())
        .collect();
    lines.push(match end {
        Ok(Inbound::Finished { finish_reason, usage }) => {
            format!("finished {} {}", finish_reason.unwrap_or_default(), usage.unwrap_or_default())
        }
        Ok(other) => format!("{other:?}"),
        Err(fault) => format!("{}: {}", fault.code, fault.message),
    });
    lines
}

/// How an answer of these frames ends.
pub(super) fn end(dialect: &dyn Dialect, frames: &[&str]) -> String {
    read(dialect, frames).pop().unwrap_or_default()
}

/// One field of a dialect's request for this input.
pub(super) fn asked(dialect: &dyn Dialect, input: &Value, field: &str) -> Value {
    let body = dialect.body("m", Some("be brief"), input).expect("a body");
    body.get(field).cloned().unwrap_or_default()
}

/// A conversation with everything in it: an image, signed reasoning, a call and its result.
pub(super) fn conversation(signature: &Value) -> Value {
    serde_json::json!([
        {"role": "user", "parts": [
            {"type": "text", "text": "what is it?"},
            {"type": "file", "media_type": "image/png", "url": "data:image/png;base64,AA=="},
        ]},
        {"id": "m1", "role": "assistant", "status": "complete", "parts": [
            {"type": "reasoning", "part": "reasoning-0", "text": "hm", "signature": signature},
            {"type": "text", "part": "text-1", "text": "look"},
            {"type": "tool_call", "call_id": "c", "name": "find", "input": {"q": 1}},
            {"type": "tool_result", "call_id": "c", "error": "none"},
            {"type": "finish"},
        ]},
        {"role": "user", "content": "go on"},
    ])
}
