//! The event stream of `OpenAI`'s Responses API, version 1 of this encoder.
//!
//! ```text
//! event: response.output_text.delta
//! data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_r_0",...}
//! id: <run_id>:<seq>.<k>         of the last frame of a record <run_id>:<seq>
//! ```
//! `sequence_number` counts the frames from 0: a function of the run's records and of what its
//! request asked for, the same on every replay. After the terminal the stream just ends.
//!
//! Clients accumulate, and throw at an event for an item or a content that they do not know, at an
//! index that is not the next one, and at every type that is not theirs.

mod items;
mod response;
mod state;

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use segue_core::{EventKind, RunId, Snapshot, Timestamp};
use segue_engine::{Facade, Frames};
use segue_journal::{Record, cache::Encoding};
use serde_json::Value;

use self::state::{State, Teller};
use super::{
    super::{EarlyEnd, HEARTBEAT, Wire, event_of, put_frame_id},
    Asked, Whole,
};
use crate::routes::cursor::Start;

/// A run as a response.
#[derive(Clone, Debug)]
pub(crate) struct OpenAiResponses {
    asked: Asked,
    /// Frames up to this number are known to the client and not given.
    after: Option<u64>,
    state: State,
}

impl OpenAiResponses {
    /// From the event after this `sequence_number`.
    pub(crate) fn after(self, number: u64) -> Self {
        Self { after: Some(number), ..self }
    }

    fn tell(&mut self, at: Timestamp, kind: EventKind, json: &[u8]) -> Vec<Value> {
        Teller::new(&self.asked, &mut self.state).tell(at, kind, json)
    }
}

impl Whole for OpenAiResponses {
    fn new(asked: Asked) -> Self {
        Self { asked, after: None, state: State::default() }
    }

    fn path(run: &RunId) -> String {
        format!("/responses/{}", Asked::response_id(run))
    }

    fn take_in(&mut self, at: Timestamp, kind: EventKind, json: &[u8]) {
        drop(self.tell(at, kind, json));
    }

    fn object(&self) -> Value {
        response::object(&self.asked, &self.state)
    }
}

impl Facade for OpenAiResponses {
    fn encoding(&self) -> Option<Encoding> {
        None
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames) {
        let event = event_of(record);
        let events = self.tell(record.at, event.kind(), event.json());
        let count = events.len();
        for (event, index) in events.into_iter().zip(1..) {
            // No number comes before the first one: without `after` none is left out.
            if event["sequence_number"].as_u64() <= self.after {
                continue;
            }
            out.put(|out| {
                let name = event["type"].as_str().unwrap_or_default();
                // Writing to memory that grows does not fail.
                write!(out, "event: {name}\ndata: {event}\n").unwrap_or_default();
                put_frame_id(out, run, record.seq, index, count);
                out.put_u8(b'\n');
            });
        }
    }
}

impl Wire for OpenAiResponses {
    const CONTENT_TYPE: &'static str = "text/event-stream";
    const HEARTBEAT: &'static [u8] = HEARTBEAT;
    const EARLY_END: EarlyEnd = EarlyEnd::Abort;

    fn opening(&self, _: &RunId, _: &Start, _: Option<&Snapshot>, _: u128) -> Vec<Bytes> {
        let mut out = BytesMut::new();
        out.put_slice(b": segue\n\n");
        vec![out.freeze()]
    }
}

#[cfg(test)]
impl OpenAiResponses {
    /// The state as it would be kept, and read again.
    pub(crate) fn kept(&self) -> Self {
        let text = serde_json::to_string(&self.state).expect("the state has no odd keys");
        let state = serde_json::from_str(&text).expect("what was just written");
        Self { state, ..self.clone() }
    }
}
