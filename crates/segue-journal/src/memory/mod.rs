//! A full journal without files: every rule of the trait, and nothing survives the process.
//!
//! A submit is applied on the calling thread before it returns, so that under a paused clock a
//! ticket is ready at once; a [`Hold`] keeps submits under way, as they are in a journal on disk.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use segue_core::{Clock, ProducerId, Seq};

use crate::{
    api::{
        Batch, Journal, Op, Page, Part, Permit, Position, ProducerState, ReadError, ReadLimit,
        Record, StreamInfo, Ticket,
    },
    cache::{self, FrameCache},
    doorbell::{Doorbell, Listener, Shard},
    queue::{Answer, Outcome, Queue, QueueLimits, Queued, Reserve},
    state::{Base, Change, Effect, Incarnations, Stage, Staged, StreamState, Verdict},
    stream::{KeyMap, StreamKey, StreamKind},
    sync::held,
};

/// How a [`MemoryJournal`] is set up.
pub struct MemoryOptions {
    /// Where records get their time.
    pub clock: Arc<dyn Clock>,
    /// The most bytes of records that a run keeps: older ones are trimmed, but never the last.
    /// `None` keeps all.
    pub run_cap: Option<usize>,
    /// Where incarnations begin. `None` takes the operating system's randomness.
    pub seed: Option<u64>,
    /// Bytes that may be held at the door at once.
    pub queue_bytes: usize,
    /// Bytes of the largest batch.
    pub max_batch: usize,
    /// Bytes of ready frames that are kept.
    pub frame_bytes: usize,
}

impl MemoryOptions {
    /// No cap, and the sizes of the embedded log.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            run_cap: None,
            seed: None,
            queue_bytes: 32 << 20,
            max_batch: 68 << 20,
            frame_bytes: cache::DEFAULT_BUDGET,
        }
    }
}

/// The journal in memory.
pub struct MemoryJournal {
    queue: Arc<Queue>,
    writer: Mutex<Writer>,
    streams: Mutex<Streams>,
    doorbell: Doorbell,
    frames: FrameCache,
    clock: Arc<dyn Clock>,
    run_cap: Option<usize>,
    holds: AtomicUsize,
}

/// While it lives, its journal takes submits and commits none of them.
pub struct Hold(Arc<MemoryJournal>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::AcqRel);
        self.0.drain();
    }
}

/// Who holds its lock is the writer. Taken before the lock of the streams.
struct Writer {
    stage: Stage,
    incarnations: Incarnations,
}

/// A batch's answer, what it will be, and what it changed.
type Applied = (Answer, Outcome, Vec<Change>);

#[derive(Default)]
struct Streams {
    by_key: KeyMap<Stream>,
    position: Position,
}

struct Stream {
    state: StreamState,
    records: VecDeque<Record>,
    bytes: usize,
    changed: Position,
}

impl Base for Streams {
    fn stream(&self, key: &StreamKey) -> Option<&StreamState> {
        self.by_key.get(key).map(|stream| &stream.state)
    }
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new(options: MemoryOptions) -> Self {
        let MemoryOptions { clock, run_cap, seed, queue_bytes, max_batch, frame_bytes } = options;
        let incarnations = Incarnations::new(seed, 0);
        let writer = Writer { stage: Stage::default(), incarnations };
        Self {
            queue: Queue::new(QueueLimits { capacity: queue_bytes, max_batch }),
            writer: Mutex::new(writer),
            streams: Mutex::default(),
            doorbell: Doorbell::new(Position(0)),
            frames: FrameCache::new(frame_bytes),
            clock,
            run_cap,
            holds: AtomicUsize::new(0),
        }
    }

    /// Keeps what is submitted from now on under way; it is committed when the last hold is gone.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.holds.fetch_add(1, Ordering::AcqRel);
        Hold(self.clone())
    }

    /// Commits what is queued, in order: applies, publishes, acknowledges, rings.
    fn drain(&self) {
        for (answer, outcome, changes) in self.commit_queued() {
            let commit = committed_at(&outcome);
            let _told = answer.give(outcome);
            let mut ringing = self.doorbell.ringing(commit);
            for change in &changes {
                change.ring(&mut ringing);
            }
        }
    }

    /// The outcomes, in order. They are told outside the locks, since that may run foreign code.
    fn commit_queued(&self) -> Vec<Applied> {
        let mut writer = held(&self.writer);
        if self.holds.load(Ordering::Acquire) > 0 {
            return Vec::new();
        }
        let mut taken = Vec::new();
        self.queue.take(usize::MAX, usize::MAX, &mut taken);
        let mut outcomes = Vec::with_capacity(taken.len());
        for Queued { batch, permit, answer } in taken {
            let (result, changes) = self.apply(&mut writer, &batch);
            drop(permit);
            outcomes.push((answer, result, changes));
        }
        outcomes
    }

    fn apply(&self, writer: &mut Writer, batch: &Batch) -> (Outcome, Vec<Change>) {
        let mut streams = held(&self.streams);
        let Writer { stage, incarnations } = writer;
        let at = self.clock.now();
        let verdict = match stage.batch(&*streams, batch, at, incarnations) {
            Ok(verdict) => verdict,
            Err(error) => {
                stage.clear();
                return (Err(error), Vec::new());
            }
        };
        if let Verdict::Apply(effects) = &verdict {
            streams.position.0 += 1;
            for (part, effect) in batch.parts.iter().zip(effects) {
                streams.apply(part, effect);
                if !matches!(part.op, Op::Append { .. }) {
                    self.frames.forget(effect.info.incarnation);
                }
            }
        }
        let changes = stage.drain().map(|(key, staged)| self.adopt(&mut streams, &key, staged));
        let changes = changes.collect();
        (Ok(verdict.committed(streams.position)), changes)
    }

    fn adopt(&self, streams: &mut Streams, key: &StreamKey, staged: Staged) -> Change {
        let change = staged.change(key);
        let position = streams.position;
        let Some(stream) = streams.by_key.get_mut(key) else { return change };
        let (info, producers) = (stream.state.info, mem::take(&mut stream.state.producers));
        if let Some(state) = staged.adopt(Some(StreamState { info, producers })) {
            stream.state = state;
            stream.changed = position;
            if stream.trim(self.run_cap.filter(|_| key.kind() == StreamKind::Run)) {
                self.frames.forget(stream.state.info.incarnation);
            }
        }
        change
    }

    fn with<T>(
        &self,
        stream: &StreamKey,
        look: impl FnOnce(&Stream) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let streams = held(&self.streams);
        let found = streams.by_key.get(stream);
        look(found.ok_or_else(|| ReadError::NotFound(stream.clone()))?)
    }

    fn keys(&self, wanted: impl Fn(&StreamKey, &Stream) -> bool) -> Vec<StreamKey> {
        let streams = held(&self.streams);
        let found = streams.by_key.iter().filter(|(key, stream)| wanted(key, stream));
        found.map(|(key, _)| key.clone()).collect()
    }
}

impl Journal for MemoryJournal {
    fn reserve(&self, stream: &StreamKey, bytes: usize) -> Reserve<'_> {
        self.queue.reserve(stream, bytes)
    }

    fn submit(&self, permit: Permit, batch: Batch) -> Ticket {
        let ticket = self.queue.push(permit, batch);
        self.drain();
        ticket
    }

    fn read(&self, stream: &StreamKey, from: Seq, limit: ReadLimit) -> Result<Page, ReadError> {
        self.with(stream, |stream| stream.page(from.max(Seq::FIRST), limit))
    }

    fn info(&self, stream: &StreamKey) -> Result<StreamInfo, ReadError> {
        self.with(stream, |stream| Ok(stream.state.info))
    }

    fn producers(&self, stream: &StreamKey) -> Result<Vec<(ProducerId, ProducerState)>, ReadError> {
        self.with(stream, |stream| Ok(stream.state.producers.clone().into_iter().collect()))
    }

    fn listen(&self, stream: &StreamKey, shard: &Shard) -> Result<Listener, ReadError> {
        self.doorbell.listen(stream, shard, || Ok(self.info(stream)?.tail))
    }

    fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    fn frames(&self) -> &FrameCache {
        &self.frames
    }

    fn open_runs(&self) -> Vec<StreamKey> {
        self.keys(|key, stream| key.kind() == StreamKind::Run && !stream.state.info.tail.closed)
    }

    fn changed_since(
        &self,
        since: Position,
        kind: StreamKind,
    ) -> Result<Vec<StreamKey>, ReadError> {
        Ok(self.keys(|key, stream| stream.changed > since && key.kind() == kind))
    }

    fn position(&self) -> Position {
        held(&self.streams).position
    }

    fn close(&self) {
        self.queue.close("it was closed");
        self.drain();
    }
}

impl Streams {
    /// Puts a part's records where they belong. The states follow in [`adopt`](Self::adopt).
    fn apply(&mut self, part: &Part, effect: &Effect) {
        let Effect { info, created, result } = *effect;
        if created {
            let state = StreamState { info, producers: BTreeMap::new() };
            self.by_key.insert(part.stream.clone(), Stream::new(state));
        }
        match &part.op {
            Op::Delete => drop(self.by_key.remove(&part.stream)),
            Op::Trim { .. } => {}
            Op::Append { records, .. } => {
                let Some(stream) = self.by_key.get_mut(&part.stream) else { return };
                for (seq, bytes) in (result.first_seq.0..).map(Seq).zip(records) {
                    stream.bytes += bytes.len();
                    stream.records.push_back(Record { seq, at: result.at, bytes: bytes.clone() });
                }
            }
        }
    }
}

impl Stream {
    fn new(state: StreamState) -> Self {
        Self { state, records: VecDeque::new(), bytes: 0, changed: Position::default() }
    }

    /// Drops the records before `available_from`, and moves that up to keep the cap. `true`: some
    /// were dropped.
    fn trim(&mut self, cap: Option<usize>) -> bool {
        let before = self.records.len();
        let info = &mut self.state.info;
        let over = |bytes, left| left > 1 && cap.is_some_and(|cap| bytes > cap);
        while let Some(record) = self.records.front() {
            if record.seq >= info.available_from && !over(self.bytes, self.records.len()) {
                break;
            }
            self.bytes -= record.bytes.len();
            info.available_from = info.available_from.max(record.seq.next());
            self.records.pop_front();
        }
        self.records.len() < before
    }

    fn page(&self, from: Seq, limit: ReadLimit) -> Result<Page, ReadError> {
        let info = self.state.info;
        let available_from = info.available_from;
        if from < available_from {
            return Err(ReadError::Trimmed { available_from });
        }
        let skip = usize::try_from(from.0 - available_from.0).unwrap_or(usize::MAX);
        let mut bytes = 0usize;
        let mut fits = |(index, record): &(usize, &Record)| {
            bytes = bytes.saturating_add(record.bytes.len());
            *index == 0 || (*index < limit.records && bytes <= limit.bytes)
        };
        let records = self.records.iter().skip(skip).enumerate();
        let records = records.take_while(|entry| fits(entry));
        Ok(Page { info, records: records.map(|(_, record)| record.clone()).collect() })
    }
}

/// The commit that an answer tells of; zero if it committed nothing.
fn committed_at(outcome: &Outcome) -> Position {
    match outcome {
        Ok(committed) if !committed.duplicate => committed.position,
        Ok(_) | Err(_) => Position(0),
    }
}
