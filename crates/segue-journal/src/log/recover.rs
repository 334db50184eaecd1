//! Opening: from the files to the table. See "Opening" in `docs/format.md`.

use std::{collections::VecDeque, io, path::Path, sync::Arc};

use super::{
    OpenError,
    commit::{COMMIT_HEAD, Parts},
    index::{self, IndexError, Sealed, Trailer},
    layout::{
        BadHead, FORMAT_BYTES, HEAD_BYTES, JournalId, Seed, check_segment_head, decode_format,
        encode_format, encode_head, segment_number, segment_path,
    },
    segment::{Found, Scan, Segment, Window, is_zero},
    table::{Table, Version, find_sealed},
};
use crate::{
    disk::{Disk, DiskFile},
    stream::StreamKey,
};

/// How much is looked at and overwritten at once.
const WIPE_BYTES: usize = 64 << 10;

/// Commits that were there once and are not, or not whole.
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
    pub(crate) trailer: Option<Trailer>,
    /// What it has, if it is not sealed.
    pub(crate) scan: Scan,
}

impl Opened {
    fn io(&self, error: io::Error) -> OpenError {
        OpenError::Io { what: format!("segment {}", self.segment.number), error }
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
    fn first(&self) -> Option<u64> {
        let whole = self.scan.found.iter().find(|found| found.whole).map(|found| found.head.number);
        self.trailer.map(|trailer| trailer.first_commit).or(whole)
    }
}

/// Reads `FORMAT`; makes it if the journal is new. Names of unfinished files are removed.
pub(crate) fn open_format(disk: &dyn Disk, dir: &Path) -> Result<JournalId, OpenError> {
    let io = |error| OpenError::io(dir, error);
    let names = disk.list(dir).map_err(io)?;
    for name in names.iter().filter(|name| is_unfinished(name)) {
        disk.remove(&dir.join(name)).map_err(io)?;
    }
    if names.iter().any(|name| name == "FORMAT") {
        return read_format(disk, dir);
    }
    if names.iter().any(|name| segment_number(name).is_some()) {
        return Err(OpenError::unreadable(&dir.join("FORMAT"), "it is absent beside segments"));
    }
    create_format(disk, dir).map_err(io)
}

fn is_unfinished(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "tmp")
}

pub(crate) fn read_format(disk: &dyn Disk, dir: &Path) -> Result<JournalId, OpenError> {
    let path = dir.join("FORMAT");
    let read = || {
        let mut bytes = [0; FORMAT_BYTES];
        let n = disk.open(&path)?.read_at(&mut bytes, 0)?;
        io::Result::Ok((bytes, n))
    };
    let (bytes, n) = read().map_err(|error| OpenError::io(&path, error))?;
    decode_format(&bytes[..n]).map_err(|bad| bad_head(&path, &bad))
}

fn bad_head(path: &Path, bad: &BadHead) -> OpenError {
    match *bad {
        BadHead::Newer(found) => OpenError::Newer { path: path.to_owned(), found },
        BadHead::Unreadable(what) => OpenError::unreadable(path, what),
    }
}

fn create_format(disk: &dyn Disk, dir: &Path) -> io::Result<JournalId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let (tmp, path) = (dir.join("FORMAT.tmp"), dir.join("FORMAT"));
    let file = disk.create(&tmp)?;
    file.write_at(&encode_format(JournalId(id)), 0)?;
    file.sync()?;
    disk.rename(&tmp, &path)?;
    disk.sync_dir(dir)?;
    Ok(JournalId(id))
}

/// Opens every segment, oldest first; scans those without a trailer.
pub(crate) fn open_segments(
    disk: &dyn Disk,
    dir: &Path,
    id: JournalId,
) -> Result<Vec<Opened>, OpenError> {
    let names = disk.list(dir).map_err(|error| OpenError::io(dir, error))?;
    let numbers = names.iter().filter_map(|name| segment_number(name));
    let opened = numbers.map(|number| open_segment(disk, dir, id, number));
    opened.collect()
}

/// The newest index is what a start goes by: if its open runs cannot be read, its segment is taken
/// for one without, and read from end to end.
fn distrust_newest(opened: &mut [Opened]) -> Result<(), OpenError> {
    for newest in opened.iter_mut().rev() {
        let Some(trailer) = newest.trailer else { continue };
        let segment = Arc::clone(&newest.segment);
        let Err(error) = (Sealed { segment, trailer }).open_runs() else { break };
        metrics::counter!("segue_journal_damage_total").increment(1);
        tracing::error!(%error, "an index is made anew");
        newest.scan = newest.segment.scan(newest.len).map_err(|error| newest.io(error))?;
        newest.trailer = None;
    }
    Ok(())
}

fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    id: JournalId,
    number: u64,
) -> Result<Opened, OpenError> {
    let path = segment_path(dir, number);
    let open = || {
        let file = disk.open(&path)?;
        let len = file.size()?;
        let segment = Arc::new(Segment { number, file, seed: Seed::of(id, number) });
        let trailer = segment.trailer()?;
        let scan = if trailer.is_none() { segment.scan(len)? } else { Scan::default() };
        io::Result::Ok(Opened { segment, len, trailer, scan })
    };
    let opened = open().map_err(|error| OpenError::io(&path, error))?;
    check_version(&opened, id, &path)?;
    Ok(opened)
}

/// A segment of a later version is refused. Any other fault of the head is none of the commits,
/// which verify by themselves.
fn check_version(opened: &Opened, id: JournalId, path: &Path) -> Result<(), OpenError> {
    let mut head = [0; HEAD_BYTES];
    let file = &opened.segment.file;
    let n = file.read_at(&mut head, 0).map_err(|error| OpenError::io(path, error))?;
    match check_segment_head(&head[..n], id, opened.segment.number) {
        Err(bad @ BadHead::Newer(_)) => Err(bad_head(path, &bad)),
        Err(BadHead::Unreadable(what)) => {
            metrics::counter!("segue_journal_damage_total").increment(1);
            tracing::error!(path = %path.display(), what, "a segment's head is damaged");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Builds the table.
pub(crate) struct Recovery {
    table: Table,
    next: u64,
    damage: Vec<Damage>,
    /// Streams are those of the newest sealed segment.
    fresh: bool,
    /// The last commit's segment, place and length.
    last: Option<(Arc<Segment>, u64, usize)>,
}

impl Recovery {
    /// Takes the segments in order, and makes them ready for more.
    pub(crate) fn run(mut opened: Vec<Opened>, id: JournalId) -> Result<Recovered, OpenError> {
        distrust_newest(&mut opened)?;
        let mut recovery = Self::begin(&opened);
        let next_segment = opened.last().map_or(1, |last| last.segment.number + 1);
        let (with, without) = split(opened);
        for (n, opened) in with.iter().enumerate() {
            let later = with[n + 1..].iter().find_map(Opened::first);
            recovery.segment(opened, later).map_err(|error| opened.io(error))?;
        }
        recovery.load_open().map_err(|error| OpenError::index(&error))?;
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

    fn begin(opened: &[Opened]) -> Self {
        // Once the oldest segments are packed away, commits begin with the first that is left.
        let whole = opened.first().is_none_or(|first| first.segment.number == 1);
        let first = if whole { None } else { opened.iter().find_map(Opened::first) };
        Self {
            table: Table::default(),
            next: first.unwrap_or(1),
            damage: Vec::new(),
            fresh: false,
            last: None,
        }
    }

    /// Clears what is behind the last commit, and writes that once more: after a failed sync the
    /// page cache may show what the disk does not have (J5).
    fn settle(&self, last: &Opened) -> io::Result<()> {
        if let Some(active) = self.table.unsealed.back() {
            wipe(&*active.segment.file, active.end, last.scan.zeros_from)?;
        }
        let Some((segment, offset, len)) = &self.last else { return Ok(()) };
        let mut bytes = vec![0; *len];
        segment.file.read_at(&mut bytes, *offset)?;
        segment.file.write_at(&bytes, *offset)?;
        segment.file.sync()?;
        last.segment.file.sync()
    }

    fn report(&self) {
        for Damage { segment, first_commit, last_commit, what } in &self.damage {
            metrics::counter!("segue_journal_damage_total").increment(1);
            tracing::error!(segment, first_commit, last_commit, what, "commits are damaged");
        }
    }

    fn segment(&mut self, opened: &Opened, later: Option<u64>) -> io::Result<()> {
        if let Some(trailer) = opened.trailer {
            self.seal_all()?;
            self.hole(opened.segment.number, trailer.first_commit);
            let segment = Arc::clone(&opened.segment);
            Arc::make_mut(&mut self.table.sealed).push(Arc::new(Sealed { segment, trailer }));
            self.next = self.next.max(trailer.last_commit + 1);
            self.fresh = false;
            self.last = None;
            return Ok(());
        }
        self.load_open().map_err(io::Error::other)?;
        let (segment, seed) = (Arc::clone(&opened.segment), opened.segment.seed);
        self.table.begin(segment, self.next, HEAD_BYTES as u64);
        let mut window = Window::new(&*opened.segment.file, opened.len);
        for (n, found) in opened.scan.found.iter().enumerate() {
            if !self.stands(opened, n, later) {
                continue;
            }
            self.hole(opened.segment.number, found.head.number);
            let body = window.get(
                found.offset + COMMIT_HEAD as u64,
                super::layout::index(found.head.body_len),
            )?;
            let parts = Parts::new(&found.head, body, found.offset, seed);
            self.commit(&opened.segment, found, parts);
        }
        Ok(())
    }

    /// Whether a commit counts: it is next or later, and if it is not whole, a later one is there.
    fn stands(&self, opened: &Opened, n: usize, later: Option<u64>) -> bool {
        let found = &opened.scan.found[n];
        let number = found.head.number;
        let mut whole = opened.scan.found[n + 1..].iter().filter(|other| other.whole);
        let after = whole.next().map(|other| other.head.number).or(later);
        number >= self.next && (found.whole || after.is_some_and(|after| after > number))
    }

    fn commit(&mut self, segment: &Arc<Segment>, found: &Found, parts: Parts<'_>) {
        let number = found.head.number;
        if !found.whole {
            let segment = segment.number;
            let what = "its checksum is wrong";
            self.damage.push(Damage { segment, first_commit: number, last_commit: number, what });
        }
        let sealed = Arc::clone(&self.table.sealed);
        for part in parts {
            let stream = &part.facts.stream;
            self.table.place(&part.facts, &part.extents, || known(&sealed, stream));
            self.table.replay(&part.facts, number);
        }
        self.table.committed(number, found.end());
        self.next = number + 1;
        let len = usize::try_from(found.head.total()).expect("a commit was in memory whole");
        self.last = Some((Arc::clone(segment), found.offset, len));
    }

    /// Names the commits between the last one and `number`.
    fn hole(&mut self, segment: u64, number: u64) {
        if number > self.next {
            let (first_commit, last_commit) = (self.next, number - 1);
            let what = "they are absent";
            self.damage.push(Damage { segment, first_commit, last_commit, what });
        }
    }

    /// Takes the open runs of the newest sealed segment, once, before anything is applied to them.
    fn load_open(&mut self) -> Result<(), IndexError> {
        if !std::mem::replace(&mut self.fresh, true) {
            let open = match self.table.sealed.last() {
                Some(sealed) => sealed.open_runs()?,
                None => Vec::new(),
            };
            self.table.reset(open);
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
            let trailer = index::write(&segment, leaves, commits, end)?;
            let number = segment.number;
            let touched = self.table.seal(Arc::new(Sealed { segment, trailer }));
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

/// The version of a stream that sealed segments have.
fn known(sealed: &[Arc<Sealed>], stream: &StreamKey) -> Version {
    match find_sealed(sealed, stream) {
        Ok(entry) => entry.map(Version::from).unwrap_or_default(),
        Err(error) => {
            metrics::counter!("segue_journal_damage_total").increment(1);
            tracing::error!(%stream, %error, "a stream's state cannot be read");
            Version::default()
        }
    }
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
