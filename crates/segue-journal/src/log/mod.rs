//! The embedded log: segment files with group commit.
//!
//! ```text
//!  submit -> queue -> writer: stage, one write, one sync, publish, acks, bells
//!                        |
//! cold store <-packer- segments: [sealed, sealed, ... | full, being sealed | active] + spare
//!                         ^ index on disk     ^ table in memory      ^ made by the keeper
//!  read   -> table, else the indexes, newest first, else the cold store -> checksums -> page
//! ```
//!
//! `docs/format.md` has every byte. The writer is a state machine that a thread drives, or a
//! test. The keeper does what the writer shall not wait for.

mod backup;
mod check;
mod chores;
mod commit;
mod find;
mod format;
mod index;
mod keeper;
mod known;
mod layout;
mod pack;
mod packing;
mod pause;
mod read;
mod recover;
mod segment;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
    thread::{self, JoinHandle},
};

use segue_core::{Clock, ProducerId, Seq};
use tokio::sync::oneshot;

use crate::{
    api::{
        Backup, BackupError, Batch, Journal, Page, Permit, Position, ProducerState, ReadError,
        ReadLimit, StreamInfo, Ticket,
    },
    cache::{self, FrameCache},
    cold::{Cold, ColdError},
    disk::{Disk, DiskLock, RealDisk, is_full, parent},
    doorbell::{Doorbell, Listener, Shard},
    queue::{Queue, QueueLimits, Reserve},
    state::Incarnations,
    stream::{StreamKey, StreamKind},
    sync::held,
};

pub use check::{Fault, Report, check};
pub use recover::Damage;
pub use writer::Writer;

pub(crate) use index::{decode_producers, encode_producers};

use find::FindError;
use recover::{Recovered, Recovery};
use segment::Segment;
use store::{Spare, Store, StoreParts};
use writer::Start;

/// What a failed log calls, once, after it has failed every ticket: a server ends its process.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is synced: survives a power loss.
    Disk,
    /// It is written: survives a killed process. Synced when a segment is full and at close, so
    /// that a power loss takes nothing but from the last segment.
    Os,
}

/// What a step of a state machine did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something; there may be more.
    Worked,
    /// There was nothing to do.
    Idle,
    /// There will never be anything to do again.
    Closed,
}

/// How a [`Log`] is set up.
#[derive(Clone)]
pub struct LogOptions {
    /// The data folder. Made if it is absent.
    pub dir: PathBuf,
    /// Where its files are.
    pub disk: Arc<dyn Disk>,
    /// Where records get their time.
    pub clock: Arc<dyn Clock>,
    /// When a commit counts as done.
    pub durability: Durability,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes that ordinary batches leave on a full disk to those that close a stream and have at
    /// most 256 KiB (or half of it). At most a quarter of a segment.
    pub reserve_bytes: u64,
    /// Bytes of segments to keep. Beyond them the oldest is packed into the cold store, and the
    /// writer is slowed down if packing does not keep up. Two segments are kept in any case: one
    /// that is written and one that is being sealed.
    pub hot_bytes: u64,
    /// The file of the cold store. It is always one of the operating system's.
    pub cold: PathBuf,
    /// Bytes of batches that may be queued at once.
    pub queue_bytes: usize,
    /// Bytes of the largest batch.
    pub max_batch: usize,
    /// Bytes of ready frames that are kept.
    pub frame_bytes: usize,
    /// Called once if the log fails.
    pub fatal: Fatal,
    /// Where incarnations begin. `None` takes the operating system's randomness.
    pub seed: Option<u64>,
}

impl LogOptions {
    /// The defaults, on the operating system's disk at level [`Durability::Disk`].
    pub fn new(dir: PathBuf, clock: Arc<dyn Clock>, fatal: Fatal) -> Self {
        Self {
            cold: dir.join("cold.db"),
            dir,
            disk: Arc::new(RealDisk),
            clock,
            durability: Durability::Disk,
            segment_bytes: 64 << 20,
            reserve_bytes: 16 << 20,
            hot_bytes: 256 << 20,
            queue_bytes: 32 << 20,
            max_batch: 68 << 20,
            frame_bytes: cache::DEFAULT_BUDGET,
            fatal,
            seed: None,
        }
    }
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("dir", &self.dir)
            .field("durability", &self.durability)
            .field("segment_bytes", &self.segment_bytes)
            .finish_non_exhaustive()
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the data folder open.
    #[error("the data folder {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The files were written by a later version of the program.
    #[error("{} has format {found}, this program reads up to {}", path.display(), layout::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file is not what it should be.
    #[error("{} cannot be read: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file or folder could not be read or written.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        error: io::Error,
    },
}

impl OpenError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { what: path.display().to_string(), error }
    }

    fn unreadable(path: &Path, what: &str) -> Self {
        Self::Unreadable { path: path.to_owned(), what: what.to_owned() }
    }

    fn find(error: &FindError) -> Self {
        Self::Io { what: "the open runs".into(), error: io::Error::other(error.to_string()) }
    }

    fn cold(path: &Path, error: ColdError) -> Self {
        let path = path.to_owned();
        match error {
            ColdError::Newer(found) => {
                Self::Newer { path, found: u32::try_from(found).unwrap_or(u32::MAX) }
            }
            error => Self::Unreadable { path, what: error.to_string() },
        }
    }
}

/// The journal in segment files.
pub struct Log {
    store: Arc<Store>,
    damage: Vec<Damage>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<DiskLock>>,
}

impl Log {
    /// Opens the journal in a data folder, or makes a new one, and starts its threads.
    pub fn open(options: LogOptions) -> Result<Arc<Self>, OpenError> {
        let (log, mut writer) = Self::prepare(options)?;
        let store = Arc::clone(&log.store);
        let packed = Arc::clone(&log.store);
        packed.packing.threaded.store(true, Ordering::Relaxed);
        log.spawn("journal-keeper", move || keeper::run(&store))?;
        log.spawn("journal-packer", move || pack::run(&packed))?;
        log.spawn("journal-writer", move || writer.run())?;
        Ok(log)
    }

    /// Opens it without threads: the caller drives the writer, and the keeper with
    /// [`Log::step_keeper`].
    #[cfg(any(test, feature = "test-util"))]
    pub fn open_manual(options: LogOptions) -> Result<(Arc<Self>, Writer), OpenError> {
        Self::prepare(options)
    }

    /// Does one of the keeper's chores.
    #[cfg(any(test, feature = "test-util"))]
    pub fn step_keeper(&self) -> Step {
        keeper::step(&self.store)
    }

    /// Does one of the packer's chores.
    #[cfg(any(test, feature = "test-util"))]
    pub fn step_packer(&self) -> Step {
        pack::step(&self.store)
    }

    /// What opening found damaged. Records that are lost with it read as
    /// [`ReadError::Corrupt`]; everything else is served.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    fn prepare(mut options: LogOptions) -> Result<(Arc<Self>, Writer), OpenError> {
        options.reserve_bytes = options.reserve_bytes.min(options.segment_bytes / 4);
        let (lock, dir) = enter(&*options.disk, &options.dir)?;
        let id = format::open_format(&*options.disk, &dir)?;
        let cold = Cold::open(&options.cold, id.0);
        let cold = cold.map_err(|error| OpenError::cold(&options.cold, error))?;
        pack::remove_packed(&*options.disk, &dir, &cold)?;
        let opened = recover::open_segments(&*options.disk, &dir, id, cold.packed())?;
        let recovered = Recovery::run(opened, id, &cold)?;
        let damage = recovered.damage.clone();
        let assembled = assemble(options, dir.clone(), (id, cold), recovered);
        let (store, start) = assembled.map_err(|error| OpenError::io(&dir, error))?;
        let log = Arc::new(Self {
            store: Arc::clone(&store),
            damage,
            threads: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        Ok((log, Writer::new(store, start)))
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let spawned = thread::Builder::new().name(name.into()).spawn(run);
        let handle = spawned.map_err(|error| OpenError::Io { what: name.into(), error })?;
        held(&self.threads).push(handle);
        Ok(())
    }
}

/// Makes the folders and takes the lock; gives the folder of the segments.
fn enter(disk: &dyn Disk, data: &Path) -> Result<(DiskLock, PathBuf), OpenError> {
    let io = |error| OpenError::io(data, error);
    disk.create_dir(data).map_err(io)?;
    let lock = disk.lock(&data.join("LOCK")).map_err(io)?;
    let lock = lock.ok_or_else(|| OpenError::Locked(data.to_owned()))?;
    let dir = data.join("journal");
    disk.create_dir(&dir).map_err(io)?;
    disk.sync_dir(data).map_err(io)?;
    // Also what an open made that ended before this.
    if let Some(parent) = parent(data) {
        disk.sync_dir(parent).map_err(io)?;
    }
    Ok((lock, dir))
}

/// Puts what was recovered together, with a segment that takes the next commit.
fn assemble(
    options: LogOptions,
    dir: PathBuf,
    (id, cold): (layout::JournalId, Cold),
    mut recovered: Recovered,
) -> io::Result<(Arc<Store>, Start)> {
    let start = begin(&options, &dir, id, &mut recovered)?;
    let Recovered { table, next, spares, next_segment, .. } = recovered;
    let limits = QueueLimits { capacity: options.queue_bytes, max_batch: options.max_batch };
    let store = Store::new(StoreParts {
        disk: options.disk,
        dir,
        id,
        clock: options.clock,
        durability: options.durability,
        segment_bytes: options.segment_bytes,
        reserve_bytes: options.reserve_bytes,
        hot_bytes: options.hot_bytes,
        queue: Queue::new(limits),
        frames: FrameCache::new(options.frame_bytes),
        cold,
        table,
        position: Position(next - 1),
        spare: Spare { ready: spares, next: next_segment },
        fatal: options.fatal,
    });
    Ok((store, start))
}

/// The segment that takes the next commit: the last one, if it is not sealed, else a new one.
fn begin(
    options: &LogOptions,
    dir: &Path,
    id: layout::JournalId,
    recovered: &mut Recovered,
) -> io::Result<Start> {
    let Recovered { table, next, spares, next_segment, .. } = recovered;
    if table.unsealed.is_empty() {
        let segment = if let Some(spare) = spares.pop_front() {
            spare
        } else {
            let number = *next_segment;
            *next_segment += 1;
            Segment::create(&*options.disk, dir, id, number, options.segment_bytes)?
        };
        table.begin(segment, *next, layout::HEAD_BYTES as u64);
    }
    let active = table.unsealed.back().expect("begun above, if there was none");
    Ok(Start {
        segment: Arc::clone(&active.segment),
        end: active.end,
        len: extend(&active.segment, options.segment_bytes)?,
        begun: active.commits.1 >= active.commits.0,
        number: *next,
        incarnations: Incarnations::new(options.seed, *next),
    })
}

/// Preallocates what is left of a segment, if the disk has room for it. Gives its length.
fn extend(segment: &Segment, bytes: u64) -> io::Result<u64> {
    match segment.file.allocate(bytes) {
        Err(error) if !is_full(&error) => Err(error),
        _ => segment.file.size(),
    }
}

impl Journal for Log {
    fn reserve(&self, stream: &StreamKey, bytes: usize) -> Reserve<'_> {
        self.store.queue.reserve(stream, bytes)
    }

    fn submit(&self, permit: Permit, batch: Batch) -> Ticket {
        self.store.queue.push(permit, batch)
    }

    fn read(&self, stream: &StreamKey, from: Seq, limit: ReadLimit) -> Result<Page, ReadError> {
        self.store.page(stream, from, limit)
    }

    fn info(&self, stream: &StreamKey) -> Result<StreamInfo, ReadError> {
        self.store.with_state(stream, |state| state.info)
    }

    fn producers(&self, stream: &StreamKey) -> Result<Vec<(ProducerId, ProducerState)>, ReadError> {
        self.store.with_state(stream, |state| state.producers.clone().into_iter().collect())
    }

    fn listen(&self, stream: &StreamKey, shard: &Shard) -> Result<Listener, ReadError> {
        self.store.doorbell.listen(stream, shard, || Ok(self.info(stream)?.tail))
    }

    fn doorbell(&self) -> &Doorbell {
        &self.store.doorbell
    }

    fn frames(&self) -> &FrameCache {
        &self.store.frames
    }

    fn backup(&self, to: PathBuf) -> Backup {
        let (answer, made) = oneshot::channel();
        self.store.packing.ask_backup(backup::Asked { to, answer });
        Box::pin(async { made.await.unwrap_or(Err(BackupError::Closed)) })
    }

    fn open_runs(&self) -> Vec<StreamKey> {
        self.store.table().open_runs()
    }

    fn changed_since(
        &self,
        since: Position,
        kind: StreamKind,
    ) -> Result<Vec<StreamKey>, ReadError> {
        self.store.changed_since(since, kind)
    }

    fn position(&self) -> Position {
        self.store.position()
    }

    fn close(&self) {
        self.store.close();
        self.store.keeping.stop();
        self.store.packing.chores.stop();
        self.store.packing.tell_writer();
        let threads = std::mem::take(&mut *held(&self.threads));
        for thread in threads {
            // The fatal call runs on the writer's thread, and may be what closes.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the journal panicked");
            }
        }
        drop(held(&self.lock).take());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("position", &self.position()).finish_non_exhaustive()
    }
}
