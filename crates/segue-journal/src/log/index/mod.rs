//! The index of a sealed segment: found by key without being read whole. See `docs/format.md`.

mod build;
mod entry;
mod trailer;

use std::{io, ops::Range, sync::Arc};

use segue_core::Seq;

use super::{commit::Extent, layout::index, segment::Segment};
use crate::stream::StreamKey;

pub(crate) use build::write;
pub(crate) use entry::{Entry, Leaf};
pub(crate) use trailer::Trailer;

use entry::{ENTRY_BYTES, EXTENT_BYTES, RawEntry, decode_extent, hash};

/// Entries looked at with one read.
const WINDOW: u32 = 64;
/// Guesses from the hashes' even spread before the search only halves.
const GUESSES: u32 = 3;
/// Extents looked at with one read.
const EXTENTS_AT_ONCE: u32 = 512;

/// Why an index gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// The file could not be read.
    #[error("segment {segment} cannot be read: {error}")]
    Io { segment: u64, error: io::Error },
    /// Bytes of it do not match their checksum.
    #[error("the index of segment {segment} is damaged")]
    Damaged { segment: u64 },
}

/// A sealed segment. What is on disk never changes.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) segment: Arc<Segment>,
    pub(crate) trailer: Trailer,
}

impl Sealed {
    /// The stream's entry, if the stream was changed in this segment or was an open run at its end.
    pub(crate) fn find(&self, key: &StreamKey) -> Result<Option<Entry>, IndexError> {
        let wanted = hash(key);
        let mut at = self.lower_bound(wanted)?;
        while at < self.trailer.entries {
            let raw = self.raw_entries(at..at + 1)?;
            let raw = raw.first().ok_or_else(|| self.damaged())?;
            if raw.hash() != wanted {
                return Ok(None);
            }
            let entry = self.entry(raw)?;
            if entry.stream == *key {
                return Ok(Some(entry));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The entries of the runs that were open at the segment's end.
    pub(crate) fn open_runs(&self) -> Result<Vec<Entry>, IndexError> {
        let bytes = self.read(self.trailer.open_at, index(self.trailer.open) * 4)?;
        if crc32c::crc32c(&bytes) != self.trailer.open_crc {
            return Err(self.damaged());
        }
        let numbers = bytes.chunks_exact(4).map(|n| super::layout::u32_at(n, 0));
        numbers.map(|at| self.entry_at(at)).collect()
    }

    /// Every entry, in order.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, IndexError> {
        let raw = self.raw_entries(0..self.trailer.entries)?;
        let text = self.read(self.trailer.text_at, index(self.trailer.text_len))?;
        let decode = |raw: &RawEntry| {
            let text = text.get(raw.text())?;
            raw.decode(text)
        };
        raw.iter().map(|raw| decode(raw).ok_or_else(|| self.damaged())).collect()
    }

    /// The extents of an entry that hold `from` and what follows, some of them.
    pub(crate) fn extents(&self, entry: &Entry, from: Seq) -> Result<Vec<Extent>, IndexError> {
        let (mut lo, mut hi) = (entry.extents.start, entry.extents.end);
        while hi - lo > EXTENTS_AT_ONCE {
            let mid = lo + (hi - lo) / 2;
            let extent = self.raw_extents(mid..mid + 1)?;
            match extent.first() {
                Some(extent) if extent.first <= from => lo = mid,
                Some(_) => hi = mid,
                None => return Err(self.damaged()),
            }
        }
        let mut extents = self.raw_extents(lo..entry.extents.end.min(lo + 2 * EXTENTS_AT_ONCE))?;
        let before = extents.partition_point(|extent| extent.end() <= from);
        extents.drain(..before);
        Ok(extents)
    }

    /// All extents of an entry.
    pub(crate) fn all_extents(&self, entry: &Entry) -> Result<Vec<Extent>, IndexError> {
        self.raw_extents(entry.extents.clone())
    }

    /// The first entry whose hash is not below `wanted`.
    fn lower_bound(&self, wanted: u64) -> Result<u32, IndexError> {
        let (mut lo, mut hi) = (0, self.trailer.entries);
        let (mut lo_hash, mut hi_hash) = (0, u64::MAX);
        let mut round = 0;
        while lo < hi {
            let guess = if round < GUESSES {
                lo + interpolate(wanted, lo_hash..hi_hash, hi - lo)
            } else {
                lo + (hi - lo) / 2
            };
            round += 1;
            let from = guess.saturating_sub(WINDOW / 2).max(lo);
            let to = (from + WINDOW).min(hi);
            let window = self.raw_entries(from..to)?;
            let (Some(first), Some(last)) = (window.first(), window.last()) else {
                return Err(self.damaged());
            };
            if wanted <= first.hash() && from > lo {
                (hi, hi_hash) = (from, first.hash());
            } else if wanted > last.hash() {
                (lo, lo_hash) = (to, last.hash());
            } else {
                let below = window.partition_point(|raw| raw.hash() < wanted);
                return Ok(from + super::layout::u32_len(below));
            }
        }
        Ok(lo)
    }

    fn entry_at(&self, at: u32) -> Result<Entry, IndexError> {
        if at >= self.trailer.entries {
            return Err(self.damaged());
        }
        let raw = self.raw_entries(at..at + 1)?;
        self.entry(raw.first().ok_or_else(|| self.damaged())?)
    }

    fn entry(&self, raw: &RawEntry) -> Result<Entry, IndexError> {
        let text = raw.text();
        if text.end > index(self.trailer.text_len) {
            return Err(self.damaged());
        }
        let at = u64::from(self.trailer.text_at) + text.start as u64;
        let text = self.read_at(at, text.len())?;
        raw.decode(&text).ok_or_else(|| self.damaged())
    }

    fn raw_entries(&self, range: Range<u32>) -> Result<Vec<RawEntry>, IndexError> {
        let at = u64::from(self.trailer.entries_at) + u64::from(range.start) * ENTRY_BYTES as u64;
        let bytes = self.read_at(at, range.len() * ENTRY_BYTES)?;
        let entries = bytes.chunks_exact(ENTRY_BYTES).map(RawEntry::new);
        entries.collect::<Option<_>>().ok_or_else(|| self.damaged())
    }

    fn raw_extents(&self, range: Range<u32>) -> Result<Vec<Extent>, IndexError> {
        let at = u64::from(self.trailer.extents_at) + u64::from(range.start) * EXTENT_BYTES as u64;
        let bytes = self.read_at(at, range.len() * EXTENT_BYTES)?;
        let extents = bytes.chunks_exact(EXTENT_BYTES).map(decode_extent);
        extents.collect::<Option<_>>().ok_or_else(|| self.damaged())
    }

    fn read(&self, at: u32, len: usize) -> Result<Vec<u8>, IndexError> {
        self.read_at(u64::from(at), len)
    }

    fn read_at(&self, at: u64, len: usize) -> Result<Vec<u8>, IndexError> {
        let mut bytes = vec![0; len];
        let segment = self.segment.number;
        let got = self.segment.file.read_at(&mut bytes, at);
        let got = got.map_err(|error| IndexError::Io { segment, error })?;
        if got < len { Err(self.damaged()) } else { Ok(bytes) }
    }

    fn damaged(&self) -> IndexError {
        IndexError::Damaged { segment: self.segment.number }
    }
}

/// Where `wanted` would be among `n` hashes spread evenly over `range`.
fn interpolate(wanted: u64, range: Range<u64>, n: u32) -> u32 {
    let width = u128::from(range.end.saturating_sub(range.start)).max(1);
    let into = u128::from(wanted.saturating_sub(range.start)).min(width);
    let at = into * u128::from(n) / width;
    u32::try_from(at).unwrap_or(u32::MAX).min(n.saturating_sub(1))
}
