//! The native events as lines of JSON. A blank line is a heartbeat.

use bytes::{BufMut, Bytes};
use segue_core::{RunId, Snapshot};
use segue_engine::{Facade, Frames};
use segue_journal::{Record, cache::Encoding};

use super::{EarlyEnd, NDJSON, Wire, gap_json, snapshot_json, write_record};
use crate::routes::cursor::Start;

/// Native NDJSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NativeNdjson;

impl Facade for NativeNdjson {
    fn encoding(&self) -> Option<Encoding> {
        Some(NDJSON)
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames) {
        out.put(|out| {
            write_record(out, run, record);
            out.put_u8(b'\n');
        });
    }
}

impl Wire for NativeNdjson {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";
    const HEARTBEAT: &'static [u8] = b"\n";
    const EARLY_END: EarlyEnd = EarlyEnd::Clean;

    fn opening(
        &self,
        run: &RunId,
        start: &Start,
        snapshot: Option<&Snapshot>,
        _retry_ms: u128,
    ) -> Vec<Bytes> {
        let mut out = Vec::new();
        if let Some(gap) = &start.gap {
            out.push(format!("{}\n", gap_json(run, gap, start)).into());
        }
        if let Some(snapshot) = snapshot {
            out.extend(snapshot_json(run, snapshot));
            out.push(Bytes::from_static(b"\n"));
        }
        out
    }
}
