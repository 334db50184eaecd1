//! The notice that a stream's tail moved. It carries a position, never data.
//!
//! ```text
//!  writer: publish -> acks -> Ringing::ring_key ---> tail = max(tail, new)
//!                                  |                 mark dirty, once, per listening shard
//!                                  v
//!  shard:  rung().await -> pump(): clear each mark, THEN wake its listeners
//!                                  |
//!                                  v
//!  reader: hear() (clear own mark) -> tail() -> read up to it -> rung().await
//! ```
//!
//! Level-triggered in both hops: a mark is cleared before what it stands for is looked at, so a
//! ring in between marks again, and merged rings lose nothing. A ring costs O(listening shards)
//! however many listeners there are, and a shard's driver is woken at most once for all rings
//! since it last pumped.
//!
//! `Doorbell::listen` registers *before* it reads the journal's tail, and the writer publishes
//! *before* it rings. So of a commit that races with it, either the tail that is read has it, or
//! the ring finds the listener: none is missed.
//!
//! A stream that nobody listens to costs nothing here.

mod follower;
mod listener;
#[cfg(all(test, loom))]
mod model;
mod shard;
#[cfg(all(test, not(loom)))]
mod tests;

use std::{collections::BTreeSet, task::Waker};

use segue_core::Seq;

use crate::{
    api::{Position, Tail},
    stream::{KeyMap, StreamKey, StreamKind},
    sync::{Arc, AtomicU64, Mutex, Ordering, lock},
};

pub use follower::Follower;
pub use listener::Listener;
pub use shard::Shard;

use follower::Follow;
use shard::Mark;

/// Every bell of a journal. Cheap to clone.
#[derive(Clone)]
pub struct Doorbell {
    registry: Arc<Mutex<Registry>>,
}

#[derive(Default)]
struct Registry {
    bells: KeyMap<Bell>,
    followers: Vec<Arc<Follow>>,
    /// Every commit up to here has been rung.
    rung: u64,
    /// Commits that were rung before one of an earlier position.
    early: BTreeSet<u64>,
}

impl Registry {
    fn note_rung(&mut self, commit: Position) {
        if commit.0 == self.rung + 1 {
            self.rung = commit.0;
        } else if commit.0 > self.rung {
            self.early.insert(commit.0);
        }
        while self.early.remove(&(self.rung + 1)) {
            self.rung += 1;
        }
    }
}

/// A stream that someone listens to.
struct Bell {
    tail: Arc<BellTail>,
    /// One for each shard that has listeners of this stream; never empty.
    marks: Vec<Arc<Mark>>,
}

/// The last tail that was rung: `deleted << 63 | next << 1 | closed`.
///
/// Packed so that "later" is "greater": it only ever grows, whatever the order of rings. Nothing
/// is greater than deleted but deleted itself, so the tail of a deleted stream stays.
struct BellTail(AtomicU64);

const DELETED: u64 = 1 << 63;

impl BellTail {
    fn raise(&self, tail: Tail) {
        let packed = (tail.next.0 << 1) | u64::from(tail.closed);
        self.0.fetch_max(packed, Ordering::AcqRel);
    }

    fn delete(&self) {
        self.0.fetch_or(DELETED, Ordering::AcqRel);
    }

    fn deleted(&self) -> bool {
        self.0.load(Ordering::Acquire) & DELETED != 0
    }

    fn tail(&self) -> Tail {
        let packed = self.0.load(Ordering::Acquire) & !DELETED;
        Tail { next: Seq(packed >> 1), closed: packed & 1 == 1 }
    }
}

impl Doorbell {
    /// A doorbell without listeners. Commits up to `position` were made before it.
    pub(crate) fn new(position: Position) -> Self {
        let registry = Registry { rung: position.0, ..Registry::default() };
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// A new shard: the readers of one thread, woken together.
    ///
    /// Its driver is `loop { shard.rung().await; shard.pump(); }` on the thread that owns the
    /// readers. Without one its listeners are never woken.
    pub fn shard(&self) -> Shard {
        Shard::new()
    }

    /// Follows all streams of some kinds, from now on.
    pub fn follow(&self, kinds: &[StreamKind]) -> Follower {
        let follow = Arc::new(Follow::new(kinds));
        lock(&self.registry).followers.push(Arc::clone(&follow));
        Follower::new(follow, self.clone())
    }

    /// Listens to a stream. `tail` reads its tail from what the journal has published, and its
    /// error is passed on.
    pub(crate) fn listen<E>(
        &self,
        stream: &StreamKey,
        shard: &Shard,
        tail: impl FnOnce() -> Result<Tail, E>,
    ) -> Result<Listener, E> {
        let listener = self.register(stream, shard);
        listener.raise(tail()?);
        Ok(listener)
    }

    fn register(&self, stream: &StreamKey, shard: &Shard) -> Listener {
        let mut registry = lock(&self.registry);
        let bell = registry.bells.entry(stream.clone()).or_insert_with(|| Bell {
            tail: Arc::new(BellTail(AtomicU64::new(0))),
            marks: Vec::new(),
        });
        let mark = match bell.marks.iter().find(|mark| mark.is_of(shard)) {
            Some(mark) => Arc::clone(mark),
            None => {
                let mark = Arc::new(Mark::new(shard));
                bell.marks.push(Arc::clone(&mark));
                mark
            }
        };
        // Inserted under the registry's lock, so that `retire` cannot see the mark empty and
        // remove it in between.
        let ear = mark.insert_ear();
        Listener::new(self.clone(), stream.clone(), Arc::clone(&bell.tail), mark, ear)
    }

    /// Removes a mark whose last listener left, and the bell with its last mark.
    fn retire(&self, stream: &StreamKey, mark: &Arc<Mark>) {
        let mut registry = lock(&self.registry);
        // Someone may have come in the meantime.
        if !mark.is_empty() {
            return;
        }
        if let Some(bell) = registry.bells.get_mut(stream) {
            // A mark of a deleted stream is not found.
            bell.marks.retain(|other| !Arc::ptr_eq(other, mark));
            if bell.marks.is_empty() {
                registry.bells.remove(stream);
            }
        }
        drop(registry);
        // Nothing can ring it any more. Its shard would keep it, and it its shard, for ever.
        Mark::forget(mark);
    }

    fn unfollow(&self, follow: &Arc<Follow>) {
        lock(&self.registry).followers.retain(|other| !Arc::ptr_eq(other, follow));
    }

    /// Begins the rings of one commit. Only a journal's writer calls it, after it published the
    /// commit and gave its answers.
    ///
    /// Every commit is rung once, also one that changed nothing; position zero is of no commit.
    pub(crate) fn ringing(&self, commit: Position) -> Ringing<'_> {
        Ringing { doorbell: self, commit, wakers: Vec::new() }
    }

    /// The last commit up to which all have been rung whole.
    fn rung(&self) -> Position {
        Position(lock(&self.registry).rung)
    }

    /// How many streams have a listener.
    #[cfg(all(test, not(loom)))]
    fn bells(&self) -> usize {
        lock(&self.registry).bells.len()
    }
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doorbell").finish_non_exhaustive()
    }
}

/// The rings of one commit. Wakes each shard and follower that it touched when dropped, once.
pub(crate) struct Ringing<'a> {
    doorbell: &'a Doorbell,
    commit: Position,
    wakers: Vec<Waker>,
}

impl Ringing<'_> {
    /// The stream's tail is published and acknowledged up to `tail`.
    pub(crate) fn ring_key(&mut self, stream: &StreamKey, tail: Tail) {
        let registry = lock(&self.doorbell.registry);
        if let Some(bell) = registry.bells.get(stream) {
            bell.tail.raise(tail);
            self.mark(bell);
        }
        self.tell_followers(&registry, stream);
    }

    /// The stream is deleted. Its listeners are rung a last time, and read that it is unknown;
    /// who listens to the same name from now on listens to another stream.
    pub(crate) fn ring_deleted(&mut self, stream: &StreamKey) {
        let mut registry = lock(&self.doorbell.registry);
        if let Some(bell) = registry.bells.remove(stream) {
            bell.tail.delete();
            self.mark(&bell);
        }
        self.tell_followers(&registry, stream);
    }

    /// Wakes every listener and follower without news, so that they notice a journal that failed.
    pub(crate) fn ring_all(&mut self) {
        let registry = lock(&self.doorbell.registry);
        for bell in registry.bells.values() {
            self.mark(bell);
        }
        for follow in &registry.followers {
            self.wakers.extend(follow.shake());
        }
    }

    fn mark(&mut self, bell: &Bell) {
        for mark in &bell.marks {
            self.wakers.extend(Mark::set(mark));
        }
    }

    fn tell_followers(&mut self, registry: &Registry, stream: &StreamKey) {
        if registry.followers.is_empty() {
            return;
        }
        let kind = stream.kind();
        for follow in &registry.followers {
            self.wakers.extend(follow.tell(stream, kind));
        }
    }
}

impl Drop for Ringing<'_> {
    fn drop(&mut self) {
        let mut registry = lock(&self.doorbell.registry);
        registry.note_rung(self.commit);
        self.wakers.extend(registry.followers.iter().filter_map(|follow| follow.advance()));
        drop(registry);
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}
