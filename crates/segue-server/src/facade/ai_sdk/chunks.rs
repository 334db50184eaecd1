//! Which chunks an event is, from what was before it.

use std::collections::BTreeMap;

use segue_core::{EventKind, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What of the events so far decides about the chunks of those to come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Chunks {
    has_started: bool,
    /// Parts that the client holds open, oldest first.
    open: Vec<Open>,
    /// Calls by id. Ended ones stay: a late result is of a call that the client knows.
    calls: BTreeMap<String, Call>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    kind: Part,
    id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Text,
    Reasoning,
}

impl Part {
    fn chunk(self, what: &str, id: &str) -> Value {
        let kind = match self {
            Self::Text => "text",
            Self::Reasoning => "reasoning",
        };
        json!({"type": format!("{kind}-{what}"), "id": id})
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Call {
    name: String,
    /// The upstream API itself runs it.
    is_provider: bool,
    /// The input so far, until it is whole.
    text: String,
    is_whole: bool,
}

impl Call {
    /// Adds what every chunk of a call may say.
    fn mark(&self, mut chunk: Value) -> Value {
        if self.is_provider {
            chunk["providerExecuted"] = json!(true);
        }
        chunk
    }
}

fn text_of(fields: &Value, key: &str) -> String {
    match &fields[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What an error says to a person.
fn message_of(error: &Value) -> String {
    match &error["message"] {
        Value::String(message) => message.clone(),
        _ => error.as_str().map_or_else(|| error.to_string(), str::to_owned),
    }
}

impl Chunks {
    /// The chunks of the next event.
    pub(super) fn of(&mut self, kind: EventKind, json: &[u8]) -> Vec<Value> {
        use EventKind as K;
        let mut out = Vec::new();
        let fields: Value = serde_json::from_slice(json).unwrap_or_default();
        match kind {
            K::RunQueued | K::RunStarted => self.start(&fields, &mut out),
            K::StepStarted => out.push(json!({"type": "start-step"})),
            K::StepFinished => self.finish_step(&mut out),
            K::TextStart => self.open(Part::Text, &fields, &mut out),
            K::TextDelta => self.delta(Part::Text, &fields, &mut out),
            K::TextEnd => self.close(Part::Text, &fields, &mut out),
            K::ReasoningStart => self.open(Part::Reasoning, &fields, &mut out),
            K::ReasoningDelta => self.delta(Part::Reasoning, &fields, &mut out),
            K::ReasoningEnd => self.close(Part::Reasoning, &fields, &mut out),
            K::ToolCallStarted => self.start_call(&fields, &mut out),
            K::ToolCallInputDelta => self.call_input(&fields, &mut out),
            K::ToolCallInputEnd => self.end_call_input(&fields, &mut out),
            K::ToolResult => self.result(&fields, &mut out),
            K::ApprovalRequested => self.approval(&fields, &mut out),
            K::ApprovalResolved => out.extend(self.denial(&fields)),
            K::File => out.extend(file(&fields)),
            K::Source => out.extend(source(&fields)),
            K::Data => out.push(data(&fields)),
            K::State => out.push(json!({"type": "data-state", "data": without_type(fields)})),
            K::Usage => out.push(metadata(&json!({"usage": without_type(fields)}))),
            K::Metadata => out.extend(fields.get("metadata").map(metadata)),
            K::Warning => out.push(json!({
                "type": "data-warning", "data": without_type(fields), "transient": true,
            })),
            K::Discard => self.close_all(&mut out),
            K::RunFinished | K::RunStopped | K::RunFailed | K::RunInterrupted => {
                self.close_all(&mut out);
                out.push(terminal(&fields));
            }
            K::RunResource | K::RunStopping | K::InputReceived | K::Log | K::Opaque => {}
        }
        out
    }

    /// Once, also for a run that had to wait.
    fn start(&mut self, fields: &Value, out: &mut Vec<Value>) {
        if !std::mem::replace(&mut self.has_started, true) {
            out.push(json!({"type": "start", "messageId": fields["message_id"]}));
        }
    }

    fn place(&self, kind: Part, id: &str) -> Option<usize> {
        self.open.iter().position(|open| open.kind == kind && open.id == id)
    }

    fn open(&mut self, kind: Part, fields: &Value, out: &mut Vec<Value>) {
        let id = text_of(fields, "part");
        if self.place(kind, &id).is_none() {
            out.push(kind.chunk("start", &id));
            self.open.push(Open { kind, id });
        }
    }

    /// Opens the part again where a step's end has closed it.
    fn delta(&mut self, kind: Part, fields: &Value, out: &mut Vec<Value>) {
        self.open(kind, fields, out);
        let mut chunk = kind.chunk("delta", &text_of(fields, "part"));
        chunk["delta"] = json!(text_of(fields, "text"));
        out.push(chunk);
    }

    fn close(&mut self, kind: Part, fields: &Value, out: &mut Vec<Value>) {
        let id = text_of(fields, "part");
        if let Some(place) = self.place(kind, &id) {
            self.open.remove(place);
            out.push(kind.chunk("end", &id));
        }
    }

    fn close_all(&mut self, out: &mut Vec<Value>) {
        let open = std::mem::take(&mut self.open);
        out.extend(open.iter().map(|open| open.kind.chunk("end", &open.id)));
    }

    /// A client forgets open parts with their step.
    fn finish_step(&mut self, out: &mut Vec<Value>) {
        self.close_all(out);
        out.push(json!({"type": "finish-step"}));
    }

    fn start_call(&mut self, fields: &Value, out: &mut Vec<Value>) {
        let id = text_of(fields, "call_id");
        let is_provider = fields["executor"] == "provider";
        // A part is named by its tool, which therefore has a name.
        let name = Some(text_of(fields, "name")).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "unknown".to_owned());
        let call = Call { name, is_provider, ..Call::default() };
        out.push(
            call.mark(json!({"type": "tool-input-start", "toolCallId": id, "toolName": call.name})),
        );
        self.calls.insert(id, call);
    }

    fn call_input(&mut self, fields: &Value, out: &mut Vec<Value>) {
        let id = text_of(fields, "call_id");
        let text = text_of(fields, "text");
        if let Some(call) = self.calls.get_mut(&id) {
            call.text.push_str(&text);
            let kind = "tool-input-delta";
            out.push(json!({"type": kind, "toolCallId": id, "inputTextDelta": text}));
        }
    }

    fn end_call_input(&mut self, fields: &Value, out: &mut Vec<Value>) {
        let id = text_of(fields, "call_id");
        let Some(call) = self.calls.get_mut(&id) else { return };
        let text = std::mem::take(&mut call.text);
        call.is_whole = true;
        let error = fields.get("error").map(message_of);
        let given = fields.get("input").cloned();
        let input = given.or_else(|| serde_json::from_str(&text).ok());
        let chunk = json!({"toolCallId": id, "toolName": call.name});
        let mut chunk = call.mark(chunk);
        match (input, error) {
            (Some(input), None) => {
                chunk["type"] = json!("tool-input-available");
                chunk["input"] = input;
            }
            (_, error) => {
                let raw = fields.get("raw").cloned().unwrap_or_else(|| json!(text));
                chunk["type"] = json!("tool-input-error");
                chunk["input"] = raw;
                chunk["errorText"] =
                    json!(error.unwrap_or_else(|| "the input is not JSON".to_owned()));
            }
        }
        out.push(chunk);
    }

    fn result(&self, fields: &Value, out: &mut Vec<Value>) {
        let id = text_of(fields, "call_id");
        let Some(call) = self.calls.get(&id) else { return };
        let mut chunk = call.mark(json!({"toolCallId": id}));
        if let Some(error) = fields.get("error").filter(|error| !error.is_null()) {
            chunk["type"] = json!("tool-output-error");
            chunk["errorText"] = json!(message_of(error));
        } else {
            chunk["type"] = json!("tool-output-available");
            chunk["output"] = fields["output"].clone();
            if fields["preliminary"] == true {
                chunk["preliminary"] = json!(true);
            }
        }
        out.push(chunk);
    }

    /// Of a call that the client knows; any other is data, which no schema refuses.
    fn approval(&self, fields: &Value, out: &mut Vec<Value>) {
        let (id, call) = (text_of(fields, "approval_id"), text_of(fields, "call_id"));
        out.push(if self.calls.contains_key(&call) {
            json!({"type": "tool-approval-request", "approvalId": id, "toolCallId": call})
        } else {
            json!({"type": "data-approval", "id": id, "data": without_type(fields.clone())})
        });
    }

    fn denial(&self, fields: &Value) -> Option<Value> {
        let call = text_of(fields, "call_id");
        let is_denied = matches!(fields["decision"].as_str(), Some("deny" | "denied" | "reject"));
        let is_known = self.calls.contains_key(&call);
        (is_denied && is_known).then(|| json!({"type": "tool-output-denied", "toolCallId": call}))
    }
}

fn without_type(mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("type");
    }
    fields
}

fn metadata(value: &Value) -> Value {
    json!({"type": "message-metadata", "messageMetadata": value})
}

fn file(fields: &Value) -> Option<Value> {
    let (url, media) = (fields["url"].as_str()?, fields["media_type"].as_str()?);
    Some(json!({"type": "file", "url": url, "mediaType": media}))
}

fn source(fields: &Value) -> Option<Value> {
    let url = fields["url"].as_str()?;
    let id = fields["source_id"].as_str().unwrap_or(url);
    let mut chunk = json!({"type": "source-url", "sourceId": id, "url": url});
    if let Some(title) = fields["title"].as_str() {
        chunk["title"] = json!(title);
    }
    Some(chunk)
}

fn data(fields: &Value) -> Value {
    let value = fields.get("value").or_else(|| fields.get("data"));
    let value = value.cloned().unwrap_or_else(|| without_type(fields.clone()));
    let mut chunk = json!({"type": format!("data-{}", text_of(fields, "name")), "data": value});
    if let Some(id) = fields["id"].as_str() {
        chunk["id"] = json!(id);
    }
    if fields["transient"] == true {
        chunk["transient"] = json!(true);
    }
    chunk
}

fn terminal(fields: &Value) -> Value {
    let failed = |text: &str| json!({"type": "error", "errorText": text});
    match Outcome::from_json(fields) {
        Some(Outcome::Finished { finish_reason: None, .. }) => json!({"type": "finish"}),
        Some(Outcome::Finished { finish_reason: Some(reason), .. }) => {
            json!({"type": "finish", "finishReason": finish_reason(&reason)})
        }
        Some(Outcome::Stopped { .. }) => json!({"type": "abort"}),
        Some(Outcome::Failed { error }) => failed(&error.message),
        Some(Outcome::Interrupted { cause }) => {
            failed(&format!("the answer was cut off: {}", cause.as_str()))
        }
        None => failed("the end of the answer cannot be read"),
    }
}

/// The closed list that clients check against.
fn finish_reason(reason: &str) -> &'static str {
    match reason {
        "stop" | "end_turn" | "stop_sequence" => "stop",
        "length" | "max_tokens" => "length",
        "content_filter" | "content-filter" => "content-filter",
        "tool_calls" | "tool-calls" | "tool_use" => "tool-calls",
        "error" => "error",
        _ => "other",
    }
}
