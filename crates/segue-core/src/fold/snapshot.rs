//! A fold as clients get it: the same form, with a bound on its bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Fold,
    bound::{ArgumentLimits, bound},
    list::PartList,
    message::Approval,
    part::{Call, Part, Prose},
    size::{fields_size, fits, size},
    value::Json,
};
use crate::position::Seq;

/// A value that is cut has at least as many bytes.
const LEAST: usize = 256;

/// What a part takes beside its content, about.
const PART_BYTES: usize = 64;

/// The least that a part takes: no snapshot has room for more of them.
const LEAST_PART: usize = 32;

/// How large a snapshot may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotLimits {
    /// Bytes of all of it.
    pub bytes: usize,
    /// How much of a tool call's arguments it has, however small the rest is.
    pub arguments: ArgumentLimits,
}

impl Default for SnapshotLimits {
    fn default() -> Self {
        Self { bytes: 1 << 20, arguments: ArgumentLimits::default() }
    }
}

/// A message up to an event, for a client that goes on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The first event that is in it.
    pub from_seq: Seq,
    /// The last event that is in it.
    pub seq: Seq,
    /// A fold as JSON, on one line.
    pub json: Bytes,
    /// Whether something was cut, which it says itself: `truncated` parts have theirs, and what is
    /// left out whole is counted in `omitted`.
    pub is_cut: bool,
}

/// What is left of the parts.
#[derive(Clone, Copy)]
struct Room {
    /// The most bytes of a part or value.
    cap: usize,
    /// How many parts, from the newest back, and how many values by name.
    keep: usize,
    arguments: ArgumentLimits,
}

impl Fold {
    /// The message so far, within limits. What is cut is marked.
    pub fn snapshot(&self, limits: &SnapshotLimits) -> Snapshot {
        let arguments = limits.arguments;
        let (cap, keep) = (self.level(limits.bytes), limits.bytes / LEAST_PART);
        let mut room = Room { cap, keep, arguments };
        loop {
            let cut = self.cut(room);
            let json = serde_json::to_vec(&cut).expect("a fold has text keys and JSON values");
            if json.len() <= limits.bytes || room.keep == 0 {
                let is_cut = cut.truncated + cut.omitted > 0;
                let (from_seq, seq) = (self.from_seq, self.seq);
                return Snapshot { from_seq, seq, json: json.into(), is_cut };
            }
            // What is escaped takes more than was reckoned.
            match room.cap {
                cap if cap > LEAST => room.cap = (cap.min(limits.bytes) / 2).max(LEAST),
                _ => room.keep /= 2,
            }
        }
    }

    /// The cap with which all parts and values together have about `bytes`: small ones stay whole.
    fn level(&self, bytes: usize) -> usize {
        let message = &self.message;
        let parts = message.parts.iter().map(Part::bytes);
        let data = message.data.iter().map(|(name, json)| name.len() + json.text().len());
        let state = message.state.iter().map(|(name, value)| name.len() + size(value));
        let approvals = message.approvals.iter().map(|(id, both)| id.len() + both.bytes());
        let others = [message.usage.as_ref().map_or(0, fields_size), size(&message.metadata)];
        let sizes = parts.chain(data).chain(state).chain(approvals).chain(others);
        let mut sizes: Vec<usize> = sizes.map(|size| size + PART_BYTES).collect();
        sizes.sort_unstable();
        let (mut left, mut count) = (bytes, sizes.len());
        for size in sizes {
            if size > left / count {
                return (left / count).max(LEAST);
            }
            left -= size;
            count -= 1;
        }
        bytes
    }

    fn cut(&self, room: Room) -> Self {
        let Self { message: all, .. } = self;
        let mut omitted = 0;
        let first = all.parts.len().saturating_sub(room.keep);
        let parts: PartList = all.parts.iter().skip(first).map(|part| part.cut(room)).collect();
        let truncated = parts.iter().filter(|part| part.is_truncated()).count() as u64;
        let mut message = super::Message { parts, ..all.without_values() };
        message.data =
            fitting(&all.data, room, |json, most| json.text().len() <= most, &mut omitted);
        message.state = fitting(&all.state, room, fits, &mut omitted);
        message.approvals = self.fitting_approvals(room, &mut omitted);
        if fits(&all.metadata, room.cap) {
            message.metadata.clone_from(&all.metadata);
        } else {
            omitted += 1;
        }
        match &all.usage {
            Some(large) if fields_size(large) > room.cap => omitted += 1,
            usage => message.usage.clone_from(usage),
        }
        let first_step = self.steps.len().saturating_sub(room.keep);
        let steps = self.steps[first_step..].to_vec();
        let omitted = self.omitted + omitted + (first + first_step) as u64;
        Self { message, steps, truncated, omitted, parts: super::Parts::default(), ..*self }
    }

    /// The ones that are pending before the ones that are resolved.
    fn fitting_approvals(&self, room: Room, omitted: &mut u64) -> BTreeMap<String, Approval> {
        let all = &self.message.approvals;
        let fits = |(id, both): &(&String, &Approval)| id.len() + both.bytes() <= room.cap;
        let of = |is_pending: bool| {
            all.iter().filter(fits).filter(move |(_, both)| both.resolved.is_none() == is_pending)
        };
        let kept = of(true).chain(of(false)).take(room.keep);
        let kept: BTreeMap<_, _> = kept.map(|(id, both)| (id.clone(), both.clone())).collect();
        *omitted += (all.len() - kept.len()) as u64;
        kept
    }
}

/// The values that have room.
fn fitting<V: Clone>(
    all: &BTreeMap<String, V>,
    room: Room,
    fits: impl Fn(&V, usize) -> bool,
    omitted: &mut u64,
) -> BTreeMap<String, V> {
    let has_room = |(name, value): &(&String, &V)| {
        room.cap.checked_sub(name.len()).is_some_and(|most| fits(value, most))
    };
    let kept = all.iter().filter(has_room).take(room.keep);
    let kept: BTreeMap<_, _> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    *omitted += (all.len() - kept.len()) as u64;
    kept
}

impl Approval {
    fn bytes(&self) -> usize {
        [&self.requested, &self.resolved].into_iter().flatten().map(|json| json.text().len()).sum()
    }
}

impl Part {
    fn cut(&self, room: Room) -> Self {
        match self {
            Self::Prose(prose) => Self::Prose(prose.cut(room.cap)),
            Self::Call(call) => Self::Call(call.cut(room)),
            Self::Whole(whole) => Self::Whole(whole.cut(room.cap)),
        }
    }

    fn is_truncated(&self) -> bool {
        match self {
            Self::Prose(prose) => prose.truncated.is_some(),
            Self::Call(call) => call.truncated.is_some(),
            Self::Whole(whole) => whole.is_truncated,
        }
    }
}

impl Prose {
    /// The newest of its text stays, to which later deltas are added.
    fn cut(&self, cap: usize) -> Self {
        let (text, cut) = newest(&self.text, cap);
        let signature = within(self.signature.as_ref(), cap);
        let lost = cut + lost(self.signature.as_ref(), signature.as_ref());
        let truncated = mark(self.truncated, lost);
        let (part, step) = (self.part.clone(), self.step.clone());
        Self { kind: self.kind, part, step, text, signature, open: self.open, truncated }
    }
}

impl Call {
    fn cut(&self, room: Room) -> Self {
        let mut shown = self.clone_without_values();
        let bounded = self.input.as_ref().and_then(|input| bound(input, &room.arguments));
        let input = bounded.as_ref().or(self.input.as_ref());
        let cap = room.cap.min(room.arguments.bytes * 2);
        let (text, cut_text) = newest(&self.text, cap);
        let (name, cut_name) = newest(&self.name, cap);
        shown.input = within(input, cap);
        shown.raw = within(self.raw.as_ref(), cap);
        shown.error = within(self.error.as_ref(), cap);
        shown.executor = within(self.executor.as_ref(), cap);
        let mut cut = cut_text + cut_name + usize::from(bounded.is_some());
        cut += lost(self.input.as_ref(), shown.input.as_ref())
            + lost(self.raw.as_ref(), shown.raw.as_ref());
        cut += lost(self.error.as_ref(), shown.error.as_ref())
            + lost(self.executor.as_ref(), shown.executor.as_ref());
        shown.truncated = mark(self.truncated, cut);
        (shown.text, shown.name) = (text, name);
        shown
    }
}

/// The end of a text, at most `cap` bytes, and how many are missing.
fn newest(text: &str, cap: usize) -> (String, usize) {
    let at = text.ceil_char_boundary(text.len().saturating_sub(cap));
    (text[at..].to_owned(), at)
}

fn within(json: Option<&Json>, cap: usize) -> Option<Json> {
    json.filter(|json| json.text().len() <= cap).cloned()
}

fn lost(before: Option<&Json>, after: Option<&Json>) -> usize {
    let len = |json: Option<&Json>| json.map_or(0, |json| json.text().len());
    len(before).saturating_sub(len(after))
}

fn mark(before: Option<u64>, bytes: usize) -> Option<u64> {
    let bytes = bytes as u64 + before.unwrap_or(0);
    (bytes > 0).then_some(bytes)
}
