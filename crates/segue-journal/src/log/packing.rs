//! What the packer shares with the writer: erasures that need not wait for packing, and the
//! writer's waiting for room in a full hot tier.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use segue_core::Clock;

use super::{backup::Asked, chores::Chores, pause::Pause, store::Store};
use crate::{cold::Erasure, sync::held};

/// Erasures that are remembered. Those beyond it are done when their segment is packed, as all
/// would be after a restart.
const ERASURES: usize = 16 << 10;

/// How often a waiting writer looks again by itself.
const LOOK: Duration = Duration::from_millis(100);

/// The packer's side of a store.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    pub(crate) chores: Chores,
    /// After packing failed.
    pub(crate) pause: Pause,
    /// After erasing or giving pages back failed.
    pub(crate) erasing: Pause,
    /// A thread packs, so that waiting for it has an end.
    pub(crate) threaded: AtomicBool,
    erasures: Mutex<Vec<Erasure>>,
    backups: Mutex<VecDeque<Asked>>,
    /// A backup is being made, and nothing is packed.
    pub(crate) copying: AtomicBool,
    /// Held by who waits, for nothing else.
    waiting: Mutex<()>,
    packed: Condvar,
}

impl Packing {
    /// Asks for an erasure whose commit is published.
    pub(crate) fn erase(&self, erasure: Erasure) {
        self.put_back(vec![erasure]);
        self.chores.wake();
    }

    /// Asks for a backup.
    pub(crate) fn ask_backup(&self, asked: Asked) {
        held(&self.backups).push_back(asked);
        self.chores.wake();
        if self.chores.stopped() {
            self.refuse_backups();
        }
    }

    /// The oldest backup that was asked for.
    pub(crate) fn take_backup(&self) -> Option<Asked> {
        held(&self.backups).pop_front()
    }

    /// Nobody will make a backup any more.
    pub(crate) fn refuse_backups(&self) {
        held(&self.backups).clear();
    }

    /// What was asked for.
    pub(crate) fn take_erasures(&self) -> Vec<Erasure> {
        std::mem::take(&mut *held(&self.erasures))
    }

    /// Asks for them later. Their order is of no matter.
    pub(crate) fn put_back(&self, asked: Vec<Erasure>) {
        let mut erasures = held(&self.erasures);
        let room = ERASURES.saturating_sub(erasures.len());
        let deferred = asked.len().saturating_sub(room) as u64;
        erasures.extend(asked.into_iter().take(room));
        if deferred > 0 {
            metrics::counter!("segue_journal_erasures_deferred_total").increment(deferred);
        }
    }

    /// How long none of what failed is tried again; `None`: nothing failed. When the shorter of two
    /// pauses ends, the other goes on.
    pub(crate) fn pause_left(&self, clock: &dyn Clock) -> Option<Duration> {
        let pauses = [&self.pause, &self.erasing];
        pauses.into_iter().filter_map(|pause| pause.left(clock)).min()
    }

    /// Tells a writer that waits to look again.
    pub(crate) fn tell_writer(&self) {
        drop(held(&self.waiting));
        self.packed.notify_all();
    }
}

impl Store {
    /// Bytes of segments beyond which the oldest sealed one is packed: one segment's worth below
    /// the bound, so that the writer has room while that is done.
    pub(crate) fn packs_beyond(&self) -> u64 {
        self.hot_bytes.saturating_sub(self.segment_bytes)
    }

    /// Holds the writer while the hot tier is full and the packer at work. Not when it cannot: a
    /// full disk or damage makes the hot tier grow, never fails an append that has room.
    pub(crate) fn wait_for_packer(&self) {
        if !self.is_hot_full() {
            return;
        }
        metrics::counter!("segue_journal_hot_full_total").increment(1);
        // It may have gone to sleep below its mark, and one large batch led beyond.
        self.packing.chores.wake();
        let mut waiting = held(&self.packing.waiting);
        while self.is_hot_full() {
            let waited = self.packing.packed.wait_timeout(waiting, LOOK);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_hot_full(&self) -> bool {
        let packing = &self.packing;
        if !packing.threaded.load(Ordering::Relaxed)
            || packing.copying.load(Ordering::Acquire)
            || self.closing()
            || self.failed().is_some()
            || packing.pause.left(&*self.clock).is_some()
        {
            return false;
        }
        let table = self.table();
        !table.sealed.is_empty() && table.hot_bytes() > self.hot_bytes
    }
}
