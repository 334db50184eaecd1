//! A chunk of a streamed answer, or a whole one, as it is on the wire.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::upstream::{answer::Prose, usage_of};

#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    pub(super) choices: Option<Vec<Choice>>,
    pub(super) usage: Option<Value>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    pub(super) index: Option<u64>,
    pub(super) delta: Option<Delta>,
    /// In the place of `delta` where the upstream does not stream.
    pub(super) message: Option<Delta>,
    pub(super) finish_reason: Option<String>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Delta {
    pub(super) content: Option<Content>,
    pub(super) reasoning_content: Option<Content>,
    pub(super) reasoning: Option<Content>,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Option<Vec<ToolCall>>,
    pub(super) annotations: Option<Vec<Annotation>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Value>),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolCall {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) function: Function,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Function {
    pub(super) name: Option<String>,
    /// A piece of JSON text; some send an object.
    pub(super) arguments: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Annotation {
    pub(super) url_citation: Option<Citation>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Citation {
    pub(super) url: String,
    pub(super) title: Option<String>,
}

/// A string as it is, anything else as JSON, nothing for null.
pub(super) fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

/// The prose in a typed part of the content: `{"type": "text", "text"}`, or
/// `{"type": "thinking", "thinking": [{"text"}]}`.
pub(super) fn prose_of(part: &Value) -> Vec<(Prose, String)> {
    let text = |part: &Value| part["text"].as_str().map(str::to_owned);
    match part["type"].as_str() {
        Some("thinking") => {
            let thinking = part["thinking"].as_array().into_iter().flatten();
            thinking.filter_map(text).map(|text| (Prose::Reasoning, text)).collect()
        }
        _ => text(part).map(|text| (Prose::Text, text)).into_iter().collect(),
    }
}

/// The usage in our names. `None` if it has no numbers that we know.
pub(super) fn usage(usage: &Value) -> Option<Value> {
    usage_of([
        ("input", &usage["prompt_tokens"]),
        ("output", &usage["completion_tokens"]),
        ("reasoning", &usage["completion_tokens_details"]["reasoning_tokens"]),
        ("cached", &usage["prompt_tokens_details"]["cached_tokens"]),
        ("cost", &usage["cost"]),
    ])
}
