//! A conversation in the words of Messages.

use serde_json::{Value, json};

use crate::upstream::history::{self, Item, Outcome, Turn};

/// The `messages`. Results are said by the user, and turns of one role that follow each other are
/// one message, as the API wants it.
pub(super) fn messages(turns: &[Turn<'_>]) -> Result<Vec<Value>, String> {
    let mut messages: Vec<Value> = Vec::new();
    for turn in turns {
        let (role, items) = match turn {
            Turn::System(_) => continue,
            Turn::User(items) | Turn::Results(items) => ("user", items),
            Turn::Assistant(items) => ("assistant", items),
            Turn::Own(message) => {
                messages.push((*message).clone());
                continue;
            }
        };
        let blocks = items.iter().filter_map(|item| block(item).transpose());
        let blocks = blocks.collect::<Result<Vec<Value>, String>>()?;
        match messages.last_mut() {
            Some(last) if last["role"] == role && last["content"].is_array() => {
                last["content"]
                    .as_array_mut()
                    .into_iter()
                    .for_each(|all| all.extend(blocks.clone()));
            }
            _ if blocks.is_empty() => {}
            _ => messages.push(json!({"role": role, "content": blocks})),
        }
    }
    Ok(messages)
}

/// Reasoning without a signature is left out: the API takes back only its own.
fn block(item: &Item<'_>) -> Result<Option<Value>, String> {
    let block = match item {
        // The API refuses empty text.
        Item::Text("") => return Ok(None),
        Item::Text(text) => json!({"type": "text", "text": text}),
        Item::Reasoning { text, signature: Some(Value::String(signature)) } => {
            json!({"type": "thinking", "thinking": text, "signature": signature})
        }
        Item::Reasoning { signature: Some(signature), .. } if signature["redacted"].is_string() => {
            json!({"type": "redacted_thinking", "data": signature["redacted"]})
        }
        Item::Reasoning { .. } => return Ok(None),
        Item::Call(call) => {
            json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.object()})
        }
        Item::Result(outcome) => {
            let Outcome { id, is_error, .. } = outcome;
            json!({
                "type": "tool_result", "tool_use_id": id, "content": outcome.text(),
                "is_error": is_error,
            })
        }
        Item::File { media_type, url } => file(media_type, url)?,
        Item::Own(part) => (*part).clone(),
    };
    Ok(Some(block))
}

fn file(media_type: &str, url: &str) -> Result<Value, String> {
    let kind = match media_type {
        "application/pdf" => "document",
        _ if media_type.starts_with("image/") => "image",
        _ => return Err(history::unsayable(&format!("a {media_type} file"))),
    };
    let source = match history::inline(url, media_type) {
        Some((media_type, data)) => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        None => json!({"type": "url", "url": url}),
    };
    Ok(json!({"type": kind, "source": source}))
}
