//! The vocabulary and the pure logic of Segue.
//!
//! Ids, positions, events, admission, the run state machine and the traits [`Source`] and
//! [`Clock`]. This crate knows no runtime, no IO, no clock and no HTTP: everything here is a
//! function of its arguments.

pub mod admission;
pub mod conversation;
pub mod event;
pub mod fold;
pub mod id;
pub mod json;
pub mod lifecycle;
pub mod limits;
pub mod options;
pub mod position;
pub mod run;
pub mod source;
pub mod time;

pub use admission::Admission;
pub use conversation::Conversation;
pub use event::{Event, EventError, EventKind, EventRecord};
pub use fold::{Fold, Snapshot};
pub use id::{AgentName, IdError, MessageId, ProducerId, RunId, SessionId, TenantId};
pub use limits::Limits;
pub use options::{ClientApi, ModelOptions};
pub use position::{Cursor, CursorError, Seq};
pub use run::{InterruptionCause, OnRestart, Outcome, Policy, RunError, RunStatus, StopReason};
pub use source::{Inbound, InboundStream, Ingress, RunInput, Source, StopSignal};
pub use time::{Clock, Timestamp};
