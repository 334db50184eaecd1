//! Wire protocols over the same runs: one file each.
//!
//! A facade turns records into frames and nothing else; [`Wire`] adds what a body needs beside
//! the frames. Frames are a pure function of the journal and the facade's version (W1), and each
//! frame's id resumes exactly after that frame.

mod native_ndjson;
mod native_sse;
#[cfg(test)]
mod tests;

use bytes::{BufMut, BytesMut};
use segue_core::{Cursor, EventRecord, RunId, event::wire};
use segue_engine::Facade;
use segue_journal::{Record, cache::Encoding};
use serde_json::json;

use crate::routes::cursor::{Gap, Start};

pub(crate) use native_ndjson::NativeNdjson;
pub(crate) use native_sse::NativeSse;

/// Names of encodings. A number is never used for other frames than those it was given for.
const SSE_NAMED: Encoding = Encoding(1);
const SSE_UNNAMED: Encoding = Encoding(2);
const NDJSON: Encoding = Encoding(3);

/// What stands between frames, and before them.
pub(crate) trait Wire: Facade + Unpin {
    /// The media type.
    const CONTENT_TYPE: &'static str;
    /// What is sent when nothing else is, so that both sides notice a dead peer.
    const HEARTBEAT: &'static [u8];

    /// What is sent at once, before the first record.
    fn opening(&self, run: &RunId, start: &Start, retry_ms: u128) -> BytesMut;
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

fn put_cursor(out: &mut BytesMut, cursor: &Cursor) {
    out.put_slice(cursor.to_string().as_bytes());
}
