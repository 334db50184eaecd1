//! A segment's file, and reading it from end to end.

use std::{io, path::Path, sync::Arc};

use super::{
    commit::{COMMIT_HEAD, CommitHead},
    index::Trailer,
    layout::{HEAD_BYTES, JournalId, Seed, encode_head, index, segment_path},
};
use crate::disk::{Disk, DiskFile, untrusted};

/// The least that is read at once when a segment is read from end to end.
const WINDOW_BYTES: usize = 1 << 20;

/// An open segment. Who holds it can read it, also after its name is removed.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) seed: Seed,
}

impl Segment {
    /// Makes a segment of `bytes` zeros behind its head, durably, with its name.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        id: JournalId,
        number: u64,
        bytes: u64,
    ) -> io::Result<Arc<Self>> {
        let path = segment_path(dir, number);
        let tmp = path.with_extension("tmp");
        let made = Self::fill(disk, &tmp, id, number, bytes);
        if made.is_err() {
            // Gives its room back; what is left of it is removed at the next open.
            drop(disk.remove(&tmp));
        }
        let segment = made?;
        disk.rename(&tmp, &path)?;
        disk.sync_dir(dir).map_err(untrusted)?;
        Ok(segment)
    }

    fn fill(
        disk: &dyn Disk,
        tmp: &Path,
        id: JournalId,
        number: u64,
        bytes: u64,
    ) -> io::Result<Arc<Self>> {
        let file = disk.create(tmp)?;
        file.allocate(bytes)?;
        file.write_at(&encode_head(id, number), 0)?;
        file.sync()?;
        Ok(Arc::new(Self { number, file, seed: Seed::of(id, number) }))
    }

    /// The trailer, if the segment is sealed.
    pub(crate) fn trailer(&self) -> io::Result<Option<Trailer>> {
        let len = self.file.size()?;
        let Some(at) = len.checked_sub(Trailer::BYTES as u64) else { return Ok(None) };
        let mut bytes = [0; Trailer::BYTES];
        let got = self.file.read_at(&mut bytes, at)?;
        Ok(Trailer::decode(&bytes[..got], self.seed))
    }

    /// Every commit whose head can be read, in order, up to `end`.
    pub(crate) fn scan(&self, end: u64) -> io::Result<Scan> {
        let mut window = Window::new(&*self.file, end);
        let mut scan = Scan { found: Vec::new(), zeros_from: HEAD_BYTES as u64 };
        let mut at = HEAD_BYTES as u64;
        while let Some((offset, head)) = next_head(&mut window, at, self.seed, &mut scan)? {
            let body = window.get(offset + COMMIT_HEAD as u64, index(head.body_len))?;
            let whole = head.is_body(body);
            scan.found.push(Found { offset, head, whole });
            // What a head says of its length is sound, but its body may be cut by the next head.
            at = offset + if whole { head.total() } else { COMMIT_HEAD as u64 };
            scan.zeros_from = scan.zeros_from.max(at);
        }
        Ok(scan)
    }
}

/// What a segment was found to have.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) found: Vec<Found>,
    /// From here on there are only zeros.
    pub(crate) zeros_from: u64,
}

impl Scan {
    /// There are bytes, and no commit among them.
    pub(crate) fn is_foreign(&self) -> bool {
        self.found.is_empty() && self.zeros_from > HEAD_BYTES as u64
    }

    /// Whether a commit counts: it is `next` or later, and if it is not whole, a whole one that is
    /// later follows, here or as the first one (`later`) of the segments behind.
    pub(crate) fn stands(&self, n: usize, next: u64, later: Option<u64>) -> bool {
        let found = &self.found[n];
        let number = found.head.number;
        let after = first_whole(&self.found[n + 1..]).or(later);
        number >= next && (found.whole || after.is_some_and(|after| after > number))
    }
}

/// The number of the first whole commit of these.
pub(crate) fn first_whole(found: &[Found]) -> Option<u64> {
    found.iter().find(|found| found.whole).map(|found| found.head.number)
}

/// A commit whose head can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) head: CommitHead,
    /// Its body matches its checksum.
    pub(crate) whole: bool,
}

impl Found {
    /// The first byte behind it.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.head.total()
    }
}

/// The first readable head at or behind `at`, at a multiple of 8. Notes in `scan` which bytes on
/// the way are not zero.
fn next_head(
    window: &mut Window<'_>,
    mut at: u64,
    seed: Seed,
    scan: &mut Scan,
) -> io::Result<Option<(u64, CommitHead)>> {
    if let Some(head) = CommitHead::decode(window.get(at, COMMIT_HEAD)?, seed) {
        return Ok(Some((at, head)));
    }
    loop {
        let bytes = window.get(at, WINDOW_BYTES)?;
        if !is_zero(bytes) {
            scan.zeros_from = at + bytes.len() as u64;
            if let Some((skip, head)) = find_head(bytes, seed) {
                return Ok(Some((at + skip as u64, head)));
            }
        }
        if bytes.len() < COMMIT_HEAD {
            return Ok(None);
        }
        at += ((bytes.len() - COMMIT_HEAD) as u64 + 1).next_multiple_of(8);
    }
}

fn find_head(bytes: &[u8], seed: Seed) -> Option<(usize, CommitHead)> {
    let heads = bytes.chunks(8).enumerate().filter(|(_, eight)| CommitHead::may_begin(eight));
    let mut heads = heads.map(|(n, _)| n * 8);
    heads.find_map(|skip| Some((skip, CommitHead::decode(&bytes[skip..], seed)?)))
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // A fold without an early end is done many bytes at a time.
    bytes.chunks(4096).all(|bytes| bytes.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Reads a file in order through a buffer.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    /// Nothing behind `end` is read.
    pub(crate) fn new(file: &'a dyn DiskFile, end: u64) -> Self {
        Self { file, end, start: 0, bytes: Vec::new() }
    }

    /// `len` bytes at `at`, or as many as there are. What is in the buffer is given from it, if
    /// it is enough.
    pub(crate) fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if self.skip(at).is_none_or(|skip| self.bytes.len() - skip < len) {
            self.start = at;
            self.bytes.resize(len.max(WINDOW_BYTES).min(left), 0);
            let got = self.file.read_at(&mut self.bytes, at)?;
            self.bytes.truncate(got);
        }
        let skip = self.skip(at).unwrap_or(self.bytes.len());
        let end = (skip + len).min(self.bytes.len());
        Ok(&self.bytes[skip..end])
    }

    /// Where `at` is in the buffer.
    fn skip(&self, at: u64) -> Option<usize> {
        let skip = usize::try_from(at.checked_sub(self.start)?).ok()?;
        (skip <= self.bytes.len()).then_some(skip)
    }
}
