//! What the writer, the keeper and the readers of a log share.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use segue_core::Clock;

use super::{
    Durability, Fatal, chores::Chores, layout::JournalId, packing::Packing, pause::Pause,
    segment::Segment, table::Table,
};
use crate::{
    api::Position,
    cache::FrameCache,
    cold::Cold,
    disk::{Disk, is_full},
    doorbell::Doorbell,
    queue::Queue,
    sync::held,
};

/// A log's shared parts. Locks are taken one at a time, but for these: under the table's the frame
/// cache's, the packer's list of erasures and its chores'; and under the one of a writer that waits
/// for the packer, the table's and the pause's. So nobody takes that one under another.
pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    /// The folder of the segments.
    pub(crate) dir: PathBuf,
    pub(crate) id: JournalId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) reserve_bytes: u64,
    /// Bytes of segments that there should be at most.
    pub(crate) hot_bytes: u64,
    pub(crate) queue: Arc<Queue>,
    pub(crate) doorbell: Doorbell,
    pub(crate) frames: FrameCache,
    pub(crate) cold: Cold,
    pub(crate) packing: Packing,
    table: RwLock<Table>,
    position: AtomicU64,
    spare: Mutex<Spare>,
    /// After the disk had no room for a spare.
    no_room: Pause,
    pub(crate) keeping: Chores,
    failed: OnceLock<String>,
    closing: AtomicBool,
    pub(crate) fatal: Fatal,
}

/// The segments that come next, made ahead so that the writer need not wait for one.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) ready: VecDeque<Arc<Segment>>,
    /// The number of the one to make.
    pub(crate) next: u64,
}

/// What a store is made of.
pub(crate) struct StoreParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) id: JournalId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) hot_bytes: u64,
    pub(crate) queue: Arc<Queue>,
    pub(crate) frames: FrameCache,
    pub(crate) cold: Cold,
    pub(crate) table: Table,
    pub(crate) position: Position,
    pub(crate) spare: Spare,
    pub(crate) fatal: Fatal,
}

impl Store {
    pub(crate) fn new(parts: StoreParts) -> Arc<Self> {
        Arc::new(Self {
            disk: parts.disk,
            dir: parts.dir,
            id: parts.id,
            clock: parts.clock,
            durability: parts.durability,
            segment_bytes: parts.segment_bytes,
            reserve_bytes: parts.reserve_bytes,
            hot_bytes: parts.hot_bytes,
            queue: parts.queue,
            doorbell: Doorbell::new(parts.position),
            frames: parts.frames,
            cold: parts.cold,
            packing: Packing::default(),
            table: RwLock::new(parts.table),
            position: AtomicU64::new(parts.position.0),
            spare: Mutex::new(parts.spare),
            no_room: Pause::default(),
            keeping: Chores::default(),
            failed: OnceLock::new(),
            closing: AtomicBool::new(false),
            fatal: parts.fatal,
        })
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    /// After the commit is in the table.
    pub(crate) fn set_position(&self, position: Position) {
        self.position.store(position.0, Ordering::Release);
    }

    /// Why nothing is acknowledged any more, once that is so.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// From now on nothing is acknowledged (J5). The writer answers what is queued with it.
    pub(crate) fn fail(&self, why: &str) {
        if self.failed.set(why.to_owned()).is_ok() {
            metrics::counter!("segue_journal_failures_total").increment(1);
            tracing::error!(why, "the journal failed, nothing more is acknowledged");
        }
        self.queue.close(why);
    }

    /// Does `work`, which is all of a thread's; a panic in it fails the log.
    pub(crate) fn guard(&self, panicked: &str, work: impl FnOnce()) {
        // What it leaves half-changed is not looked at any more: a failed log neither reads nor
        // acknowledges.
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.fail(panicked);
        }
    }

    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.queue.close("it was closed");
    }

    /// Makes the next segment if there is none. `false`: the disk is full, or was a second ago.
    pub(crate) fn make_spare(&self) -> io::Result<bool> {
        self.fill(&mut held(&self.spare))
    }

    /// The next segment, made now if it has to be. `None`: the disk is full.
    pub(crate) fn take_spare(&self) -> io::Result<Option<Arc<Segment>>> {
        let mut spare = held(&self.spare);
        if spare.ready.is_empty() {
            metrics::counter!("segue_journal_spare_misses_total").increment(1);
        }
        self.fill(&mut spare)?;
        Ok(spare.ready.pop_front())
    }

    fn fill(&self, spare: &mut Spare) -> io::Result<bool> {
        if !spare.ready.is_empty() {
            return Ok(true);
        }
        if self.no_room.left(&*self.clock).is_some() {
            return Ok(false);
        }
        let needed = self.segment_bytes.saturating_add(self.reserve_bytes);
        let made = if self.disk.free(&self.dir)? < needed {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Segment::create(&*self.disk, &self.dir, self.id, spare.next, self.segment_bytes)
        };
        match made {
            Ok(segment) => {
                spare.ready.push_back(segment);
                spare.next += 1;
                self.no_room.end();
                Ok(true)
            }
            Err(error) if is_full(&error) => {
                metrics::counter!("segue_journal_disk_full_total", "what" => "segment")
                    .increment(1);
                self.no_room.begin(&*self.clock, false);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Files were removed: a segment may fit again.
    pub(crate) fn room_came_back(&self) {
        self.no_room.end();
    }
}
