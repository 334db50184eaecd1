//! The decoders alone, in process: bytes of a body a second.

use std::hint::black_box;

use anyhow::ensure;
use segue_sources::decode::{LineDecoder, SseDecoder};

use super::table::Sample;
use crate::live::stamp;

/// Bytes of each body.
const BODY: usize = 64 << 20;
/// What a socket gives at a time.
const CHUNK: usize = 16 << 10;
/// What an unkind one gives.
const SMALL_CHUNK: usize = 64;
/// The line that comes in small chunks, and one of twice its length.
const LINE: usize = 8 << 20;
/// The bar for typical chunks, in MB/s.
const TYPICAL: f64 = 300.0;
/// A line of twice the length may take so much longer, with room for noise.
const LINEAR: f64 = 3.0;

/// The delta of a chat completion as it is on the wire.
const DELTA: &str = concat!(
    r#"{"id":"chatcmpl-8fQ2","object":"chat.completion.chunk","created":1763632800,"model":"m","#,
    r#""choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}"#,
);

pub(super) fn round() -> anyhow::Result<Vec<Sample>> {
    let events = format!("data: {DELTA}\n\n");
    let lines = format!("{DELTA}\n");
    let (once, twice) = (sse(&line(LINE), SMALL_CHUNK)?, sse(&line(2 * LINE), SMALL_CHUNK)?);
    Ok(vec![
        Sample::alone("SSE", "MB/s", sse(&body(&events), CHUNK)?.rate).at_least(TYPICAL),
        Sample::alone("NDJSON", "MB/s", ndjson(&body(&lines), CHUNK)?.rate).at_least(TYPICAL),
        Sample::alone("one line of 8 MiB in chunks of 64 bytes", "MB/s", once.rate),
        Sample::alone("time of twice the line", "times", twice.ns / once.ns).at_most(LINEAR),
    ])
}

fn body(unit: &str) -> Vec<u8> {
    unit.as_bytes().repeat(BODY / unit.len())
}

fn line(bytes: usize) -> Vec<u8> {
    [b"data: ".to_vec(), vec![b'x'; bytes], b"\n\n".to_vec()].concat()
}

struct Taken {
    ns: f64,
    /// In MB/s.
    rate: f64,
}

#[expect(clippy::cast_precision_loss, reason = "a figure of a benchmark")]
fn taken(since: u64, bytes: usize) -> Taken {
    let ns = (stamp() - since).max(1) as f64;
    Taken { ns, rate: bytes as f64 / ns * 1e3 }
}

fn sse(body: &[u8], chunk: usize) -> anyhow::Result<Taken> {
    let mut decoder = SseDecoder::new(4 * LINE);
    let (begun, mut events) = (stamp(), 0_u64);
    for chunk in body.chunks(chunk) {
        decoder.feed(chunk);
        while let Some(event) = decoder.next()? {
            black_box(event);
            events += 1;
        }
    }
    ensure!(events > 0, "no event came out of {} bytes", body.len());
    Ok(taken(begun, body.len()))
}

fn ndjson(body: &[u8], chunk: usize) -> anyhow::Result<Taken> {
    let mut decoder = LineDecoder::new(4 * LINE);
    let (begun, mut lines) = (stamp(), 0_u64);
    for chunk in body.chunks(chunk) {
        decoder.feed(chunk);
        while let Some(line) = decoder.next()? {
            black_box(line);
            lines += 1;
        }
    }
    ensure!(lines > 0, "no line came out of {} bytes", body.len());
    Ok(taken(begun, body.len()))
}
