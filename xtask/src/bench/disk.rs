//! The disk alone: what a sync costs, and a log without anything around it.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::Context;
use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use tokio::{sync::oneshot, time::Instant};

const GAUGE_APPENDS: usize = 300;
const GAUGE_BYTES: usize = 128;

/// The median of an append of 128 bytes with its sync to a preallocated file, in microseconds.
pub(super) fn sync_p50_us(folder: &Path) -> anyhow::Result<f64> {
    let file = preallocated(&folder.join("gauge"), 1 << 20)?;
    let mut took = Vec::with_capacity(GAUGE_APPENDS);
    for index in 0..GAUGE_APPENDS {
        let begin = Instant::now();
        file.write_all_at(&[b'x'; GAUGE_BYTES], (index * GAUGE_BYTES) as u64)?;
        file.sync_data()?;
        took.push(begin.elapsed());
    }
    took.sort();
    Ok(took[GAUGE_APPENDS / 2].as_secs_f64() * 1e6)
}

fn preallocated(path: &Path, bytes: u64) -> anyhow::Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// One record and who waits for it.
struct Append {
    record: Bytes,
    done: oneshot::Sender<()>,
}

/// A log with group commit and nothing else: one thread takes what is queued, writes it with one
/// call, syncs once and answers.
pub(super) struct RawLog {
    queue: SyncSender<Append>,
    writer: JoinHandle<anyhow::Result<()>>,
}

impl RawLog {
    pub(super) fn open(folder: &Path, bytes: u64, queue: usize) -> anyhow::Result<Self> {
        let file = preallocated(&folder.join("raw"), bytes)?;
        let (sender, receiver) = sync_channel(queue);
        let writer = thread::Builder::new()
            .name("raw-log".into())
            .spawn(move || write(&file, &receiver, bytes))?;
        Ok(Self { queue: sender, writer })
    }

    /// Waits until the record is durable.
    pub(super) async fn append(&self, record: Bytes) -> anyhow::Result<()> {
        let (done, durable) = oneshot::channel();
        self.queue.send(Append { record, done }).context("the raw log ended")?;
        durable.await.context("the raw log ended")
    }

    pub(super) fn close(self) -> anyhow::Result<()> {
        drop(self.queue);
        self.writer.join().unwrap_or_else(|_| anyhow::bail!("the raw log panicked"))
    }
}

fn write(file: &File, queue: &Receiver<Append>, bytes: u64) -> anyhow::Result<()> {
    let (mut buffer, mut waiting, mut at) = (Vec::new(), Vec::new(), 0);
    while let Ok(first) = queue.recv() {
        for append in std::iter::once(first).chain(queue.try_iter()) {
            let length = u32::try_from(append.record.len())?;
            buffer.extend_from_slice(&length.to_le_bytes());
            buffer.extend_from_slice(&append.record);
            waiting.push(append.done);
        }
        if at + buffer.len() as u64 > bytes {
            at = 0;
        }
        file.write_all_at(&buffer, at)?;
        file.sync_data()?;
        at += buffer.len() as u64;
        buffer.clear();
        for done in waiting.drain(..) {
            // Who hung up does not want to know.
            done.send(()).ok();
        }
    }
    Ok(())
}
