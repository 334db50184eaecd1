//! A conversation as the items of a response's input.

use serde_json::{Value, json};

use crate::upstream::history::{self, Item, Turn};

/// The `input`. Turns of the system are said elsewhere.
pub(super) fn items(turns: &[Turn<'_>]) -> Result<Vec<Value>, String> {
    let mut said = Vec::new();
    for turn in turns {
        match turn {
            Turn::System(_) => {}
            Turn::User(items) => {
                let content =
                    items.iter().map(user_part).collect::<Result<Vec<Value>, String>>()?;
                said.push(json!({"role": "user", "content": content}));
            }
            Turn::Assistant(items) | Turn::Results(items) => {
                said.extend(items.iter().filter_map(item));
            }
            Turn::Own(message) => said.push((*message).clone()),
        }
    }
    Ok(said)
}

/// Of an answer. Reasoning that is not signed is left out: the API takes back only its own.
fn item(item: &Item<'_>) -> Option<Value> {
    match item {
        Item::Text("") | Item::File { .. } => None,
        Item::Text(text) => {
            let content = json!([{"type": "output_text", "text": text}]);
            Some(json!({"role": "assistant", "content": content}))
        }
        Item::Reasoning { text, signature } => {
            let signature = (*signature)?;
            signature["encrypted_content"].as_str()?;
            let summary = if text.is_empty() {
                json!([])
            } else {
                json!([{"type": "summary_text", "text": text}])
            };
            Some(json!({
                "type": "reasoning", "id": signature["id"], "summary": summary,
                "encrypted_content": signature["encrypted_content"],
            }))
        }
        Item::Call(call) => Some(json!({
            "type": "function_call", "call_id": call.id, "name": call.name,
            "arguments": call.text(),
        })),
        Item::Result(outcome) => Some(json!({
            "type": "function_call_output", "call_id": outcome.id, "output": outcome.text(),
        })),
        Item::Own(part) => Some((*part).clone()),
    }
}

fn user_part(item: &Item<'_>) -> Result<Value, String> {
    match item {
        Item::Text(text) => Ok(json!({"type": "input_text", "text": text})),
        Item::File { media_type, url } if media_type.starts_with("image/") => {
            Ok(json!({"type": "input_image", "image_url": url}))
        }
        Item::File { media_type: "application/pdf", url } if url.starts_with("data:") => {
            Ok(json!({"type": "input_file", "filename": "file.pdf", "file_data": url}))
        }
        Item::File { media_type: "application/pdf", url } => {
            Ok(json!({"type": "input_file", "file_url": url}))
        }
        Item::File { media_type, .. } => Err(history::unsayable(&format!("a {media_type} file"))),
        Item::Own(part) => Ok((*part).clone()),
        Item::Reasoning { .. } | Item::Call(_) | Item::Result(_) => {
            Err(history::unsayable("a tool call or reasoning of the user"))
        }
    }
}
