//! The UI message stream of the Vercel AI SDK, version 1 of this encoder.
//!
//! ```text
//! data: {"type":"text-delta","id":"p1","delta":"hi"}
//! id: <run_id>:<seq>.<k>         of the last frame of a record <run_id>:<seq>
//! ```
//! and `data: [DONE]` after the terminal. Clients check each chunk against a schema and throw at
//! whatever they do not know, so only what 5.0.230, 6.0.0 and all later ones take is written: no
//! other types, no other keys, no `abort.reason`. (Approvals need 6.0.0.) A part is always opened
//! before it is written to, and closed before its step or run is.

mod chunks;

use bytes::{BufMut, Bytes, BytesMut};
use segue_core::{RunId, Snapshot};
use segue_engine::{Facade, Frames};
use segue_journal::{Record, cache::Encoding};

use self::chunks::Chunks;
use super::{EarlyEnd, HEARTBEAT, Wire, event_of, put_frame_id};
use crate::routes::cursor::Start;

/// The AI SDK's UI message stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct AiSdk {
    state: Chunks,
}

impl Facade for AiSdk {
    fn encoding(&self) -> Option<Encoding> {
        None
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames) {
        let event = event_of(record);
        let chunks = self.state.of(event.kind(), event.json());
        let count = chunks.len() + usize::from(event.kind().is_terminal());
        let done = event.kind().is_terminal().then(|| "[DONE]".to_owned());
        let texts = chunks.iter().map(serde_json::Value::to_string).chain(done);
        for (text, index) in texts.zip(1..) {
            out.put(|out| {
                out.put_slice(b"data: ");
                out.put_slice(text.as_bytes());
                out.put_u8(b'\n');
                put_frame_id(out, run, record.seq, index, count);
                out.put_u8(b'\n');
            });
        }
    }
}

impl Wire for AiSdk {
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
impl AiSdk {
    /// The state as it would be kept, and read again.
    pub(super) fn kept(&self) -> Self {
        let text = serde_json::to_string(&self.state).expect("the state has no odd keys");
        Self { state: serde_json::from_str(&text).expect("what was just written") }
    }
}
