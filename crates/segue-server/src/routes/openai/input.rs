//! A response's input items as messages, and messages as input items. Pure.
//!
//! | item | part of a message |
//! | --- | --- |
//! | `message` (or only a role and a content) | `text`, `file` |
//! | `function_call`, `mcp_call` | `tool_call` of the assistant's; with an output, `tool_result` |
//! | `function_call_output` | `tool_result` of a tool's |
//! | `reasoning` | `reasoning` of the assistant's, with its signature |

use segue_core::RunId;
use serde_json::{Value, json};

use super::refusal::Refusal;

/// What is known of an input's item before it is read.
struct Item<'a> {
    at: usize,
    fields: &'a Value,
}

/// The input of a run: messages, or the text alone where nothing else is said. Instructions are
/// for this run alone.
pub(super) fn of_request(instructions: Option<&Value>, input: &Value) -> Result<Value, Refusal> {
    let said = messages(input)?;
    let aside = match instructions {
        None => Vec::new(),
        Some(Value::String(text)) => vec![json!({"role": "system", "parts": [text_part(text)]})],
        Some(items) => messages(items)?,
    };
    if input.is_string() && aside.is_empty() {
        return Ok(input.clone());
    }
    let aside = aside.into_iter().map(|mut message| {
        message["aside"] = true.into();
        message
    });
    Ok(aside.chain(said).collect())
}

/// The messages of an `input`.
fn messages(input: &Value) -> Result<Vec<Value>, Refusal> {
    match input {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![json!({"role": "user", "parts": [text_part(text)]})]),
        Value::Array(items) => {
            let mut messages = Vec::new();
            for (at, fields) in items.iter().enumerate() {
                Item { at, fields }.say(&mut messages)?;
            }
            Ok(messages)
        }
        _ => Err(Refusal::of_param("input", "`input` is a text or a list of items")),
    }
}

pub(super) fn text_part(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// Adds parts to what this role says last, or as a new message.
fn say(messages: &mut Vec<Value>, role: &str, parts: Vec<Value>) {
    match messages.last_mut().filter(|last| last["role"] == role && role != "user") {
        Some(last) => {
            if let Some(before) = last["parts"].as_array_mut() {
                before.extend(parts);
            }
        }
        None => messages.push(json!({"role": role, "parts": parts})),
    }
}

impl Item<'_> {
    fn wrong(&self, field: &str, detail: &str) -> Refusal {
        let place = format!("input[{}]{field}", self.at);
        Refusal::of_param(place.clone(), format!("`{place}` {detail}"))
    }

    fn text(&self, field: &str) -> Result<&str, Refusal> {
        let text = self.fields[field].as_str();
        text.ok_or_else(|| self.wrong(&format!(".{field}"), "is no text"))
    }

    fn say(&self, messages: &mut Vec<Value>) -> Result<(), Refusal> {
        match self.fields["type"].as_str() {
            None | Some("message") => {
                let role = match self.text("role")? {
                    "developer" => "system",
                    role @ ("user" | "assistant" | "system") => role,
                    _ => return Err(self.wrong(".role", "is no role of a message")),
                };
                say(messages, role, self.content()?);
            }
            Some("function_call") => {
                say(messages, "assistant", vec![self.call("call_id", "client")?]);
            }
            Some("mcp_call") => {
                let mut parts = vec![self.call("id", "server")?];
                parts.extend(self.outcome());
                say(messages, "assistant", parts);
            }
            Some("function_call_output") => {
                let part = json!({
                    "type": "tool_result", "call_id": self.text("call_id")?,
                    "output": self.fields["output"],
                });
                say(messages, "tool", vec![part]);
            }
            Some("reasoning") => say(messages, "assistant", vec![self.reasoning()]),
            Some(other) => {
                let detail = format!("an item of type `{other}` cannot be said to an agent");
                return Err(Refusal::of_param(format!("input[{}].type", self.at), detail));
            }
        }
        Ok(())
    }

    fn content(&self) -> Result<Vec<Value>, Refusal> {
        match &self.fields["content"] {
            Value::String(text) => Ok(vec![text_part(text)]),
            Value::Array(parts) => parts.iter().map(|part| self.part(part)).collect(),
            _ => Err(self.wrong(".content", "is no text and no list")),
        }
    }

    fn part(&self, part: &Value) -> Result<Value, Refusal> {
        let said = match part["type"].as_str().unwrap_or_default() {
            "input_text" | "output_text" | "text" => part["text"].as_str().map(text_part),
            "refusal" => part["refusal"].as_str().map(text_part),
            "input_image" => part["image_url"].as_str().map(image),
            "input_file" => file(part),
            _ => None,
        };
        said.ok_or_else(|| self.wrong(".content", "has a part that cannot be said to an agent"))
    }

    fn call(&self, id: &str, executor: &str) -> Result<Value, Refusal> {
        let (id, name) = (self.text(id)?, self.text("name")?);
        let mut part =
            json!({"type": "tool_call", "call_id": id, "name": name, "executor": executor});
        let arguments = self.text("arguments")?;
        match serde_json::from_str::<Value>(arguments) {
            Ok(input) => part["input"] = input,
            Err(_) => part["raw"] = arguments.into(),
        }
        Ok(part)
    }

    /// What a tool that ran on the server gave.
    fn outcome(&self) -> Option<Value> {
        let (output, error) = (&self.fields["output"], &self.fields["error"]);
        let call = &self.fields["id"];
        match (output, error) {
            (Value::Null, Value::Null) => None,
            (_, Value::Null) => {
                Some(json!({"type": "tool_result", "call_id": call, "output": output}))
            }
            _ => Some(json!({"type": "tool_result", "call_id": call, "error": error})),
        }
    }

    fn reasoning(&self) -> Value {
        let texts = |field: &str| {
            let parts = self.fields[field].as_array().into_iter().flatten();
            parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n\n")
        };
        let (summary, content) = (texts("summary"), texts("content"));
        let text = if content.is_empty() { summary } else { content };
        let mut part = json!({"type": "reasoning", "text": text});
        // As it was given out: the agent's own signature as JSON.
        let signature = self.fields["encrypted_content"].as_str();
        if let Some(signature) = signature.and_then(|text| serde_json::from_str(text).ok()) {
            part["signature"] = signature;
        }
        part
    }
}

/// The media type that a `data:` URL tells.
fn told(url: &str) -> Option<&str> {
    let head = url.strip_prefix("data:")?.split([';', ',']).next()?;
    Some(head).filter(|media| !media.is_empty())
}

/// An image by its URL, whose kind its name may tell.
pub(super) fn image(url: &str) -> Value {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let by_name = match path.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        _ => "image/png",
    };
    json!({"type": "file", "media_type": told(url).unwrap_or(by_name), "url": url})
}

/// A file by its URL or with its bytes.
pub(super) fn file(part: &Value) -> Option<Value> {
    let url = part["file_url"].as_str().or_else(|| part["file_data"].as_str())?;
    let media = told(url).unwrap_or("application/pdf");
    let mut file = json!({"type": "file", "media_type": media, "url": url});
    if let Some(name) = part["filename"].as_str() {
        file["name"] = name.into();
    }
    Some(file)
}

/// The input items of a run, which may be any run: each has an id of its own.
pub(super) fn items(run: &RunId, input: &Value) -> Vec<Value> {
    let messages = own_messages(input);
    let items = messages.iter().flat_map(items_of);
    let numbered = items.enumerate().map(|(index, mut item)| {
        item["id"] = format!("in_{run}_{index}").into();
        item
    });
    numbered.collect()
}

/// The messages that a run was asked, without instructions.
pub(super) fn own_messages(input: &Value) -> Vec<Value> {
    match input {
        Value::String(text) => vec![json!({"role": "user", "parts": [text_part(text)]})],
        Value::Array(said) if said.iter().any(|item| item["role"].is_string()) => {
            said.iter().filter(|message| message["aside"] != true).cloned().collect()
        }
        Value::Array(parts) if !parts.is_empty() => vec![json!({"role": "user", "parts": parts})],
        _ => Vec::new(),
    }
}

/// A message's items: what is no text and no file stands for itself.
fn items_of(message: &Value) -> Vec<Value> {
    let role = message["role"].as_str().unwrap_or("user");
    let text = |text: &Value| {
        let kind = if role == "assistant" { "output_text" } else { "input_text" };
        json!({"type": kind, "text": text})
    };
    let (mut items, mut content) = (Vec::new(), Vec::new());
    let own = [json!({"type": "text", "text": message["content"]})];
    let parts = message["parts"].as_array().map_or(&own[..], Vec::as_slice);
    for part in parts {
        match part["type"].as_str().unwrap_or_default() {
            "text" => content.push(text(&part["text"])),
            "file" if part["media_type"].as_str().is_some_and(|m| m.starts_with("image/")) => {
                let url = &part["url"];
                content.push(json!({"type": "input_image", "image_url": url, "detail": "auto"}));
            }
            "file" => content.push(json!({"type": "input_file", "file_url": part["url"]})),
            _ => items.extend(item_of(part)),
        }
    }
    if !content.is_empty() {
        let message =
            json!({"type": "message", "role": role, "status": "completed", "content": content});
        items.insert(0, message);
    }
    items
}

fn item_of(part: &Value) -> Option<Value> {
    let call = &part["call_id"];
    match part["type"].as_str()? {
        "tool_call" => {
            let arguments = part.get("input").map(Value::to_string);
            let arguments = arguments.unwrap_or_else(|| part["raw"].as_str().unwrap_or("").into());
            Some(json!({
                "type": "function_call", "status": "completed", "call_id": call,
                "name": part["name"], "arguments": arguments,
            }))
        }
        "tool_result" => {
            let said = part.get("error").or_else(|| part.get("output")).unwrap_or(&Value::Null);
            let output = if said.is_string() || said.is_array() {
                said.clone()
            } else {
                said.to_string().into()
            };
            Some(json!({
                "type": "function_call_output", "status": "completed", "call_id": call,
                "output": output,
            }))
        }
        "reasoning" => {
            let summary = json!([{"type": "summary_text", "text": part["text"]}]);
            Some(json!({"type": "reasoning", "summary": summary}))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &Value) -> Value {
        of_request(None, input).expect("an input")
    }

    #[test]
    fn a_text_alone_stays_a_text() {
        assert_eq!(check(&json!("hi")), json!("hi"));
        let with = of_request(Some(&json!("be brief")), &json!("hi")).expect("said");
        assert_eq!(
            with,
            json!([
                {
                    "role": "system", "parts": [{"type": "text", "text": "be brief"}],
                    "aside": true,
                },
                {"role": "user", "parts": [{"type": "text", "text": "hi"}]},
            ])
        );
        let run = RunId::parse("r").expect("valid");
        assert_eq!(items(&run, &with), items(&run, &json!("hi")), "instructions are no item");
    }

    #[test]
    fn what_was_given_out_can_be_given_back() {
        let input = json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "data:image/gif;base64,AA=="},
                {"type": "input_file", "file_url": "https://x/y.pdf", "filename": "y"},
            ]},
            {"type": "reasoning", "id": "rs", "encrypted_content": "\"sig\"",
                "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "so", "annotations": []},
            ]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"},
            {"type": "mcp_call", "id": "m", "name": "g", "arguments": "{", "output": "out",
                "error": null, "server_label": "s"},
            {"type": "function_call_output", "call_id": "c", "output": "42"},
        ]);
        let wanted = json!([
            {"role": "system", "parts": [{"type": "text", "text": "be brief"}]},
            {"role": "user", "parts": [
                {"type": "text", "text": "look"},
                {"type": "file", "media_type": "image/gif", "url": "data:image/gif;base64,AA=="},
                {"type": "file", "media_type": "application/pdf", "url": "https://x/y.pdf",
                    "name": "y"},
            ]},
            {"role": "assistant", "parts": [
                {"type": "reasoning", "text": "hm", "signature": "sig"},
                {"type": "text", "text": "so"},
                {"type": "tool_call", "call_id": "c", "name": "f", "executor": "client",
                    "input": {"a": 1}},
                {"type": "tool_call", "call_id": "m", "name": "g", "executor": "server",
                    "raw": "{"},
                {"type": "tool_result", "call_id": "m", "output": "out"},
            ]},
            {"role": "tool", "parts": [{"type": "tool_result", "call_id": "c", "output": "42"}]},
        ]);
        assert_eq!(check(&input), wanted);
        let kinds: Vec<Value> = items(&RunId::parse("r").expect("valid"), &wanted)
            .iter()
            .map(|item| item["type"].clone())
            .collect();
        let calls = ["reasoning", "function_call", "function_call", "function_call_output"];
        let of_assistant = ["message", "message", "message"].into_iter().chain(calls);
        assert_eq!(kinds, of_assistant.chain(["function_call_output"]).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_said_is_named_by_its_place() {
        for (input, place) in [
            (json!(1), "`input` is"),
            (json!([{"role": "cook", "content": ""}]), "`input[0].role`"),
            (json!([{"role": "user"}]), "`input[0].content`"),
            (json!([{"role": "user", "content": [{"type": "input_audio"}]}]), "`input[0].content`"),
            (json!([{"type": "function_call"}]), "`input[0].call_id`"),
            (json!([{"type": "item_reference", "id": "x"}]), "`item_reference`"),
        ] {
            let refusal = of_request(None, &input).expect_err("refused");
            assert!(format!("{refusal:?}").contains(place), "{refusal:?}");
        }
    }
}
