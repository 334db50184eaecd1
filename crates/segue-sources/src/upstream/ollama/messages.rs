//! A conversation in Ollama's words.

use serde_json::{Value, json};

use crate::upstream::history::{self, Item, Turn};

/// The `messages`. Reasoning is left out.
pub(super) fn messages(turns: &[Turn<'_>]) -> Result<Vec<Value>, String> {
    let mut messages = Vec::new();
    for turn in turns {
        match turn {
            Turn::System(items) => messages.push(said("system", items)?),
            Turn::User(items) => messages.push(said("user", items)?),
            Turn::Assistant(items) => messages.push(said("assistant", items)?),
            Turn::Results(items) => messages.extend(items.iter().filter_map(result)),
            Turn::Own(message) => messages.push((*message).clone()),
        }
    }
    Ok(messages)
}

fn said(role: &str, items: &[Item<'_>]) -> Result<Value, String> {
    let mut message = json!({"role": role, "content": history::text(items)});
    let (mut calls, mut images) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Call(call) => {
                let function = json!({"name": call.name, "arguments": call.object()});
                calls.push(json!({"function": function}));
            }
            Item::File { media_type, url } => images.push(image(media_type, url)?),
            Item::Own(_) => return Err(history::unsayable("a part in another API's words")),
            Item::Text(_) | Item::Reasoning { .. } | Item::Result(_) => {}
        }
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    if !images.is_empty() {
        message["images"] = images.into();
    }
    Ok(message)
}

/// Images go as base64 only.
fn image<'a>(media_type: &'a str, url: &'a str) -> Result<&'a str, String> {
    match history::inline(url, media_type) {
        Some((media_type, data)) if media_type.starts_with("image/") => Ok(data),
        _ => Err(history::unsayable("a file that is no image in a data: URL with base64")),
    }
}

fn result(item: &Item<'_>) -> Option<Value> {
    let Item::Result(outcome) = item else { return None };
    Some(json!({"role": "tool", "tool_name": outcome.name, "content": outcome.text()}))
}
