//! A conversation in Gemini's words.

use serde_json::{Value, json};

use crate::upstream::history::{self, Item, Turn};

/// The `contents`. Thoughts are left out, but what signs them stands at the part after them.
pub(super) fn contents(turns: &[Turn<'_>]) -> Vec<Value> {
    let mut contents = Vec::new();
    for turn in turns {
        let (role, items) = match turn {
            Turn::System(_) => continue,
            Turn::User(items) | Turn::Results(items) => ("user", items),
            Turn::Assistant(items) => ("model", items),
            Turn::Own(message) => {
                contents.push((*message).clone());
                continue;
            }
        };
        let parts = parts(items);
        if !parts.is_empty() {
            contents.push(json!({"role": role, "parts": parts}));
        }
    }
    contents
}

fn parts(items: &[Item<'_>]) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut signature = None;
    for item in items {
        if let Item::Reasoning { signature: signed, .. } = item {
            signature = signed.and_then(|signed| signed.get("thought_signature")).or(signature);
            continue;
        }
        let mut part = part(item);
        if let Some(signature) = signature.take() {
            part["thoughtSignature"] = signature.clone();
        }
        parts.push(part);
    }
    parts
}

fn part(item: &Item<'_>) -> Value {
    match item {
        Item::Text(text) => json!({"text": text}),
        Item::Reasoning { text, .. } => json!({"text": text, "thought": true}),
        Item::Call(call) => json!({"functionCall": {"name": call.name, "args": call.object()}}),
        Item::Result(outcome) => {
            let field = if outcome.is_error { "error" } else { "output" };
            let response = match outcome.said {
                Value::Object(fields) if !outcome.is_error => Value::Object(fields.clone()),
                said => json!({field: said}),
            };
            json!({"functionResponse": {"name": outcome.name, "response": response}})
        }
        Item::File { media_type, url } => match history::inline(url, media_type) {
            Some((media_type, data)) => {
                json!({"inlineData": {"mimeType": media_type, "data": data}})
            }
            None => json!({"fileData": {"mimeType": media_type, "fileUri": url}}),
        },
        Item::Own(part) => (*part).clone(),
    }
}
