//! Verifying a whole journal that no process has open.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    io,
    path::Path,
    sync::Arc,
};

use segue_core::Seq;

use super::{
    OpenError,
    commit::{COMMIT_HEAD, Extent, Flags, PartFacts, Parts, ReadPart},
    index::Sealed,
    layout::index,
    recover::{Opened, open_segments, read_format},
    segment::{Found, Segment, Window},
};
use crate::{
    disk::Disk,
    stream::{Incarnation, StreamKey},
};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Whole commits.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Everything that is wrong, in the order of the files.
    pub faults: Vec<Fault>,
}

/// Something that is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The segment.
    pub segment: u64,
    /// What is wrong.
    pub what: String,
}

/// Verifies every segment, commit and record, that commit numbers and seqs are dense, and that
/// indexes say what the commits do. Changes nothing but the lock file.
///
/// A torn tail is no fault: opening cuts it, and nobody was told of it. Fails like an open does:
/// `Locked` while a server runs.
pub fn check(dir: &Path, disk: &dyn Disk) -> Result<Report, OpenError> {
    let lock = disk.lock(&dir.join("LOCK")).map_err(|error| OpenError::io(dir, error))?;
    let _lock = lock.ok_or_else(|| OpenError::Locked(dir.to_owned()))?;
    let dir = dir.join("journal");
    let id = read_format(disk, &dir)?;
    let opened = open_segments(disk, &dir, id)?;
    let mut checker = Checker::default();
    for (n, segment) in opened.iter().enumerate() {
        let is_last = n + 1 == opened.len();
        checker.segment(segment, is_last).map_err(|error| OpenError::io(&dir, error))?;
    }
    Ok(checker.report)
}

#[derive(Default)]
struct Checker {
    report: Report,
    /// The number of the next commit, once one was seen.
    next: Option<u64>,
    /// Where each stream goes on.
    streams: HashMap<StreamKey, (Incarnation, Seq)>,
    /// The extents that this segment's index has to have.
    extents: HashMap<StreamKey, (Incarnation, Vec<Extent>)>,
}

impl Checker {
    fn segment(&mut self, opened: &Opened, is_last: bool) -> io::Result<()> {
        self.report.segments += 1;
        self.extents.clear();
        let end = opened.trailer.map_or(opened.len, |trailer| u64::from(trailer.entries_at));
        let found = opened.segment.scan(end)?.found;
        let last_whole = found.iter().rposition(|found| found.whole);
        // Behind the last whole commit of all there can only be a torn tail.
        let n = if is_last { last_whole.map_or(0, |last| last + 1) } else { found.len() };
        let mut window = Window::new(&*opened.segment.file, end);
        for found in &found[..n] {
            self.commit(&opened.segment, found, &mut window)?;
        }
        if let Some(trailer) = opened.trailer {
            let segment = Arc::clone(&opened.segment);
            self.index(&Sealed { segment, trailer });
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
        if found.whole {
            self.report.commits += 1;
        } else {
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

    fn commit_number(&mut self, segment: u64, number: u64) {
        if let Some(next) = self.next.replace(number + 1)
            && next != number
        {
            self.fault(segment, format!("commit {number} follows {}", next - 1));
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
        match self.streams.entry(facts.stream.clone()) {
            Slot::Occupied(slot) if facts.flags.has(Flags::DELETE) => drop(slot.remove()),
            _ if !appends => {}
            slot => drop(slot.insert_entry((facts.incarnation, facts.next()))),
        }
    }

    /// Compares an index with what the commits say.
    fn index(&mut self, sealed: &Sealed) {
        let number = sealed.segment.number;
        let entries = match sealed.entries() {
            Ok(entries) => entries,
            Err(error) => return self.fault(number, error.to_string()),
        };
        for entry in entries {
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
