//! Opening: from the files to the table. See "Opening" in `docs/format.md`.

use std::{collections::VecDeque, io, path::Path, sync::Arc};

use super::{
    OpenError,
    commit::{COMMIT_HEAD, Flags, PartFacts, Parts},
    find::{FindError, find},
    format::bad_head,
    index::{self, IndexError, Sealed},
    layout::{
        BadHead, HEAD_BYTES, JournalId, Seed, check_segment_head, encode_head, segment_number,
        segment_path,
    },
    segment::{Found, Scan, Segment, Window, first_whole, is_zero},
    table::{Table, Version},
};
use crate::{
    cold::{Cold, Packed},
    disk::{Disk, DiskFile},
    stream::KeySet,
};

/// How much is looked at and overwritten at once.
const WIPE_BYTES: usize = 64 << 10;

/// Extents that an open verifies, newest segments first: at most 64 MiB are read for it beside
/// those of the oldest segment, however large the journal is.
const EXTENTS_AT_OPEN: u32 = 2 << 20;

/// Commits that were there once and are not, or not whole, or that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment where they should be.
    pub segment: u64,
    /// The first commit.
    pub first_commit: u64,
    /// The last one.
    pub last_commit: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// What opening found.
pub(crate) struct Recovered {
    pub(crate) table: Table,
    /// The number of the next commit.
    pub(crate) next: u64,
    pub(crate) damage: Vec<Damage>,
    /// Prepared segments that have no commit yet, behind the others.
    pub(crate) spares: VecDeque<Arc<Segment>>,
    /// The number of the next segment to make.
    pub(crate) next_segment: u64,
}

/// A segment as it is found.
pub(crate) struct Opened {
    pub(crate) segment: Arc<Segment>,
    pub(crate) len: u64,
    /// Its index, if it is sealed.
    pub(crate) sealed: Option<Arc<Sealed>>,
    /// It was sealed, but its index is damaged.
    pub(crate) damaged: Option<IndexError>,
    /// What it has, if it is not sealed.
    pub(crate) scan: Scan,
}

impl Opened {
    fn io(&self, error: io::Error) -> OpenError {
        OpenError::Io { what: format!("segment {}", self.segment.number), error }
    }

    /// Its index is damaged: takes it for one without, and reads its commits.
    fn distrust(&mut self, error: IndexError) -> Result<(), OpenError> {
        if let IndexError::Io { error, .. } = error {
            return Err(self.io(error));
        }
        metrics::counter!("segue_journal_damage_total").increment(1);
        tracing::error!(%error, "its commits are read instead");
        self.scan = self.segment.scan(self.len).map_err(|error| self.io(error))?;
        (self.sealed, self.damaged) = (None, Some(error));
        Ok(())
    }

    fn has_commits(&self) -> bool {
        self.first().is_some()
    }

    /// Makes it an empty segment again.
    fn clear(&self, id: JournalId) -> io::Result<()> {
        let file = &*self.segment.file;
        let wiped = wipe(file, HEAD_BYTES as u64, self.scan.zeros_from)?;
        let head = encode_head(id, self.segment.number);
        let mut found = [0; HEAD_BYTES];
        file.read_at(&mut found, 0)?;
        if wiped || found != head {
            file.write_at(&head, 0)?;
            file.sync()?;
        }
        Ok(())
    }

    /// The first whole commit.
    pub(crate) fn first(&self) -> Option<u64> {
        let sealed = self.sealed.as_ref().map(|sealed| sealed.trailer.first_commit);
        sealed.or_else(|| first_whole(&self.scan.found))
    }
}

/// Opens every segment that is not packed, oldest first; scans those without a sound index.
pub(crate) fn open_segments(
    disk: &dyn Disk,
    dir: &Path,
    id: JournalId,
    packed: Packed,
) -> Result<Vec<Opened>, OpenError> {
    let names = disk.list(dir).map_err(|error| OpenError::io(dir, error))?;
    let numbers = names.iter().filter_map(|name| segment_number(name));
    let numbers = numbers.filter(|number| *number > packed.segment);
    let opened = numbers.map(|number| open_segment(disk, dir, id, number));
    let mut opened: Vec<Opened> = opened.collect::<Result<_, _>>()?;
    let extents = |opened: &Opened| opened.sealed.as_ref().map(|sealed| sealed.trailer.extents);
    let extents: Vec<Option<u32>> = opened.iter().map(extents).collect();
    for n in to_verify(&extents) {
        let verified = opened[n].sealed.as_ref().map_or(Ok(()), |sealed| sealed.verify_extents());
        if let Err(error) = verified {
            opened[n].distrust(error)?;
        }
    }
    Ok(opened)
}

/// Which segments' extents an open verifies, by how many they have: the newest, and the oldest
/// sealed one in any case. That is packed next, and damage of it would keep it from being packed.
fn to_verify(extents: &[Option<u32>]) -> Vec<usize> {
    let mut left = Some(EXTENTS_AT_OPEN);
    let oldest = extents.iter().position(Option::is_some);
    let sealed = extents.iter().enumerate().filter_map(|(n, extents)| Some((n, (*extents)?)));
    let verified = sealed.rev().filter(|(n, extents)| {
        left = left.and_then(|left| left.checked_sub(*extents));
        left.is_some() || Some(*n) == oldest
    });
    verified.map(|(n, _)| n).collect()
}

fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    id: JournalId,
    number: u64,
) -> Result<Opened, OpenError> {
    let path = segment_path(dir, number);
    let io = |error| OpenError::io(&path, error);
    let file = disk.open(&path).map_err(io)?;
    let len = file.size().map_err(io)?;
    let segment = Arc::new(Segment { number, file, seed: Seed::of(id, number) });
    let head = read_head(&segment, id, &path)?;
    let index = open_index(&segment);
    let mut opened = Opened { segment, len, sealed: None, damaged: None, scan: Scan::default() };
    match index {
        Ok(Some(sealed)) => opened.sealed = Some(sealed),
        Ok(None) => opened.scan = opened.segment.scan(len).map_err(io)?,
        Err(error) => opened.distrust(error)?,
    }
    if head == Head::Damaged && opened.sealed.is_none() && opened.scan.is_foreign() {
        return Err(OpenError::unreadable(&path, "its head is damaged and no commit can be read"));
    }
    Ok(opened)
}

fn open_index(segment: &Arc<Segment>) -> Result<Option<Arc<Sealed>>, IndexError> {
    let number = segment.number;
    let trailer = segment.trailer().map_err(|error| IndexError::Io { segment: number, error })?;
    let open = |trailer| Sealed::open(Arc::clone(segment), trailer).map(Arc::new);
    trailer.map(open).transpose()
}

#[derive(PartialEq, Eq)]
enum Head {
    Sound,
    Damaged,
}

/// A segment of a later version or of another journal is refused: it is none of ours to change.
/// Damage of the head alone is none of the commits, which verify by themselves.
fn read_head(segment: &Segment, id: JournalId, path: &Path) -> Result<Head, OpenError> {
    let mut head = [0; HEAD_BYTES];
    let n = segment.file.read_at(&mut head, 0).map_err(|error| OpenError::io(path, error))?;
    match check_segment_head(&head[..n], id, segment.number) {
        Err(bad @ (BadHead::Newer(_) | BadHead::Foreign(_))) => Err(bad_head(path, &bad)),
        Err(BadHead::Unreadable(what)) => {
            metrics::counter!("segue_journal_damage_total").increment(1);
            tracing::error!(path = %path.display(), what, "a segment's head is damaged");
            Ok(Head::Damaged)
        }
        Ok(()) => Ok(Head::Sound),
    }
}

/// Builds the table.
pub(crate) struct Recovery<'a> {
    cold: &'a Cold,
    table: Table,
    next: u64,
    damage: Vec<Damage>,
    /// Streams whose state is damaged, each named once.
    unreadable: KeySet,
    /// Streams are those of the newest sealed segment.
    fresh: bool,
    /// The last commit's segment, place and length.
    last: Option<(Arc<Segment>, u64, usize)>,
}

impl<'a> Recovery<'a> {
    fn new(cold: &'a Cold) -> Self {
        // Only packing removes segments, so commits begin behind what is packed.
        let (table, next) = (Table::default(), cold.packed().commit + 1);
        let (damage, unreadable) = (Vec::new(), KeySet::default());
        Self { cold, table, next, damage, unreadable, fresh: false, last: None }
    }

    /// Takes the segments in order, and makes them ready for more.
    pub(crate) fn run(
        opened: Vec<Opened>,
        id: JournalId,
        cold: &'a Cold,
    ) -> Result<Recovered, OpenError> {
        let mut recovery = Self::new(cold);
        let last = opened.last().map_or(0, |last| last.segment.number);
        let next_segment = last.max(cold.packed().segment) + 1;
        let (with, without) = split(opened);
        for (n, opened) in with.iter().enumerate() {
            let later = with[n + 1..].iter().find_map(Opened::first);
            recovery.segment(opened, later).map_err(|error| opened.io(error))?;
        }
        recovery.load_open().map_err(|error| OpenError::find(&error))?;
        if let Some(last) = with.last() {
            recovery.settle(last).map_err(|error| last.io(error))?;
        }
        for empty in &without {
            empty.clear(id).map_err(|error| empty.io(error))?;
        }
        let spares = without.into_iter().map(|opened| opened.segment).collect();
        recovery.report();
        let Self { table, next, damage, .. } = recovery;
        Ok(Recovered { table, next, damage, spares, next_segment })
    }

    /// Clears what is behind the last commit, and writes that once more: after a failed sync the
    /// page cache may show what the disk does not have (J5). Syncs every segment that is not sealed: at
    /// level `os` the process before may have left them to the system.
    fn settle(&self, last: &Opened) -> io::Result<()> {
        if let Some(active) = self.table.unsealed.back() {
            wipe(&*active.segment.file, active.end, last.scan.zeros_from)?;
        }
        if let Some((segment, offset, len)) = &self.last {
            let mut bytes = vec![0; *len];
            segment.file.read_at(&mut bytes, *offset)?;
            segment.file.write_at(&bytes, *offset)?;
        }
        self.table.sync_unsealed()
    }

    fn report(&self) {
        for Damage { segment, first_commit, last_commit, what } in &self.damage {
            metrics::counter!("segue_journal_damage_total").increment(1);
            tracing::error!(segment, first_commit, last_commit, what, "commits are damaged");
        }
    }

    fn segment(&mut self, opened: &Opened, later: Option<u64>) -> io::Result<()> {
        if let Some(sealed) = &opened.sealed {
            self.seal_all()?;
            self.hole(opened.segment.number, sealed.trailer.first_commit);
            Arc::make_mut(&mut self.table.sealed).push(Arc::clone(sealed));
            self.next = self.next.max(sealed.trailer.last_commit + 1);
            self.fresh = false;
            self.last = None;
            return Ok(());
        }
        self.load_open().map_err(io::Error::other)?;
        let (segment, seed) = (Arc::clone(&opened.segment), opened.segment.seed);
        self.table.begin(segment, self.next, HEAD_BYTES as u64);
        let mut window = Window::new(&*opened.segment.file, opened.len);
        for (n, found) in opened.scan.found.iter().enumerate() {
            if !opened.scan.stands(n, self.next, later) {
                continue;
            }
            self.hole(opened.segment.number, found.head.number);
            let body = window.get(
                found.offset + COMMIT_HEAD as u64,
                super::layout::index(found.head.body_len),
            )?;
            let parts = Parts::new(&found.head, body, found.offset, seed);
            self.commit(&opened.segment, found, parts).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        segment: &Arc<Segment>,
        found: &Found,
        parts: Parts<'_>,
    ) -> Result<(), FindError> {
        let number = found.head.number;
        if !found.whole {
            let segment = segment.number;
            let what = "its checksum is wrong";
            self.damage.push(Damage { segment, first_commit: number, last_commit: number, what });
        }
        let sealed = Arc::clone(&self.table.sealed);
        for part in parts {
            let known = match self.known(&sealed, &part.facts) {
                Err(error) if error.is_damage() => {
                    self.unreadable(segment.number, number, &part.facts, &error);
                    continue;
                }
                known => known?,
            };
            self.table.place(&part.facts, &part.extents, || known);
            self.table.replay(&part.facts, number);
        }
        self.table.committed(number, found.end());
        self.next = number + 1;
        let len = usize::try_from(found.head.total()).expect("a commit was in memory whole");
        self.last = Some((Arc::clone(segment), found.offset, len));
        Ok(())
    }

    /// The version of a part's stream before it, if it is not in memory.
    fn known(&self, sealed: &[Arc<Sealed>], part: &PartFacts) -> Result<Version, FindError> {
        // One that this part creates was not there: a start need not look for each new run.
        if part.flags.has(Flags::CREATE) || self.table.hot(&part.stream).is_some() {
            return Ok(Version::default());
        }
        match find(sealed, self.cold, &part.stream) {
            // Whatever it was, it is not any more.
            Err(error) if error.is_damage() && part.flags.has(Flags::DELETE) => {
                Ok(Version::default())
            }
            known => known,
        }
    }

    /// Leaves a stream whose state is damaged out of memory, so that every look-up comes to the
    /// damage. What its parts say alone would be a state without its other producers, and their
    /// retries would be stored twice.
    fn unreadable(&mut self, segment: u64, number: u64, part: &PartFacts, error: &FindError) {
        if self.unreadable.insert(part.stream.clone()) {
            tracing::error!(stream = %part.stream, %error, "a stream cannot be read");
            let what = "the state of a stream that it changes is damaged";
            self.damage.push(Damage { segment, first_commit: number, last_commit: number, what });
        }
    }

    /// Names the commits between the last one and `number`.
    fn hole(&mut self, segment: u64, number: u64) {
        if number > self.next {
            let (first_commit, last_commit) = (self.next, number - 1);
            let what = "they are absent";
            self.damage.push(Damage { segment, first_commit, last_commit, what });
        }
    }

    /// Takes the open runs of the newest sealed segment, or of the catalogue if all are packed,
    /// once, before anything is applied to them.
    fn load_open(&mut self) -> Result<(), FindError> {
        if !std::mem::replace(&mut self.fresh, true) {
            match self.table.sealed.last() {
                Some(sealed) => {
                    let open = sealed.open_runs()?.into_iter();
                    self.table.reset(open.map(|entry| (entry.stream.clone(), entry.into())));
                }
                None => {
                    let open = self.cold.open_runs()?.into_iter();
                    self.table.reset(open.map(|row| (row.stream.clone(), row.into())));
                }
            }
        }
        Ok(())
    }

    /// A sealed segment follows ones without a trailer: their index was damaged or is not there,
    /// and is made anew.
    fn seal_all(&mut self) -> io::Result<()> {
        while let Some(oldest) = self.table.unsealed.front() {
            metrics::counter!("segue_journal_indexes_rebuilt_total").increment(1);
            let (segment, commits, end) = (Arc::clone(&oldest.segment), oldest.commits, oldest.end);
            let keys = self.table.to_index(segment.number);
            let leaf = |key| self.table.leaf(key, (segment.number, commits.0));
            let leaves = keys.iter().filter_map(leaf).collect();
            let number = segment.number;
            let sealed = index::write(segment, leaves, commits, end)?;
            let touched = self.table.seal(Arc::new(sealed));
            self.table.release(number, &touched);
        }
        Ok(())
    }
}

/// Those up to the last with a commit, and the empty ones behind it.
fn split(mut opened: Vec<Opened>) -> (Vec<Opened>, Vec<Opened>) {
    let with = opened.iter().rposition(Opened::has_commits).map_or(0, |last| last + 1);
    let without = opened.split_off(with);
    (opened, without)
}

/// Overwrites what is not zero from `at` to `end` with zeros. `false`: there was nothing.
fn wipe(file: &dyn DiskFile, mut at: u64, end: u64) -> io::Result<bool> {
    let mut window = Window::new(file, end);
    let mut wiped = false;
    loop {
        let bytes = window.get(at, WIPE_BYTES)?;
        let n = bytes.len();
        if n == 0 {
            return Ok(wiped);
        }
        if !is_zero(bytes) {
            file.write_at(&vec![0; n], at)?;
            wiped = true;
        }
        at += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_sealed_segment_is_verified_beside_the_newest() {
        let many = Some(EXTENTS_AT_OPEN);
        assert_eq!(to_verify(&[None, Some(3), many, Some(1), many]), [4, 1]);
        assert_eq!(to_verify(&[many, None, Some(1), None]), [2, 0]);
        assert_eq!(to_verify(&[Some(1), Some(2), Some(3)]), [2, 1, 0]);
        assert_eq!(to_verify(&[None]), [0; 0]);
    }
}
