//! The native events as lines of JSON. A blank line is a heartbeat.

use bytes::{BufMut, BytesMut};
use segue_core::RunId;
use segue_engine::Facade;
use segue_journal::{Record, cache::Encoding};

use super::{NDJSON, Wire, gap_json, write_record};
use crate::routes::cursor::Start;

/// Native NDJSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NativeNdjson;

impl Facade for NativeNdjson {
    fn encoding(&self) -> Option<Encoding> {
        Some(NDJSON)
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut BytesMut) {
        write_record(out, run, record);
        out.put_u8(b'\n');
    }
}

impl Wire for NativeNdjson {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";
    const HEARTBEAT: &'static [u8] = b"\n";

    fn opening(&self, run: &RunId, start: &Start, _retry_ms: u128) -> BytesMut {
        let mut out = BytesMut::new();
        if let Some(gap) = &start.gap {
            out.put_slice(gap_json(run, gap, start).to_string().as_bytes());
            out.put_u8(b'\n');
        }
        out
    }
}
