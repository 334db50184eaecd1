//! The contract of a journal.
//!
//! ```text
//!            available_from           next = tail, the first unwritten position
//!                  v                    v
//!   seq  1 2 3 ... 7  8  9 ... 40  41  [42]
//!        `-trimmed-'  `----readable---'
//! ```
//!
//! A stream is an ordered, append-only list of records, dense from 1, open or closed. An empty
//! stream has `next = 1`. Nothing here knows what the bytes mean.

use std::{
    future::{self, Future},
    path::PathBuf,
    pin::Pin,
};

use bytes::Bytes;
use segue_core::{ProducerId, Seq, Timestamp};

use crate::{
    cache::FrameCache,
    doorbell::{Doorbell, Listener, Shard},
    queue,
    stream::{Epoch, Incarnation, StreamKey, StreamKind},
};

pub use crate::queue::{Permit, Ticket};

/// A place in the order of commits of a whole journal, dense from 1. Zero is "before all".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

/// A set of changes to several streams that commits whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The changes, applied in this order. A stream may occur more than once.
    pub parts: Vec<Part>,
}

/// A change to one stream.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which stream.
    pub stream: StreamKey,
    /// What is done to it.
    pub op: Op,
    /// The epoch of who writes. Lower than the stream's: refused. Higher: the stream's is raised
    /// to it by this commit (fencing every earlier writer).
    pub epoch: Epoch,
}

/// What a [`Part`] does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Adds records at the tail.
    Append {
        /// The records' bytes, in order. May be empty: to create, to close, to raise the epoch, or
        /// for a producer's numbers that add nothing.
        records: Vec<Bytes>,
        /// The stream must not exist and is created.
        create: bool,
        /// The stream is closed after the records.
        close: bool,
        /// The seq the first record must get. [`Seq::ZERO`] never is: so a part without records
        /// asks for a duplicate's original answer and changes nothing if there is none.
        expect: Option<Seq>,
        /// The producer's numbers for these records.
        producer: Option<ProducerClaim>,
    },
    /// Makes every record before this position unreadable for ever.
    Trim {
        /// The first position that stays. Beyond the tail it is the tail.
        before: Seq,
    },
    /// Removes the stream: it is unknown from this commit on, and its name is free again.
    Delete,
}

impl Part {
    /// A plain append of `records`.
    pub fn append(stream: StreamKey, epoch: Epoch, records: Vec<Bytes>) -> Self {
        let op = Op::Append { records, create: false, close: false, expect: None, producer: None };
        Self { stream, op, epoch }
    }

    /// An append that creates the stream.
    pub fn create(stream: StreamKey, epoch: Epoch, records: Vec<Bytes>) -> Self {
        let op = Op::Append { records, create: true, close: false, expect: None, producer: None };
        Self { stream, op, epoch }
    }

    /// How many bytes of records the part carries.
    pub fn bytes(&self) -> usize {
        match &self.op {
            Op::Append { records, .. } => records.iter().map(Bytes::len).sum(),
            Op::Trim { .. } | Op::Delete => 0,
        }
    }
}

/// What an idempotent producer says of the records of a part: they carry its numbers
/// `first_seq..=last_seq` (its own count from 0, not the stream's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerClaim {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch: lower than known is refused; higher restarts its numbers at 0.
    pub epoch: u64,
    /// The number of its first item in this part.
    pub first_seq: u64,
    /// The number of its last item in this part.
    pub last_seq: u64,
}

/// What a stream remembers of a producer; commits with the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// The highest epoch seen.
    pub epoch: u64,
    /// The last number accepted in that epoch.
    pub last_seq: u64,
    /// The stream positions of the part that carried `last_seq`, both inclusive. Also the answer to
    /// a duplicate of older numbers, whose own positions are not kept: they are below these.
    pub range: (Seq, Seq),
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where it stands in the order of commits; for a duplicate, a position at or after the
    /// original's.
    pub position: Position,
    /// Per part, in order. Of a duplicate batch, the parts with a producer carry the original
    /// answer; the others stand for nothing.
    pub parts: Vec<PartResult>,
    /// A part's producer numbers were already accepted, so nothing was applied now. The positions are
    /// those of the part that carried the producer's newest number: the original's, unless later
    /// numbers were accepted since.
    pub duplicate: bool,
}

/// The positions a part's records got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartResult {
    /// The first record's seq; with no records, the tail.
    pub first_seq: Seq,
    /// The last record's seq; with no records, the position before the tail.
    pub last_seq: Seq,
    /// The records' time.
    pub at: Timestamp,
}

/// Why a batch was refused. A refused batch took no seq and left no trace.
///
/// The state checks run in the order epoch, duplicate, closed, expected seq.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream does not exist.
    #[error("stream {0} does not exist")]
    NotFound(StreamKey),
    /// `create` on a stream that exists.
    #[error("stream {0} exists already")]
    Exists(StreamKey),
    /// The writer was fenced off.
    #[error("the epoch is stale, the stream's is {}", current.0)]
    StaleEpoch {
        /// The stream's epoch.
        current: Epoch,
    },
    /// The producer's epoch is lower than one already seen.
    #[error("the producer epoch is stale, the newest is {current}")]
    StaleProducer {
        /// The newest producer epoch.
        current: u64,
    },
    /// The producer's numbers do not follow on.
    #[error("expected producer seq {expected}, received {received}")]
    ProducerGap {
        /// The number that would follow on.
        expected: u64,
        /// The number that came.
        received: u64,
    },
    /// The stream is closed.
    #[error("the stream is closed at {next}")]
    Closed {
        /// Its tail.
        next: Seq,
    },
    /// The expected seq is not the tail.
    #[error("expected to write at {expected}, the tail is {next}")]
    Unexpected {
        /// What the part expected.
        expected: Seq,
        /// The tail.
        next: Seq,
    },
    /// The batch is larger than this journal can ever take.
    #[error("the batch has {bytes} bytes, at most {max} fit")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that fits.
        max: usize,
    },
    /// The disk has no room left but the reserve, which is kept for batches that close a stream and
    /// are as small as ends are.
    #[error("the disk is full")]
    DiskFull,
    /// What is stored of the stream cannot be read, so that the batch cannot be checked. Other
    /// streams are not concerned.
    #[error("stream {0} cannot be read")]
    Unreadable(StreamKey),
    /// The journal failed for good or was closed; nothing more is acknowledged.
    #[error("the journal takes nothing more: {0}")]
    Poisoned(String),
}

/// Why room in the queue was not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// More than the journal can ever take in one batch.
    #[error("the batch has {bytes} bytes, at most {max} fit")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that fits.
        max: usize,
    },
    /// The journal failed for good or was closed.
    #[error("the journal takes nothing more: {0}")]
    Poisoned(String),
}

/// Why there is no backup. Nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something of that name is there.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A file could not be read or written.
    #[error("{} cannot be written: {what}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
    /// The cold store could not be copied.
    #[error("the cold store cannot be copied: {0}")]
    Cold(String),
    /// The journal was closed or failed meanwhile.
    #[error("the journal is closed")]
    Closed,
    /// This journal has no files.
    #[error("this journal cannot be copied")]
    Unsupported,
}

/// The future of a backup: its bytes.
pub type Backup = Pin<Box<dyn Future<Output = Result<u64, BackupError>> + Send>>;

/// Why a read gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The stream does not exist.
    #[error("stream {0} does not exist")]
    NotFound(StreamKey),
    /// The position was trimmed away.
    #[error("the range before {available_from} was trimmed")]
    Trimmed {
        /// The first position that can be read (the tail, if nothing is left).
        available_from: Seq,
    },
    /// A record below the tail is absent or does not match its checksum.
    #[error("record {seq} is damaged: {what}")]
    Corrupt {
        /// The first record that cannot be given.
        seq: Seq,
        /// What is wrong with it.
        what: String,
    },
    /// The file could not be read.
    #[error("the journal cannot be read: {0}")]
    Io(String),
}

/// One stored entry. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position.
    pub seq: Seq,
    /// When it was committed.
    pub at: Timestamp,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The first unwritten position of a stream, and whether anything will ever be written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The first unwritten position.
    pub next: Seq,
    /// Nothing more will come.
    pub closed: bool,
}

/// What a journal knows of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Fixed at creation.
    pub incarnation: Incarnation,
    /// Its writer's fence.
    pub epoch: Epoch,
    /// The first readable position; equals `tail.next` when nothing is left.
    pub available_from: Seq,
    /// Its end.
    pub tail: Tail,
}

/// How much a page may hold. At least one record is given, whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Bytes of records.
    pub bytes: usize,
    /// Number of records.
    pub records: usize,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self { bytes: 256 << 10, records: usize::MAX }
    }
}

/// A contiguous range of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The stream as it was when the page was read; the page never passes its tail.
    pub info: StreamInfo,
    /// The records, contiguous from the position asked for. Empty exactly at the tail.
    pub records: Vec<Record>,
}

/// Durable streams. Object-safe; one conformance suite (`conformance`) holds for all.
///
/// Rules every implementation keeps:
/// - an acknowledged batch is durable at the configured level, and only then visible to reads,
///   tails and bells (J1, J2);
/// - the order of submits is the order of seqs; a refused batch takes none;
/// - reads never pass the tail, and a range below it that is absent is `Corrupt` (J3);
/// - a batch commits whole or not at all (J4).
pub trait Journal: Send + Sync + 'static {
    /// Waits for room for a batch of `bytes` whose main stream is `stream`.
    ///
    /// The queue is bounded in bytes, and one stream holds at most an eighth of it, so that no
    /// stream can shut the door for the others. First come, first served within a stream.
    fn reserve(&self, stream: &StreamKey, bytes: usize) -> queue::Reserve<'_>;

    /// Puts a batch in the queue. Never blocks. All state checks happen later, in queue order,
    /// and their refusal is the ticket's result.
    fn submit(&self, permit: Permit, batch: Batch) -> Ticket;

    /// The records from `from` on (1 is the first), as far as `limit` and the tail allow.
    ///
    /// `from` at or beyond the tail gives an empty page.
    fn read(&self, stream: &StreamKey, from: Seq, limit: ReadLimit) -> Result<Page, ReadError>;

    /// What is known of a stream.
    fn info(&self, stream: &StreamKey) -> Result<StreamInfo, ReadError>;

    /// What a stream remembers of its producers, also after it closed.
    fn producers(&self, stream: &StreamKey) -> Result<Vec<(ProducerId, ProducerState)>, ReadError>;

    /// Listens to a stream's bell; its rings wake the readers of `shard`.
    fn listen(&self, stream: &StreamKey, shard: &Shard) -> Result<Listener, ReadError>;

    /// The doorbell, for its shards and its rings by kind.
    fn doorbell(&self) -> &Doorbell;

    /// The cache of ready frames. May be emptied at any time without changing behaviour.
    fn frames(&self) -> &FrameCache;

    /// Copies everything that is acknowledged into a new folder, of which a journal can be opened,
    /// and gives its bytes. Goes on while batches are taken; what is acknowledged meanwhile may be in
    /// it.
    fn backup(&self, to: PathBuf) -> Backup {
        drop(to);
        Box::pin(future::ready(Err(BackupError::Unsupported)))
    }

    /// The run streams that are open: what recovery has to look at.
    fn open_runs(&self) -> Vec<StreamKey>;

    /// The streams of `kind` that exist and were changed after `since`, in any order; each once.
    /// May name streams that were last changed a little earlier.
    fn changed_since(&self, since: Position, kind: StreamKind)
    -> Result<Vec<StreamKey>, ReadError>;

    /// The last commit that is acknowledged.
    fn position(&self) -> Position;

    /// Takes no more batches, finishes what is queued, makes it durable and lets the files go.
    /// A second call does nothing.
    fn close(&self);
}
