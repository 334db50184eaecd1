//! What enters a run's stream is well-formed (E4).
//!
//! Producers forget to open parts and to close them. Admission inserts the missing starts, drops
//! the double ones, and closes whatever is open before a terminal, so that the stored history of
//! a run is always valid to send to a model. It is a pure function of the events so far, and it
//! never fails: what can be refused is refused before, by [`Event::from_producer`].

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    event::{Event, EventKind, EventRecord},
    id::MessageId,
    json::Fields,
    run::Outcome,
};

/// What is open in a run. Grows with open parts and with the tool calls of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Text and reasoning parts that are open, with when they were opened and in which step.
    parts: BTreeMap<(PartKind, String), Opened>,
    /// Every tool call of the run; ended ones stay, to drop a second result.
    calls: BTreeMap<String, Call>,
    /// Open steps, oldest first.
    steps: Vec<String>,
    /// Counts openings, so that what is closed together is closed in the order it was opened.
    openings: u64,
    ended: bool,
}

/// The bytes of the longest inserted event and its record, beside its subject.
const END_BYTES: usize = 192;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PartKind {
    Text,
    Reasoning,
}

impl PartKind {
    fn start(self) -> &'static str {
        match self {
            Self::Text => "text.start",
            Self::Reasoning => "reasoning.start",
        }
    }

    fn end(self) -> &'static str {
        match self {
            Self::Text => "text.end",
            Self::Reasoning => "reasoning.end",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Opened {
    order: u64,
    step: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    opened: Opened,
    state: CallState,
    /// A client gives the result, once the run is over.
    is_clients: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CallState {
    /// Its input is still coming.
    Input,
    /// Its input is whole, its result is awaited.
    Waiting,
    /// It has its result.
    Done,
}

impl Admission {
    /// Takes the next event of a run and appends what enters the stream to `out`: the event
    /// itself with what was missing before it, or nothing if it repeats an end.
    ///
    /// Terminal events do not come this way but by [`Admission::end`]; one that does is dropped,
    /// as is anything after the end.
    pub fn admit(&mut self, event: Event, out: &mut Vec<Event>) {
        use EventKind as K;
        if self.ended || event.kind().is_terminal() {
            return;
        }
        let subject = event.subject().unwrap_or_default().to_owned();
        let keep = match event.kind() {
            K::TextStart => self.open_part(PartKind::Text, subject),
            K::TextDelta => self.need_part(PartKind::Text, subject, out),
            K::TextEnd => self.close_part(PartKind::Text, subject),
            K::ReasoningStart => self.open_part(PartKind::Reasoning, subject),
            K::ReasoningDelta => self.need_part(PartKind::Reasoning, subject, out),
            K::ReasoningEnd => self.close_part(PartKind::Reasoning, subject),
            K::ToolCallStarted => self.open_call(subject, is_clients(&event)),
            K::ToolCallInputDelta => self.need_call_input(&subject, out),
            K::ToolCallInputEnd => self.end_call_input(&subject, out),
            K::ToolResult => self.take_result(&subject, event.is_preliminary(), out),
            K::StepStarted => self.open_step(subject),
            K::StepFinished => self.close_step(&subject, out),
            K::Discard => self.discard(&subject),
            K::RunQueued
            | K::RunStarted
            | K::RunResource
            | K::RunStopping
            | K::ApprovalRequested
            | K::ApprovalResolved
            | K::InputReceived
            | K::File
            | K::Source
            | K::Usage
            | K::Data
            | K::State
            | K::Metadata
            | K::Log
            | K::Warning
            | K::Opaque => true,
            K::RunFinished | K::RunStopped | K::RunFailed | K::RunInterrupted => false,
        };
        if keep {
            out.push(event);
        }
    }

    /// Ends the run: closes what is open, then appends the terminal event. Nothing if the run
    /// has ended before.
    pub fn end(&mut self, outcome: &Outcome, message: &MessageId, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.close_parts(out);
        self.close_calls(outcome, out);
        for step in std::mem::take(&mut self.steps) {
            out.push(Event::build(&json!({"type": "step.finished", "step": step})));
        }
        out.push(Event::build(&outcome.to_json(message)));
    }

    /// Takes an event that already stands in the stream, to rebuild the state from there.
    pub fn replay(&mut self, record: &EventRecord) {
        if record.kind().is_terminal() {
            self.ended = true;
        } else {
            self.admit(Event::from_record(record), &mut Vec::new());
        }
    }

    /// A bound on the bytes of the events that [`Admission::end`] inserts before the terminal.
    pub fn end_bytes(&self) -> usize {
        let parts = self.parts.keys().map(|(_, part)| part.len());
        let calls = self.calls.iter().filter(|(_, call)| call.state != CallState::Done);
        // An unfinished call may need two events.
        let calls = calls.flat_map(|(id, _)| [id.len(), id.len()]);
        let steps = self.steps.iter().map(String::len);
        // A character takes at most six bytes when it is escaped.
        parts.chain(calls).chain(steps).map(|subject| END_BYTES + 6 * subject).sum()
    }

    fn opened(&mut self) -> Opened {
        self.openings += 1;
        Opened { order: self.openings, step: self.steps.last().cloned() }
    }

    fn open_part(&mut self, kind: PartKind, part: String) -> bool {
        let opened = self.opened();
        let mut is_new = false;
        self.parts.entry((kind, part)).or_insert_with(|| {
            is_new = true;
            opened
        });
        is_new
    }

    fn need_part(&mut self, kind: PartKind, part: String, out: &mut Vec<Event>) -> bool {
        let key = (kind, part);
        if !self.parts.contains_key(&key) {
            out.push(Event::build(&json!({"type": kind.start(), "part": key.1})));
            let opened = self.opened();
            self.parts.insert(key, opened);
        }
        true
    }

    fn close_part(&mut self, kind: PartKind, part: String) -> bool {
        self.parts.remove(&(kind, part)).is_some()
    }

    fn open_call(&mut self, call: String, is_clients: bool) -> bool {
        if self.calls.contains_key(&call) {
            return false;
        }
        let opened = self.opened();
        self.calls.insert(call, Call { opened, state: CallState::Input, is_clients });
        true
    }

    fn need_call(&mut self, call: &str, out: &mut Vec<Event>) -> CallState {
        if let Some(known) = self.calls.get(call) {
            return known.state;
        }
        self.open_call(call.to_owned(), false);
        out.push(Event::build(&json!({"type": "tool_call.started", "call_id": call, "name": ""})));
        CallState::Input
    }

    fn set_call(&mut self, call: &str, state: CallState) {
        if let Some(known) = self.calls.get_mut(call) {
            known.state = state;
        }
    }

    fn need_call_input(&mut self, call: &str, out: &mut Vec<Event>) -> bool {
        self.need_call(call, out) == CallState::Input
    }

    fn end_call_input(&mut self, call: &str, out: &mut Vec<Event>) -> bool {
        if self.need_call(call, out) != CallState::Input {
            return false;
        }
        self.set_call(call, CallState::Waiting);
        true
    }

    fn take_result(&mut self, call: &str, preliminary: bool, out: &mut Vec<Event>) -> bool {
        match self.need_call(call, out) {
            CallState::Done => return false,
            CallState::Input => out.push(input_cut_off(call)),
            CallState::Waiting => {}
        }
        self.set_call(call, if preliminary { CallState::Waiting } else { CallState::Done });
        true
    }

    fn open_step(&mut self, step: String) -> bool {
        let is_new = !self.steps.contains(&step);
        if is_new {
            self.steps.push(step);
        }
        is_new
    }

    fn close_step(&mut self, step: &str, out: &mut Vec<Event>) -> bool {
        match self.steps.iter().position(|open| open == step) {
            Some(index) => drop(self.steps.remove(index)),
            None => out.push(Event::build(&json!({"type": "step.started", "step": step}))),
        }
        true
    }

    /// The step's parts and calls are void: they are closed without ends of their own, and a retry
    /// may use their names again.
    fn discard(&mut self, step: &str) -> bool {
        let of_step = |opened: &Opened| opened.step.as_deref() == Some(step);
        self.parts.retain(|_, opened| !of_step(opened));
        self.calls.retain(|_, call| !of_step(&call.opened));
        true
    }

    fn close_parts(&mut self, out: &mut Vec<Event>) {
        let mut open: Vec<_> = std::mem::take(&mut self.parts).into_iter().collect();
        open.sort_by_key(|(_, opened)| opened.order);
        for ((kind, part), _) in open {
            out.push(Event::build(&json!({"type": kind.end(), "part": part})));
        }
    }

    /// Every unfinished call gets an error result. After an interruption nobody knows whether the
    /// tool ran, so the result says `uncertain`; it is never run again.
    /// A client answers to a finished run's calls of its own in a later one.
    fn close_calls(&mut self, outcome: &Outcome, out: &mut Vec<Event>) {
        let uncertain = matches!(outcome, Outcome::Interrupted { .. });
        let lets_answer = matches!(outcome, Outcome::Finished { .. });
        let waits_on =
            |call: &Call| lets_answer && call.is_clients && call.state == CallState::Waiting;
        let is_open = |call: &Call| call.state != CallState::Done && !waits_on(call);
        let mut open: Vec<_> = self.calls.iter().filter(|(_, call)| is_open(call)).collect();
        open.sort_by_key(|(_, call)| call.opened.order);
        for (id, call) in open {
            if call.state == CallState::Input {
                out.push(input_cut_off(id));
            }
            let mut result = json!({
                "type": "tool_result", "call_id": id,
                "error": "the run ended before the tool call had a result",
            });
            if uncertain {
                result["uncertain"] = json!(true);
            }
            out.push(Event::build(&result));
        }
        self.calls.values_mut().for_each(|call| call.state = CallState::Done);
    }
}

/// Whether a client runs the tool.
fn is_clients(event: &Event) -> bool {
    let fields = Fields::unchecked(event.json());
    let executor = fields.and_then(|fields| fields.get::<String>("executor").flatten());
    executor.as_deref() == Some("client")
}

fn input_cut_off(call: &str) -> Event {
    Event::build(&json!({
        "type": "tool_call.input_end", "call_id": call,
        "error": "the input ended before it was whole",
    }))
}

#[cfg(test)]
mod tests;
