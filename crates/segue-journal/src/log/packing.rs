//! What the packer shares with the writer: erasures that need not wait for packing, and the
//! writer's waiting for room in a full hot tier.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{chores::Chores, pause::Pause, store::Store};
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
    pub(crate) pause: Pause,
    /// A thread packs, so that waiting for it has an end.
    pub(crate) threaded: AtomicBool,
    erasures: Mutex<Vec<Erasure>>,
    /// Held by who waits, for nothing else.
    waiting: Mutex<()>,
    packed: Condvar,
}

impl Packing {
    /// Asks for an erasure whose commit is published.
    pub(crate) fn erase(&self, erasure: Erasure) {
        let mut erasures = held(&self.erasures);
        if erasures.len() < ERASURES {
            erasures.push(erasure);
        } else {
            metrics::counter!("segue_journal_erasures_deferred_total").increment(1);
        }
        drop(erasures);
        self.chores.wake();
    }

    /// What was asked for.
    pub(crate) fn take_erasures(&self) -> Vec<Erasure> {
        std::mem::take(&mut *held(&self.erasures))
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
