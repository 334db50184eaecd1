//! A run's message so far, in place of its events.

use bytes::Bytes;
use segue_core::{Fold, Seq};

/// A run's message up to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last event that is in it.
    pub seq: Seq,
    /// The frame as the server sent it, an object on one line.
    pub json: Bytes,
}

impl Snapshot {
    /// The message, in a form that goes on with the events that follow, each by its
    /// [`record`](crate::RunEvent::record). `None` if the server is
    /// of a version whose snapshots this one does not know.
    pub fn fold(&self) -> Option<Fold> {
        serde_json::from_slice(&self.json).ok()
    }
}
