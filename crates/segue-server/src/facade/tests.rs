//! Golden frames, and the law that every facade keeps:
//! encode(prefix) + resume == encode(whole).

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use segue_core::{Event, EventRecord, Fold, RunId, Seq, Snapshot, Timestamp, fold::SnapshotLimits};
use segue_engine::Facade;
use segue_journal::Record;
use serde_json::{Value, json};

use super::{NativeNdjson, NativeSse, Wire, snapshot_json};
use crate::routes::cursor::{Gap, Start};

fn run() -> RunId {
    RunId::parse("r1").expect("valid")
}

fn record(seq: u64, fields: &Value) -> Record {
    let bytes = EventRecord::encode(&Event::build(fields));
    Record { seq: Seq(seq), at: Timestamp::from_millis(1_795_176_000_000 + seq), bytes }
}

/// One event of most shapes.
fn sample() -> Vec<Record> {
    let events = [
        json!({"type": "run.started", "session_id": "s", "message_id": "m", "input": "hi\nyou"}),
        json!({"type": "reasoning.start", "part": "r"}),
        json!({"type": "reasoning.delta", "part": "r", "text": "hm"}),
        json!({"type": "reasoning.end", "part": "r"}),
        json!({"type": "tool_call.started", "call_id": "c", "name": "search"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "{\"q\":1}"}),
        json!({"type": "tool_result", "call_id": "c", "output": {"n": 1.5}}),
        json!({"type": "text.delta", "part": "p", "text": "é \u{2028} \"x\"\r\n"}),
        json!({"type": "my.own_type", "x": [1, null]}),
        json!({"type": "usage", "input": 1, "output": 2}),
        json!({"type": "run.finished", "message_id": "m", "status": "finished"}),
    ];
    let mut records: Vec<Record> =
        events.iter().zip(1..).map(|(fields, seq)| record(seq, fields)).collect();
    records[8].bytes = Bytes::from_static(b"\x09 a version of later");
    records
}

fn encode<F: Facade>(facade: &mut F, records: &[Record]) -> String {
    let mut out = BytesMut::new();
    for record in records {
        facade.encode(&run(), record, &mut out);
    }
    String::from_utf8(out.to_vec()).expect("text")
}

fn opening(wire: &impl Wire, start: &Start, snapshot: Option<&Snapshot>) -> String {
    let pieces = wire.opening(&run(), start, snapshot, 2000);
    String::from_utf8(pieces.concat()).expect("text")
}

/// A snapshot of the sample's beginning: open parts, a result, what is not known.
fn snapshot(limits: &SnapshotLimits) -> Snapshot {
    let mut fold = Fold::new(&run(), Seq::FIRST);
    for record in &sample()[..8] {
        let event = EventRecord::decode(record.bytes.clone()).expect("an event");
        fold.apply(record.seq, record.at, &event).expect("the next one");
    }
    fold.snapshot(limits)
}

/// Compares with the fixture; `SEGUE_BLESS=1` writes it anew.
fn check(name: &str, frames: &str) {
    let path = format!("{}/src/facade/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SEGUE_BLESS").is_some() {
        std::fs::write(&path, frames).expect("the fixture can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the fixture can be read");
    assert_eq!(frames, golden, "frames changed: name a new encoding and keep the old one");
}

#[test]
fn golden_native_sse() {
    check("native.sse", &encode(&mut NativeSse { named: true }, &sample()));
    check("native_unnamed.sse", &encode(&mut NativeSse { named: false }, &sample()));
}

#[test]
fn golden_native_ndjson() {
    check("native.ndjson", &encode(&mut NativeNdjson, &sample()));
}

#[test]
fn golden_openings() {
    let (first, later) = (Start::at(Seq::FIRST), Start::at(Seq(5)));
    let sse: Vec<String> =
        [&first, &later].map(|start| opening(&NativeSse { named: true }, start, None)).into();
    check("openings.sse", &sse.join("---\n"));
    assert_eq!(opening(&NativeNdjson, &first, None), "");
    assert_eq!(opening(&NativeNdjson, &later, None), "");
}

#[test]
fn golden_snapshots() {
    let snapshot = snapshot(&SnapshotLimits::default());
    let asked = Start { from: Seq::FIRST, gap: None, snapshot: true };
    let gap = Start { gap: Some(Gap::Foreign), ..asked.clone() };
    let all = [
        opening(&NativeSse { named: true }, &asked, Some(&snapshot)),
        opening(&NativeSse { named: true }, &gap, Some(&snapshot)),
        opening(&NativeSse { named: false }, &gap, Some(&snapshot)),
    ];
    check("snapshots.sse", &all.join("---\n"));
    check("snapshot_gap.ndjson", &opening(&NativeNdjson, &gap, Some(&snapshot)));
}

#[test]
fn the_whole_of_a_run_whose_beginning_is_gone_is_what_is_left() {
    let tight = SnapshotLimits { bytes: 0, ..SnapshotLimits::default() };
    let trimmed = Snapshot { from_seq: Seq(5), ..snapshot(&tight) };
    let json = snapshot_json(&run(), &trimmed).concat();
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["link"], "/v1/runs/r1/events?after=r1:4");
}

#[test]
fn a_snapshot_that_is_cut_says_where_the_whole_is() {
    let tight = SnapshotLimits { bytes: 0, ..SnapshotLimits::default() };
    for (limits, link) in
        [(tight, json!("/v1/runs/r1/events?from=start")), (SnapshotLimits::default(), Value::Null)]
    {
        let json = snapshot_json(&run(), &snapshot(&limits)).concat();
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!((&json["type"], &json["link"]), (&json!("control.snapshot"), &link));
        assert_eq!((&json["seq"], &json["message"]["run_id"]), (&json!(8), &json!("r1")));
    }
}

#[test]
fn encodings_have_names_of_their_own() {
    let names = [
        NativeSse { named: true }.encoding(),
        NativeSse { named: false }.encoding(),
        NativeNdjson.encoding(),
    ];
    assert!(names.iter().all(Option::is_some));
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
}

proptest! {
    #[test]
    fn a_prefix_and_what_resumes_after_it_are_the_whole(
        texts in prop::collection::vec(any::<String>(), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let delta = |text: &String| json!({"type": "text.delta", "part": "p", "text": text});
        let records: Vec<Record> =
            texts.iter().zip(1..).map(|(text, seq)| record(seq, &delta(text))).collect();
        let (before, after) = records.split_at(cut.index(records.len() + 1));
        macro_rules! holds {
            ($facade:expr) => {
                let parts = encode(&mut $facade, before) + &encode(&mut $facade, after);
                prop_assert_eq!(parts, encode(&mut $facade, &records));
            };
        }
        holds!(NativeSse { named: true });
        holds!(NativeSse { named: false });
        holds!(NativeNdjson);
    }

    #[test]
    fn each_frame_is_whole_and_its_id_is_its_own(text: String, seq in 1..u64::MAX / 2) {
        let record = record(seq, &json!({"type": "text.delta", "part": "p", "text": text}));
        let frame = encode(&mut NativeSse { named: true }, std::slice::from_ref(&record));
        let lines: Vec<&str> = frame.split('\n').collect();
        let id = format!("id: r1:{seq}");
        prop_assert_eq!(&lines[..2], &[id.as_str(), "event: text.delta"]);
        prop_assert_eq!(&lines[3..], &["", ""]);
        let data = lines[2].strip_prefix("data: ").expect("data");
        let event: Value = serde_json::from_str(data).expect("JSON");
        prop_assert_eq!(event["text"].as_str(), Some(text.as_str()));
        let line = encode(&mut NativeNdjson, &[record]);
        prop_assert_eq!(line.strip_suffix('\n'), Some(data));
    }
}
