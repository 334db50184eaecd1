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
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::attach::RunStream;

/// What folds may take together, in bytes, beside those that are in use.
pub(crate) const BUDGET: usize = 32 << 20;

/// How many folds are advanced at once. Each takes a thread for as long, and up to
/// `segue_core::fold::MAX_HELD` bytes beside the budget.
const AT_ONCE: usize = 4;

/// The folds of all runs.
pub(crate) struct Snapshots {
    budget: usize,
    kept: Mutex<Kept>,
    turns: Arc<Semaphore>,
}

#[derive(Default)]
struct Kept {
    slots: HashMap<Incarnation, Slot>,
    /// Counts uses, to find the least recent one.
    clock: u64,
    bytes: usize,
}

struct Slot {
    folding: Arc<tokio::sync::Mutex<Folding>>,
    cost: usize,
    used: u64,
}

/// A run on its way through the fold.
struct Folding {
    fold: Fold,
    /// The newest snapshot, for the next who asks at the same place.
    ready: Option<Snapshot>,
    /// An event is being folded in; it is still so afterwards if that broke down.
    torn: bool,
    /// It is the kept fold of a trimmed run, whose events are not there any more.
    is_final: bool,
}

/// A fold in use. It is weighed when the use is over, on every path.
struct Use {
    snapshots: Arc<Snapshots>,
    incarnation: Incarnation,
    folding: Option<OwnedMutexGuard<Folding>>,
}

impl RunStream {
    /// The run's message up to the tail, or up to its terminal: that always follows as an event.
    ///
    /// Fails like a read. Whatever the run has, no task waits for a thread that folds: that is one
    /// for blocking work, page by page, so that who no longer asks ends it after the page.
    pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let info = self.journal.info(&self.stream)?;
        metrics::counter!("segue_snapshots_total").increment(1);
        let snapshots = &self.engine.inner.snapshots;
        let mut folding = snapshots.clone().enter(&self.run, &info).await;
        if let Some(ready) = folding.ready_at(info.tail.next) {
            return Ok(ready);
        }
        if info.tail.closed
            && info.available_from > Seq::FIRST
            && let Some(fold) = self.final_fold().await?
        {
            folding.get().go_on_from(fold);
        }
        // Goes along, so that a page whose asker has left still counts.
        let mut turn = snapshots.turn().await;
        loop {
            let (journal, stream) = (self.journal.clone(), self.stream.clone());
            let page = tokio::task::spawn_blocking(move || {
                let step = folding.get().advance(&*journal, &stream, info.tail.next);
                (folding, turn, step)
            });
            let step;
            (folding, turn, step) = match page.await {
                Ok(done) => done,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(error) => return Err(ReadError::Io(error.to_string())),
            };
            match step {
                Ok(Some(snapshot)) => return Ok(snapshot),
                Ok(None) => {}
                // What was to be folded next has just gone.
                Err(ReadError::Trimmed { available_from }) => match self.final_fold().await? {
                    Some(fold) => folding.get().go_on_from(fold),
                    None => folding.get().begin_anew(available_from),
                },
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads a run and folds all of it but the terminal. For threads that may block.
pub(crate) fn fold_whole(
    journal: &dyn Journal,
    run: &RunId,
    stream: &StreamKey,
) -> Result<Fold, ReadError> {
    let target = journal.info(stream)?.tail.next;
    let mut folding = Folding::new(run, Seq::FIRST);
    loop {
        match folding.step(journal, stream, target) {
            Ok(true) => return Ok(folding.fold),
            Ok(false) => {}
            Err(ReadError::Trimmed { available_from }) => folding.begin_anew(available_from),
            Err(error) => return Err(error),
        }
    }
}

/// Folds the next record in. One that cannot be used is passed over.
pub(crate) fn fold_in(fold: &mut Fold, record: &Record) {
    let folded = match EventRecord::decode(record.bytes.clone()) {
        Ok(event) => fold.apply(record.seq, record.at, &event),
        Err(error) => {
            let why = error.to_string();
            let skipped = fold.skip(record.seq, record.at);
            skipped.and(Err(FoldError::Payload { seq: record.seq, why }))
        }
    };
    if let Err(error) = folded {
        metrics::counter!("segue_fold_skipped_events_total").increment(1);
        tracing::debug!(%error, "a message goes on without an event");
    }
}

/// A snapshot as clients get it.
pub(crate) fn snapshot_of(fold: &Fold) -> Snapshot {
    fold.snapshot(&SnapshotLimits::default())
}

impl Default for Snapshots {
    fn default() -> Self {
        Self::new(BUDGET)
    }
}

impl Snapshots {
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, kept: Mutex::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The fold of a run, as far as it is. One that began before what is still there is not used:
    /// a snapshot shows what the journal has.
    async fn enter(self: Arc<Self>, run: &RunId, info: &StreamInfo) -> Use {
        let folding = self.slot(run, info).lock_owned().await;
        let incarnation = info.incarnation;
        let mut entered = Use { snapshots: self, incarnation, folding: Some(folding) };
        entered.get().begin_at(info.available_from);
        entered
    }

    fn slot(&self, run: &RunId, info: &StreamInfo) -> Arc<tokio::sync::Mutex<Folding>> {
        let mut kept = self.lock();
        kept.clock += 1;
        let used = kept.clock;
        let fresh = || Slot { folding: Folding::begin(run, info.available_from), cost: 0, used };
        let slot = kept.slots.entry(info.incarnation).or_insert_with(fresh);
        slot.used = used;
        slot.folding.clone()
    }

    /// The run is erased: its fold goes, once nobody uses it.
    pub(crate) fn forget(&self, incarnation: Incarnation) {
        let mut kept = self.lock();
        if let Some(slot) = kept.slots.remove(&incarnation) {
            kept.bytes -= slot.cost;
        }
    }

    /// Who has a fold waits here until it may advance it, so that waiting keeps nobody else.
    async fn turn(&self) -> OwnedSemaphorePermit {
        self.turns.clone().acquire_owned().await.expect("it is never closed")
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

    /// A panic under this lock leaves at worst a count wrong.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

impl Use {
    fn get(&mut self) -> &mut Folding {
        self.folding.as_mut().expect("taken by the drop only")
    }

    /// The newest snapshot if it is of all before `target`.
    fn ready_at(&mut self, target: Seq) -> Option<Snapshot> {
        self.get().ready.clone().filter(|ready| ready.seq.next() == target)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        // Let go before it is weighed, so that it may go if it is too large to stay.
        let cost = self.folding.take().map_or(0, |folding| folding.cost());
        self.snapshots.weigh(self.incarnation, cost);
    }
}

impl Folding {
    fn begin(run: &RunId, first: Seq) -> Arc<tokio::sync::Mutex<Self>> {
        Arc::new(tokio::sync::Mutex::new(Self::new(run, first)))
    }

    fn new(run: &RunId, first: Seq) -> Self {
        Self { fold: Fold::new(run, first), ready: None, torn: false, is_final: false }
    }

    /// Goes on from a fold that was kept.
    fn go_on_from(&mut self, fold: Fold) {
        *self = Self { fold, ready: None, torn: false, is_final: true };
    }

    /// Begins anew unless the fold is whole and begins at `first`.
    fn begin_at(&mut self, first: Seq) {
        if self.torn || (self.fold.from_seq() != first && !self.is_final) {
            self.begin_anew(first);
        }
    }

    fn begin_anew(&mut self, first: Seq) {
        if let Some(run) = &self.fold.message().run_id {
            metrics::counter!("segue_snapshot_restarts_total").increment(1);
            *self = Self::new(run, first);
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
        Ok(self.step(journal, stream, target)?.then(|| self.show()))
    }

    /// Folds the next page in. True once everything before `target` or the terminal is in it.
    fn step(
        &mut self,
        journal: &dyn Journal,
        stream: &StreamKey,
        target: Seq,
    ) -> Result<bool, ReadError> {
        let next = self.fold.seq().next();
        let page = journal.read(stream, next, ReadLimit::default())?;
        for record in &page.records {
            if !self.take(record) {
                return Ok(true);
            }
        }
        Ok(self.fold.seq().next() >= target)
    }

    /// Folds a record in, unless it is the terminal.
    fn take(&mut self, record: &Record) -> bool {
        let event = EventRecord::decode(record.bytes.clone());
        if event.is_ok_and(|event| event.kind().is_terminal()) {
            return false;
        }
        self.torn = true;
        fold_in(&mut self.fold, record);
        self.torn = false;
        true
    }

    fn show(&mut self) -> Snapshot {
        match &self.ready {
            Some(ready) if ready.seq == self.fold.seq() => ready.clone(),
            _ => {
                let snapshot = snapshot_of(&self.fold);
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

    async fn enter_at(snapshots: &Arc<Snapshots>, incarnation: u64, from: u64) -> Use {
        let run = RunId::parse("r").expect("valid");
        snapshots.clone().enter(&run, &info(incarnation, from)).await
    }

    async fn enter(snapshots: &Arc<Snapshots>, incarnation: u64) -> Use {
        enter_at(snapshots, incarnation, 1).await
    }

    fn kept(snapshots: &Snapshots) -> Vec<u64> {
        let mut kept: Vec<u64> = snapshots.lock().slots.keys().map(|key| key.0).collect();
        kept.sort_unstable();
        kept
    }

    #[tokio::test]
    async fn the_least_recently_used_fold_goes_and_none_that_is_in_use() {
        let cost = {
            let snapshots = Arc::new(Snapshots::new(usize::MAX));
            drop(enter(&snapshots, 1).await);
            snapshots.lock().bytes
        };
        let snapshots = Arc::new(Snapshots::new(2 * cost));
        drop(enter(&snapshots, 1).await);
        let used = enter(&snapshots, 2).await;
        drop(enter(&snapshots, 1).await);
        drop(enter(&snapshots, 3).await);
        drop(enter(&snapshots, 4).await);
        assert_eq!(kept(&snapshots), [2, 3, 4], "what is in use is not weighed yet");
        drop(used);
        assert_eq!(kept(&snapshots), [3, 4]);
        assert!(snapshots.lock().bytes <= 2 * cost);
        let nothing = Arc::new(Snapshots::new(0));
        drop(enter(&nothing, 1).await);
        assert_eq!((kept(&nothing), nothing.lock().bytes), (vec![], 0));
    }

    #[tokio::test]
    async fn a_fold_whose_beginning_was_trimmed_begins_anew() {
        let snapshots = Arc::new(Snapshots::default());
        let mut first = enter(&snapshots, 1).await;
        first.get().fold.skip(Seq(1), Timestamp::default()).expect("the next one");
        drop(first);
        let mut again = enter(&snapshots, 1).await;
        assert_eq!(again.get().fold.seq(), Seq(1));
        drop(again);
        let mut later = enter_at(&snapshots, 1, 5).await;
        let fold = &later.get().fold;
        assert_eq!((fold.from_seq(), fold.seq()), (Seq(5), Seq(4)));
    }

    #[tokio::test]
    async fn a_fold_that_broke_down_is_not_gone_on_with() {
        let snapshots = Arc::new(Snapshots::default());
        let mut first = enter(&snapshots, 1).await;
        first.get().fold.skip(Seq(1), Timestamp::default()).expect("the next one");
        first.get().torn = true;
        drop(first);
        assert_eq!(enter(&snapshots, 1).await.get().fold.seq(), Seq::ZERO);
    }

    #[tokio::test]
    async fn who_waits_for_a_fold_holds_up_neither_the_thread_nor_other_runs() {
        let snapshots = Arc::new(Snapshots::default());
        let held = enter(&snapshots, 1).await;
        let mut waiting: Vec<_> =
            (0..2 * AT_ONCE).map(|_| Box::pin(enter(&snapshots, 1))).collect();
        for waits in &mut waiting {
            assert!(futures_util::poll!(waits).is_pending());
        }
        // On this very thread, the only one.
        drop(enter(&snapshots, 2).await);
        assert_eq!(snapshots.turns.available_permits(), AT_ONCE);
        drop(held);
        for waits in waiting {
            drop(waits.await);
        }
    }

    #[tokio::test]
    async fn only_so_many_folds_are_advanced_at_once() {
        let snapshots = Snapshots::default();
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(snapshots.turn().await);
        }
        let mut next = Box::pin(snapshots.turn());
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(turns.pop());
        assert!(futures_util::poll!(&mut next).is_ready());
    }
}
