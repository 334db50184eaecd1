//! Which events a record is, from what was before it.

use std::collections::BTreeMap;

use segue_core::{EventKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    super::{Asked, text_of},
    items::{self, Prose},
    response::{self, Life},
};

/// What of the records so far decides about the events of those to come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// The number of the next event.
    next: u64,
    pub(super) life: Life,
    has_begun: bool,
    /// The items so far, in order.
    pub(super) output: Vec<Value>,
    /// Text and reasoning that the client holds open, oldest first.
    open: Vec<Open>,
    /// Calls by id. Ended ones stay, so that none begins twice.
    calls: BTreeMap<String, Call>,
    /// Sources that wait for a text to stand in.
    sources: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    prose: Prose,
    part: String,
    index: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Call {
    index: usize,
    /// Whether the client runs it.
    is_function: bool,
    has_input: bool,
    is_done: bool,
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

    /// The events of the next record.
    pub(super) fn tell(mut self, at: Timestamp, kind: EventKind, json: &[u8]) -> Vec<Value> {
        use EventKind as K;
        let fields: Value = serde_json::from_slice(json).unwrap_or_default();
        match kind {
            K::RunQueued => self.begin(at, "queued"),
            K::RunStarted => self.begin(at, "in_progress"),
            K::TextStart => drop(self.open(Prose::Text, &fields)),
            K::TextDelta => self.delta(Prose::Text, &fields),
            K::TextEnd => self.close(Prose::Text, &fields),
            K::ReasoningStart => drop(self.open(Prose::Reasoning, &fields)),
            K::ReasoningDelta => self.delta(Prose::Reasoning, &fields),
            K::ReasoningEnd => self.close(Prose::Reasoning, &fields),
            K::ToolCallStarted => self.start_call(&fields),
            K::ToolCallInputDelta => self.call_input(&fields),
            K::ToolCallInputEnd => self.end_call_input(&fields),
            K::ToolResult => self.result(&fields),
            K::ApprovalRequested => self.approval(&fields),
            K::File => self.file(&fields),
            K::Source => self.source(fields),
            K::Usage => self.state.life.usage.take_in(&fields),
            K::Discard => self.end_all_prose("incomplete"),
            K::RunFinished | K::RunStopped | K::RunFailed | K::RunInterrupted => {
                self.end(at, kind == K::RunFinished, &fields);
            }
            // The protocol has no words for them.
            K::StepStarted
            | K::StepFinished
            | K::ApprovalResolved
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

    /// Says an event, which gets the next number.
    fn say(&mut self, kind: &str, fields: Value) {
        let mut event = Map::new();
        event.insert("type".to_owned(), kind.into());
        event.insert("sequence_number".to_owned(), self.state.next.into());
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        self.state.next += 1;
        self.out.push(Value::Object(event));
    }

    fn say_life(&mut self, kind: &str) {
        let response = response::object(self.asked, self.state);
        self.say(kind, json!({"response": response}));
    }

    /// Says an event of the item at `index`.
    fn say_of(&mut self, kind: &str, index: usize, fields: Value) {
        let mut event = json!({"item_id": self.state.output[index]["id"], "output_index": index});
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields);
        }
        self.say(kind, event);
    }

    /// Once, also for a run that had to wait; then that it is at work.
    fn begin(&mut self, at: Timestamp, status: &str) {
        status.clone_into(&mut self.state.life.status);
        if !std::mem::replace(&mut self.state.has_begun, true) {
            self.state.life.created_at = Some(at);
            self.say_life("response.created");
        }
        self.say_life(&format!("response.{status}"));
    }

    /// Adds an item to the output.
    fn add(&mut self, item: Value) -> usize {
        let index = self.state.output.len();
        self.say("response.output_item.added", json!({"output_index": index, "item": item}));
        self.state.output.push(item);
        index
    }

    /// Says that an item will not change any more.
    fn finish(&mut self, index: usize, status: &str) {
        let item = &mut self.state.output[index];
        item["status"] = status.into();
        let item = item.clone();
        self.say("response.output_item.done", json!({"output_index": index, "item": item}));
    }

    /// An item that comes whole.
    fn add_whole(&mut self, item: &Value) {
        let index = self.add(item.clone());
        self.say("response.output_item.done", json!({"output_index": index, "item": item}));
    }

    /// The item of an open part, which is opened if it is not.
    fn open(&mut self, prose: Prose, fields: &Value) -> usize {
        let part = text_of(&fields["part"]);
        let open = &self.state.open;
        if let Some(open) = open.iter().find(|open| open.prose == prose && open.part == part) {
            return open.index;
        }
        let index = self.add(prose.item(self.asked, self.state.output.len()));
        let event = prose.place(json!({"part": prose.part()}));
        self.say_of(&prose.part_event("added"), index, event);
        self.state.output[index][prose.field()] = json!([prose.part()]);
        self.state.open.push(Open { prose, part, index });
        if prose == Prose::Text {
            for source in std::mem::take(&mut self.state.sources) {
                self.cite(index, &source);
            }
        }
        index
    }

    fn delta(&mut self, prose: Prose, fields: &Value) {
        let index = self.open(prose, fields);
        let delta = text_of(&fields["text"]);
        if let Value::String(text) = &mut self.state.output[index][prose.field()][0]["text"] {
            text.push_str(&delta);
        }
        let mut event = prose.place(json!({"delta": delta}));
        if prose == Prose::Text {
            event["logprobs"] = json!([]);
        }
        self.say_of(&prose.text_event("delta"), index, event);
    }

    fn close(&mut self, prose: Prose, fields: &Value) {
        let part = text_of(&fields["part"]);
        let open = &self.state.open;
        let place = open.iter().position(|open| open.prose == prose && open.part == part);
        let Some(place) = place else { return };
        let open = self.state.open.remove(place);
        if let Some(signature) = fields.get("signature").filter(|signature| !signature.is_null()) {
            // Whatever it is, the client gives it back as it is.
            self.state.output[open.index]["encrypted_content"] = signature.to_string().into();
        }
        self.end_prose(&open, "completed");
    }

    fn end_prose(&mut self, open: &Open, status: &str) {
        let (prose, index) = (open.prose, open.index);
        let part = self.state.output[index][prose.field()][0].clone();
        let mut event = prose.place(json!({"text": part["text"]}));
        if prose == Prose::Text {
            event["logprobs"] = json!([]);
        }
        self.say_of(&prose.text_event("done"), index, event);
        self.say_of(&prose.part_event("done"), index, prose.place(json!({"part": part})));
        self.finish(index, status);
    }

    fn end_all_prose(&mut self, status: &str) {
        for open in std::mem::take(&mut self.state.open) {
            self.end_prose(&open, status);
        }
    }

    fn start_call(&mut self, fields: &Value) {
        let id = text_of(&fields["call_id"]);
        if self.state.calls.contains_key(&id) || id.is_empty() {
            return;
        }
        let name = text_of(&fields["name"]);
        let index = self.state.output.len();
        let is_function = self.asked.is_function(fields);
        if is_function {
            self.add(items::function_call(self.asked, index, &id, &name));
        } else {
            self.add(items::tool_call(self.asked, index, &name));
            self.say_of("response.mcp_call.in_progress", index, json!({}));
        }
        let call = Call { index, is_function, has_input: false, is_done: false };
        self.state.calls.insert(id, call);
    }

    fn call_input(&mut self, fields: &Value) {
        let Some(call) = self.state.calls.get(&text_of(&fields["call_id"])) else { return };
        if call.has_input {
            return;
        }
        let (index, kind) = (call.index, call.arguments_event("delta"));
        let delta = text_of(&fields["text"]);
        if let Value::String(text) = &mut self.state.output[index]["arguments"] {
            text.push_str(&delta);
        }
        self.say_of(&kind, index, json!({"delta": delta}));
    }

    fn end_call_input(&mut self, fields: &Value) {
        let id = text_of(&fields["call_id"]);
        let has_failed = fields.get("error").is_some_and(|error| !error.is_null());
        let Some(call) = self.whole_input(&id, fields) else { return };
        if call.is_function {
            let status = if has_failed { "incomplete" } else { "completed" };
            self.end_call(&id, status);
        }
    }

    /// Says what the arguments are. What was said in pieces stays; else the event has them.
    fn whole_input(&mut self, id: &str, fields: &Value) -> Option<Call> {
        let call = self.state.calls.get_mut(id).filter(|call| !call.has_input)?;
        call.has_input = true;
        let call = call.clone();
        let item = &mut self.state.output[call.index];
        if item["arguments"] == "" {
            let input = fields.get("input").map(Value::to_string);
            let raw = || Some(text_of(&fields["raw"])).filter(|raw| !raw.is_empty());
            item["arguments"] = input.or_else(raw).unwrap_or_else(|| "{}".to_owned()).into();
        }
        let mut event = json!({"arguments": item["arguments"]});
        if call.is_function {
            event["name"] = item["name"].clone();
        }
        self.say_of(&call.arguments_event("done"), call.index, event);
        Some(call)
    }

    fn end_call(&mut self, id: &str, status: &str) {
        let Some(call) = self.state.calls.get_mut(id).filter(|call| !call.is_done) else { return };
        call.is_done = true;
        let index = call.index;
        self.finish(index, status);
    }

    /// Of a tool that ran here. What a client's function gives comes with its next request.
    fn result(&mut self, fields: &Value) {
        let id = text_of(&fields["call_id"]);
        let Some(call) = self.state.calls.get(&id) else { return };
        if call.is_done || call.is_function || fields["preliminary"] == true {
            return;
        }
        let index = call.index;
        self.whole_input(&id, &Value::Null);
        let error = fields.get("error").filter(|error| !error.is_null());
        let item = &mut self.state.output[index];
        let what = match error {
            Some(error) => {
                item["error"] = items::tool_error(error);
                "failed"
            }
            None => {
                item["output"] = text_of(&fields["output"]).into();
                "completed"
            }
        };
        self.say_of(&format!("response.mcp_call.{what}"), index, json!({}));
        self.end_call(&id, what);
    }

    fn approval(&mut self, fields: &Value) {
        let id = format!("mcpr_{}", text_of(&fields["approval_id"]));
        if self.state.output.iter().any(|item| item["id"] == *id) {
            return;
        }
        let call = self.state.calls.get(&text_of(&fields["call_id"]));
        let of = |name: &str| call.map(|call| text_of(&self.state.output[call.index][name]));
        let name = of("name").unwrap_or_else(|| text_of(&fields["prompt"]));
        let arguments = of("arguments").unwrap_or_else(|| "{}".to_owned());
        self.add_whole(&items::approval_request(self.asked, &id, &name, &arguments));
    }

    fn file(&mut self, fields: &Value) {
        if let Some(item) = items::image(self.asked, self.state.output.len(), fields) {
            self.add_whole(&item);
        }
    }

    /// Stands in the newest text that is open, or in the next one.
    fn source(&mut self, fields: Value) {
        let text = self.state.open.iter().rev().find(|open| open.prose == Prose::Text);
        match text.map(|open| open.index) {
            Some(index) => self.cite(index, &fields),
            None => self.state.sources.push(fields),
        }
    }

    fn cite(&mut self, index: usize, source: &Value) {
        let part = &mut self.state.output[index]["content"][0];
        let at = part["text"].as_str().map_or(0, |text| text.chars().count());
        let Some(citation) = items::citation(source, at) else { return };
        let Some(annotations) = part["annotations"].as_array_mut() else { return };
        let event = json!({
            "content_index": 0, "annotation_index": annotations.len(), "annotation": citation,
        });
        annotations.push(citation);
        self.say_of("response.output_text.annotation.added", index, event);
    }

    /// Whatever the client holds open is closed first.
    fn end(&mut self, at: Timestamp, is_whole: bool, fields: &Value) {
        self.end_all_prose(if is_whole { "completed" } else { "incomplete" });
        let calls = self.state.calls.iter().filter(|(_, call)| !call.is_done);
        let mut open: Vec<_> = calls.map(|(id, call)| (call.index, id.clone())).collect();
        open.sort_unstable();
        for (_, id) in open {
            self.end_call(&id, "incomplete");
        }
        let kind = self.state.life.end(at, fields);
        self.say_life(kind);
    }
}

impl Call {
    fn arguments_event(&self, what: &str) -> String {
        let kind = if self.is_function { "function_call" } else { "mcp_call" };
        format!("response.{kind}_arguments.{what}")
    }
}
