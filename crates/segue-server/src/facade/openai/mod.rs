//! `OpenAI`'s protocols: a run as a response or as a chat completion.

mod asked;
mod chat;
mod responses;
mod usage;

use segue_core::{Event, EventKind, RunId, Timestamp};
use segue_journal::Record;
use serde_json::Value;

use super::{Wire, event_of};

pub(crate) use asked::{Asked, MARK};
pub(crate) use chat::{Broken, OpenAiChat};
pub(crate) use responses::OpenAiResponses;

/// A run as one object, from the same state that its frames are made of.
pub(crate) trait Whole: Wire {
    /// From the first event.
    fn new(asked: Asked) -> Self;

    /// Where the run is found in this protocol, below the prefix.
    fn path(run: &RunId) -> String;

    /// Takes in what one event says, without writing frames.
    fn take_in(&mut self, at: Timestamp, kind: EventKind, json: &[u8]);

    /// The run as it is after what was taken in.
    fn object(&self) -> Value;

    /// Takes a record in.
    fn take(&mut self, record: &Record) {
        let event = event_of(record);
        self.take_in(record.at, event.kind(), event.json());
    }

    /// Takes in an event that stands for many, of a run whose own are gone.
    fn take_event(&mut self, at: Timestamp, fields: &Value) {
        let event = Event::build(fields);
        self.take_in(at, event.kind(), event.json());
    }
}

/// A text as it is, anything else as JSON.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1000
}
