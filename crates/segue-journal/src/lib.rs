//! Durable streams and views.
//!
//! The [`Journal`] trait with two implementations (`log`: segment files with group commit;
//! `memory`: a full twin without files), the doorbell that wakes readers, the cache of ready
//! frames, and the [`views::ViewStore`] with its `SQLite`. This crate knows no run's meaning and no HTTP.

pub mod api;
pub mod cache;
mod cold;
#[cfg(feature = "test-util")]
pub mod conformance;
pub mod disk;
pub mod doorbell;
pub mod log;
pub mod memory;
mod queue;
mod sqlite;
mod state;
pub mod stream;
mod sync;
pub mod views;

pub use api::{
    AppendError, Backup, BackupError, Batch, Committed, Journal, Op, Page, Part, PartResult,
    Permit, Position, ProducerClaim, ProducerState, ReadError, ReadLimit, Record, ReserveError,
    StreamInfo, Tail, Ticket,
};
pub use cache::FrameCache;
pub use doorbell::{Doorbell, Follower, Listener, Shard};
pub use log::{Durability, Log, LogOptions, OpenError};
pub use memory::{MemoryJournal, MemoryOptions};
pub use queue::Reserve;
pub use stream::{Epoch, Incarnation, StreamKey, StreamKind};
