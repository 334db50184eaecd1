//! A conversation in the words of a chat completion.

use serde_json::{Map, Value, json};

use crate::upstream::history::{self, Call, Item, Outcome, Turn};

/// The `messages`. Reasoning is left out: no chat API takes it back.
pub(super) fn messages(turns: &[Turn<'_>]) -> Result<Vec<Value>, String> {
    let mut messages = Vec::new();
    for turn in turns {
        match turn {
            Turn::System(items) => {
                messages.push(json!({"role": "system", "content": history::text(items)}));
            }
            Turn::User(items) => messages.push(json!({"role": "user", "content": content(items)?})),
            Turn::Assistant(items) => messages.push(assistant(items)),
            Turn::Results(items) => messages.extend(items.iter().filter_map(result)),
            Turn::Own(message) => messages.push((*message).clone()),
        }
    }
    Ok(messages)
}

fn assistant(items: &[Item<'_>]) -> Value {
    let calls: Vec<Value> = items.iter().filter_map(called).collect();
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    message.insert("content".to_owned(), history::text(items).into());
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    Value::Object(message)
}

fn called(item: &Item<'_>) -> Option<Value> {
    let Item::Call(call) = item else { return None };
    let Call { id, name, .. } = call;
    let function = json!({"name": name, "arguments": call.text()});
    Some(json!({"type": "function", "id": id, "function": function}))
}

fn result(item: &Item<'_>) -> Option<Value> {
    let Item::Result(outcome) = item else { return None };
    let Outcome { id, .. } = outcome;
    Some(json!({"role": "tool", "tool_call_id": id, "content": outcome.text()}))
}

/// Of a user: text, and images by their URL.
fn content(items: &[Item<'_>]) -> Result<Value, String> {
    if items.iter().all(|item| matches!(item, Item::Text(_))) {
        return Ok(history::text(items).into());
    }
    items.iter().map(part).collect::<Result<Vec<Value>, String>>().map(Value::Array)
}

fn part(item: &Item<'_>) -> Result<Value, String> {
    match item {
        Item::Text(text) => Ok(json!({"type": "text", "text": text})),
        Item::File { media_type, url } if media_type.starts_with("image/") => {
            Ok(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        Item::File { media_type, .. } => Err(history::unsayable(&format!("a {media_type} file"))),
        Item::Own(part) => Ok((*part).clone()),
        Item::Reasoning { .. } | Item::Call(_) | Item::Result(_) => {
            Err(history::unsayable("a tool call or reasoning of the user"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(input: &Value) -> Result<Vec<Value>, String> {
        messages(&history::turns(None, input)?)
    }

    #[test]
    fn a_user_says_text_and_images() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(said(&parts), Ok(vec![json!({"role": "user", "content": "ab"})]));
        let parts = json!([
            {"type": "text", "text": "a"},
            {"type": "file", "media_type": "image/png", "url": "data:,x"},
        ]);
        let content = json!([
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:,x"}},
        ]);
        assert_eq!(said(&parts), Ok(vec![json!({"role": "user", "content": content})]));
        let film = json!([{"type": "file", "media_type": "video/mp4", "url": "data:,x"}]);
        assert!(said(&film).is_err());
    }

    #[test]
    fn an_answer_of_before_keeps_its_calls_and_their_results() {
        let input = json!([{"role": "assistant", "parts": [
            {"type": "reasoning", "text": "hm"},
            {"type": "text", "text": "look"},
            {"type": "tool_call", "call_id": "c", "name": "find", "input": {"q": 1}},
            {"type": "tool_result", "call_id": "c", "output": {"n": 2}},
        ]}]);
        let call = json!({
            "type": "function", "id": "c",
            "function": {"name": "find", "arguments": r#"{"q":1}"#},
        });
        let wanted = [
            json!({"role": "assistant", "content": "look", "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": "c", "content": r#"{"n":2}"#}),
        ];
        assert_eq!(said(&input).expect("messages"), wanted);
    }
}
