//! Sealing takes a stream out of memory while a commit of it is written.

use std::{fmt, io, path::Path, sync::Mutex};

use super::*;
use crate::disk::{Disk, DiskFile, DiskLock};

type Work = Box<dyn FnOnce() + Send>;

/// Does something once, at the next write of a file.
#[derive(Clone)]
struct Meanwhile {
    inner: FaultyDisk,
    work: Arc<Mutex<Option<Work>>>,
}

struct MeanwhileFile {
    inner: Arc<dyn DiskFile>,
    work: Arc<Mutex<Option<Work>>>,
}

impl Meanwhile {
    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(MeanwhileFile { inner, work: Arc::clone(&self.work) })
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for MeanwhileFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Disk for Meanwhile {
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
        self.inner.sync_dir(dir)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free(dir)
    }
}

impl DiskFile for MeanwhileFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let work = self.work.lock().expect("lock").take();
        if let Some(work) = work {
            work();
        }
        self.inner.write_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
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

fn claimed(stream: &StreamKey, producer: &str, n: u64) -> Part {
    let mut part = append(stream, &format!("{producer}{n}"));
    if let Op::Append { producer: claim, .. } = &mut part.op {
        let id = ProducerId::parse(producer).expect("an id");
        *claim = Some(ProducerClaim { id, epoch: 1, first_seq: n, last_seq: n });
    }
    part
}

/// What is known of a stream is not lost when it leaves memory between the check of a commit and
/// its publication: neither its other producers nor its records.
#[test]
fn a_stream_that_leaves_memory_under_a_commit_keeps_its_producers() {
    let place = Place::new();
    let disk = Meanwhile { inner: place.disk.clone(), work: Arc::default() };
    let mut options = place.options();
    options.disk = Arc::new(disk.clone());
    options.hot_bytes = u64::MAX;
    let driven = Driven::with(options).expect("open");
    let stream = session("s");
    driven.create(&stream);
    driven.commit(vec![claimed(&stream, "p", 0)]).expect("appended");
    fill_segment(&driven);
    let log = Arc::clone(&driven.log);
    *disk.work.lock().expect("lock") = Some(Box::new(move || {
        while log.step_keeper() == Step::Worked {}
        assert!(log.store.table().hot(&session("s")).is_none(), "it left");
    }));
    driven.commit(vec![claimed(&stream, "q", 0)]).expect("appended");
    assert!(disk.work.lock().expect("lock").is_none(), "it was sealed meanwhile");
    for _ in 0..2 {
        assert_eq!(driven.log.producers(&stream).expect("known").len(), 2);
        let retry = driven.commit(vec![claimed(&stream, "p", 0)]).expect("the first answer");
        assert!(retry.duplicate);
        assert_eq!(driven.read(&stream).expect("readable"), ["p0", "q0"]);
        fill_segment(&driven);
        seal(&driven);
    }
}
