//! The native events as Server-Sent Events.
//!
//! ```text
//! id: <run_id>:<seq>
//! event: <type>            left out with ?event=none
//! data: {"seq":...,"at":...,"run_id":...,"type":...}
//! ```
//! LF only; an event is one line of JSON, so there is one `data:` line a frame.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use segue_core::{Cursor, RunId, Seq, Snapshot, event::wire};
use segue_engine::{Facade, Frames};
use segue_journal::{Record, cache::Encoding};

use super::{EarlyEnd, HEARTBEAT, SSE_NAMED, SSE_UNNAMED, Wire, event_of, gap_json, snapshot_json};
use crate::routes::cursor::Start;

/// Native SSE, with or without event names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NativeSse {
    /// Whether frames have an `event:` line. Without it `onmessage` sees all of them.
    pub(crate) named: bool,
}

impl Facade for NativeSse {
    fn encoding(&self) -> Option<Encoding> {
        Some(if self.named { SSE_NAMED } else { SSE_UNNAMED })
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames) {
        let event = event_of(record);
        out.put(|out| {
            out.reserve(256 + event.json().len());
            // Writing to memory that grows does not fail.
            writeln!(out, "id: {run}:{}", record.seq).unwrap_or_default();
            if self.named {
                writeln!(out, "event: {}", event.name()).unwrap_or_default();
            }
            out.put_slice(b"data: ");
            wire::write_event(out, run, record.seq, record.at, &event);
            out.put_slice(b"\n\n");
        });
    }
}

impl Wire for NativeSse {
    const CONTENT_TYPE: &'static str = "text/event-stream";
    const HEARTBEAT: &'static [u8] = HEARTBEAT;
    const EARLY_END: EarlyEnd = EarlyEnd::Clean;

    /// The `retry:` hint in the first comment's block; a gap, if there is one; then the snapshot
    /// with its id, or, where the stream does not begin at its first event, a block with nothing
    /// but the id, so that a drop before the first event resumes here as well.
    fn opening(
        &self,
        run: &RunId,
        start: &Start,
        snapshot: Option<&Snapshot>,
        retry_ms: u128,
    ) -> Vec<Bytes> {
        let mut out = BytesMut::with_capacity(128);
        write!(out, ": segue\nretry: {retry_ms}\n\n").unwrap_or_default();
        if let Some(gap) = &start.gap {
            self.put_name(&mut out, "control.gap");
            write!(out, "data: {}\n\n", gap_json(run, gap, start)).unwrap_or_default();
        }
        if let Some(snapshot) = snapshot {
            put_id(&mut out, run, snapshot.seq);
            self.put_name(&mut out, "control.snapshot");
            let [head, rest] = snapshot_json(run, snapshot);
            out.put_slice(b"data: ");
            out.put_slice(&head);
            return vec![out.freeze(), rest, Bytes::from_static(b"\n\n")];
        }
        if !start.is_first() {
            put_id(&mut out, run, start.from.prev());
            out.put_u8(b'\n');
        }
        vec![out.freeze()]
    }
}

impl NativeSse {
    fn put_name(self, out: &mut BytesMut, name: &str) {
        if self.named {
            writeln!(out, "event: {name}").unwrap_or_default();
        }
    }
}

fn put_id(out: &mut BytesMut, run: &RunId, seq: Seq) {
    writeln!(out, "id: {}", Cursor { run: run.clone(), seq }).unwrap_or_default();
}
