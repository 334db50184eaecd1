//! What a model says, as events of a run.
//!
//! Dialects say text, reasoning and pieces of tool calls as they come; the answer opens and closes
//! parts around them. One part of prose is open at a time, tool calls stay open to the end,
//! because some upstreams mix the pieces of several.

use std::collections::VecDeque;

use segue_core::{Event, Inbound, event::MAX_SUBJECT_BYTES};
use serde_json::{Value, json};

use super::fault::Fault;

/// The tool calls of one answer: pieces look for theirs among them.
const MAX_CALLS: usize = 1_000;

/// An answer so far.
#[derive(Debug)]
pub(super) struct Answer {
    /// Makes ids for tool calls that came without one, unique beyond this run.
    run: String,
    max_input: usize,
    ready: VecDeque<Event>,
    has_content: bool,
    open: Option<Open>,
    parts: u32,
    calls: Vec<Call>,
    finish_reason: Option<String>,
    usage: Option<Value>,
    /// The upstream said that this is all.
    is_done: bool,
}

/// A part of prose that more may be said to.
#[derive(Debug)]
struct Open {
    prose: Prose,
    part: String,
    signature: Option<Value>,
}

/// Which prose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prose {
    Text,
    Reasoning,
}

impl Prose {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Reasoning => "reasoning",
        }
    }
}

/// A piece of a tool call, with what the upstream says of which call it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    /// The next piece of its input.
    pub(super) input: &'a str,
    pub(super) executor: Executor,
}

/// Who runs a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Executor {
    #[default]
    Client,
    Provider,
}

impl Executor {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Provider => "provider",
        }
    }
}

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    /// The upstream's id, where it gave one.
    id: Option<String>,
    /// The id in the run's events.
    told_id: String,
    name: String,
    input: String,
    executor: Executor,
    has_ended: bool,
}

impl Answer {
    /// Nothing yet. The input of a tool call has at most `max_input` bytes.
    pub(super) fn new(run: &str, max_input: usize) -> Self {
        Self {
            run: run.to_owned(),
            max_input,
            ready: VecDeque::new(),
            has_content: false,
            open: None,
            parts: 0,
            calls: Vec::new(),
            finish_reason: None,
            usage: None,
            is_done: false,
        }
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Whether anything was said, so that asking again would repeat it.
    pub(super) fn has_content(&self) -> bool {
        self.has_content
    }

    /// Whether the model has ended, though more may be said about it.
    pub(super) fn is_finished(&self) -> bool {
        self.is_done || self.finish_reason.is_some()
    }

    /// Whether nothing more is to come.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    fn say(&mut self, event: &Value) {
        self.has_content = true;
        self.ready.push_back(Event::build(event));
    }

    /// More prose. Empty text opens nothing.
    pub(super) fn prose(&mut self, prose: Prose, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.prose != prose) {
            self.open_prose(prose);
        }
        let part = self.open.as_ref().map(|open| open.part.as_str());
        let delta = json!({"type": format!("{}.delta", prose.name()), "part": part, "text": text});
        self.say(&delta);
    }

    fn open_prose(&mut self, prose: Prose) {
        self.close_prose();
        let part = format!("{}-{}", prose.name(), self.parts);
        self.parts += 1;
        self.say(&json!({"type": format!("{}.start", prose.name()), "part": part}));
        self.open = Some(Open { prose, part, signature: None });
    }

    /// What comes next is a part of its own.
    pub(super) fn close_prose(&mut self) {
        if let Some(Open { prose, part, signature }) = self.open.take() {
            let mut end = json!({"type": format!("{}.end", prose.name()), "part": part});
            if let Some(signature) = signature {
                end["signature"] = signature;
            }
            self.say(&end);
        }
    }

    /// What proves the reasoning that is open, or else of one without words.
    pub(super) fn sign(&mut self, signature: Value) {
        if self.open.as_ref().is_none_or(|open| open.prose != Prose::Reasoning) {
            self.open_prose(Prose::Reasoning);
        }
        if let Some(open) = &mut self.open {
            open.signature = match (open.signature.take(), signature) {
                (Some(Value::String(before)), Value::String(more)) => Some((before + &more).into()),
                (_, signature) => Some(signature),
            };
        }
    }

    /// A file that the model made.
    pub(super) fn file(&mut self, media_type: &str, url: &str) {
        self.close_prose();
        self.say(&json!({"type": "file", "media_type": media_type, "url": url}));
    }

    /// A page that the text draws on.
    pub(super) fn source(&mut self, url: &str, title: Option<&str>) {
        let mut source = json!({"type": "source", "url": url});
        if let Some(title) = title {
            source["title"] = title.into();
        }
        self.say(&source);
    }

    /// A tool call that comes at once. Gives its id.
    pub(super) fn whole_call(
        &mut self,
        executor: Executor,
        id: Option<&str>,
        name: &str,
        input: &Value,
    ) -> Result<String, Fault> {
        if name.is_empty() {
            return Err(Fault::malformed("a tool call has no name"));
        }
        let id = id.filter(|id| !id.is_empty());
        let at = self.new_call(Piece { id, executor, ..Piece::default() })?;
        self.start_call(at, name);
        self.call_input(at, &if input.is_null() { String::new() } else { input.to_string() })?;
        self.end_call_at(at);
        Ok(self.calls[at].told_id.clone())
    }

    /// What a tool of the upstream gave.
    pub(super) fn result(&mut self, call_id: &str, output: &Value, is_error: bool) {
        let field = if is_error { "error" } else { "output" };
        self.say(&json!({"type": "tool_result", "call_id": call_id, field: output}));
    }

    /// Whether the client is to run a tool.
    pub(super) fn awaits_client(&self) -> bool {
        self.calls.iter().any(|call| call.executor == Executor::Client)
    }

    /// A piece of a tool call. Which call it belongs to: the one with its id; else the one with its
    /// index that has no other id; else, with a name or an id of its own, a new one; else the last.
    ///
    /// Fails if there is none, or the input of one is too large.
    pub(super) fn call(&mut self, piece: Piece<'_>) -> Result<(), Fault> {
        let id = piece.id.filter(|id| !id.is_empty());
        let name = piece.name.filter(|name| !name.is_empty());
        let piece = Piece { id, name, ..piece };
        let at = match self.find_call(piece) {
            Some(at) => at,
            None if id.is_some() || name.is_some() => self.new_call(piece)?,
            None => return Err(Fault::malformed("a piece of a tool call belongs to none")),
        };
        let is_named = !self.calls[at].name.is_empty();
        if let (false, Some(name)) = (is_named, name) {
            self.start_call(at, name);
        }
        self.call_input(at, piece.input)
    }

    fn find_call(&self, piece: Piece<'_>) -> Option<usize> {
        let same_id = |call: &Call| call.id.is_some() && call.id.as_deref() == piece.id;
        if let Some(at) = self.calls.iter().rposition(same_id) {
            return Some(at);
        }
        let same_index = |call: &Call| piece.index.is_some() && call.index == piece.index;
        let at = self.calls.iter().rposition(same_index);
        if piece.id.is_some() {
            // Its id may come after its first piece.
            return at.filter(|at| self.calls[*at].id.is_none());
        }
        let last = || (piece.name.is_none() && piece.index.is_none()).then_some(self.calls.len());
        at.or_else(|| last().and_then(|calls| calls.checked_sub(1)))
    }

    fn new_call(&mut self, piece: Piece<'_>) -> Result<usize, Fault> {
        let at = self.calls.len();
        if at == MAX_CALLS {
            let message = format!("the answer has over {MAX_CALLS} tool calls");
            return Err(Fault::new("upstream_too_large", message));
        }
        let id = piece.id.map(str::to_owned);
        let told_id = id.clone().unwrap_or_else(|| format!("call-{}-{at}", self.run));
        if told_id.len() > MAX_SUBJECT_BYTES {
            return Err(Fault::malformed("the id of a tool call is too long"));
        }
        self.calls.push(Call {
            index: piece.index,
            id,
            told_id,
            name: String::new(),
            input: String::new(),
            executor: piece.executor,
            has_ended: false,
        });
        Ok(at)
    }

    fn start_call(&mut self, at: usize, name: &str) {
        self.close_prose();
        let call = &mut self.calls[at];
        name.clone_into(&mut call.name);
        let executor = call.executor.name();
        let (call_id, early) = (call.told_id.clone(), call.input.clone());
        self.say(&json!({
            "type": "tool_call.started", "call_id": call_id, "name": name, "executor": executor,
        }));
        self.say_input(&call_id, &early);
    }

    fn call_input(&mut self, at: usize, input: &str) -> Result<(), Fault> {
        let call = &mut self.calls[at];
        if call.has_ended {
            return Err(Fault::malformed("a piece of a tool call comes after its end"));
        }
        if call.input.len() + input.len() > self.max_input {
            let message = format!("the input of a tool call has over {} bytes", self.max_input);
            return Err(Fault::new("upstream_too_large", message));
        }
        call.input.push_str(input);
        // Without a name yet it is said when the call starts.
        if !call.name.is_empty() {
            let call_id = call.told_id.clone();
            self.say_input(&call_id, input);
        }
        Ok(())
    }

    fn say_input(&mut self, call_id: &str, text: &str) {
        if !text.is_empty() {
            let delta = json!({"type": "tool_call.input_delta", "call_id": call_id, "text": text});
            self.say(&delta);
        }
    }

    /// The call of this index is whole.
    pub(super) fn end_call(&mut self, index: u64) {
        let at = self.calls.iter().rposition(|call| call.index == Some(index));
        if let Some(at) = at.filter(|at| !self.calls[*at].name.is_empty()) {
            self.end_call_at(at);
        }
    }

    fn end_call_at(&mut self, at: usize) {
        let call = &mut self.calls[at];
        if !std::mem::replace(&mut call.has_ended, true) {
            let end = input_end(&call.told_id, &std::mem::take(&mut call.input));
            self.say(&end);
        }
    }

    /// The model has ended. Saying so twice is fine, with another reason it is not.
    pub(super) fn finish(&mut self, reason: &str) -> Result<(), Fault> {
        match &self.finish_reason {
            Some(before) if before != reason => {
                let message = format!("the upstream finished twice, {before:?} and {reason:?}");
                Err(Fault::malformed(message))
            }
            _ => {
                self.finish_reason = Some(reason.to_owned());
                Ok(())
            }
        }
    }

    /// What it cost so far, where that was said; the last one counts.
    pub(super) fn usage(&mut self, usage: Option<Value>) {
        self.usage = usage.or(self.usage.take());
    }

    /// That was all.
    pub(super) fn done(&mut self) {
        self.is_done = true;
    }

    /// Closes what is open. Fails if the answer is not as whole as the upstream says it is.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        if !self.is_finished() {
            return Err(Fault::cut());
        }
        self.close_prose();
        if self.calls.iter().any(|call| call.name.is_empty()) {
            return Err(Fault::malformed("a tool call has no name"));
        }
        (0..self.calls.len()).for_each(|at| self.end_call_at(at));
        Ok(())
    }

    /// The end of the run, of an answer that was closed.
    pub(super) fn end(&mut self) -> Inbound {
        Inbound::Finished { finish_reason: self.finish_reason.take(), usage: self.usage.take() }
    }
}

/// No input at all is an empty object, as tools without parameters are called.
fn input_end(call_id: &str, input: &str) -> Value {
    let text = if input.trim().is_empty() { "{}" } else { input };
    match serde_json::from_str::<Value>(text) {
        Ok(input) => json!({"type": "tool_call.input_end", "call_id": call_id, "input": input}),
        Err(error) => json!({
            "type": "tool_call.input_end", "call_id": call_id, "raw": input,
            "error": format!("not JSON: {error}"),
        }),
    }
}
