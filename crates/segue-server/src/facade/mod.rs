//! Wire protocols over the same runs: one file or folder each.
//!
//! A facade turns records into frames and nothing else; [`Wire`] adds what a body needs beside
//! the frames. Frames are a pure function of the journal and the facade's version (W1), and each
//! frame's id resumes exactly after that frame.

mod ai_sdk;
mod native_ndjson;
mod native_sse;
mod openai;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use segue_core::{EventRecord, RunId, Seq, Snapshot, event::wire};
use segue_engine::Facade;
use segue_journal::{Record, cache::Encoding};
use serde_json::json;

use crate::routes::cursor::{Gap, Start};

pub(crate) use ai_sdk::AiSdk;
pub(crate) use native_ndjson::NativeNdjson;
pub(crate) use native_sse::NativeSse;
pub(crate) use openai::{Asked, Broken, MARK as OPENAI_MARK, OpenAiChat, OpenAiResponses, Whole};

/// Names of encodings. A number is never used for other frames than those it was given for.
const SSE_NAMED: Encoding = Encoding(1);
const SSE_UNNAMED: Encoding = Encoding(2);
const NDJSON: Encoding = Encoding(3);

/// A comment, which every reader of SSE passes over.
const HEARTBEAT: &[u8] = b": hb\n\n";

/// How a stream ends before its run does: old, the server closes, what is stored cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlyEnd {
    /// As any answer: its client looks for the terminal, and comes back without one.
    Clean,
    /// As a broken connection: its client takes a clean end for a finished answer.
    Abort,
}

/// What stands between frames, and before them.
pub(crate) trait Wire: Facade + Unpin {
    /// The media type.
    const CONTENT_TYPE: &'static str;
    /// What is sent when nothing else is, so that both sides notice a dead peer.
    const HEARTBEAT: &'static [u8];
    /// How it ends before the run does.
    const EARLY_END: EarlyEnd;

    /// What is sent at once, before the first record, in pieces: a snapshot's bytes are shared by
    /// all who get it. `snapshot` is there where `start` asks for one.
    fn opening(
        &self,
        run: &RunId,
        start: &Start,
        snapshot: Option<&Snapshot>,
        retry_ms: u128,
    ) -> Vec<Bytes>;
}

/// The type of a journaled record that this version cannot read. Its seq stands, so that no
/// client sees a hole.
const UNREADABLE: &str = "unreadable";

/// The event of a record.
fn event_of(record: &Record) -> EventRecord {
    EventRecord::decode(record.bytes.clone()).unwrap_or_else(|error| {
        metrics::counter!("segue_unreadable_records_total").increment(1);
        tracing::error!(seq = %record.seq, %error, "a record is not an event");
        unreadable()
    })
}

fn unreadable() -> EventRecord {
    let event = segue_core::Event::build(&json!({"type": UNREADABLE}));
    EventRecord::decode(EventRecord::encode(&event)).expect("what was just encoded decodes")
}

/// Appends the id of frame `index` (from 1) of the `count` of one record: `run:seq.index`, and of
/// the last one `run:seq`.
fn put_frame_id(out: &mut BytesMut, run: &RunId, seq: Seq, index: usize, count: usize) {
    let id = if index == count {
        writeln!(out, "id: {run}:{seq}")
    } else {
        writeln!(out, "id: {run}:{seq}.{index}")
    };
    // Writing to memory that grows does not fail.
    id.unwrap_or_default();
}

/// Appends the event of a record with its envelope.
pub(crate) fn write_record(out: &mut BytesMut, run: &RunId, record: &Record) {
    wire::write_event(out, run, record.seq, record.at, &event_of(record));
}

/// The control frame that tells of a cursor that could not be followed. It is never journaled
/// and has no id.
pub(crate) fn gap_json(run: &RunId, gap: &Gap, start: &Start) -> serde_json::Value {
    json!({
        "type": "control.gap",
        "run_id": run,
        "why": gap.why(),
        "detail": gap.to_string(),
        "from_seq": start.from.0,
    })
}

/// The control frame that stands for all events up to its seq, in two pieces. Its id is that
/// seq's; it is never journaled.
pub(crate) fn snapshot_json(run: &RunId, snapshot: &Snapshot) -> [Bytes; 2] {
    let whole = if snapshot.is_cut {
        // Where the beginning is gone, `from=start` would lead to a snapshot again.
        let begin = match snapshot.from_seq {
            Seq::FIRST => "from=start".to_owned(),
            first => format!("after={run}:{}", first.prev()),
        };
        format!(r#""link":"/v1/runs/{run}/events?{begin}","#)
    } else {
        String::new()
    };
    let head = format!(r#"{{"type":"control.snapshot","run_id":"{run}",{whole}"#);
    // The fold is an object that is not empty, so that what follows its brace fits on.
    [head.into(), snapshot.json.slice(1..)]
}
