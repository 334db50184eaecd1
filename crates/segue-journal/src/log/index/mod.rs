//! The index of a sealed segment: a stream is found with two reads, one that is not there with none. See `docs/format.md`.

mod build;
mod entry;
mod trailer;

use std::{io, ops::Range, sync::Arc};

use segue_core::Seq;

use super::{
    commit::Extent,
    layout::{index, u32_at, u32_len},
    segment::Segment,
};
use crate::stream::StreamKey;

pub(crate) use build::write;
pub(crate) use entry::{Entry, Leaf, decode_producers, encode_producers};
pub(crate) use trailer::Trailer;

use entry::{ENTRY_BYTES, EXTENT_BYTES, RawEntry, decode_extent, hash, short};

/// Extents looked at with one read.
const EXTENTS_AT_ONCE: u32 = 512;

/// Extents verified with one read: 1 MiB.
const VERIFIED_AT_ONCE: u32 = 32 << 10;

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
    /// Of each entry the upper half of its hash, in order: 4 bytes a stream, so that asking for a
    /// stream which is not here reads nothing.
    hashes: Box<[u32]>,
}

impl Sealed {
    /// Reads and verifies the entries, their text and the open list. Not the extents: there are far
    /// more of them, each is verified when it is used, and one concerns only its own records.
    pub(crate) fn open(segment: Arc<Segment>, trailer: Trailer) -> Result<Self, IndexError> {
        let mut sealed = Self { segment, trailer, hashes: Box::default() };
        let entries = sealed.entries()?;
        let hashes = entries.iter().map(|entry| Some(short(hash(&entry.as_ref()?.stream))));
        let hashes: Option<Box<[u32]>> = hashes.collect();
        sealed.hashes = hashes.filter(|all| all.is_sorted()).ok_or_else(|| sealed.damaged())?;
        sealed.open_list()?;
        Ok(sealed)
    }

    /// The stream's entry, if the stream was changed in this segment or was an open run at its end.
    pub(crate) fn find(&self, key: &StreamKey) -> Result<Option<Entry>, IndexError> {
        let wanted = short(hash(key));
        let from = self.hashes.partition_point(|hash| *hash < wanted);
        let same = self.hashes[from..].iter().take_while(|hash| **hash == wanted).count();
        for at in from..from + same {
            let entry = self.entry_at(u32_len(at))?;
            if entry.stream == *key {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The entries of the runs that were open at the segment's end.
    pub(crate) fn open_runs(&self) -> Result<Vec<Entry>, IndexError> {
        self.open_list()?.into_iter().map(|at| self.entry_at(at)).collect()
    }

    fn open_list(&self) -> Result<Vec<u32>, IndexError> {
        let bytes = self.read(self.trailer.open_at, index(self.trailer.open) * 4)?;
        let numbers: Vec<u32> = bytes.chunks_exact(4).map(|n| u32_at(n, 0)).collect();
        let sound = crc32c::crc32c(&bytes) == self.trailer.open_crc
            && numbers.iter().all(|at| *at < self.trailer.entries);
        if sound { Ok(numbers) } else { Err(self.damaged()) }
    }

    /// Every entry, in order; `None` for one that is damaged.
    pub(crate) fn entries(&self) -> Result<Vec<Option<Entry>>, IndexError> {
        let entries =
            self.read(self.trailer.entries_at, index(self.trailer.entries) * ENTRY_BYTES)?;
        let text = self.read(self.trailer.text_at, index(self.trailer.text_len))?;
        let decode = |bytes| {
            let raw = RawEntry::new(bytes)?;
            raw.decode(text.get(raw.text())?)
        };
        Ok(entries.chunks_exact(ENTRY_BYTES).map(decode).collect())
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

    /// Verifies the extents of all entries.
    pub(crate) fn verify_extents(&self) -> Result<(), IndexError> {
        let all = self.trailer.extents;
        let mut from = (0..all).step_by(index(VERIFIED_AT_ONCE));
        from.try_for_each(|from| {
            self.raw_extents(from..all.min(from.saturating_add(VERIFIED_AT_ONCE))).map(drop)
        })
    }

    /// All extents of an entry.
    pub(crate) fn all_extents(&self, entry: &Entry) -> Result<Vec<Extent>, IndexError> {
        self.raw_extents(entry.extents.clone())
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        let behind = u64::from(self.trailer.open) * 4 + Trailer::BYTES as u64;
        u64::from(self.trailer.open_at) + behind
    }

    fn entry_at(&self, at: u32) -> Result<Entry, IndexError> {
        let entry = u64::from(self.trailer.entries_at) + u64::from(at) * ENTRY_BYTES as u64;
        let bytes = self.read_at(entry, ENTRY_BYTES)?;
        let raw = RawEntry::new(&bytes).ok_or_else(|| self.damaged())?;
        let text = raw.text();
        let at = u64::from(self.trailer.text_at) + text.start as u64;
        let text = self.read_at(at, text.len())?;
        raw.decode(&text).ok_or_else(|| self.damaged())
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

    pub(crate) fn damaged(&self) -> IndexError {
        IndexError::Damaged { segment: self.segment.number }
    }
}
