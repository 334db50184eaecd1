//! The Rust client of Segue.
//!
//! [`Client`] makes typed calls. [`Attachment`] follows a run: it keeps its cursor, reconnects
//! with back-off, and yields each event once and in order over any number of cuts. [`Producer`]
//! pushes lines into a push run so that each is journaled once, cut and retried as often as it
//! takes.
//!
//! This crate knows the wire and nothing behind it: no journal, no engine, no server.

mod api;
mod attach;
mod backoff;
mod client;
mod error;
mod lines;
mod metrics;
mod produce;
mod retry;
mod sse;
mod timing;
mod transfer;

pub use api::{
    Agent, Appended, Found, List, MessageFilter, Run, RunFilter, SearchFilter, Session, StartFrom,
    StartRun, Stopped, Wait,
};
pub use attach::{Attached, Attachment, Ended, Gap, Reconnecting, RunEvent, Snapshot};
pub use backoff::Backoff;
pub use client::Client;
pub use error::{ClientError, Problem, TransportError};
pub use produce::{Identity, Produced, Producer};
pub use timing::{Jitter, Timing};
pub use transfer::Export;
