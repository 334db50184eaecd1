//! What a stream's state is and which changes to it are allowed: once, for every journal.
//!
//! A writer stages the batches of one commit on a [`Stage`], in order: each batch sees what the
//! earlier ones would change, and is applied whole or refused whole. When the commit is written,
//! the staged changes are adopted; when it is not, they are dropped, and no trace is left.
//!
//! Staging costs O(what the batch changes), however much a stream remembers.

mod incarnations;
mod producers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use segue_core::{ProducerId, Seq, Timestamp};

use crate::{
    api::{
        AppendError, Batch, Committed, Op, Part, PartResult, Position, ProducerClaim,
        ProducerState, StreamInfo, Tail,
    },
    doorbell::Ringing,
    stream::{KeyMap, StreamKey},
};

pub(crate) use incarnations::Incarnations;

use producers::{Claim, check_claim};

/// The committed state of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamState {
    /// Incarnation, epoch, ends.
    pub(crate) info: StreamInfo,
    /// Every producer that ever wrote to it.
    pub(crate) producers: BTreeMap<ProducerId, ProducerState>,
}

/// The committed streams that a [`Stage`] stands on.
pub(crate) trait Base {
    /// The state of a stream that exists.
    fn stream(&self, key: &StreamKey) -> Option<&StreamState>;
}

/// What becomes of a batch that is not refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is staged; the effects of its parts, in order.
    Apply(Vec<Effect>),
    /// A part's producer numbers were accepted before: nothing is staged, this is the answer.
    Duplicate(Vec<PartResult>),
}

impl Verdict {
    /// The answer, once the stage is adopted at `position`.
    pub(crate) fn committed(self, position: Position) -> Committed {
        match self {
            Self::Apply(effects) => {
                let parts = effects.into_iter().map(|effect| effect.result).collect();
                Committed { position, parts, duplicate: false }
            }
            Self::Duplicate(parts) => Committed { position, parts, duplicate: true },
        }
    }
}

/// What a part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The stream after the part; for a deletion, before it.
    pub(crate) info: StreamInfo,
    /// The part created the stream.
    pub(crate) created: bool,
    /// The positions of its records.
    pub(crate) result: PartResult,
}

/// The changes of one commit, not yet adopted.
#[derive(Default)]
pub(crate) struct Stage {
    streams: KeyMap<Staged>,
    /// How to take back the parts of the batch that is being staged, the last change last.
    undo: Vec<Undo>,
}

/// A stream as it will be.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// `None`: it does not exist.
    pub(crate) info: Option<StreamInfo>,
    /// The stream of the base was deleted: its records and producers are not those of `info`.
    pub(crate) erased: bool,
    changed: bool,
    /// Of the producers, those that this commit looked at.
    producers: BTreeMap<ProducerId, ProducerState>,
}

/// What a commit did to a stream, as its listeners hear it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Which stream.
    pub(crate) stream: StreamKey,
    /// As it is now; `None`: it does not exist any more.
    pub(crate) info: Option<StreamInfo>,
    /// The stream that was there before is deleted, whatever is there now.
    pub(crate) erased: bool,
}

impl Change {
    /// Rings for it. Only after the commit is published and acknowledged.
    pub(crate) fn ring(&self, ringing: &mut Ringing<'_>) {
        if self.erased {
            ringing.ring_deleted(&self.stream);
        }
        if let Some(info) = self.info {
            ringing.ring_key(&self.stream, info.tail);
        }
    }
}

enum Undo {
    Info(StreamKey, Option<StreamInfo>, bool),
    Producer(StreamKey, ProducerId, Option<ProducerState>),
    Whole(StreamKey, Staged),
}

impl Stage {
    /// Stages a batch whole, or refuses it and leaves the stage as it was.
    ///
    /// A duplicate wins over every refusal but a stale epoch: the state that refuses may be the
    /// work of the original. Its answer gives `at` as time, and for parts without a known claim
    /// the positions zero.
    pub(crate) fn batch(
        &mut self,
        base: &impl Base,
        batch: &Batch,
        at: Timestamp,
        incarnations: &mut Incarnations,
    ) -> Result<Verdict, AppendError> {
        if let Some(original) = self.original(base, batch, at)? {
            return Ok(Verdict::Duplicate(original));
        }
        self.undo.clear();
        let mut effects = Vec::with_capacity(batch.parts.len());
        for part in &batch.parts {
            match self.part(base, part, at, incarnations) {
                Ok(effect) => effects.push(effect),
                Err(error) => {
                    self.roll_back();
                    return Err(error);
                }
            }
        }
        Ok(Verdict::Apply(effects))
    }

    /// What was staged, per stream that changes, in any order. Leaves the stage empty.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (StreamKey, Staged)> + '_ {
        self.streams.drain().filter(|(_, staged)| staged.changed)
    }

    /// Drops everything that was staged.
    pub(crate) fn clear(&mut self) {
        self.streams.clear();
    }

    /// The original answer, if any part's claim is known.
    fn original(
        &mut self,
        base: &impl Base,
        batch: &Batch,
        at: Timestamp,
    ) -> Result<Option<Vec<PartResult>>, AppendError> {
        if !batch.parts.iter().any(|part| part.claim().is_some()) {
            return Ok(None);
        }
        let known: Vec<_> = batch.parts.iter().map(|part| self.known(base, part)).collect();
        if known.iter().all(Option::is_none) {
            return Ok(None);
        }
        for part in &batch.parts {
            if let Some(info) = self.touch(base, &part.stream).info {
                check_epoch(&info, part)?;
            }
        }
        let answer = |range: Option<(Seq, Seq)>| {
            let (first_seq, last_seq) = range.unwrap_or((Seq::ZERO, Seq::ZERO));
            PartResult { first_seq, last_seq, at }
        };
        Ok(Some(known.into_iter().map(answer).collect()))
    }

    /// Where the records of a part's claim are, if they were accepted before.
    fn known(&mut self, base: &impl Base, part: &Part) -> Option<(Seq, Seq)> {
        let claim = part.claim()?;
        let known = self.touch(base, &part.stream).producer(base, &part.stream, &claim.id);
        match check_claim(known, claim) {
            Ok(Claim::Known(range)) => Some(range),
            Ok(Claim::Next) | Err(_) => None,
        }
    }

    fn touch(&mut self, base: &impl Base, key: &StreamKey) -> &mut Staged {
        self.streams.entry(key.clone()).or_insert_with(|| Staged {
            info: base.stream(key).map(|state| state.info),
            ..Staged::default()
        })
    }

    fn part(
        &mut self,
        base: &impl Base,
        part: &Part,
        at: Timestamp,
        incarnations: &mut Incarnations,
    ) -> Result<Effect, AppendError> {
        let staged = self.touch(base, &part.stream);
        let created = matches!(part.op, Op::Append { create: true, .. });
        let before = match staged.info {
            Some(_) if created => return Err(AppendError::Exists(part.stream.clone())),
            Some(info) => info,
            None if created => new_stream(part, incarnations),
            None => return Err(AppendError::NotFound(part.stream.clone())),
        };
        check_epoch(&before, part)?;
        let mut info = StreamInfo { epoch: part.epoch, ..before };
        match &part.op {
            Op::Append { records, close, expect, producer, .. } => {
                if let Some(claim) = producer {
                    let known = staged.producer(base, &part.stream, &claim.id);
                    producers::check_next(known, claim)?;
                }
                check_open(&before, *expect)?;
                info.tail = append(before.tail, records, *close);
            }
            Op::Trim { before: first } => {
                info.available_from = (*first).clamp(before.available_from, before.tail.next);
            }
            Op::Delete => info = before,
        }
        self.commit_part(part, &before, &info);
        let (first_seq, last_seq) = (before.tail.next, info.tail.next.prev());
        Ok(Effect { info, created, result: PartResult { first_seq, last_seq, at } })
    }

    /// Writes a checked part's change into the stage, and how to take it back.
    fn commit_part(&mut self, part: &Part, before: &StreamInfo, info: &StreamInfo) {
        let key = &part.stream;
        let Some(staged) = self.streams.get_mut(key) else { return };
        if matches!(part.op, Op::Delete) {
            let deleted = Staged { erased: true, changed: true, ..Staged::default() };
            self.undo.push(Undo::Whole(key.clone(), std::mem::replace(staged, deleted)));
            return;
        }
        self.undo.push(Undo::Info(key.clone(), staged.info, staged.changed));
        staged.info = Some(*info);
        staged.changed = true;
        if let Some(claim) = part.claim() {
            let range = (before.tail.next, info.tail.next.prev());
            let state = ProducerState { epoch: claim.epoch, last_seq: claim.last_seq, range };
            let earlier = staged.producers.insert(claim.id.clone(), state);
            self.undo.push(Undo::Producer(key.clone(), claim.id.clone(), earlier));
        }
    }

    fn roll_back(&mut self) {
        for undo in self.undo.drain(..).rev() {
            let (Undo::Info(key, ..) | Undo::Producer(key, ..) | Undo::Whole(key, _)) = &undo;
            let Some(staged) = self.streams.get_mut(key) else { continue };
            match undo {
                Undo::Info(_, info, changed) => (staged.info, staged.changed) = (info, changed),
                Undo::Producer(_, id, Some(state)) => drop(staged.producers.insert(id, state)),
                Undo::Producer(_, id, None) => drop(staged.producers.remove(&id)),
                Undo::Whole(_, whole) => *staged = whole,
            }
        }
    }
}

impl Staged {
    /// The state after the commit, from the one before it. `None`: the stream does not exist.
    pub(crate) fn adopt(self, before: Option<StreamState>) -> Option<StreamState> {
        let info = self.info?;
        let kept = before.filter(|_| !self.erased).map(|state| state.producers);
        let mut producers = kept.unwrap_or_default();
        producers.extend(self.producers);
        Some(StreamState { info, producers })
    }

    /// What is to be told of it once it is adopted.
    pub(crate) fn change(&self, stream: &StreamKey) -> Change {
        Change { stream: stream.clone(), info: self.info, erased: self.erased }
    }

    fn producer(
        &mut self,
        base: &impl Base,
        key: &StreamKey,
        id: &ProducerId,
    ) -> Option<&ProducerState> {
        if !self.erased && !self.producers.contains_key(id) {
            let known = base.stream(key).and_then(|state| state.producers.get(id));
            self.producers.extend(known.map(|state| (id.clone(), state.clone())));
        }
        self.producers.get(id)
    }
}

impl Part {
    fn claim(&self) -> Option<&ProducerClaim> {
        match &self.op {
            Op::Append { producer, .. } => producer.as_ref(),
            Op::Trim { .. } | Op::Delete => None,
        }
    }
}

fn new_stream(part: &Part, incarnations: &mut Incarnations) -> StreamInfo {
    StreamInfo {
        incarnation: incarnations.next(),
        epoch: part.epoch,
        available_from: Seq::FIRST,
        tail: Tail { next: Seq::FIRST, closed: false },
    }
}

fn check_epoch(info: &StreamInfo, part: &Part) -> Result<(), AppendError> {
    if part.epoch < info.epoch {
        return Err(AppendError::StaleEpoch { current: info.epoch });
    }
    Ok(())
}

fn check_open(info: &StreamInfo, expect: Option<Seq>) -> Result<(), AppendError> {
    let Tail { next, closed } = info.tail;
    if closed {
        return Err(AppendError::Closed { next });
    }
    match expect {
        Some(expected) if expected != next => Err(AppendError::Unexpected { expected, next }),
        _ => Ok(()),
    }
}

fn append(tail: Tail, records: &[Bytes], close: bool) -> Tail {
    Tail { next: Seq(tail.next.0 + records.len() as u64), closed: close }
}
