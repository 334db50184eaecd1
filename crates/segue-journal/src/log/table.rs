//! What is known in memory: the streams changed in segments not yet sealed, and the open runs.
//! Everything else is found in the indexes of sealed segments when it is asked for.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io,
    sync::Arc,
};

use segue_core::Seq;

use super::{
    commit::{Extent, Flags, PartFacts},
    index::{Entry, Leaf, Sealed},
    segment::Segment,
};
use crate::{
    api::{ProducerState, StreamInfo, Tail},
    state::StreamState,
    stream::{Incarnation, KeyMap, KeySet, StreamKey, StreamKind},
};

/// The streams in memory and the segments, changed by the writer and by sealing.
#[derive(Debug, Default)]
pub(crate) struct Table {
    streams: KeyMap<Hot>,
    /// The runs among them that are open.
    open: KeySet,
    /// Oldest first; the last is being written.
    pub(crate) unsealed: VecDeque<Unsealed>,
    /// Oldest first.
    pub(crate) sealed: Arc<Vec<Arc<Sealed>>>,
}

/// A segment without an index on disk.
#[derive(Debug)]
pub(crate) struct Unsealed {
    pub(crate) segment: Arc<Segment>,
    /// The first and the last commit; the last is before the first if there is none.
    pub(crate) commits: (u64, u64),
    /// Where the commits end.
    pub(crate) end: u64,
    /// The streams that it changed, each once.
    touched: Vec<StreamKey>,
}

/// A stream in memory.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    version: Version,
    /// One for each unsealed segment that changed it, in order.
    spans: Vec<Span>,
}

/// A state and the last commit that changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// `None`: the stream does not exist.
    pub(crate) state: Option<StreamState>,
    pub(crate) changed: u64,
}

impl From<Entry> for Version {
    fn from(entry: Entry) -> Self {
        Self { state: entry.state, changed: entry.changed }
    }
}

/// What one unsealed segment has of a stream.
#[derive(Debug)]
struct Span {
    segment: Arc<Segment>,
    /// The version before this segment's first change.
    before: Version,
    /// Of the records.
    incarnation: Incarnation,
    extents: Vec<Extent>,
}

/// Contiguous records, and the file that has them.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) segment: Arc<Segment>,
    pub(crate) extents: Vec<Extent>,
}

/// How many streams are handled under one hold of the lock, so that sealing does not stall the
/// writer or readers.
pub(crate) const CHUNK: usize = 256;

impl Hot {
    pub(crate) fn state(&self) -> Option<&StreamState> {
        self.version.state.as_ref()
    }

    /// The extents that hold the record `from` and what follows it in the same segment, as many as
    /// `take` wants.
    pub(crate) fn piece(&self, from: Seq, mut take: impl FnMut(&Extent) -> bool) -> Option<Piece> {
        let incarnation = self.state()?.info.incarnation;
        let of_stream = self.spans.iter().filter(|span| span.incarnation == incarnation);
        let holds = |span: &&Span| {
            let ends = (span.extents.first(), span.extents.last());
            matches!(ends, (Some(first), Some(last)) if first.first <= from && from < last.end())
        };
        let span = of_stream.rev().find(holds)?;
        let before = span.extents.partition_point(|extent| extent.end() <= from);
        let extents = span.extents[before..].iter().take_while(|extent| take(extent));
        let segment = Arc::clone(&span.segment);
        Some(Piece { segment, extents: extents.copied().collect() })
    }

    /// The version at the end of a segment.
    fn at_end_of(&self, segment: u64) -> &Version {
        let later = self.spans.iter().find(|span| span.segment.number > segment);
        later.map_or(&self.version, |span| &span.before)
    }

    fn extents_in(&self, segment: u64) -> &[Extent] {
        let span = self.spans.iter().find(|span| span.segment.number == segment);
        span.map_or(&[], |span| &span.extents)
    }
}

impl Table {
    pub(crate) fn hot(&self, key: &StreamKey) -> Option<&Hot> {
        self.streams.get(key)
    }

    /// The streams in memory.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&StreamKey, &Version)> {
        self.streams.iter().map(|(key, hot)| (key, &hot.version))
    }

    pub(crate) fn open_runs(&self) -> Vec<StreamKey> {
        self.open.iter().cloned().collect()
    }

    /// Takes a segment as the one being written; `next` is the number of its first commit.
    pub(crate) fn begin(&mut self, segment: Arc<Segment>, next: u64, end: u64) {
        let commits = (next, next - 1);
        self.unsealed.push_back(Unsealed { segment, commits, end, touched: Vec::new() });
    }

    /// The segment being written has this commit now.
    pub(crate) fn committed(&mut self, number: u64, end: u64) {
        if let Some(active) = self.unsealed.back_mut() {
            active.commits.1 = number;
            active.end = end;
        }
    }

    /// Notes a part of the segment being written. `known` is the stream's version if it is not
    /// in memory. The state follows with [`Table::set`].
    pub(crate) fn place(
        &mut self,
        part: &PartFacts,
        extents: &[Extent],
        known: impl FnOnce() -> Version,
    ) {
        let Some(active) = self.unsealed.back_mut() else { return };
        let hot = self
            .streams
            .entry(part.stream.clone())
            .or_insert_with(|| Hot { version: known(), spans: Vec::new() });
        if hot.spans.last().is_none_or(|span| span.segment.number != active.segment.number) {
            active.touched.push(part.stream.clone());
            hot.spans.push(Span {
                segment: Arc::clone(&active.segment),
                before: hot.version.clone(),
                incarnation: part.incarnation,
                extents: Vec::new(),
            });
        }
        let Some(span) = hot.spans.last_mut() else { return };
        if part.flags.has(Flags::DELETE) || span.incarnation != part.incarnation {
            span.extents.clear();
            span.incarnation = part.incarnation;
        }
        span.extents.extend_from_slice(extents);
    }

    /// Changes a stream's state by the commit `number`; `change` makes the new one from the old.
    pub(crate) fn set(
        &mut self,
        key: StreamKey,
        number: u64,
        change: impl FnOnce(Option<StreamState>) -> Option<StreamState>,
    ) {
        let hot = self.streams.entry(key.clone()).or_default();
        let was = is_open(hot.version.state.as_ref());
        hot.version.state = change(hot.version.state.take());
        hot.version.changed = number;
        let is = is_open(hot.version.state.as_ref());
        if was != is && key.kind() == StreamKind::Run {
            if is {
                self.open.insert(key)
            } else {
                self.open.remove(&key)
            };
        }
    }

    /// Applies a part that was read from the segment being written.
    pub(crate) fn replay(&mut self, part: &PartFacts, number: u64) {
        self.set(part.stream.clone(), number, |state| replayed(part, state));
    }

    /// Forgets every stream, and takes these open runs in their place.
    pub(crate) fn reset(&mut self, open: impl IntoIterator<Item = (StreamKey, Version)>) {
        self.streams.clear();
        self.open.clear();
        for (key, version) in open {
            self.open.insert(key.clone());
            self.streams.insert(key, Hot { version, spans: Vec::new() });
        }
    }

    /// The streams which the index of an unsealed segment may have to have: those that it changed,
    /// and the runs that may have been open at its end, which are the open ones and those that a
    /// later segment changed. [`Table::leaf`] says which of them are in it.
    pub(crate) fn to_index(&self, segment: u64) -> Vec<StreamKey> {
        let from = self.unsealed.iter().skip_while(|other| other.segment.number < segment);
        let touched = from.flat_map(|unsealed| {
            let own = unsealed.segment.number == segment;
            unsealed.touched.iter().filter(move |key| own || key.kind() == StreamKind::Run)
        });
        let keys: HashSet<&StreamKey> = touched.chain(&self.open).collect();
        keys.into_iter().cloned().collect()
    }

    /// Makes every segment that is not sealed durable, oldest first, so that what is lost meanwhile
    /// is at the end.
    pub(crate) fn sync_unsealed(&self) -> io::Result<()> {
        self.unsealed.iter().try_for_each(|unsealed| unsealed.segment.file.sync())
    }

    /// What the index of an unsealed segment says of a stream; `None` if it is not in it.
    pub(crate) fn leaf(&self, stream: &StreamKey, unsealed: (u64, u64)) -> Option<Leaf> {
        let (segment, first_commit) = unsealed;
        let hot = self.hot(stream)?;
        let Version { state, changed } = hot.at_end_of(segment);
        let idle = *changed < first_commit;
        if idle && !is_open(state.as_ref()) {
            return None;
        }
        let extents = if state.is_some() { hot.extents_in(segment).to_vec() } else { Vec::new() };
        Some(Leaf { stream: stream.clone(), state: state.clone(), changed: *changed, extents })
    }

    /// The oldest unsealed segment was sealed. Gives the streams to [`Table::release`] after it.
    pub(crate) fn seal(&mut self, sealed: Arc<Sealed>) -> Vec<StreamKey> {
        let mut all = Vec::clone(&self.sealed);
        all.push(sealed);
        self.sealed = Arc::new(all);
        self.unsealed.pop_front().map(|unsealed| unsealed.touched).unwrap_or_default()
    }

    /// The oldest sealed segment is in the cold store whole, and not any more in the log.
    pub(crate) fn drop_packed(&mut self) {
        self.sealed = self.sealed.iter().skip(1).cloned().collect::<Vec<_>>().into();
    }

    /// Bytes of the segments' files, of the one being written as far as it is.
    pub(crate) fn hot_bytes(&self) -> u64 {
        let sealed = self.sealed.iter().map(|sealed| sealed.bytes());
        let unsealed = self.unsealed.iter().map(|unsealed| unsealed.end);
        sealed.chain(unsealed).sum()
    }

    /// The segments without an index, oldest first.
    pub(crate) fn unsealed_segments(&self) -> Vec<Arc<Segment>> {
        self.unsealed.iter().map(|unsealed| Arc::clone(&unsealed.segment)).collect()
    }

    /// The version of a stream in memory that [`Table::release`] may take out: the segment being
    /// written has nothing of it yet.
    pub(crate) fn releasable(&self, key: &StreamKey) -> Option<&Version> {
        let active = self.unsealed.back()?.segment.number;
        let hot = self.hot(key)?;
        let stays = hot.spans.last().is_some_and(|span| span.segment.number == active);
        (!stays).then_some(&hot.version)
    }

    /// Forgets what a sealed segment has of these streams, and the streams that need not be in
    /// memory any more.
    pub(crate) fn release(&mut self, segment: u64, keys: &[StreamKey]) {
        for key in keys {
            let Some(hot) = self.streams.get_mut(key) else { continue };
            hot.spans.retain(|span| span.segment.number != segment);
            if hot.spans.is_empty() && !self.open.contains(key) {
                self.streams.remove(key);
            }
        }
    }
}

fn is_open(state: Option<&StreamState>) -> bool {
    state.is_some_and(|state| !state.info.tail.closed)
}

/// The state after a part that was read, from the one before it. Where commits were lost in
/// between, what the part itself says is taken.
fn replayed(part: &PartFacts, state: Option<StreamState>) -> Option<StreamState> {
    if part.flags.has(Flags::DELETE) {
        return None;
    }
    let same = state.filter(|state| state.info.incarnation == part.incarnation);
    let mut state = same.unwrap_or_else(|| StreamState {
        info: StreamInfo {
            incarnation: part.incarnation,
            epoch: part.epoch,
            available_from: Seq::FIRST,
            tail: Tail { next: Seq::FIRST, closed: false },
        },
        producers: BTreeMap::new(),
    });
    let StreamInfo { epoch, available_from, tail, .. } = &mut state.info;
    *epoch = part.epoch;
    if part.flags.has(Flags::TRIM) {
        *available_from = part.first_seq;
        tail.next = tail.next.max(part.first_seq);
    } else {
        tail.next = part.next();
    }
    tail.closed |= part.flags.has(Flags::CLOSE);
    if let Some(claim) = &part.producer {
        let range = (part.first_seq, part.next().prev());
        let known = ProducerState { epoch: claim.epoch, last_seq: claim.last_seq, range };
        state.producers.insert(claim.id.clone(), known);
    }
    Some(state)
}
