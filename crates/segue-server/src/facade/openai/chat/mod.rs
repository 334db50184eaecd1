//! The event stream of `OpenAI`'s Chat Completions API, version 1 of this encoder.
//!
//! ```text
//! data: {"id":"chatcmpl-r","object":"chat.completion.chunk","choices":[{"delta":{"content":"hi"}}]}
//! id: <run_id>:<seq>.<k>         of the last frame of a record <run_id>:<seq>
//! ```
//! and `data: [DONE]` after the end of an answer that is whole. Anything else ends with a frame
//! `{"error": {...}}`, at which clients throw: half an answer never passes for one.
//!
//! Tools that the agent or its provider runs have no words here: a client would run them again.

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

pub(crate) use state::Broken;

/// What stands after the last chunk.
const DONE: &str = "[DONE]";

/// A run as a chat completion.
#[derive(Clone, Debug)]
pub(crate) struct OpenAiChat {
    asked: Asked,
    state: State,
}

impl OpenAiChat {
    /// Why the run has no whole answer, once it has ended.
    pub(crate) fn broken(&self) -> Option<&Broken> {
        self.state.broken()
    }
}

impl Whole for OpenAiChat {
    fn new(asked: Asked) -> Self {
        Self { asked, state: State::default() }
    }

    fn path(run: &RunId) -> String {
        format!("/chat/completions/{}", Asked::completion_id(run))
    }

    fn take_in(&mut self, at: Timestamp, kind: EventKind, json: &[u8]) {
        drop(Teller::new(&self.asked, &mut self.state).tell(at, kind, json));
    }

    fn object(&self) -> Value {
        self.state.object(&self.asked)
    }
}

impl Facade for OpenAiChat {
    fn encoding(&self) -> Option<Encoding> {
        None
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames) {
        let event = event_of(record);
        let teller = Teller::new(&self.asked, &mut self.state);
        let chunks = teller.tell(record.at, event.kind(), event.json());
        let is_whole = event.kind().is_terminal() && self.state.broken().is_none();
        let done = is_whole.then(|| DONE.to_owned());
        let count = chunks.len() + usize::from(is_whole);
        let texts = chunks.iter().map(Value::to_string).chain(done);
        for (text, index) in texts.zip(1..) {
            out.put(|out| {
                // Writing to memory that grows does not fail.
                writeln!(out, "data: {text}").unwrap_or_default();
                put_frame_id(out, run, record.seq, index, count);
                out.put_u8(b'\n');
            });
        }
    }
}

impl Wire for OpenAiChat {
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
impl OpenAiChat {
    /// The state as it would be kept, and read again.
    pub(crate) fn kept(&self) -> Self {
        let text = serde_json::to_string(&self.state).expect("the state has no odd keys");
        let state = serde_json::from_str(&text).expect("what was just written");
        Self { state, ..self.clone() }
    }
}
