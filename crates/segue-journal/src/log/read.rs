//! Reading: on any thread, never waiting for the writer's sync.

use std::{collections::HashMap, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use segue_core::{Seq, Timestamp};

use super::{
    commit::{Extent, Frame, RecordSeed, frame_len},
    find::{FindError, find},
    index::{Entry, IndexError, Sealed},
    layout::index,
    segment::Segment,
    store::Store,
    table::Piece,
};
use crate::{
    api::{Page, Position, ReadError, ReadLimit, Record, StreamInfo},
    cold::Chunk,
    state::StreamState,
    stream::{Incarnation, StreamKey, StreamKind},
};

/// Extents that are at most this far from each other are read with one call.
const GAP_BYTES: u32 = 8 << 10;
/// What one call reads at most, unless a single extent is larger.
const SPAN_BYTES: u32 = 256 << 10;

impl Store {
    /// What `look` makes of a stream's state.
    pub(crate) fn with_state<T>(
        &self,
        stream: &StreamKey,
        look: impl FnOnce(&StreamState) -> T,
    ) -> Result<T, ReadError> {
        if let Some(why) = self.failed() {
            return Err(ReadError::Io(why.to_owned()));
        }
        let unknown = || ReadError::NotFound(stream.clone());
        let sealed = {
            let table = self.table();
            if let Some(hot) = table.hot(stream) {
                return hot.state().map(look).ok_or_else(unknown);
            }
            Arc::clone(&table.sealed)
        };
        let found = find(&sealed, &self.cold, stream);
        let version = found.map_err(|error| unreadable(&error, Seq::FIRST))?;
        version.state.as_ref().map(look).ok_or_else(unknown)
    }

    /// See [`Journal::read`](crate::Journal::read).
    pub(crate) fn page(
        &self,
        stream: &StreamKey,
        from: Seq,
        limit: ReadLimit,
    ) -> Result<Page, ReadError> {
        let from = from.max(Seq::FIRST);
        let mut info = self.with_state(stream, |state| state.info)?;
        loop {
            if from < info.available_from {
                return Err(ReadError::Trimmed { available_from: info.available_from });
            }
            let mut records = Vec::new();
            let filled = if from < info.tail.next {
                self.fill_page(stream, &info, from, limit, &mut records)
            } else {
                Ok(())
            };
            let Err(error) = filled else { return Ok(Page { info, records }) };
            // Records go away only with a deletion or a trim that came meanwhile.
            let now = self.with_state(stream, |state| state.info)?;
            let same =
                (now.incarnation, now.available_from) == (info.incarnation, info.available_from);
            if same {
                return Err(damaged(stream, error));
            }
            info = now;
        }
    }

    /// See [`Journal::changed_since`](crate::Journal::changed_since).
    pub(crate) fn changed_since(
        &self,
        since: Position,
        kind: StreamKind,
    ) -> Result<Vec<StreamKey>, ReadError> {
        let wanted = |key: &StreamKey, changed: u64| key.kind() == kind && changed > since.0;
        // Newest first: only the newest version of a stream says whether it exists.
        let mut exists = HashMap::new();
        let sealed = {
            let table = self.table();
            let hot = table.streams().filter(|(key, version)| wanted(key, version.changed));
            exists.extend(hot.map(|(key, version)| (key.clone(), version.state.is_some())));
            Arc::clone(&table.sealed)
        };
        let newer = sealed.iter().rev().take_while(|sealed| sealed.trailer.last_commit > since.0);
        for sealed in newer {
            let entries = sound_entries(sealed)?.into_iter();
            for entry in entries.filter(|entry| wanted(&entry.stream, entry.changed)) {
                exists.entry(entry.stream).or_insert(entry.state.is_some());
            }
        }
        let cold = self.cold.changed_since(since, kind);
        for key in cold.map_err(|error| ReadError::Io(error.to_string()))? {
            exists.entry(key).or_insert(true);
        }
        Ok(exists.into_iter().filter_map(|(key, exists)| exists.then_some(key)).collect())
    }

    /// Reads until the limit, the tail, or a record that is damaged. That one is an error only
    /// if it is the first.
    fn fill_page(
        &self,
        stream: &StreamKey,
        info: &StreamInfo,
        from: Seq,
        limit: ReadLimit,
        records: &mut Vec<Record>,
    ) -> Result<(), ReadError> {
        let seed = RecordSeed::of(stream, info.incarnation);
        let mut pager = Pager { seed, next: from, tail: info.tail.next, limit, bytes: 0, records };
        while !pager.is_done() {
            let place = self.place(stream, info.incarnation, &pager);
            let read = match place {
                Ok(Some(Place::Hot(piece))) => pager.read(&piece),
                Ok(Some(Place::Cold(chunk))) => pager.read_chunk(&chunk),
                Ok(None) => Err(pager.corrupt("it is absent")),
                Err(error) => Err(unreadable(&error, pager.next)),
            };
            if let Err(error) = read {
                return if pager.records.is_empty() { Err(error) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Where the next records are: known in memory, else in the newest segment that has them, else
    /// in the cold store. What a list of segments lacks was in the cold store before the list was
    /// taken, so asking there last misses nothing.
    fn place(
        &self,
        stream: &StreamKey,
        incarnation: Incarnation,
        pager: &Pager<'_>,
    ) -> Result<Option<Place>, FindError> {
        let sealed = {
            let table = self.table();
            let hot = table.hot(stream).filter(|hot| {
                hot.state().is_some_and(|state| state.info.incarnation == incarnation)
            });
            if let Some(piece) = hot.and_then(|hot| hot.piece(pager.next, pager.budget())) {
                return Ok(Some(Place::Hot(piece)));
            }
            Arc::clone(&table.sealed)
        };
        let is_same = |entry: &Entry| {
            entry.state.as_ref().is_some_and(|state| state.info.incarnation == incarnation)
        };
        for sealed in sealed.iter().rev() {
            let Some(entry) = sealed.find(stream)? else { continue };
            if is_same(&entry) && entry.first > Seq::ZERO && entry.first <= pager.next {
                return Ok(sealed_piece(sealed, &entry, pager)?.map(Place::Hot));
            }
        }
        Ok(self.cold.chunk(stream, incarnation, pager.next)?.map(Place::Cold))
    }
}

/// Where records are.
enum Place {
    Hot(Piece),
    Cold(Chunk),
}

/// Says of a damaged record that it is.
fn damaged(stream: &StreamKey, error: ReadError) -> ReadError {
    if let ReadError::Corrupt { seq, what } = &error {
        metrics::counter!("segue_journal_corrupt_reads_total").increment(1);
        tracing::error!(%stream, %seq, what, "a record is damaged");
    }
    error
}

fn sealed_piece(
    sealed: &Sealed,
    entry: &Entry,
    pager: &Pager<'_>,
) -> Result<Option<Piece>, IndexError> {
    let mut take = pager.budget();
    let mut extents = sealed.extents(entry, pager.next)?;
    let n = extents.iter().take_while(|extent| take(extent)).count();
    extents.truncate(n);
    let segment = Arc::clone(&sealed.segment);
    Ok((!extents.is_empty()).then_some(Piece { segment, extents }))
}

/// The entries of a segment, without those that are damaged: a list is worth more than none.
fn sound_entries(sealed: &Sealed) -> Result<Vec<Entry>, ReadError> {
    let entries = sealed.entries().map_err(|error| ReadError::Io(error.to_string()))?;
    let damaged = entries.iter().filter(|entry| entry.is_none()).count();
    if damaged > 0 {
        let segment = sealed.segment.number;
        metrics::counter!("segue_journal_corrupt_reads_total").increment(damaged as u64);
        tracing::error!(
            segment,
            damaged,
            "entries of an index are damaged, and left out of a list"
        );
    }
    Ok(entries.into_iter().flatten().collect())
}

fn unreadable(error: &FindError, seq: Seq) -> ReadError {
    if error.is_damage() {
        ReadError::Corrupt { seq, what: error.to_string() }
    } else {
        ReadError::Io(error.to_string())
    }
}

/// Fills a page.
struct Pager<'a> {
    seed: RecordSeed,
    /// The record that comes next.
    next: Seq,
    tail: Seq,
    limit: ReadLimit,
    /// Of the records so far.
    bytes: usize,
    records: &'a mut Vec<Record>,
}

impl Pager<'_> {
    fn is_done(&self) -> bool {
        let full = self.bytes >= self.limit.bytes || self.records.len() >= self.limit.records;
        self.next >= self.tail || (full && !self.records.is_empty())
    }

    /// Whether an extent is still wanted, asked in order. May want one too many.
    fn budget(&self) -> impl FnMut(&Extent) -> bool + use<> {
        let mut bytes = self.limit.bytes.saturating_sub(self.bytes);
        let mut records = self.limit.records.saturating_sub(self.records.len());
        let (mut first, tail) = (true, self.tail);
        move |extent| {
            let wanted = first || (bytes > 0 && records > 0 && extent.first < tail);
            if !first {
                bytes = bytes.saturating_sub(index(extent.bytes));
                records = records.saturating_sub(index(extent.count));
            }
            first = false;
            wanted
        }
    }

    fn corrupt(&self, what: &str) -> ReadError {
        ReadError::Corrupt { seq: self.next, what: what.to_owned() }
    }

    fn read(&mut self, piece: &Piece) -> Result<(), ReadError> {
        let mut extents = &piece.extents[..];
        while !extents.is_empty() && !self.is_done() {
            let (near, rest) = extents.split_at(near(extents));
            self.read_near(&piece.segment, near)?;
            extents = rest;
        }
        Ok(())
    }

    /// Reads extents with one call.
    fn read_near(&mut self, segment: &Segment, extents: &[Extent]) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (extents.first(), extents.last()) else { return Ok(()) };
        let start = first.offset;
        let bytes = read_span(segment, start, last.offset - start + last.bytes)
            .map_err(|error| ReadError::Io(error.to_string()))?;
        for extent in extents {
            if self.is_done() {
                break;
            }
            if extent.first > self.next {
                return Err(self.corrupt("it is absent"));
            }
            let from = index(extent.offset - start);
            let to = from + index(extent.bytes);
            if bytes.len() < to {
                return Err(self.corrupt("its file is cut short"));
            }
            self.walk(extent, &bytes, from..to)?;
        }
        Ok(())
    }

    /// Takes an extent's records from the page's next on.
    fn walk(
        &mut self,
        extent: &Extent,
        bytes: &Bytes,
        mut range: std::ops::Range<usize>,
    ) -> Result<(), ReadError> {
        for seq in (extent.first.0..extent.end().0).map(Seq) {
            let frame = Frame::decode(&bytes[range.clone()]);
            let frame = frame.ok_or_else(|| self.corrupt("its length is wrong"))?;
            let end = range.start + frame.len();
            if seq == self.next && !self.is_done() {
                self.take(seq, extent.at, &bytes.slice(range.start..end))?;
            }
            range.start = end;
        }
        Ok(())
    }

    /// Takes a chunk's records from the page's next on.
    fn read_chunk(&mut self, chunk: &Chunk) -> Result<(), ReadError> {
        for (seq, at, frame) in chunk.records(frame_len) {
            if self.is_done() {
                return Ok(());
            }
            if seq == self.next {
                self.take(seq, at, &frame)?;
            }
        }
        if self.next < chunk.end() && !self.is_done() {
            return Err(self.corrupt("its chunk is shorter than it says"));
        }
        Ok(())
    }

    /// Takes the record in a frame, or ends the page before it.
    fn take(&mut self, seq: Seq, at: Timestamp, bytes: &Bytes) -> Result<(), ReadError> {
        let frame = Frame::decode(bytes).ok_or_else(|| self.corrupt("its length is wrong"))?;
        if frame.crc != self.seed.crc(seq, at, frame.payload) {
            return Err(self.corrupt("its checksum is wrong"));
        }
        let len = frame.payload.len();
        if !self.records.is_empty() && self.bytes + len > self.limit.bytes {
            self.limit.records = 0;
            return Ok(());
        }
        self.bytes += len;
        self.next = seq.next();
        self.records.push(Record { seq, at, bytes: bytes.slice(bytes.len() - len..) });
        Ok(())
    }
}

/// How many of the extents are near enough to be read with one call; at least one.
pub(super) fn near(extents: &[Extent]) -> usize {
    let start = extents[0].offset;
    let end = |extent: &Extent| extent.offset + extent.bytes;
    let together = extents.windows(2).take_while(|pair| {
        pair[1].offset >= end(&pair[0])
            && pair[1].offset - end(&pair[0]) <= GAP_BYTES
            && end(&pair[1]) - start <= SPAN_BYTES
    });
    1 + together.count()
}

/// As much of the span as the file has.
pub(super) fn read_span(segment: &Segment, at: u32, len: u32) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(index(len));
    let got = segment.file.read_at(&mut bytes, u64::from(at))?;
    bytes.truncate(got);
    Ok(bytes.freeze())
}
