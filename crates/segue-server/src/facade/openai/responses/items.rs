//! The items of a response's output.

use serde_json::{Value, json};

use super::super::{Asked, text_of};

/// Text or reasoning, which come in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Prose {
    Text,
    Reasoning,
}

/// The id of the item at `index`: nothing else of the run has it.
pub(super) fn id(asked: &Asked, prefix: &str, index: usize) -> String {
    format!("{prefix}_{}_{index}", asked.run)
}

impl Prose {
    /// The item without its content.
    pub(super) fn item(self, asked: &Asked, index: usize) -> Value {
        match self {
            Self::Text => json!({
                "type": "message", "id": id(asked, "msg", index), "status": "in_progress",
                "role": "assistant", "content": [],
            }),
            Self::Reasoning => json!({
                "type": "reasoning", "id": id(asked, "rs", index), "status": "in_progress",
                "summary": [],
            }),
        }
    }

    /// The content that the text goes into.
    pub(super) fn part(self) -> Value {
        match self {
            Self::Text => {
                json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
            }
            Self::Reasoning => json!({"type": "summary_text", "text": ""}),
        }
    }

    /// Where in the item the content is.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Text => "content",
            Self::Reasoning => "summary",
        }
    }

    /// Which content an event is about: there is one in an item.
    pub(super) fn place(self, mut event: Value) -> Value {
        match self {
            Self::Text => event["content_index"] = json!(0),
            Self::Reasoning => event["summary_index"] = json!(0),
        }
        event
    }

    pub(super) fn part_event(self, what: &str) -> String {
        match self {
            Self::Text => format!("response.content_part.{what}"),
            Self::Reasoning => format!("response.reasoning_summary_part.{what}"),
        }
    }

    pub(super) fn text_event(self, what: &str) -> String {
        match self {
            Self::Text => format!("response.output_text.{what}"),
            Self::Reasoning => format!("response.reasoning_summary_text.{what}"),
        }
    }
}

/// A call of a function that the client runs.
pub(super) fn function_call(asked: &Asked, index: usize, call_id: &str, name: &str) -> Value {
    json!({
        "type": "function_call", "id": id(asked, "fc", index), "status": "in_progress",
        "call_id": call_id, "name": name, "arguments": "",
    })
}

/// A call of a tool that the agent or its provider runs: the API's only kind of call that has any
/// name and carries its result.
pub(super) fn tool_call(asked: &Asked, index: usize, name: &str) -> Value {
    json!({
        "type": "mcp_call", "id": id(asked, "mcp", index), "status": "in_progress",
        "server_label": asked.agent, "name": name, "arguments": "", "output": null, "error": null,
    })
}

/// A question whether a tool may be called.
pub(super) fn approval_request(asked: &Asked, id: &str, name: &str, arguments: &str) -> Value {
    json!({
        "type": "mcp_approval_request", "id": id, "server_label": asked.agent, "name": name,
        "arguments": arguments,
    })
}

/// An image whose bytes are in its URL; no other file has an item.
pub(super) fn image(asked: &Asked, index: usize, file: &Value) -> Option<Value> {
    let (head, data) = file["url"].as_str()?.strip_prefix("data:")?.split_once(',')?;
    let media = file["media_type"].as_str().unwrap_or(head);
    let is_image = media.starts_with("image/") && head.ends_with(";base64");
    is_image.then(|| {
        json!({
            "type": "image_generation_call", "id": id(asked, "ig", index), "status": "completed",
            "result": data,
        })
    })
}

/// A source, at the end of the text so far.
pub(super) fn citation(source: &Value, at: usize) -> Option<Value> {
    let url = source["url"].as_str()?;
    let title = source["title"].as_str().unwrap_or_default();
    Some(json!({
        "type": "url_citation", "url": url, "title": title, "start_index": at, "end_index": at,
    }))
}

/// What a tool's error says, in the API's words.
pub(super) fn tool_error(error: &Value) -> Value {
    let text = match &error["message"] {
        Value::String(message) => message.clone(),
        _ => text_of(error),
    };
    let content = json!([{"type": "text", "text": text}]);
    json!({"type": "mcp_tool_execution_error", "content": content})
}
