//! Dirty marks, and the shards that clear them.

use std::{
    future::poll_fn,
    mem,
    task::{Context, Poll, Waker},
};

use slab::Slab;

use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};

/// The readers of one thread. A clone is the same shard.
///
/// One driver waits for it; of several, only the last to ask is woken.
#[derive(Clone)]
pub struct Shard(Arc<Mutex<Dirty>>);

#[derive(Default)]
struct Dirty {
    marks: Vec<Arc<Mark>>,
    /// Kept only while there is no dirty mark, and taken by who adds the first one.
    driver: Option<Waker>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Dirty::default())))
    }

    /// Wakes the listeners of every stream that was rung since the last call.
    pub fn pump(&self) {
        let dirty = mem::take(&mut lock(&self.0).marks);
        let mut wakers = Vec::new();
        for mark in dirty {
            mark.pump(&mut wakers);
        }
        // Outside all locks: a wake may run foreign code, also the drop of a listener.
        for waker in wakers {
            waker.wake();
        }
    }

    /// Ready when there is something to pump.
    pub fn poll_ring(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut dirty = lock(&self.0);
        if !dirty.marks.is_empty() {
            return Poll::Ready(());
        }
        dirty.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until there is something to pump.
    pub async fn rung(&self) {
        poll_fn(|cx| self.poll_ring(cx)).await;
    }

    fn add(&self, mark: Arc<Mark>) -> Option<Waker> {
        let mut dirty = lock(&self.0);
        dirty.marks.push(mark);
        dirty.driver.take()
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").finish_non_exhaustive()
    }
}

/// One stream's dirty mark on one shard, and the listeners that it stands for.
pub(super) struct Mark {
    shard: Shard,
    dirty: AtomicBool,
    ears: Mutex<Slab<Ear>>,
}

/// A listener's own mark.
#[derive(Default)]
struct Ear {
    rung: bool,
    waker: Option<Waker>,
}

impl Mark {
    pub(super) fn new(shard: &Shard) -> Self {
        let (shard, dirty) = (shard.clone(), AtomicBool::new(false));
        Self { shard, dirty, ears: Mutex::new(Slab::new()) }
    }

    pub(super) fn is_of(&self, shard: &Shard) -> bool {
        Arc::ptr_eq(&self.shard.0, &shard.0)
    }

    /// Marks dirty. Gives the shard's driver if it has to be woken.
    pub(super) fn set(mark: &Arc<Mark>) -> Option<Waker> {
        if mark.dirty.swap(true, Ordering::AcqRel) {
            return None;
        }
        mark.shard.add(Arc::clone(mark))
    }

    /// Takes a mark that nobody rings or listens to out of its shard.
    pub(super) fn forget(mark: &Arc<Mark>) {
        let mut dirty = lock(&mark.shard.0);
        dirty.marks.retain(|other| !Arc::ptr_eq(other, mark));
    }

    /// Clears the mark, then marks the listeners: a ring in between sets the mark anew.
    fn pump(&self, wakers: &mut Vec<Waker>) {
        self.dirty.swap(false, Ordering::AcqRel);
        for (_, ear) in lock(&self.ears).iter_mut() {
            ear.rung = true;
            wakers.extend(ear.waker.take());
        }
    }

    pub(super) fn insert_ear(&self) -> usize {
        lock(&self.ears).insert(Ear::default())
    }

    /// `true` if none is left.
    pub(super) fn remove_ear(&self, ear: usize) -> bool {
        let mut ears = lock(&self.ears);
        // The waker's drop may run foreign code, so it waits until the lock is released.
        let removed = ears.try_remove(ear);
        let empty = ears.is_empty();
        drop(ears);
        drop(removed);
        empty
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.ears).is_empty()
    }

    pub(super) fn hear(&self, ear: usize) {
        if let Some(ear) = lock(&self.ears).get_mut(ear) {
            ear.rung = false;
        }
    }

    pub(super) fn poll_rung(&self, ear: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut ears = lock(&self.ears);
        let Some(ear) = ears.get_mut(ear) else { return Poll::Ready(()) };
        if ear.rung {
            return Poll::Ready(());
        }
        match &mut ear.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
