//! The one writer: takes the queue in order and makes commits of it.

use std::{io, ops::Range, sync::Arc};

use metrics::Counter;
use segue_core::Timestamp;

use super::{
    Durability, Step,
    commit::{
        COMMIT_HEAD, CommitBuffer, Extent, FRAME_HEAD, Flags, PartFacts, RecordSeed, part_bound,
    },
    known::{Known, Loaded},
    layout::{HEAD_BYTES, Seed, u32_len},
    segment::Segment,
    store::Store,
};
use crate::{
    api::{AppendError, Batch, Op, Part, Position},
    cold::Erasure,
    disk::{is_full, untrusted},
    queue::{Answer, Queued, Told},
    state::{Change, Effect, Incarnations, Stage, Verdict},
};

/// Bytes of batches that a commit takes; a larger batch goes alone.
const COMMIT_BYTES: usize = 4 << 20;
/// The most that one batch takes of the reserve: a terminal's size, with much to spare.
const TERMINAL_BYTES: u64 = 256 << 10;
/// Batches that a commit takes.
const COMMIT_BATCHES: usize = 16 << 10;
/// How far ahead of its end a small commit makes the file's blocks written ones, in bytes.
const AHEAD: u64 = 256 << 10;

/// The state machine that makes commits. Each [`step`](Writer::step) is one commit: one write,
/// one sync (level `disk`), then everything that follows from it.
pub struct Writer {
    store: Arc<Store>,
    segment: Arc<Segment>,
    /// Where the next commit goes.
    end: u64,
    /// The preallocated length of the segment.
    len: u64,
    /// Up to here its blocks have been written, if only with zeros.
    ahead: u64,
    /// The segment has a commit.
    begun: bool,
    /// The number of the next commit.
    number: u64,
    incarnations: Incarnations,
    taken: Vec<Queued>,
    outcomes: Vec<Result<Verdict, AppendError>>,
    answers: Vec<Answer>,
    told: Vec<Told>,
    stage: Stage,
    buffer: CommitBuffer,
    draft: Draft,
    changes: Vec<Change>,
    loaded: Loaded,
    done: bool,
    commits: Counter,
    bytes: Counter,
}

/// Where a writer begins.
pub(crate) struct Start {
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: u64,
    pub(crate) len: u64,
    pub(crate) begun: bool,
    pub(crate) number: u64,
    pub(crate) incarnations: Incarnations,
}

/// Room in the segment, in bytes of the file.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// For any batch.
    any: u64,
    /// For batches that close a stream and are as small as terminals are.
    closing: u64,
}

impl Writer {
    pub(crate) fn new(store: Arc<Store>, start: Start) -> Self {
        let Start { segment, end, len, begun, number, incarnations } = start;
        Self {
            store,
            segment,
            end,
            len,
            ahead: end,
            begun,
            number,
            incarnations,
            taken: Vec::new(),
            outcomes: Vec::new(),
            answers: Vec::new(),
            told: Vec::new(),
            stage: Stage::default(),
            buffer: CommitBuffer::default(),
            draft: Draft::default(),
            changes: Vec::new(),
            loaded: Loaded::default(),
            done: false,
            commits: metrics::counter!("segue_journal_commits_total"),
            bytes: metrics::counter!("segue_journal_bytes_total"),
        }
    }

    /// Runs on the writer's thread until the log is closed or fails. A panic fails it.
    pub(crate) fn run(&mut self) {
        let store = Arc::clone(&self.store);
        store.guard("the writer panicked", || {
            loop {
                self.store.queue.wait();
                if self.step() == Step::Closed {
                    return;
                }
            }
        });
        self.abandon();
    }

    /// Makes one commit of what is queued, as far as it fits into one.
    pub fn step(&mut self) -> Step {
        if self.store.failed().is_some() {
            return self.abandon();
        }
        if !self.store.queue.take(COMMIT_BYTES, COMMIT_BATCHES, &mut self.taken) {
            return if self.store.closing() { self.finish() } else { Step::Idle };
        }
        match self.commit() {
            Ok(()) => Step::Worked,
            Err(error) => {
                self.store.fail(&format!("a commit could not be written: {error}"));
                self.abandon()
            }
        }
    }

    fn commit(&mut self) -> io::Result<()> {
        let at = self.store.clock.now();
        let bytes = self.taken.iter().map(|queued| bound(&queued.batch)).sum::<u64>();
        let room = self.room(COMMIT_BOUND + bytes)?;
        self.stage(at, room);
        match self.write(at) {
            Ok(Some(end)) => self.publish(end),
            Ok(None) => {}
            Err(error) if is_full(&error) => self.drop_commit(),
            Err(error) => return Err(error),
        }
        self.answer();
        Ok(())
    }

    /// Room for a commit of at most `bytes`, in the next segment if this one has not enough.
    ///
    /// As long as a next segment is there or can be made, all may be used. When none can, this
    /// segment's last bytes are kept for batches that close a stream.
    fn room(&mut self, bytes: u64) -> io::Result<Room> {
        if self.begun && self.end + bytes > self.len {
            self.rotate()?;
        }
        let reserve = self.store.reserve_bytes;
        let left = self.len.saturating_sub(self.end);
        if left < bytes + reserve && !self.store.make_spare()? {
            return Ok(Room { any: left.saturating_sub(reserve), closing: left });
        }
        if left < bytes && !self.begun {
            self.grow(bytes)?;
        }
        let left = self.len - self.end;
        Ok(Room { any: left, closing: left })
    }

    /// Goes on in the next segment, if the disk has room for it.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(next) = self.store.take_spare()? else { return Ok(()) };
        self.store.wait_for_packer();
        if let Some(why) = self.store.failed() {
            // Perhaps while it waited: what was taken is not to be acknowledged.
            return Err(io::Error::other(why));
        }
        if self.store.durability == Durability::Os {
            // So that what a power loss takes is at the end, in the segment being written.
            self.segment.file.sync()?;
        }
        self.end = HEAD_BYTES as u64;
        self.len = next.file.size()?;
        self.ahead = self.end;
        self.begun = false;
        self.segment = Arc::clone(&next);
        self.store.table_mut().begin(next, self.number, self.end);
        self.store.keeping.wake();
        Ok(())
    }

    /// Makes an empty segment larger, for a commit that is larger than a segment.
    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        match self.segment.file.allocate(self.end + bytes) {
            Ok(()) => self.len = self.end + bytes,
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Checks every batch, in order, and puts those that stand into the buffer.
    fn stage(&mut self, at: Timestamp, room: Room) {
        let store = Arc::clone(&self.store);
        let table = self.loaded.load(&store, &self.taken);
        let known = Known { table: &table, loaded: &self.loaded };
        let place = Place { seed: self.segment.seed, at, base: u32_offset(self.end) };
        // Half of the reserve at most, so that one never takes all of a small one.
        let terminal = TERMINAL_BYTES.min(store.reserve_bytes / 2);
        let mut used = COMMIT_BOUND;
        self.buffer.begin();
        for Queued { batch, .. } in &self.taken {
            let bytes = bound(batch);
            let outcome = admit(batch, used..used + bytes, room, terminal)
                .and_then(|()| self.loaded.check(batch))
                .and_then(|()| self.stage.batch(&known, batch, at, &mut self.incarnations));
            if let Ok(Verdict::Apply(effects)) = &outcome {
                used += bytes;
                for (part, effect) in batch.parts.iter().zip(effects) {
                    self.draft.part(&mut self.buffer, place, part, effect);
                }
            }
            self.outcomes.push(outcome);
        }
    }

    /// One write and one sync. Gives where the commit ends; `None` if there was nothing to write.
    fn write(&mut self, at: Timestamp) -> io::Result<Option<u64>> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let bytes = self.buffer.finish(self.segment.seed, self.number, at);
        let end = self.end + bytes;
        let ahead = self.zeros_from(end, bytes);
        self.segment.file.write_at(self.buffer.with_zeros(ahead - end), self.end)?;
        if self.store.durability == Durability::Disk {
            self.segment.file.sync().map_err(untrusted)?;
        }
        self.ahead = ahead.max(self.ahead);
        self.commits.increment(1);
        self.bytes.increment(bytes);
        Ok(Some(end))
    }

    /// Up to where zeros are written behind a commit of `bytes` that ends at `end`.
    ///
    /// A sync of blocks that were only preallocated has to note in the file system that they are
    /// written now, which takes half as long again as the sync of the bytes. So a small commit that
    /// comes to such blocks has many of them written at once, and those that follow find them so. A
    /// large one comes to new blocks each time; its bytes would only be doubled.
    fn zeros_from(&self, end: u64, bytes: u64) -> u64 {
        let is_small = bytes <= AHEAD / 8;
        if self.store.durability == Durability::Disk && is_small && end > self.ahead {
            end.next_multiple_of(AHEAD).min(self.len).max(end)
        } else {
            end
        }
    }

    /// Makes the commit visible to reads and tails.
    fn publish(&mut self, end: u64) {
        let number = self.number;
        let mut table = self.store.table_mut();
        for (facts, extents) in self.draft.parts.drain(..) {
            let extents = &self.draft.extents[extents];
            table.place(&facts, extents, || self.loaded.take(&facts.stream));
            if facts.flags.has(Flags::DELETE) || facts.flags.has(Flags::TRIM) {
                self.store.frames.forget(facts.incarnation);
                self.store.packing.erase(erasure(facts));
            }
        }
        for (key, staged) in self.stage.drain() {
            self.changes.push(staged.change(&key));
            table.set(key, number, |before| staged.adopt(before));
        }
        table.committed(number, end);
        drop(table);
        self.store.set_position(Position(number));
        self.end = end;
        self.begun = true;
        self.number += 1;
    }

    /// The disk had no room for the whole commit: nobody gets a seq of it. The next one goes to the
    /// same place under the same number, over whatever part of this one was written.
    fn drop_commit(&mut self) {
        metrics::counter!("segue_journal_disk_full_total", "what" => "commit").increment(1);
        self.outcomes.fill_with(|| Err(AppendError::DiskFull));
    }

    /// All answers are given, then all bells rung, then those who wait are woken. A reader is woken
    /// first, because on a busy core what it sends is due sooner than the next append.
    fn answer(&mut self) {
        let position = Position(self.number - 1);
        // Before anyone is woken, so that who comes next does not meet the writer at the door.
        let mut permits = Vec::with_capacity(self.taken.len());
        for Queued { answer, permit, .. } in self.taken.drain(..) {
            self.answers.push(answer);
            permits.push(permit);
        }
        for (answer, outcome) in self.answers.drain(..).zip(self.outcomes.drain(..)) {
            if outcome.is_err() {
                metrics::counter!("segue_journal_refusals_total").increment(1);
            }
            self.told.push(answer.give(outcome.map(|verdict| verdict.committed(position))));
        }
        self.store.queue.release(permits);
        let mut ringing = self.store.doorbell.ringing(position);
        for change in self.changes.drain(..) {
            change.ring(&mut ringing);
        }
        drop(ringing);
        self.told.clear();
        self.stage.clear();
        self.draft.parts.clear();
        self.draft.extents.clear();
        self.loaded.clear();
    }

    /// The log failed: fails every ticket, wakes every reader, and tells the process, once.
    fn abandon(&mut self) -> Step {
        let Some(why) = self.store.failed() else { return Step::Closed };
        if self.done {
            return Step::Closed;
        }
        self.done = true;
        // Whoever failed may not have come to it: what is pushed later would stay unanswered.
        self.store.queue.close(why);
        self.store.queue.take(usize::MAX, usize::MAX, &mut self.taken);
        let poisoned = || Err(AppendError::Poisoned(why.to_owned()));
        for Queued { answer, permit, .. } in self.taken.drain(..) {
            drop(answer.give(poisoned()));
            drop(permit);
        }
        // Only after a panic in the middle of answering.
        self.answers.drain(..).for_each(|answer| drop(answer.give(poisoned())));
        self.told.clear();
        self.store.doorbell.ringing(Position(0)).ring_all();
        (self.store.fatal)(why);
        Step::Closed
    }

    /// The queue is closed and empty: makes durable what the level left to the system.
    fn finish(&mut self) -> Step {
        if self.done {
            return Step::Closed;
        }
        let synced = match self.store.durability {
            Durability::Disk => Ok(()),
            Durability::Os => self.store.table().sync_unsealed(),
        };
        if let Err(error) = synced {
            self.store.fail(&format!("the last sync failed: {error}"));
            return self.abandon();
        }
        self.done = true;
        Step::Closed
    }
}

/// The head and the padding.
const COMMIT_BOUND: u64 = COMMIT_HEAD as u64 + 8;

/// The most bytes that a batch takes in a commit.
fn bound(batch: &Batch) -> u64 {
    let parts = batch.parts.iter().map(|part| match &part.op {
        Op::Append { records, producer, .. } => {
            part_bound(&part.stream, producer.as_ref()) + part.bytes() + FRAME_HEAD * records.len()
        }
        Op::Trim { .. } | Op::Delete => part_bound(&part.stream, None),
    });
    parts.sum::<usize>() as u64
}

/// The parts of a commit and where their records are.
#[derive(Default)]
struct Draft {
    /// Each with its extents' place in the list.
    parts: Vec<(PartFacts, Range<usize>)>,
    extents: Vec<Extent>,
}

/// What all parts of a commit have in common.
#[derive(Clone, Copy)]
struct Place {
    seed: Seed,
    at: Timestamp,
    /// Where the commit begins.
    base: u32,
}

impl Draft {
    fn part(&mut self, buffer: &mut CommitBuffer, place: Place, part: &Part, effect: &Effect) {
        let Place { seed, at, base } = place;
        let facts = facts(part, effect);
        let records = if let Op::Append { records, .. } = &part.op { &records[..] } else { &[] };
        let record_seed = RecordSeed::of(&facts.stream, facts.incarnation);
        let from = self.extents.len();
        buffer.part(seed, at, &facts, (record_seed, records), |extent| {
            self.extents.push(Extent { offset: base + extent.offset, ..extent });
        });
        self.parts.push((facts, from..self.extents.len()));
    }
}

fn u32_offset(offset: u64) -> u32 {
    u32::try_from(offset).expect("a segment is far smaller than 4 GiB")
}

/// Whether a batch that takes these bytes of the commit has room. What is left below the reserve's
/// mark is for those that close a stream and have at most `terminal` bytes.
fn admit(batch: &Batch, takes: Range<u64>, room: Room, terminal: u64) -> Result<(), AppendError> {
    let closes = |part: &Part| matches!(part.op, Op::Append { close: true, .. });
    let small = takes.end - takes.start <= terminal;
    let reserved = small && batch.parts.iter().any(closes);
    if takes.end > if reserved { room.closing } else { room.any } {
        metrics::counter!("segue_journal_disk_full_total", "what" => "batch").increment(1);
        return Err(AppendError::DiskFull);
    }
    Ok(())
}

/// What nobody can read any more after a deletion or a trim.
fn erasure(facts: PartFacts) -> Erasure {
    let before = facts.flags.has(Flags::TRIM).then_some(facts.first_seq);
    Erasure { stream: facts.stream, incarnation: facts.incarnation, before }
}

fn facts(part: &Part, effect: &Effect) -> PartFacts {
    let (flags, first_seq) = match &part.op {
        Op::Append { close, producer, .. } => {
            let flags = Flags::default()
                .with(Flags::CREATE, effect.created)
                .with(Flags::CLOSE, *close)
                .with(Flags::PRODUCER, producer.is_some());
            (flags, effect.result.first_seq)
        }
        Op::Trim { .. } => (Flags::TRIM, effect.info.available_from),
        Op::Delete => (Flags::DELETE, effect.info.tail.next),
    };
    let (records, producer) = match &part.op {
        Op::Append { records, producer, .. } => (u32_len(records.len()), producer.clone()),
        Op::Trim { .. } | Op::Delete => (0, None),
    };
    PartFacts {
        stream: part.stream.clone(),
        incarnation: effect.info.incarnation,
        epoch: effect.info.epoch,
        flags,
        first_seq,
        records,
        producer,
    }
}
