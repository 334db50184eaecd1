//! Where in a message's list the next event's part is.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Unusable,
    part::{Call, Part, Prose, ProseKind, RESULT, Whole},
    read,
    value::Json,
    whole_event,
};
use crate::{
    event::{Event, EventKind, EventRecord},
    json::Fields,
};

/// Indexes into a message's parts: what may still change. A function of the list, so that it is
/// not kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parts {
    /// Prose that is open.
    open: HashMap<(ProseKind, String), usize>,
    /// Every tool call.
    calls: HashMap<String, usize>,
    /// Every tool result.
    results: HashMap<String, usize>,
    /// The first part of each step.
    steps: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct ProseDelta<'a> {
    #[serde(borrow)]
    part: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CallDelta<'a> {
    #[serde(borrow)]
    call_id: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Parts {
    pub(super) fn of(parts: &[Part]) -> Self {
        let mut index = Self::default();
        for (at, part) in parts.iter().enumerate() {
            index.note(at, part);
        }
        index
    }

    fn note(&mut self, at: usize, part: &Part) {
        if let Some(step) = part.step().filter(|step| !self.steps.contains_key(*step)) {
            self.steps.insert(step.to_owned(), at);
        }
        match part {
            Part::Prose(prose) if prose.open => {
                self.open.insert((prose.kind, prose.part.clone()), at);
            }
            Part::Prose(_) => {}
            Part::Call(call) => {
                self.calls.insert(call.call_id.clone(), at);
            }
            Part::Whole(whole) => {
                self.results.extend(whole.call.clone().map(|call| (call, at)));
            }
        }
    }

    /// Undoes what [`Parts::note`] did for a part at `first` or behind it.
    fn forget(&mut self, first: usize, part: &Part) {
        if let Some(step) = part.step().filter(|step| self.steps.get(*step) >= Some(&first)) {
            self.steps.remove(step);
        }
        match part {
            Part::Prose(prose) if prose.open => {
                self.open.remove(&(prose.kind, prose.part.clone()));
            }
            Part::Prose(_) | Part::Whole(Whole { call: None, .. }) => {}
            Part::Call(call) => {
                self.calls.remove(&call.call_id);
            }
            Part::Whole(Whole { call: Some(call), .. }) => {
                self.results.remove(call);
            }
        }
    }

    fn push(&mut self, parts: &mut Vec<Part>, part: Part) -> usize {
        self.note(parts.len(), &part);
        parts.push(part);
        parts.len() - 1
    }

    pub(super) fn prose_delta(
        &mut self,
        parts: &mut Vec<Part>,
        kind: ProseKind,
        record: &EventRecord,
        step: impl FnOnce() -> Option<String>,
    ) -> Result<(), Unusable> {
        let delta: ProseDelta<'_> = read(record.json())?;
        let prose = self.need_prose(parts, kind, delta.part.into_owned(), step);
        prose.text.push_str(&delta.text);
        if let Some(signature) = delta.signature {
            prose.signature = Some(Json::from(signature));
        }
        Ok(())
    }

    pub(super) fn call_delta(
        &mut self,
        parts: &mut Vec<Part>,
        record: &EventRecord,
        step: impl FnOnce() -> Option<String>,
    ) -> Result<(), Unusable> {
        let delta: CallDelta<'_> = read(record.json())?;
        self.need_call(parts, &delta.call_id, step).text.push_str(&delta.text);
        Ok(())
    }

    /// The open prose of this id. Admission opens each before its first delta; one whose beginning
    /// was trimmed begins here.
    fn need_prose<'a>(
        &mut self,
        parts: &'a mut Vec<Part>,
        kind: ProseKind,
        part: String,
        step: impl FnOnce() -> Option<String>,
    ) -> &'a mut Prose {
        let key = (kind, part);
        let at = self.open.get(&key).copied();
        let at = at.unwrap_or_else(|| {
            let (text, step) = (String::new(), step());
            let (signature, truncated) = (None, None);
            let new = Prose { kind, part: key.1, step, text, signature, open: true, truncated };
            self.push(parts, Part::Prose(new))
        });
        match &mut parts[at] {
            Part::Prose(prose) => prose,
            Part::Call(_) | Part::Whole(_) => unreachable!("the index of prose names prose"),
        }
    }

    fn need_call<'a>(
        &mut self,
        parts: &'a mut Vec<Part>,
        id: &str,
        step: impl FnOnce() -> Option<String>,
    ) -> &'a mut Call {
        let at = self.calls.get(id).copied();
        let at = at.unwrap_or_else(|| self.push(parts, Part::Call(Call::new(id, step()))));
        match &mut parts[at] {
            Part::Call(call) => call,
            Part::Prose(_) | Part::Whole(_) => unreachable!("the index of calls names calls"),
        }
    }

    /// Takes an event that is no delta and belongs to a part.
    pub(super) fn take(
        &mut self,
        parts: &mut Vec<Part>,
        record: &EventRecord,
        step: Option<&String>,
    ) -> Result<(), Unusable> {
        use EventKind as K;
        let event = Event::from_record(record);
        let fields = Fields::read(record.json())?;
        let subject = || event.subject().ok_or("no id");
        let step = || step.cloned();
        match event.kind() {
            K::TextStart => self.start(parts, ProseKind::Text, subject()?, &fields, step),
            K::ReasoningStart => self.start(parts, ProseKind::Reasoning, subject()?, &fields, step),
            K::TextEnd => self.end_prose(parts, ProseKind::Text, subject()?, &fields),
            K::ReasoningEnd => self.end_prose(parts, ProseKind::Reasoning, subject()?, &fields),
            K::ToolCallStarted => {
                let call = self.need_call(parts, subject()?, step);
                call.name = fields.get("name").flatten().unwrap_or_default();
                call.executor = Json::of_field(&fields, "executor");
            }
            K::ToolCallInputEnd => self.need_call(parts, subject()?, step).close(Some(&fields)),
            K::ToolResult => self.result(parts, subject()?, &fields, step),
            K::File => self.whole(parts, Whole::of("file", step(), &fields)),
            K::Source => self.whole(parts, Whole::of("source", step(), &fields)),
            // What a client sent and what is wrong stay, whatever becomes of the step.
            K::InputReceived => self.whole(parts, Whole::of("input", None, &fields)),
            K::Warning => self.whole(parts, Whole::of("warning", None, &fields)),
            _ => self.whole(parts, Whole::opaque(step(), whole_event(record)?.text())),
        }
        Ok(())
    }

    fn start(
        &mut self,
        parts: &mut Vec<Part>,
        kind: ProseKind,
        part: &str,
        fields: &Fields<'_>,
        step: impl FnOnce() -> Option<String>,
    ) {
        let prose = self.need_prose(parts, kind, part.to_owned(), step);
        prose.signature = Json::of_field(fields, "signature");
    }

    fn end_prose(&mut self, parts: &mut [Part], kind: ProseKind, part: &str, fields: &Fields<'_>) {
        let at = self.open.remove(&(kind, part.to_owned()));
        if let Some(Part::Prose(prose)) = at.and_then(|at| parts.get_mut(at)) {
            prose.open = false;
            prose.signature = Json::of_field(fields, "signature").or(prose.signature.take());
        }
    }

    fn whole(&mut self, parts: &mut Vec<Part>, whole: Whole) {
        self.push(parts, Part::Whole(whole));
    }

    /// A later result takes the place of a preliminary one. A result is of its call's step, so that
    /// both are void or neither.
    fn result(
        &mut self,
        parts: &mut Vec<Part>,
        call: &str,
        fields: &Fields<'_>,
        step: impl FnOnce() -> Option<String>,
    ) {
        let before = self.results.get(call).or_else(|| self.calls.get(call));
        let of_call = before.map(|at| parts[*at].step().map(str::to_owned));
        let whole = Whole::of(RESULT, of_call.unwrap_or_else(step), fields);
        match self.results.get(call) {
            Some(at) => parts[*at] = Part::Whole(whole),
            None => self.whole(parts, whole),
        }
    }

    /// The parts of a step are void. Costs what came since the step's first part.
    pub(super) fn discard(&mut self, parts: &mut Vec<Part>, step: &str) {
        let Some(&first) = self.steps.get(step) else { return };
        let since = parts.split_off(first);
        for part in &since {
            self.forget(first, part);
        }
        for part in since.into_iter().filter(|part| part.step() != Some(step)) {
            self.push(parts, part);
        }
    }

    /// The run's end: admission has closed what was open; of a damaged run it could not.
    pub(super) fn end(&mut self, parts: &mut Vec<Part>, terminal: &Fields<'_>) {
        for part in parts.iter_mut() {
            match part {
                Part::Prose(prose) => prose.open = false,
                Part::Call(call) if call.open => call.close(None),
                Part::Call(_) | Part::Whole(_) => {}
            }
        }
        self.open.clear();
        self.whole(parts, Whole::of("finish", None, terminal));
    }
}
