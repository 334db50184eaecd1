//! Snapshots of runs: folds that are kept, and advanced by whoever asks.
//!
//! Nobody folds a run until somebody asks for its snapshot, so that appends pay nothing. The first
//! to ask reads the run once; the fold stays, and each later one reads only what came since. Folds
//! live within one byte budget, of which the least recently used go first. A fold is a function of
//! the journal: losing one changes nothing but time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use segue_core::{
    EventRecord, Fold, RunId, Seq, Snapshot,
    fold::{FoldError, SnapshotLimits},
};
use segue_journal::{Incarnation, Journal, ReadError, ReadLimit, Record, StreamInfo, StreamKey};

use crate::attach::RunStream;

/// What folds may take together, in bytes, beside those that are in use.
pub(crate) const BUDGET: usize = 32 << 20;

/// The folds of all runs.
pub(crate) struct Snapshots {
    budget: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    slots: HashMap<Incarnation, Slot>,
    /// Counts uses, to find the least recent one.
    clock: u64,
    bytes: usize,
}

struct Slot {
    folding: Arc<Mutex<Folding>>,
    cost: usize,
    used: u64,
}

/// A run on its way through the fold.
struct Folding {
    fold: Fold,
    /// The newest snapshot, for the next who asks at the same place.
    ready: Option<Snapshot>,
}

/// A fold in use. It is weighed when the use is over, on every path.
struct Use<'a> {
    snapshots: &'a Snapshots,
    incarnation: Incarnation,
    folding: Option<Arc<Mutex<Folding>>>,
}

impl RunStream {
    /// The run's message up to the tail, or up to its terminal: that always follows as an event.
    ///
    /// Fails like a read. Gives way to other tasks after each page that it has to read.
    pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let info = self.journal.info(&self.stream)?;
        let folding = self.snapshots.enter(&self.run, &info);
        metrics::counter!("segue_snapshots_total").increment(1);
        loop {
            let step = folding.lock().advance(&*self.journal, &self.stream, info.tail.next);
            match step? {
                Some(snapshot) => return Ok(snapshot),
                None => tokio::task::yield_now().await,
            }
        }
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        Self::new(BUDGET)
    }
}

impl Snapshots {
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, kept: Mutex::default() }
    }

    /// The fold of a run, as far as it is. One that began before what is still there is not used:
    /// a snapshot shows what the journal has.
    fn enter(&self, run: &RunId, info: &StreamInfo) -> Use<'_> {
        let mut kept = self.lock();
        kept.clock += 1;
        let used = kept.clock;
        let fresh = || Slot { folding: Folding::begin(run, info.available_from), cost: 0, used };
        let slot = kept.slots.entry(info.incarnation).or_insert_with(fresh);
        slot.used = used;
        let folding = slot.folding.clone();
        drop(kept);
        lock(&folding).begin_at(info.available_from);
        Use { snapshots: self, incarnation: info.incarnation, folding: Some(folding) }
    }

    /// Notes what a fold takes by now, and makes room. Folds in use stay.
    fn weigh(&self, incarnation: Incarnation, cost: usize) {
        let mut kept = self.lock();
        if let Some(slot) = kept.slots.get_mut(&incarnation) {
            let before = std::mem::replace(&mut slot.cost, cost);
            kept.bytes = kept.bytes - before + cost;
        }
        let evicted = kept.shrink(self.budget);
        drop(kept);
        metrics::counter!("segue_snapshot_folds_evicted_total").increment(evicted);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

/// A panic under one of these locks leaves at worst a count wrong or a fold behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// Evicts until at most `budget` bytes are kept. Gives how many folds went.
    fn shrink(&mut self, budget: usize) -> u64 {
        let mut evicted = 0;
        while self.bytes > budget {
            let idle = self.slots.iter().filter(|(_, slot)| Arc::strong_count(&slot.folding) == 1);
            let oldest =
                idle.min_by_key(|(_, slot)| slot.used).map(|(incarnation, _)| *incarnation);
            let Some(slot) = oldest.and_then(|oldest| self.slots.remove(&oldest)) else { break };
            self.bytes -= slot.cost;
            evicted += 1;
        }
        evicted
    }
}

impl Use<'_> {
    fn lock(&self) -> MutexGuard<'_, Folding> {
        lock(self.folding.as_ref().expect("taken by the drop only"))
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let cost = self.lock().cost();
        // Before it is weighed, so that it may go if it is too large to stay.
        drop(self.folding.take());
        self.snapshots.weigh(self.incarnation, cost);
    }
}

impl Folding {
    fn begin(run: &RunId, first: Seq) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { fold: Fold::new(run, first), ready: None }))
    }

    /// Begins anew unless the fold begins at `first`.
    fn begin_at(&mut self, first: Seq) {
        if self.fold.from_seq() != first
            && let Some(run) = &self.fold.message().run_id
        {
            metrics::counter!("segue_snapshot_restarts_total").increment(1);
            *self = Self { fold: Fold::new(run, first), ready: None };
        }
    }

    fn cost(&self) -> usize {
        self.fold.cost() + self.ready.as_ref().map_or(0, |ready| ready.json.len())
    }

    /// Folds the next page in; gives the snapshot once everything before `target` is in it.
    fn advance(
        &mut self,
        journal: &dyn Journal,
        stream: &StreamKey,
        target: Seq,
    ) -> Result<Option<Snapshot>, ReadError> {
        let next = self.fold.seq().next();
        let page = match journal.read(stream, next, ReadLimit::default()) {
            // What was to be folded next is gone.
            Err(ReadError::Trimmed { available_from }) => {
                self.begin_at(available_from);
                return Ok(None);
            }
            other => other?,
        };
        for record in &page.records {
            if !self.take(record) {
                return Ok(Some(self.show()));
            }
        }
        Ok((self.fold.seq().next() >= target).then(|| self.show()))
    }

    /// Folds a record in, unless it is the terminal.
    fn take(&mut self, record: &Record) -> bool {
        let folded = match EventRecord::decode(record.bytes.clone()) {
            Ok(event) if event.kind().is_terminal() => return false,
            Ok(event) => self.fold.apply(record.seq, record.at, &event),
            Err(error) => {
                let why = error.to_string();
                let skipped = self.fold.skip(record.seq, record.at);
                skipped.and(Err(FoldError::Payload { seq: record.seq, why }))
            }
        };
        if let Err(error) = folded {
            metrics::counter!("segue_snapshot_skipped_events_total").increment(1);
            tracing::debug!(%error, "a snapshot goes on without an event");
        }
        true
    }

    fn show(&mut self) -> Snapshot {
        match &self.ready {
            Some(ready) if ready.seq == self.fold.seq() => ready.clone(),
            _ => {
                let snapshot = self.fold.snapshot(&SnapshotLimits::default());
                self.ready.insert(snapshot).clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use segue_core::Timestamp;
    use segue_journal::{Epoch, Tail};

    use super::*;

    fn info(incarnation: u64, available_from: u64) -> StreamInfo {
        StreamInfo {
            incarnation: Incarnation(incarnation),
            epoch: Epoch(1),
            available_from: Seq(available_from),
            tail: Tail { next: Seq(100), closed: false },
        }
    }

    fn enter(snapshots: &Snapshots, incarnation: u64) -> Use<'_> {
        snapshots.enter(&RunId::parse("r").expect("valid"), &info(incarnation, 1))
    }

    fn kept(snapshots: &Snapshots) -> Vec<u64> {
        let mut kept: Vec<u64> = snapshots.lock().slots.keys().map(|key| key.0).collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn the_least_recently_used_fold_goes_and_none_that_is_in_use() {
        let cost = {
            let snapshots = Snapshots::new(usize::MAX);
            drop(enter(&snapshots, 1));
            snapshots.lock().bytes
        };
        let snapshots = Snapshots::new(2 * cost);
        drop(enter(&snapshots, 1));
        let used = enter(&snapshots, 2);
        drop(enter(&snapshots, 1));
        drop(enter(&snapshots, 3));
        drop(enter(&snapshots, 4));
        assert_eq!(kept(&snapshots), [2, 3, 4], "what is in use is not weighed yet");
        drop(used);
        assert_eq!(kept(&snapshots), [3, 4]);
        assert!(snapshots.lock().bytes <= 2 * cost);
        let nothing = Snapshots::new(0);
        drop(enter(&nothing, 1));
        assert_eq!((kept(&nothing), nothing.lock().bytes), (vec![], 0));
    }

    #[test]
    fn a_fold_whose_beginning_was_trimmed_begins_anew() {
        let snapshots = Snapshots::default();
        let first = enter(&snapshots, 1);
        first.lock().fold.skip(Seq(1), Timestamp::default()).expect("the next one");
        drop(first);
        assert_eq!(enter(&snapshots, 1).lock().fold.seq(), Seq(1));
        let run = RunId::parse("r").expect("valid");
        let later = snapshots.enter(&run, &info(1, 5));
        let from = later.lock().fold.from_seq();
        let seq = later.lock().fold.seq();
        assert_eq!((from, seq), (Seq(5), Seq(4)));
    }
}
