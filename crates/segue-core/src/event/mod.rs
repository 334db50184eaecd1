//! The typed content of a run's records.
//!
//! An [`Event`] is a validated JSON object with a `type`. It is stored as an [`EventRecord`] and
//! shown with its envelope (`seq`, `at`, `run_id`) written beside its own bytes ([`wire`]).

mod kind;
mod payload;
mod record;
pub mod wire;

pub use kind::EventKind;
pub use payload::{Event, EventError, MAX_SUBJECT_BYTES, MAX_TYPE_BYTES};
pub use record::{EventRecord, RecordError};
