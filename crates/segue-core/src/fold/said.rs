//! What a client says, made into messages.
//!
//! An input is a string, a list of parts (one message of the user) or a list of messages, each with
//! a `role` and its `parts` or `content`. Of a list of messages only what follows the last one of
//! an assistant is said now: a client that sends the whole conversation along says its end. One
//! with `"aside": true` is for this run alone and becomes no message.

use serde_json::{Map, Value, json};

use super::{list::PartList, message::Role, part::Part};
use crate::id::MessageId;

/// A message as it was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The client's own id for it.
    pub id: Option<MessageId>,
    /// Who says it.
    pub role: Role,
    /// What is said, in order.
    pub parts: PartList,
    /// The client's own data.
    pub metadata: Map<String, Value>,
}

/// Why an input is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaidError {
    /// It has another shape.
    #[error("the input is a string, a list of parts or a list of messages")]
    Shape,
    /// A message is not one.
    #[error("message {at} of the input {why}")]
    Message {
        /// Its place, from 0.
        at: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A part is not one.
    #[error("part {at} {why}")]
    Part {
        /// Its place in its message, from 0.
        at: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The messages of an input, in order; none of null.
///
/// Parts of types that are not known are kept as they are.
pub fn said(input: &Value) -> Result<Vec<Said>, SaidError> {
    match input {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![of_user(text_parts(text))]),
        Value::Array(items) if items.iter().any(|item| item.get("role").is_some()) => {
            messages(items)
        }
        Value::Array(items) if items.is_empty() => Ok(Vec::new()),
        Value::Array(items) => Ok(vec![of_user(parts(items)?)]),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(SaidError::Shape),
    }
}

/// Whether an input is a conversation of the client's own: one that has an answer in it.
pub fn brings_history(input: &Value) -> bool {
    let items = input.as_array().into_iter().flatten();
    items.filter_map(role).any(|role| role == Role::Assistant)
}

/// One message, `{"role", "parts" or "content", "id"?, "metadata"?}`.
pub fn one(message: &Value) -> Result<Said, SaidError> {
    self::message(0, message)
}

fn role(message: &Value) -> Option<Role> {
    Role::parse(message["role"].as_str()?)
}

fn messages(items: &[Value]) -> Result<Vec<Said>, SaidError> {
    let is_answer = |item: &Value| role(item) == Some(Role::Assistant);
    let first = items.iter().rposition(is_answer).map_or(0, |at| at + 1);
    let now = items.iter().enumerate().skip(first);
    now.filter(|(_, item)| item["aside"] != true).map(|(at, item)| message(at, item)).collect()
}

fn message(at: usize, item: &Value) -> Result<Said, SaidError> {
    let wrong = |why: &str| SaidError::Message { at, why: why.to_owned() };
    let role = role(item).ok_or_else(|| wrong("has no known role"))?;
    let call = item["tool_call_id"].as_str().filter(|_| role == Role::Tool);
    let parts = match (&item["parts"], &item["content"], call) {
        (Value::Array(items), _, _) => parts(items)?,
        (_, said, Some(call)) => parts(&[result(call, said)])?,
        (_, Value::String(text), _) => text_parts(text),
        (_, Value::Array(items), _) => parts(items)?,
        _ => return Err(wrong("has neither `parts` nor `content`")),
    };
    let id = match &item["id"] {
        Value::Null => None,
        Value::String(id) => Some(MessageId::parse(id).map_err(|error| SaidError::Message {
            at,
            why: format!("has no usable id: {error}"),
        })?),
        _ => return Err(wrong("has an id that is no text")),
    };
    let metadata = match &item["metadata"] {
        Value::Null => Map::new(),
        Value::Object(fields) => fields.clone(),
        _ => return Err(wrong("has `metadata` that is no object")),
    };
    Ok(Said { id, role, parts, metadata })
}

fn result(call: &str, output: &Value) -> Value {
    json!({"type": "tool_result", "call_id": call, "output": output})
}

fn of_user(parts: PartList) -> Said {
    Said { id: None, role: Role::User, parts, metadata: Map::new() }
}

fn text_parts(text: &str) -> PartList {
    let part = json!({"type": "text", "text": text}).to_string();
    serde_json::from_str::<Part>(&part).into_iter().collect()
}

fn parts(items: &[Value]) -> Result<PartList, SaidError> {
    items.iter().enumerate().map(|(at, item)| part(at, item)).collect()
}

fn part(at: usize, item: &Value) -> Result<Part, SaidError> {
    let wrong = |why| SaidError::Part { at, why };
    let has = |name: &str| item[name].is_string();
    match item["type"].as_str() {
        None => return Err(wrong("has no type")),
        Some("text" | "reasoning") if !has("text") => return Err(wrong("has no text")),
        Some("tool_call") if !(has("call_id") && has("name")) => {
            return Err(wrong("is a tool call without `call_id` or `name`"));
        }
        Some("tool_result") if !has("call_id") => {
            return Err(wrong("is a tool result without `call_id`"));
        }
        Some(_) => {}
    }
    serde_json::from_str(&item.to_string()).map_err(|_| wrong("has a field of another kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &Value) -> Vec<Value> {
        let said = said(input).expect("an input");
        let shown = |said: &Said| json!({"role": said.role, "parts": said.parts});
        said.iter().map(shown).collect()
    }

    #[test]
    fn the_input_is_text_parts_or_messages() {
        let hi = json!({"role": "user", "parts": [{"type": "text", "text": "hi\0"}]});
        assert_eq!(check(&json!(null)), Vec::<Value>::new());
        assert_eq!(check(&json!([])), Vec::<Value>::new());
        assert_eq!(check(&json!("hi\0")), std::slice::from_ref(&hi));
        assert_eq!(check(&json!([{"type": "text", "text": "hi\0"}])), std::slice::from_ref(&hi));
        assert_eq!(check(&json!([{"role": "user", "content": "hi\0"}])), [hi]);
        let both = json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        ]);
        let own = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
        let brief = json!([{"type": "text", "text": "be brief"}]);
        assert_eq!(
            check(&both),
            [json!({"role": "system", "parts": brief}), json!({"role": "user", "parts": own})]
        );
    }

    #[test]
    fn of_a_whole_conversation_its_end_is_said() {
        let input = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": []},
            {"role": "tool", "tool_call_id": "c", "content": "4"},
        ]);
        let result = json!([{"type": "tool_result", "call_id": "c", "output": "4"}]);
        assert_eq!(check(&input), [json!({"role": "tool", "parts": result})]);
        assert!(brings_history(&input) && !brings_history(&json!("assistant")));
    }

    #[test]
    fn what_is_said_aside_is_no_message() {
        let input = json!([
            {"role": "system", "parts": [], "aside": true},
            {"role": "user", "content": "a"},
            {"role": "user", "content": "b", "aside": false},
        ]);
        let text = |text: &str| json!({"role": "user", "parts": [{"type": "text", "text": text}]});
        assert_eq!(check(&input), [text("a"), text("b")]);
    }

    #[test]
    fn what_is_no_message_is_told_by_its_place() {
        for (input, wanted) in [
            (json!(1), "the input is a string, a list of parts or a list of messages"),
            (json!([1]), "part 0 has no type"),
            (json!([{"type": "text"}]), "part 0 has no text"),
            (json!([{"type": "tool_call"}]), "part 0 is a tool call without `call_id` or `name`"),
            (json!([{"type": "tool_result"}]), "part 0 is a tool result without `call_id`"),
            (
                json!([{"type": "text", "text": "x", "part": 1}]),
                "part 0 has a field of another kind",
            ),
            (json!([{"role": "cook"}]), "message 0 of the input has no known role"),
            (json!([{"role": "user"}]), "message 0 of the input has neither `parts` nor `content`"),
            (
                json!([{"role": "user", "content": "x", "id": "a/b"}]),
                "message 0 of the input has no usable id: an id is made of A-Z a-z 0-9 _ . -, \
                 byte 1 is something else",
            ),
        ] {
            assert_eq!(said(&input).expect_err("no input").to_string(), wanted);
        }
    }

    #[test]
    fn fields_that_somebody_added_are_kept() {
        let parts = json!([{"type": "text", "text": "x", "colour": "red"}]);
        assert_eq!(check(&parts)[0]["parts"], parts);
        let said = said(&parts).expect("an input");
        assert_eq!(said[0].parts[0].text().as_deref(), Some("x"));
    }
}
