//! The cache of ready frames.
//!
//! Frames are a pure function of the journal and an encoder's version, so that a block that was
//! encoded once serves every reader, and losing any of it changes nothing but time.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use segue_core::Seq;

use crate::stream::Incarnation;

/// The budget unless told otherwise, in bytes.
pub const DEFAULT_BUDGET: usize = 64 << 20;

/// What a cached block costs beside its bytes and ends: the slot, its two keys, the two
/// allocations.
const BLOCK_OVERHEAD: usize = 256;

/// Which encoder, of which version and with which options, made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Encoding(pub u16);

/// The frames of contiguous records.
#[derive(Clone, Debug)]
pub struct FrameBlock {
    /// The record of the first frame.
    pub first: Seq,
    /// The frames, one after the other.
    pub bytes: Bytes,
    /// Where each frame ends in `bytes`: frame `k` is that of record `first + k`.
    pub ends: Arc<[u32]>,
}

/// Frames from the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Whole frames, from the record that was asked for.
    pub bytes: Bytes,
    /// The record of the last one.
    pub last: Seq,
}

/// Ready frames of all streams within one byte budget; the least recently used block goes first.
pub struct FrameCache {
    budget: usize,
    inner: Mutex<Inner>,
}

type Key = (Incarnation, Encoding, Seq);

#[derive(Default)]
struct Inner {
    blocks: BTreeMap<Key, Slot>,
    /// The blocks by their last use.
    by_use: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

struct Slot {
    block: FrameBlock,
    used: u64,
}

impl Default for FrameCache {
    fn default() -> Self {
        Self::new(DEFAULT_BUDGET)
    }
}

impl FrameCache {
    /// A cache of at most `budget` bytes, overhead included. Zero keeps nothing.
    pub fn new(budget: usize) -> Self {
        Self { budget, inner: Mutex::default() }
    }

    /// The frames from record `from` on, as far as one block has them: at most `budget` bytes,
    /// but at least one frame. Shares the block's bytes.
    pub fn get(
        &self,
        incarnation: Incarnation,
        encoding: Encoding,
        from: Seq,
        budget: usize,
    ) -> Option<Frames> {
        let mut inner = self.lock();
        let key = inner.find((incarnation, encoding, from));
        let Some(key) = key else {
            drop(inner);
            metrics::counter!("segue_frame_cache_misses_total").increment(1);
            return None;
        };
        let frames = inner.touch(key)?.suffix(from, budget);
        drop(inner);
        metrics::counter!("segue_frame_cache_hits_total").increment(1);
        frames
    }

    /// Keeps a block, and evicts others to make room.
    ///
    /// A block that is larger than the whole budget is not kept, nor one whose ends do not
    /// describe its bytes.
    pub fn put(&self, incarnation: Incarnation, encoding: Encoding, block: FrameBlock) {
        if !block.is_sound() || block.cost() > self.budget {
            metrics::counter!("segue_frame_cache_refusals_total").increment(1);
            return;
        }
        let mut inner = self.lock();
        inner.insert((incarnation, encoding, block.first), block);
        let evicted = inner.shrink(self.budget);
        drop(inner);
        metrics::counter!("segue_frame_cache_evictions_total").increment(evicted);
    }

    /// Drops every block of a stream.
    pub fn forget(&self, incarnation: Incarnation) {
        let low = (incarnation, Encoding(0), Seq::ZERO);
        let high = (incarnation, Encoding(u16::MAX), Seq(u64::MAX));
        let mut inner = self.lock();
        let keys: Vec<Key> = inner.blocks.range(low..=high).map(|(key, _)| *key).collect();
        for key in keys {
            inner.remove(key);
        }
    }

    /// Drops everything.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// What is kept, overhead included.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under this lock could only leave the byte count wrong, which is no reason to
        // stop serving.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for FrameCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameCache").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Inner {
    /// The last block that begins at or before the key's position and reaches over it.
    fn find(&self, (incarnation, encoding, from): Key) -> Option<Key> {
        let low = (incarnation, encoding, Seq::ZERO);
        let (key, slot) = self.blocks.range(low..=(incarnation, encoding, from)).next_back()?;
        (from <= slot.block.last()).then_some(*key)
    }

    fn touch(&mut self, key: Key) -> Option<&FrameBlock> {
        let slot = self.blocks.get_mut(&key)?;
        self.by_use.remove(&slot.used);
        self.clock += 1;
        slot.used = self.clock;
        self.by_use.insert(slot.used, key);
        Some(&slot.block)
    }

    /// Of two blocks that begin alike the longer one stays: they agree where both have frames.
    fn insert(&mut self, key: Key, block: FrameBlock) {
        let longer = |slot: &Slot| slot.block.ends.len() >= block.ends.len();
        if self.blocks.get(&key).is_some_and(longer) {
            return;
        }
        self.remove(key);
        self.clock += 1;
        self.bytes += block.cost();
        self.by_use.insert(self.clock, key);
        self.blocks.insert(key, Slot { block, used: self.clock });
    }

    fn remove(&mut self, key: Key) {
        if let Some(slot) = self.blocks.remove(&key) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.block.cost();
        }
    }

    /// Evicts until at most `budget` bytes are kept. Returns how many blocks went.
    fn shrink(&mut self, budget: usize) -> u64 {
        let mut evicted = 0;
        while self.bytes > budget {
            let Some((_, &oldest)) = self.by_use.first_key_value() else { break };
            self.remove(oldest);
            evicted += 1;
        }
        evicted
    }
}

impl FrameBlock {
    /// The record of the last frame.
    fn last(&self) -> Seq {
        Seq(self.first.0 + self.ends.len() as u64 - 1)
    }

    fn cost(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<u32>() + BLOCK_OVERHEAD
    }

    fn is_sound(&self) -> bool {
        self.ends.is_sorted()
            && self.ends.last().is_some_and(|&end| end as usize == self.bytes.len())
    }

    fn suffix(&self, from: Seq, budget: usize) -> Option<Frames> {
        let skip = usize::try_from(from.0.checked_sub(self.first.0)?).ok()?;
        let start = if skip == 0 { 0 } else { self.ends[skip - 1] as usize };
        let fits = self.ends[skip..].partition_point(|&end| end as usize - start <= budget);
        let count = skip + fits.max(1);
        let bytes = self.bytes.slice(start..self.ends[count - 1] as usize);
        Some(Frames { bytes, last: Seq(self.first.0 + count as u64 - 1) })
    }
}
