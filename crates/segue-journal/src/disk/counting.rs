//! A disk that counts.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Disk, DiskFile, DiskLock};

/// Passes everything on to another disk and counts it.
#[derive(Debug)]
pub struct CountingDisk {
    inner: Arc<dyn Disk>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    writes: AtomicU64,
    written: AtomicU64,
    syncs: AtomicU64,
    dir_syncs: AtomicU64,
    reads: AtomicU64,
    read: AtomicU64,
}

/// What was done since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes written.
    pub written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
    /// Calls of `read_at`.
    pub reads: u64,
    /// Bytes read.
    pub read: u64,
}

impl CountingDisk {
    /// Counts what is done to `inner`.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        let c = &self.counters;
        Counts {
            writes: c.writes.load(Relaxed),
            written: c.written.load(Relaxed),
            syncs: c.syncs.load(Relaxed),
            dir_syncs: c.dir_syncs.load(Relaxed),
            reads: c.reads.load(Relaxed),
            read: c.read.load(Relaxed),
        }
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(CountingFile { inner, counters: self.counters.clone() })
    }
}

#[derive(Debug)]
struct CountingFile {
    inner: Arc<dyn DiskFile>,
    counters: Arc<Counters>,
}

impl Disk for CountingDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        self.inner.lock(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.counters.dir_syncs.fetch_add(1, Relaxed);
        self.inner.sync_dir(dir)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free(dir)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let n = self.inner.read_at(into, at)?;
        self.counters.reads.fetch_add(1, Relaxed);
        self.counters.read.fetch_add(n as u64, Relaxed);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.counters.writes.fetch_add(1, Relaxed);
        self.counters.written.fetch_add(bytes.len() as u64, Relaxed);
        self.inner.write_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Relaxed);
        self.inner.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FaultyDisk;

    #[test]
    fn counts_what_is_done() {
        let disk = CountingDisk::new(Arc::new(FaultyDisk::new(1)));
        disk.create_dir(Path::new("/d")).expect("create_dir");
        let file = disk.create(Path::new("/d/f")).expect("create");
        file.write_at(b"abcd", 0).expect("write");
        file.sync().expect("sync");
        disk.sync_dir(Path::new("/d")).expect("sync_dir");
        let mut into = [0; 8];
        assert_eq!(file.read_at(&mut into, 1).expect("read"), 3);
        let expected = Counts { writes: 1, written: 4, syncs: 1, dir_syncs: 1, reads: 1, read: 3 };
        assert_eq!(disk.counts(), expected);
    }
}
