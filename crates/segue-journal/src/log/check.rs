//! Verifying a whole journal that no process has open.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    fmt, io,
    path::Path,
};

use segue_core::Seq;

use super::{
    OpenError,
    commit::{
        COMMIT_HEAD, Extent, Flags, Frame, PartFacts, Parts, ReadPart, RecordSeed, frame_len,
    },
    format::read_format,
    index::Sealed,
    layout::index,
    recover::{Opened, open_segments},
    segment::{Found, Segment, Window},
};
use crate::{
    api::StreamInfo,
    cold::{Cold, ColdError, Row},
    disk::Disk,
    stream::{Incarnation, StreamKey},
};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Whole commits in them.
    pub commits: u64,
    /// Chunks of the cold store.
    pub chunks: u64,
    /// Records in commits and chunks.
    pub records: u64,
    /// Everything that is wrong, in the order of the files.
    pub faults: Vec<Fault>,
}

/// Something that is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The segment; zero stands for the cold store.
    pub segment: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segment {
            0 => write!(f, "cold.db: {}", self.what),
            segment => write!(f, "segment {segment}: {}", self.what),
        }
    }
}

/// Verifies every segment, commit, chunk and record, that commit numbers and seqs are dense from
/// the cold store on, and that indexes say what the commits do. Changes nothing but the lock file
/// and what `SQLite` has of its own beside `cold.db`.
///
/// A torn tail is no fault: opening cuts it, and nobody was told of it. Fails like an open does:
/// `Locked` while a server runs.
pub fn check(dir: &Path, disk: &dyn Disk) -> Result<Report, OpenError> {
    check_with(dir, disk, &dir.join("cold.db"))
}

/// With the cold store anywhere.
pub(super) fn check_with(dir: &Path, disk: &dyn Disk, cold: &Path) -> Result<Report, OpenError> {
    let lock = disk.lock(&dir.join("LOCK")).map_err(|error| OpenError::io(dir, error))?;
    let _lock = lock.ok_or_else(|| OpenError::Locked(dir.to_owned()))?;
    let dir = dir.join("journal");
    let id = read_format(disk, &dir)?;
    let at = |error| OpenError::cold(cold, error);
    let cold = Cold::open(cold, id.0).map_err(at)?;
    let packed = cold.packed();
    let opened = open_segments(disk, &dir, id, packed)?;
    let mut checker = Checker { next: packed.commit + 1, ..Checker::default() };
    checker.cold(&cold).map_err(at)?;
    for (n, segment) in opened.iter().enumerate() {
        let later = opened[n + 1..].iter().find_map(Opened::first);
        checker.segment(segment, later).map_err(|error| OpenError::io(&dir, error))?;
    }
    checker.orphans();
    Ok(checker.report)
}

#[derive(Default)]
struct Checker {
    report: Report,
    /// The number of the next commit.
    next: u64,
    /// Some commits are absent or not whole: what created a stream may be among them.
    gaps: bool,
    /// Streams that nothing says to have been created, and where they are met. Packing leaves a
    /// stream out that a newer segment deletes, so only those that are not deleted are at fault.
    orphans: HashMap<StreamKey, u64>,
    /// Where each stream goes on.
    streams: HashMap<StreamKey, (Incarnation, Seq)>,
    /// The extents that this segment's index has to have.
    extents: HashMap<StreamKey, (Incarnation, Vec<Extent>)>,
}

impl Checker {
    /// The catalogue, where every stream goes on, and the chunks.
    fn cold(&mut self, cold: &Cold) -> Result<(), ColdError> {
        let mut rows = Vec::new();
        cold.each_stream(|row| match row {
            Ok(row) => rows.push(row),
            Err(what) => self.fault(0, what),
        })?;
        for row in rows {
            self.chunks(cold, &row)?;
            let next = (row.state.info.incarnation, row.state.info.tail.next);
            self.streams.insert(row.stream, next);
        }
        cold.faults()?.into_iter().for_each(|what| self.fault(0, what));
        Ok(())
    }

    /// A stream's chunks follow on from its first readable record up to `cold_until`.
    fn chunks(&mut self, cold: &Cold, row: &Row) -> Result<(), ColdError> {
        let StreamInfo { incarnation, available_from, .. } = row.state.info;
        let seed = RecordSeed::of(&row.stream, incarnation);
        let mut next = available_from;
        cold.each_chunk(&row.stream, incarnation, |chunk| match chunk {
            Err(what) => self.fault(0, format!("{}: {what}", row.stream)),
            // Not yet erased.
            Ok(chunk) if chunk.end() <= available_from => {}
            Ok(chunk) => {
                self.report.chunks += 1;
                self.report.records += chunk.count;
                let sound = chunk.records(frame_len).filter(|(seq, at, bytes)| {
                    Frame::decode(bytes).is_some_and(|f| f.crc == seed.crc(*seq, *at, f.payload))
                });
                if sound.count() as u64 != chunk.count {
                    let what = format!(
                        "{}: a record of the chunk at {} is damaged",
                        row.stream, chunk.first
                    );
                    self.fault(0, what);
                }
                if chunk.first > next || (chunk.first < next && next != available_from) {
                    self.fault(0, format!("{}: {} does not follow on", row.stream, chunk.first));
                }
                next = chunk.end();
            }
        })?;
        if next != row.cold_until {
            self.fault(0, format!("{}: {next} is absent", row.stream));
        }
        Ok(())
    }

    /// `later` is the first whole commit of the segments behind it.
    fn segment(&mut self, opened: &Opened, later: Option<u64>) -> io::Result<()> {
        self.report.segments += 1;
        self.extents.clear();
        let end = match &opened.sealed {
            Some(sealed) => u64::from(sealed.trailer.entries_at),
            None => opened.len,
        };
        let scan = opened.segment.scan(end)?;
        let mut window = Window::new(&*opened.segment.file, end);
        for (n, found) in scan.found.iter().enumerate() {
            if scan.stands(n, self.next, later) {
                self.commit(&opened.segment, found, &mut window)?;
            }
        }
        if let Some(sealed) = &opened.sealed {
            self.commit_number(sealed.segment.number, sealed.trailer.last_commit + 1);
            self.index(sealed);
        }
        if let Some(damaged) = &opened.damaged {
            self.fault(opened.segment.number, damaged.to_string());
        }
        Ok(())
    }

    fn commit(
        &mut self,
        segment: &Segment,
        found: &Found,
        window: &mut Window<'_>,
    ) -> io::Result<()> {
        let head = &found.head;
        self.commit_number(segment.number, head.number);
        self.next = head.number + 1;
        if found.whole {
            self.report.commits += 1;
        } else {
            self.gaps = true;
            let what = format!("commit {}: its checksum is wrong", head.number);
            self.fault(segment.number, what);
        }
        let body = window.get(found.offset + COMMIT_HEAD as u64, index(head.body_len))?;
        for part in Parts::new(head, body, found.offset, segment.seed).verify() {
            self.part(segment.number, part);
        }
        Ok(())
    }

    fn fault(&mut self, segment: u64, what: String) {
        self.report.faults.push(Fault { segment, what });
    }

    /// Names the commits that should be before `number` and are not.
    fn commit_number(&mut self, segment: u64, number: u64) {
        if number > self.next {
            let (first, last) = (self.next, number - 1);
            self.fault(segment, format!("commits {first} to {last} are absent"));
            self.next = number;
            self.gaps = true;
        }
    }

    fn part(&mut self, segment: u64, part: ReadPart) {
        let ReadPart { facts, extents, sound } = part;
        self.report.records += u64::from(facts.records);
        if !sound {
            let PartFacts { stream, first_seq, .. } = &facts;
            self.fault(segment, format!("{stream}: a record from {first_seq} on is damaged"));
        }
        self.seqs(segment, &facts);
        let kept = self.extents.entry(facts.stream).or_insert((facts.incarnation, Vec::new()));
        if kept.0 != facts.incarnation || facts.flags.has(Flags::DELETE) {
            *kept = (facts.incarnation, Vec::new());
        }
        kept.1.extend(extents);
    }

    fn seqs(&mut self, segment: u64, facts: &PartFacts) {
        let appends = !facts.flags.has(Flags::TRIM) && !facts.flags.has(Flags::DELETE);
        let begins = facts.flags.has(Flags::CREATE) && facts.first_seq == Seq::FIRST;
        let known = self.streams.get(&facts.stream).copied();
        let follows = known.is_none_or(|known| known == (facts.incarnation, facts.first_seq));
        if appends && !begins && !follows {
            let PartFacts { stream, first_seq, .. } = facts;
            self.fault(segment, format!("{stream}: {first_seq} does not follow on"));
        }
        if facts.flags.has(Flags::DELETE) {
            self.orphans.remove(&facts.stream);
        } else if known.is_none() && !facts.flags.has(Flags::CREATE) && !self.gaps {
            self.orphans.insert(facts.stream.clone(), segment);
        }
        match self.streams.entry(facts.stream.clone()) {
            Slot::Occupied(slot) if facts.flags.has(Flags::DELETE) => drop(slot.remove()),
            _ if !appends => {}
            slot => drop(slot.insert_entry((facts.incarnation, facts.next()))),
        }
    }

    fn orphans(&mut self) {
        for (stream, segment) in std::mem::take(&mut self.orphans) {
            self.fault(segment, format!("{stream}: nothing says that it was created"));
        }
        self.report.faults.sort_by_key(|fault| fault.segment);
    }

    /// Compares an index with what the commits say.
    fn index(&mut self, sealed: &Sealed) {
        let number = sealed.segment.number;
        let entries = match sealed.entries() {
            Ok(entries) => entries,
            Err(error) => return self.fault(number, error.to_string()),
        };
        for entry in entries {
            let Some(entry) = entry else {
                self.fault(number, format!("the index of segment {number} is damaged"));
                continue;
            };
            let expected = self.extents.remove(&entry.stream).map_or_else(Vec::new, |kept| kept.1);
            match sealed.all_extents(&entry) {
                Ok(extents) if extents == expected => {}
                Ok(_) => {
                    self.fault(number, format!("{}: the index has other records", entry.stream));
                }
                Err(error) => self.fault(number, error.to_string()),
            }
            let known = self.streams.get(&entry.stream).map(|(_, next)| *next);
            let says = entry.state.map(|state| state.info.tail.next);
            if known.is_some() && known != says {
                self.fault(number, format!("{}: the index has another tail", entry.stream));
            }
        }
        let missing: Vec<StreamKey> = self.extents.drain().map(|(key, _)| key).collect();
        for stream in missing {
            self.fault(number, format!("{stream}: the index lacks it"));
        }
    }
}
