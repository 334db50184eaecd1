//! Where in a message's list the next event's part is.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Unusable,
    list::{PartList, Place},
    part::{Call, Part, Prose, ProseKind, RESULT, Whole},
    read,
    value::Json,
    whole_event,
};
use crate::{
    event::{Event, EventKind, EventRecord},
    json::Fields,
};

/// What a part takes beside its event's fields: ids, also those of its step, and its indexes.
const LARGEST_EMPTY: usize = 4 << 10;

/// Indexes into a message's parts: what may still change, and what may go. A function of the list,
/// so that it is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// Prose that is open.
    open: HashMap<(ProseKind, String), Place>,
    /// Every tool call.
    calls: HashMap<String, Place>,
    /// Every tool result.
    results: HashMap<String, Place>,
    /// The parts of each step.
    steps: HashMap<String, Vec<Place>>,
}

/// Places differ between a list and what is read back from it: what is indexed counts.
impl PartialEq for Parts {
    fn eq(&self, other: &Self) -> bool {
        self.open.len() == other.open.len()
            && self.open.keys().all(|key| other.open.contains_key(key))
            && self.calls.len() == other.calls.len()
            && self.results.len() == other.results.len()
            && self.steps.len() == other.steps.len()
    }
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
    pub(super) fn of(parts: &PartList) -> Self {
        let mut index = Self::default();
        for (place, part) in parts.places() {
            index.note(place, part);
        }
        index
    }

    fn note(&mut self, at: Place, part: &Part) {
        if let Some(step) = part.step() {
            self.steps.entry(step.to_owned()).or_default().push(at);
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

    /// Undoes what [`Parts::note`] did for a part, but for its step.
    fn forget(&mut self, part: &Part) {
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

    fn push(&mut self, parts: &mut PartList, part: Part) -> Place {
        let place = parts.push(part);
        if let Some(part) = parts.get(place) {
            self.note(place, part);
        }
        place
    }

    /// Gives whether there was room for it, as the other ones that take an event do.
    pub(super) fn prose_delta(
        &mut self,
        parts: &mut PartList,
        kind: ProseKind,
        record: &EventRecord,
        step: impl FnOnce() -> Option<String>,
        room: usize,
    ) -> Result<bool, Unusable> {
        let delta: ProseDelta<'_> = read(record.json())?;
        let key = (kind, delta.part.into_owned());
        let fits = needed(record) <= room;
        if !fits && !self.open.contains_key(&key) {
            return Ok(false);
        }
        let place = self.need_prose(parts, key, step);
        edit_prose(parts, place, |prose| {
            if !fits {
                prose.make_room(room, delta.text.len());
            }
            prose.add(&delta.text, fits);
            if let Some(signature) = delta.signature.filter(|_| fits) {
                prose.signature = Some(Json::from(signature));
            }
        });
        Ok(true)
    }

    pub(super) fn call_delta(
        &mut self,
        parts: &mut PartList,
        record: &EventRecord,
        step: impl FnOnce() -> Option<String>,
        room: usize,
    ) -> Result<bool, Unusable> {
        let delta: CallDelta<'_> = read(record.json())?;
        let fits = needed(record) <= room;
        if !fits && !self.calls.contains_key(&*delta.call_id) {
            return Ok(false);
        }
        let place = self.need_call(parts, &delta.call_id, step);
        edit_call(parts, place, |call| {
            if fits {
                call.text.push_str(&delta.text);
            } else {
                call.lose(delta.text.len());
            }
        });
        Ok(true)
    }

    /// The open prose of this id. Admission opens each before its first delta; one whose beginning
    /// was trimmed begins here.
    fn need_prose(
        &mut self,
        parts: &mut PartList,
        key: (ProseKind, String),
        step: impl FnOnce() -> Option<String>,
    ) -> Place {
        let at = self.open.get(&key).copied();
        at.unwrap_or_else(|| {
            let (text, step) = (String::new(), step());
            let (signature, truncated) = (None, None);
            let (kind, part) = key;
            let new = Prose { kind, part, step, text, signature, open: true, truncated };
            self.push(parts, Part::Prose(new))
        })
    }

    fn need_call(
        &mut self,
        parts: &mut PartList,
        id: &str,
        step: impl FnOnce() -> Option<String>,
    ) -> Place {
        let at = self.calls.get(id).copied();
        at.unwrap_or_else(|| self.push(parts, Part::Call(Call::new(id, step()))))
    }

    /// Takes an event that is no delta and belongs to a part. What ends one does so also where
    /// there is no room for its fields.
    pub(super) fn take(
        &mut self,
        parts: &mut PartList,
        record: &EventRecord,
        step: Option<&String>,
        room: usize,
    ) -> Result<bool, Unusable> {
        use EventKind as K;
        let event = Event::from_record(record);
        let fits = needed(record) <= room;
        if !fits && !matches!(event.kind(), K::TextEnd | K::ReasoningEnd | K::ToolCallInputEnd) {
            return Ok(false);
        }
        let fields = if fits { Fields::read(record.json())? } else { Fields::default() };
        let subject = || event.subject().ok_or("no id");
        let step = || step.cloned();
        match event.kind() {
            K::TextStart => self.start(parts, ProseKind::Text, subject()?, &fields, step),
            K::ReasoningStart => self.start(parts, ProseKind::Reasoning, subject()?, &fields, step),
            K::TextEnd => self.end_prose(parts, ProseKind::Text, subject()?, &fields),
            K::ReasoningEnd => self.end_prose(parts, ProseKind::Reasoning, subject()?, &fields),
            K::ToolCallStarted => {
                let place = self.need_call(parts, subject()?, step);
                edit_call(parts, place, |call| {
                    call.name = fields.get("name").flatten().unwrap_or_default();
                    call.executor = Json::of_field(&fields, "executor");
                });
            }
            K::ToolCallInputEnd => {
                let place = self.need_call(parts, subject()?, step);
                edit_call(parts, place, |call| {
                    if !fits {
                        call.lose(record.json().len());
                    }
                    call.close(Some(&fields));
                });
            }
            K::ToolResult => self.result(parts, subject()?, &fields, step),
            K::File => self.whole(parts, Whole::of("file", step(), &fields)),
            K::Source => self.whole(parts, Whole::of("source", step(), &fields)),
            // What a client sent and what is wrong stay, whatever becomes of the step.
            K::InputReceived => self.whole(parts, Whole::of("input", None, &fields)),
            K::Warning => self.whole(parts, Whole::of("warning", None, &fields)),
            _ => self.whole(parts, Whole::opaque(step(), whole_event(record)?.text())),
        }
        Ok(fits)
    }

    fn start(
        &mut self,
        parts: &mut PartList,
        kind: ProseKind,
        part: &str,
        fields: &Fields<'_>,
        step: impl FnOnce() -> Option<String>,
    ) {
        let place = self.need_prose(parts, (kind, part.to_owned()), step);
        edit_prose(parts, place, |prose| prose.signature = Json::of_field(fields, "signature"));
    }

    fn end_prose(
        &mut self,
        parts: &mut PartList,
        kind: ProseKind,
        part: &str,
        fields: &Fields<'_>,
    ) {
        let Some(place) = self.open.remove(&(kind, part.to_owned())) else { return };
        edit_prose(parts, place, |prose| {
            prose.open = false;
            prose.signature = Json::of_field(fields, "signature").or(prose.signature.take());
        });
    }

    fn whole(&mut self, parts: &mut PartList, whole: Whole) {
        self.push(parts, Part::Whole(whole));
    }

    /// A later result takes the place of a preliminary one. A result is of its call's step, so that
    /// both are void or neither.
    fn result(
        &mut self,
        parts: &mut PartList,
        call: &str,
        fields: &Fields<'_>,
        step: impl FnOnce() -> Option<String>,
    ) {
        let before = self.results.get(call).or_else(|| self.calls.get(call));
        let before = before.and_then(|place| parts.get(*place));
        let of_call = before.map(|part| part.step().map(str::to_owned));
        let whole = Whole::of(RESULT, of_call.unwrap_or_else(step), fields);
        match self.results.get(call) {
            Some(place) => drop(parts.edit(*place, |part| *part = Part::Whole(whole))),
            None => self.whole(parts, whole),
        }
    }

    /// The parts of a step are void. Costs what it has.
    pub(super) fn discard(&mut self, parts: &mut PartList, step: &str) {
        for place in self.steps.remove(step).unwrap_or_default() {
            if let Some(part) = parts.remove(place) {
                self.forget(&part);
            }
        }
    }

    /// The run's end: admission has closed what was open; of a damaged run it could not.
    pub(super) fn end(&mut self, parts: &mut PartList, terminal: &Fields<'_>) {
        for (_, place) in self.open.drain() {
            edit_prose(parts, place, |prose| prose.open = false);
        }
        for place in self.calls.values() {
            edit_call(parts, *place, |call| {
                if call.open {
                    call.close(None);
                }
            });
        }
        self.whole(parts, Whole::of("finish", None, terminal));
    }
}

/// The most that an event can add to the parts.
fn needed(record: &EventRecord) -> usize {
    LARGEST_EMPTY + record.json().len()
}

fn edit_prose(parts: &mut PartList, place: Place, change: impl FnOnce(&mut Prose)) {
    parts.edit(place, |part| match part {
        Part::Prose(prose) => change(prose),
        Part::Call(_) | Part::Whole(_) => unreachable!("the index of prose names prose"),
    });
}

fn edit_call(parts: &mut PartList, place: Place, change: impl FnOnce(&mut Call)) {
    parts.edit(place, |part| match part {
        Part::Call(call) => change(call),
        Part::Prose(_) | Part::Whole(_) => unreachable!("the index of calls names calls"),
    });
}
