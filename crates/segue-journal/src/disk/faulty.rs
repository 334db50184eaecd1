//! A disk in memory that breaks at a chosen step and keeps live and durable bytes apart.

mod file;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile, DiskLock, parent};
use file::FaultyFile;

/// What a disk tears at: a sector is written whole or not at all.
const SECTOR: usize = 512;

/// A disk in memory. Clones are the same disk.
///
/// Live bytes are what the running program reads (the page cache); durable ones are what a power
/// loss leaves. A failed sync drops what it should have made durable and still shows it to
/// reads, as page caches do.
#[derive(Clone)]
pub struct FaultyDisk(Arc<Mutex<State>>);

/// What a power loss leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Any sectors of any writes, and any names, by the disk's seed.
    Torn,
}

struct State {
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    files: Vec<Inode>,
    locks: HashSet<PathBuf>,
    free: Option<u64>,
    steps: u64,
    crash_at: Option<u64>,
    failing: Vec<Failure>,
    random: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// After so many others.
    Sync(usize, io::ErrorKind),
    Write(io::ErrorKind),
}

impl FaultyDisk {
    /// An empty disk whose random choices follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            names: BTreeMap::from([(PathBuf::from("/"), Node::Dir)]),
            durable_names: BTreeMap::from([(PathBuf::from("/"), Node::Dir)]),
            files: Vec::new(),
            locks: HashSet::new(),
            free: None,
            steps: 0,
            crash_at: None,
            failing: Vec::new(),
            random: seed,
        })))
    }

    /// Changes (writes, syncs, names, lengths) made so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The change with this number, counted from 0 as [`FaultyDisk::steps`] does, and everything
    /// after it fails.
    pub fn crash_at(&self, step: u64) {
        self.state().crash_at = Some(step);
    }

    /// The next sync of a file fails, once.
    pub fn fail_sync(&self) {
        self.fail_nth_sync(0, io::ErrorKind::Other);
    }

    /// After as many as `before`, a sync of a file fails, once, with an error of this kind.
    pub fn fail_nth_sync(&self, before: usize, kind: io::ErrorKind) {
        self.state().failing.push(Failure::Sync(before, kind));
    }

    /// The next write writes half and fails, once.
    pub fn fail_write(&self, kind: io::ErrorKind) {
        self.state().failing.push(Failure::Write(kind));
    }

    /// How many bytes files may still grow by. `None` is no bound.
    pub fn set_free(&self, free: Option<u64>) {
        self.state().free = free;
    }

    /// The process ended, the machine did not: live bytes stay, locks are free, faults are gone.
    pub fn restart(&self) {
        let mut state = self.state();
        state.locks.clear();
        state.crash_at = None;
        state.failing.clear();
    }

    /// The machine lost power: a new disk with the durable bytes and what else survived.
    #[must_use]
    pub fn power_loss(&self, survival: Survival) -> FaultyDisk {
        let mut state = self.state();
        let names = state.surviving_names(survival);
        let files = state.surviving_files(survival);
        let lost = FaultyDisk::new(state.next_random());
        let mut new = lost.state();
        (new.names, new.durable_names, new.files) = (names.clone(), names, files);
        new.free = state.free;
        drop(new);
        lost
    }

    /// The bytes of a file as a reader sees them. Panics if there is none.
    pub fn live(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let id = state.file(path).expect("the file exists");
        state.files[id].live.clone()
    }

    /// Overwrites bytes of a file, live and durable: damage that nobody was told of.
    pub fn damage(&self, path: &Path, at: usize, bytes: &[u8]) {
        let mut state = self.state();
        let id = state.file(path).expect("the file exists");
        let inode = &mut state.files[id];
        put(&mut inode.live, at, bytes);
        put(&mut inode.durable, at, bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, id: usize) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { disk: self.clone(), id })
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyDisk").field("steps", &self.steps()).finish_non_exhaustive()
    }
}

impl State {
    /// Counts a change; fails from the crash on.
    fn step(&mut self) -> io::Result<()> {
        if self.crash_at.is_some_and(|at| self.steps >= at) {
            return Err(io::Error::other("crashed"));
        }
        self.steps += 1;
        Ok(())
    }

    /// `SplitMix64`.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next_random() & 1 == 1
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(*id),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn take_failure(&mut self, is: impl Fn(&Failure) -> bool) -> Option<Failure> {
        let at = self.failing.iter().position(is)?;
        Some(self.failing.remove(at))
    }

    /// Takes room for growing file `id` to `len`; gives the length that fits.
    fn grow(&mut self, id: usize, len: usize) -> usize {
        let old = self.files[id].live.len();
        let Some(free) = &mut self.free else { return len };
        let wanted = len.saturating_sub(old) as u64;
        let given = wanted.min(*free);
        *free -= given;
        if wanted == 0 { len } else { old + usize::try_from(given).unwrap_or(usize::MAX) }
    }

    fn give_back(&mut self, bytes: usize) {
        if let Some(free) = &mut self.free {
            *free += bytes as u64;
        }
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.step()?;
        let Self { names, durable_names, .. } = self;
        durable_names.retain(|path, _| path.parent() != Some(dir) || names.contains_key(path));
        let inside = names.iter().filter(|(path, _)| path.parent() == Some(dir));
        durable_names.extend(inside.map(|(path, node)| (path.clone(), *node)));
        Ok(())
    }

    fn surviving_names(&mut self, survival: Survival) -> BTreeMap<PathBuf, Node> {
        let mut names = self.durable_names.clone();
        if survival == Survival::Torn {
            let live: Vec<_> = self.names.clone().into_iter().collect();
            for (path, node) in live {
                if names.get(&path) != Some(&node) && self.coin() {
                    names.insert(path, node);
                }
            }
        }
        let all: HashSet<PathBuf> = names.keys().cloned().collect();
        names.retain(|path, _| path.ancestors().all(|folder| all.contains(folder)));
        names
    }

    fn surviving_files(&mut self, survival: Survival) -> Vec<Inode> {
        let mut files = self.files.clone();
        for inode in &mut files {
            let mut image = inode.durable.clone();
            for change in std::mem::take(&mut inode.pending) {
                if survival == Survival::Torn {
                    self.tear(&mut image, &change);
                }
            }
            *inode = Inode { live: image.clone(), durable: image, pending: Vec::new() };
        }
        files
    }

    fn tear(&mut self, image: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Len(len) if self.coin() => image.resize(*len, 0),
            Change::Len(_) => {}
            Change::Write(at, bytes) => {
                let mut from = 0;
                while from < bytes.len() {
                    let to = (from + SECTOR - (at + from) % SECTOR).min(bytes.len());
                    if self.coin() {
                        put(image, at + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

struct HeldLock(FaultyDisk, PathBuf);

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.0.state().locks.remove(&self.1);
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let mut levels: Vec<&Path> = dir.ancestors().collect();
        while let Some(dir) = levels.pop() {
            if !state.names.contains_key(dir) {
                state.step()?;
                state.names.insert(dir.to_owned(), Node::Dir);
                state.sync_dir(parent(dir).unwrap_or(dir))?;
            }
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        let taken = self.state().locks.insert(path.to_owned());
        Ok(taken.then(|| Box::new(HeldLock(self.clone(), path.to_owned())) as DiskLock))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.step()?;
        let parent = path.parent().and_then(|parent| state.names.get(parent));
        if parent != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = state.files.len();
        state.files.push(Inode::default());
        state.names.insert(path.to_owned(), Node::File(id));
        Ok(self.handle(id))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.state().file(path)?;
        Ok(self.handle(id))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let id = state.file(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), Node::File(id));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let id = state.file(path)?;
        state.names.remove(path);
        let bytes = state.files[id].live.len();
        state.give_back(bytes);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().sync_dir(dir)
    }

    fn free(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.state().free.unwrap_or(u64::MAX))
    }
}
