//! The packer: moves the oldest sealed segment into the cold store, whatever state its streams are
//! in, and gives the disk back what nobody can read any more.
//!
//! ```text
//!   oldest sealed segment --one transaction, synced--> chunks, catalogue, "packed up to here"
//!                         --then--> out of the table --then--> its name is removed
//! ```
//!
//! A crash before the transaction leaves the segment, one after it a segment that is known to be
//! packed by its number, and is removed at open. A reader that holds the list of segments from before
//! still reads the open file; one that takes it later finds the records in the cold store.

use std::{io, path::Path, sync::Arc};

use segue_core::{Seq, Timestamp};

use super::{
    Durability, OpenError, Step, backup,
    commit::{Extent, Frame, RecordSeed},
    find::find_sealed,
    index::{Entry, IndexError, Sealed},
    layout::{index, segment_number, segment_path},
    pause::Pause,
    read::{near, read_span},
    store::Store,
};
use crate::{
    api::StreamInfo,
    cold::{Changes, Chunker, Cold, ColdError, Erasure, Packed, Row},
    disk::Disk,
    state::StreamState,
    stream::Incarnation,
};

/// Why nothing was packed.
#[derive(Debug, thiserror::Error)]
enum PackError {
    /// The segment could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The cold store did not take it.
    #[error(transparent)]
    Cold(#[from] ColdError),
    /// A deletion could not be made durable first.
    #[error("a segment cannot be synced: {0}")]
    Sync(io::Error),
    /// The free space could not be asked for.
    #[error("the disk's free space is not known: {0}")]
    Free(io::Error),
    /// A transaction would take more room than there is.
    #[error("there is no room to pack a segment")]
    NoRoom,
    /// The journal is being closed: the segment is packed after the next open.
    #[error("the journal is being closed")]
    Stopped,
}

impl PackError {
    /// A sync failed.
    fn is_untrusted(&self) -> bool {
        match self {
            Self::Cold(error) => error.is_untrusted(),
            Self::Sync(_) => true,
            Self::Index(_) | Self::Free(_) | Self::NoRoom | Self::Stopped => false,
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Cold(error) => error.is_full(),
            Self::NoRoom => true,
            Self::Index(_) | Self::Sync(_) | Self::Free(_) | Self::Stopped => false,
        }
    }
}

/// Runs on the packer's thread until it is stopped. A panic fails the log.
pub(crate) fn run(store: &Store) {
    store.guard("the packer panicked", || {
        loop {
            while !store.packing.chores.stopped() && step(store) == Step::Worked {}
            if !store.packing.chores.wait(store.packing.pause_left(&*store.clock)) {
                return;
            }
        }
    });
    store.packing.refuse_backups();
    store.packing.tell_writer();
}

/// Does one thing: removes a packed segment, erases some chunks, packs a segment, or gives pages
/// back. While the writer may wait for it, packing goes first.
pub(crate) fn step(store: &Store) -> Step {
    if store.failed().is_some() {
        store.packing.refuse_backups();
        return Step::Closed;
    }
    if unlink(store) {
        store.packing.tell_writer();
        return Step::Worked;
    }
    if backup::step(store) {
        store.packing.tell_writer();
        return Step::Worked;
    }
    let packing = Chore { what: "pack", pause: &store.packing.pause, work: pack };
    let erasing = Chore { what: "erase", pause: &store.packing.erasing, work: erase };
    let full = store.table().hot_bytes() > store.hot_bytes;
    for chore in if full { [packing, erasing] } else { [erasing, packing] } {
        match chore.attempt(store) {
            Step::Idle => {}
            step => return step,
        }
    }
    let vacuuming = |store: &Store| Ok(store.cold.vacuum()?);
    Chore { what: "erase", pause: &store.packing.erasing, work: vacuuming }.attempt(store)
}

/// Something that is done again and again, by itself: what keeps one from its work does not keep
/// another.
struct Chore<'a> {
    what: &'static str,
    pause: &'a Pause,
    work: fn(&Store) -> Result<bool, PackError>,
}

impl Chore<'_> {
    fn attempt(&self, store: &Store) -> Step {
        if self.pause.left(&*store.clock).is_some() {
            return Step::Idle;
        }
        match (self.work)(store) {
            Ok(false) | Err(PackError::Stopped) => Step::Idle,
            Ok(true) => {
                self.pause.end();
                store.packing.tell_writer();
                Step::Worked
            }
            Err(error) => self.put_off(store, &error),
        }
    }

    /// What failed is tried again later; only a failed sync cannot be.
    fn put_off(&self, store: &Store, error: &PackError) -> Step {
        if error.is_untrusted() {
            store.fail(&format!("packing: {error}"));
            return Step::Closed;
        }
        let what = self.what;
        if error.is_full() {
            metrics::counter!("segue_journal_disk_full_total", "what" => what).increment(1);
            // What the transaction wrote so far is room that others can use.
            match store.cold.settle() {
                Err(error) if error.is_untrusted() => {
                    store.fail(&format!("settling the cold store: {error}"));
                    return Step::Closed;
                }
                Err(error) => tracing::warn!(%error, "the cold store's log keeps its length"),
                Ok(_) => {}
            }
        } else {
            tracing::error!(%error, what, "the packer failed, and tries it again later");
        }
        metrics::counter!("segue_journal_pack_retries_total").increment(1);
        self.pause.begin(&*store.clock, true);
        store.packing.tell_writer();
        Step::Idle
    }
}

/// Removes what is left of packed segments. Before that, what the cold store has of them is made
/// durable anew; where that cannot be done now they stay, and are not opened.
pub(crate) fn remove_packed(disk: &dyn Disk, dir: &Path, cold: &Cold) -> Result<(), OpenError> {
    let io = |error| OpenError::io(dir, error);
    let names = disk.list(dir).map_err(io)?;
    let packed = cold.packed().segment;
    let numbers = names.iter().filter_map(|name| segment_number(name));
    let left: Vec<u64> = numbers.filter(|number| *number <= packed).collect();
    if left.is_empty() || !settle_cold(cold).map_err(|error| io(io::Error::other(error)))? {
        return Ok(());
    }
    for number in left {
        disk.remove(&segment_path(dir, number)).map_err(io)?;
        metrics::counter!("segue_journal_packed_leftovers_total").increment(1);
    }
    Ok(())
}

/// `false`: it cannot be done now, for a reason that an open need not fail for.
fn settle_cold(cold: &Cold) -> Result<bool, ColdError> {
    match cold.settle() {
        Err(error) if error.is_full() => {
            metrics::counter!("segue_journal_disk_full_total", "what" => "settle").increment(1);
            Ok(false)
        }
        settled => settled,
    }
}

/// Lets go of the oldest segment if it is packed. A name that cannot be removed now is at the next
/// open.
fn unlink(store: &Store) -> bool {
    let packed = store.cold.packed().segment;
    let oldest = store.table().sealed.first().map(|sealed| sealed.segment.number);
    let Some(number) = oldest.filter(|number| *number <= packed) else { return false };
    store.table_mut().drop_packed();
    metrics::counter!("segue_journal_segments_packed_total").increment(1);
    if let Err(error) = store.disk.remove(&segment_path(&store.dir, number)) {
        metrics::counter!("segue_journal_pack_retries_total").increment(1);
        tracing::warn!(segment = number, %error, "a packed segment stays until the next start");
    }
    store.room_came_back();
    true
}

/// Takes note of what was deleted and trimmed, then drops some of the chunks that go with it. What
/// could not be noted is asked for again.
fn erase(store: &Store) -> Result<bool, PackError> {
    let asked = store.packing.take_erasures();
    let erased = erase_asked(store, &asked);
    if erased.is_err() {
        store.packing.put_back(asked);
    }
    erased
}

fn erase_asked(store: &Store, asked: &[Erasure]) -> Result<bool, PackError> {
    if asked.is_empty() && !store.cold.has_erasures()? {
        return Ok(false);
    }
    // Nothing was ever packed: there is nothing to erase, and no file to make for it.
    if store.cold.packed() == Packed::default() {
        return Ok(false);
    }
    if !asked.is_empty() && store.durability == Durability::Os {
        // A power loss must not take a deletion back whose chunks are gone.
        let segments = store.table().unsealed_segments();
        let synced = segments.iter().try_for_each(|segment| segment.file.sync());
        synced.map_err(PackError::Sync)?;
    }
    let dropped = store.cold.write(|changes| {
        asked.iter().try_for_each(|erasure| changes.erase(erasure))?;
        changes.drop_chunks()
    })?;
    metrics::counter!("segue_journal_chunks_erased_total").increment(dropped);
    Ok(true)
}

/// Packs the oldest sealed segment, if there are more bytes of segments than there should be.
fn pack(store: &Store) -> Result<bool, PackError> {
    let sealed = {
        let table = store.table();
        if table.hot_bytes() <= store.packs_beyond() {
            return Ok(false);
        }
        Arc::clone(&table.sealed)
    };
    let Some((oldest, newer)) = sealed.split_first() else { return Ok(false) };
    // Once in the write-ahead log and once in the file.
    let needed = oldest.bytes().saturating_mul(2);
    if store.disk.free(&store.dir).map_err(PackError::Free)? < needed {
        return Err(PackError::NoRoom);
    }
    let bytes = store.cold.write(|changes| pack_segment(store, changes, oldest, newer))?;
    metrics::counter!("segue_journal_packed_bytes_total").increment(bytes);
    Ok(true)
}

/// Gives the bytes of the records that were moved. Ends early, with nothing done, when the journal
/// is closed.
fn pack_segment(
    store: &Store,
    changes: &Changes<'_>,
    oldest: &Sealed,
    newer: &[Arc<Sealed>],
) -> Result<u64, PackError> {
    let number = oldest.segment.number;
    if changes.packed()?.segment >= number {
        // The commit of an earlier try was told to have failed, and did not.
        return Ok(0);
    }
    let entries: Option<Vec<Entry>> = oldest.entries()?.into_iter().collect();
    let mut entries = entries.ok_or_else(|| oldest.damaged())?;
    // In the order of the catalogue, whose pages are then written one after the other.
    entries.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
    let mut bytes = 0;
    for entry in &entries {
        if store.packing.chores.stopped() {
            return Err(PackError::Stopped);
        }
        bytes += pack_stream(changes, oldest, entry, newer)?;
    }
    changes.set_packed(Packed { segment: number, commit: oldest.trailer.last_commit })?;
    Ok(bytes)
}

/// Brings one stream to where it was at the segment's end. What newer sealed segments say to be
/// dead is left out; they are durable, so what they say stays said.
fn pack_stream(
    changes: &Changes<'_>,
    oldest: &Sealed,
    entry: &Entry,
    newer: &[Arc<Sealed>],
) -> Result<u64, PackError> {
    let later = find_sealed(newer, &entry.stream)?;
    let known = changes.find(&entry.stream)?;
    let state = entry.state.clone().filter(|state| {
        later.as_ref().is_none_or(|later| is_of(later.state.as_ref(), state.info.incarnation))
    });
    let was = known.as_ref().map(|row| row.state.info.incarnation);
    let is = state.as_ref().map(|state| state.info.incarnation);
    if was != is || is.is_none() {
        // Also where nothing is known to be there: a damaged row is none, its chunks are some.
        changes.remove(&entry.stream)?;
        changes.note_others(&entry.stream, is)?;
    }
    let Some(state) = state else { return Ok(0) };
    let known = known.filter(|_| was == is);
    let trimmed = later.and_then(|later| later.state).map(|state| state.info.available_from);
    let mut row = row(entry, state, known.as_ref(), trimmed.unwrap_or(Seq::FIRST));
    let from = row.state.info.available_from;
    if known.as_ref().is_some_and(|known| known.state.info.available_from < from) {
        let (stream, incarnation) = (row.stream.clone(), row.state.info.incarnation);
        changes.note_erasure(&Erasure { stream, incarnation, before: Some(from) })?;
    }
    let bytes = pack_records(changes, oldest, entry, &mut row)?;
    if known.as_ref() != Some(&row) {
        changes.put(&row)?;
    }
    Ok(bytes)
}

fn is_of(state: Option<&StreamState>, incarnation: Incarnation) -> bool {
    state.is_some_and(|state| state.info.incarnation == incarnation)
}

/// The stream's row before its records of the segment. It begins where it begins as far as anyone
/// knows: at the segment's end, by the row so far, or later.
fn row(entry: &Entry, mut state: StreamState, known: Option<&Row>, trimmed: Seq) -> Row {
    let (mut cold_until, info) = (Seq::FIRST, &mut state.info);
    let mut from = info.available_from.max(trimmed);
    if let Some(known) = known {
        from = from.max(known.state.info.available_from);
        cold_until = known.cold_until;
    }
    info.available_from = from.min(info.tail.next);
    let cold_until = cold_until.max(info.available_from);
    Row { stream: entry.stream.clone(), state, changed: entry.changed, cold_until }
}

/// Moves a stream's records of the segment, and `cold_until` behind them.
fn pack_records(
    changes: &Changes<'_>,
    oldest: &Sealed,
    entry: &Entry,
    row: &mut Row,
) -> Result<u64, PackError> {
    let StreamInfo { incarnation, available_from, .. } = row.state.info;
    let mut extents = oldest.all_extents(entry)?;
    extents.retain(|extent| extent.end() > available_from);
    let (Some(first), Some(last)) = (extents.first(), extents.last()) else { return Ok(0) };
    let (first, end) = (first.first.max(available_from), last.end());
    let bytes: usize = extents.iter().map(|extent| index(extent.bytes)).sum();
    let mut chunker = Chunker::new(changes, &row.stream, incarnation);
    if row.cold_until > available_from {
        chunker.reopen(available_from, first, bytes)?;
    }
    let walk = Walk { sealed: oldest, seed: RecordSeed::of(&row.stream, incarnation), first };
    walk.each(&extents, |seq, at, frame| chunker.push(seq, at, frame))?;
    chunker.finish()?;
    row.cold_until = row.cold_until.max(end);
    Ok(bytes as u64)
}

/// Goes through a stream's records in a segment.
struct Walk<'a> {
    sealed: &'a Sealed,
    seed: RecordSeed,
    /// The first record that is wanted.
    first: Seq,
}

impl Walk<'_> {
    /// Gives each record's frame as it is, so that its checksum goes on covering it; one that does
    /// not match it is still read as damaged afterwards. What cannot be told apart is left out, and
    /// reads as absent.
    fn each(
        &self,
        mut extents: &[Extent],
        mut give: impl FnMut(Seq, Timestamp, &[u8]) -> Result<(), ColdError>,
    ) -> Result<(), PackError> {
        while let Some(first) = extents.first() {
            let (together, rest) = extents.split_at(near(extents));
            let last = together.last().unwrap_or(first);
            let len = last.offset - first.offset + last.bytes;
            let segment = &self.sealed.segment;
            let bytes = read_span(segment, first.offset, len)
                .map_err(|error| IndexError::Io { segment: segment.number, error })?;
            for extent in together {
                let at = index(extent.offset - first.offset);
                let bytes = bytes.get(at..at + index(extent.bytes)).unwrap_or_default();
                self.extent(extent, bytes, &mut give)?;
            }
            extents = rest;
        }
        Ok(())
    }

    fn extent(
        &self,
        extent: &Extent,
        mut bytes: &[u8],
        give: &mut impl FnMut(Seq, Timestamp, &[u8]) -> Result<(), ColdError>,
    ) -> Result<(), ColdError> {
        for seq in (extent.first.0..extent.end().0).map(Seq) {
            let Some(frame) = Frame::decode(bytes) else {
                self.damaged(seq, "records cannot be told apart, and are left out");
                return Ok(());
            };
            if frame.crc != self.seed.crc(seq, extent.at, frame.payload) {
                self.damaged(seq, "a record's checksum is wrong");
            }
            let (whole, rest) = bytes.split_at(frame.len());
            if seq >= self.first {
                give(seq, extent.at, whole)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn damaged(&self, seq: Seq, what: &str) {
        metrics::counter!("segue_journal_corrupt_reads_total").increment(1);
        tracing::error!(segment = self.sealed.segment.number, %seq, what, "packing damaged records");
    }
}
