//! Which chunks a record is, from what was before it.

use std::collections::BTreeMap;

use segue_core::{EventKind, Outcome, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{Asked, seconds, text_of, usage::Usage};

/// What of the records so far decides about the chunks of those to come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// When the run began; nothing was said before.
    began_at: Option<Timestamp>,
    content: String,
    reasoning: String,
    annotations: Vec<Value>,
    /// The calls of the client's functions, as the message has them, in order.
    tool_calls: Vec<Value>,
    /// Where they are, by id.
    calls: BTreeMap<String, Call>,
    usage: Usage,
    end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Call {
    index: usize,
    /// No more arguments come.
    is_whole: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum End {
    Whole { finish_reason: String },
    Broken(Broken),
}

/// Why an answer is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Broken {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Broken {
    fn new(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message }
    }

    fn to_json(&self) -> Value {
        json!({
            "message": self.message, "type": "server_error", "param": null, "code": self.code,
        })
    }
}

impl State {
    pub(super) fn broken(&self) -> Option<&Broken> {
        match &self.end {
            Some(End::Broken(broken)) => Some(broken),
            Some(End::Whole { .. }) | None => None,
        }
    }

    fn finish_reason(&self) -> Option<&str> {
        match &self.end {
            Some(End::Whole { finish_reason }) => Some(finish_reason),
            Some(End::Broken(_)) | None => None,
        }
    }

    /// What every object of this run begins with.
    fn head(&self, asked: &Asked, object: &str) -> Value {
        json!({
            "id": Asked::completion_id(&asked.run),
            "object": object,
            "created": self.began_at.map_or(0, seconds),
            "model": asked.model(),
            "service_tier": null,
            "system_fingerprint": null,
        })
    }

    /// The completion as it is now.
    pub(super) fn object(&self, asked: &Asked) -> Value {
        let content =
            (!self.content.is_empty() || self.tool_calls.is_empty()).then_some(&self.content);
        let mut message = json!({
            "role": "assistant", "content": content, "refusal": null,
            "annotations": self.annotations,
        });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.as_str().into();
        }
        if !self.tool_calls.is_empty() {
            message["tool_calls"] = json!(self.tool_calls);
        }
        let mut object = self.head(asked, "chat.completion");
        object["choices"] = json!([{
            "index": 0, "message": message, "logprobs": null,
            "finish_reason": self.finish_reason(),
        }]);
        object["usage"] = self.usage.of_chat();
        object["metadata"] = asked.field("metadata").cloned().unwrap_or_else(|| json!({}));
        if let Some(broken) = self.broken() {
            object["error"] = broken.to_json();
        }
        object
    }
}

/// Tells what a record says.
pub(super) struct Teller<'a> {
    asked: &'a Asked,
    state: &'a mut State,
    out: Vec<Value>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(asked: &'a Asked, state: &'a mut State) -> Self {
        Self { asked, state, out: Vec::new() }
    }

    /// The chunks of the next record.
    pub(super) fn tell(mut self, at: Timestamp, kind: EventKind, json: &[u8]) -> Vec<Value> {
        use EventKind as K;
        let fields: Value = serde_json::from_slice(json).unwrap_or_default();
        match kind {
            K::RunQueued | K::RunStarted => self.begin(at),
            K::TextDelta => self.text(&fields),
            K::ReasoningDelta => self.reasoning(&fields),
            K::ToolCallStarted => self.start_call(&fields),
            K::ToolCallInputDelta => self.call_input(&fields),
            K::ToolCallInputEnd => self.end_call_input(&fields),
            K::Source => self.source(&fields),
            K::Usage => self.state.usage.take_in(&fields),
            K::RunFinished | K::RunStopped | K::RunFailed | K::RunInterrupted => self.end(&fields),
            // The protocol has no words for them.
            K::StepStarted
            | K::StepFinished
            | K::TextStart
            | K::TextEnd
            | K::ReasoningStart
            | K::ReasoningEnd
            | K::ToolResult
            | K::ApprovalRequested
            | K::ApprovalResolved
            | K::File
            | K::Discard
            | K::Data
            | K::State
            | K::Metadata
            | K::Warning
            | K::RunResource
            | K::RunStopping
            | K::InputReceived
            | K::Log
            | K::Opaque => {}
        }
        self.out
    }

    fn say(&mut self, choices: Value) {
        let mut chunk = self.state.head(self.asked, "chat.completion.chunk");
        chunk["choices"] = choices;
        if self.asked.includes_usage() {
            chunk["usage"] = Value::Null;
        }
        self.out.push(chunk);
    }

    fn say_delta(&mut self, delta: &Value, finish_reason: Option<&str>) {
        self.say(json!([{
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
        }]));
    }

    /// Once, also for a run that had to wait.
    fn begin(&mut self, at: Timestamp) {
        if self.state.began_at.is_none() {
            self.state.began_at = Some(at);
            self.say_delta(&json!({"role": "assistant", "content": ""}), None);
        }
    }

    fn text(&mut self, fields: &Value) {
        let text = text_of(&fields["text"]);
        self.state.content.push_str(&text);
        self.say_delta(&json!({"content": text}), None);
    }

    /// In the field that other servers of this API have for it.
    fn reasoning(&mut self, fields: &Value) {
        let text = text_of(&fields["text"]);
        self.state.reasoning.push_str(&text);
        self.say_delta(&json!({"reasoning_content": text}), None);
    }

    fn start_call(&mut self, fields: &Value) {
        let (id, name) = (text_of(&fields["call_id"]), text_of(&fields["name"]));
        if !self.asked.is_function(fields) || id.is_empty() || self.state.calls.contains_key(&id) {
            return;
        }
        let index = self.state.tool_calls.len();
        let call = json!({
            "id": id, "type": "function", "function": {"name": name, "arguments": ""},
        });
        self.state.tool_calls.push(call.clone());
        self.state.calls.insert(id, Call { index, is_whole: false });
        self.say_call(index, call);
    }

    fn say_call(&mut self, index: usize, mut call: Value) {
        call["index"] = index.into();
        self.say_delta(&json!({"tool_calls": [call]}), None);
    }

    fn call_input(&mut self, fields: &Value) {
        let call = self.state.calls.get(&text_of(&fields["call_id"]));
        let Some(index) = call.filter(|call| !call.is_whole).map(|call| call.index) else { return };
        self.say_arguments(index, &text_of(&fields["text"]));
    }

    /// What was said in pieces stays; else the event has the arguments.
    fn end_call_input(&mut self, fields: &Value) {
        let call = self.state.calls.get_mut(&text_of(&fields["call_id"]));
        let Some(call) = call.filter(|call| !call.is_whole) else { return };
        call.is_whole = true;
        let index = call.index;
        if self.state.tool_calls[index]["function"]["arguments"] == "" {
            let input = fields.get("input").map(Value::to_string);
            let raw = || Some(text_of(&fields["raw"])).filter(|raw| !raw.is_empty());
            let arguments = input.or_else(raw).unwrap_or_else(|| "{}".to_owned());
            self.say_arguments(index, &arguments);
        }
    }

    fn say_arguments(&mut self, index: usize, more: &str) {
        let arguments = &mut self.state.tool_calls[index]["function"]["arguments"];
        if let Value::String(arguments) = arguments {
            arguments.push_str(more);
        }
        self.say_call(index, json!({"function": {"arguments": more}}));
    }

    /// Stands at the end of the text so far.
    fn source(&mut self, fields: &Value) {
        let Some(url) = fields["url"].as_str() else { return };
        let at = self.state.content.chars().count();
        let annotation = json!({"type": "url_citation", "url_citation": {
            "url": url, "title": text_of(&fields["title"]), "start_index": at, "end_index": at,
        }});
        self.state.annotations.push(annotation.clone());
        self.say_delta(&json!({"annotations": [annotation]}), None);
    }

    fn end(&mut self, fields: &Value) {
        self.state.usage.take_in(&fields["usage"]);
        let broken = |code: &str, message: String| Err(Broken::new(code, message));
        let end = match Outcome::from_json(fields) {
            Some(Outcome::Finished { finish_reason, .. }) => Ok(finish_reason),
            Some(Outcome::Stopped { reason, .. }) => {
                broken("stopped", format!("the answer was stopped: {}", reason.as_str()))
            }
            Some(Outcome::Failed { error }) => broken(&error.code, error.message),
            Some(Outcome::Interrupted { cause }) => {
                broken("interrupted", format!("the answer was cut off: {}", cause.as_str()))
            }
            None => broken("unreadable", "the end of the answer cannot be read".to_owned()),
        };
        match end {
            Ok(reason) => self.end_whole(reason.as_deref()),
            Err(broken) => {
                self.out.push(json!({"error": broken.to_json()}));
                self.state.end = Some(End::Broken(broken));
            }
        }
    }

    fn end_whole(&mut self, reason: Option<&str>) {
        let reason = match reason {
            Some("length" | "max_tokens") => "length",
            Some("content_filter" | "content-filter") => "content_filter",
            _ if !self.state.tool_calls.is_empty() => "tool_calls",
            _ => "stop",
        };
        self.state.end = Some(End::Whole { finish_reason: reason.to_owned() });
        self.say_delta(&json!({}), Some(reason));
        let usage = self.state.usage.of_chat();
        if self.asked.includes_usage() && !usage.is_null() {
            self.say(json!([]));
            if let Some(last) = self.out.last_mut() {
                last["usage"] = usage;
            }
        }
    }
}
