//! Golden frames, and the law that every facade keeps:
//! encode(prefix) + resume == encode(whole).

use bytes::Bytes;
use proptest::prelude::*;
use segue_core::{Event, EventRecord, Fold, RunId, Seq, Snapshot, Timestamp, fold::SnapshotLimits};
use segue_engine::{Facade, Frames};
use segue_journal::Record;
use serde_json::{Value, json};

use super::{AiSdk, NativeNdjson, NativeSse, OpenAiChat, OpenAiResponses, Wire, snapshot_json};
use crate::routes::cursor::{Gap, Start};

mod openai;

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
    let mut out = Frames::default();
    for record in records {
        facade.encode(&run(), record, &mut out);
    }
    String::from_utf8(out.into_bytes().to_vec()).expect("text")
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

/// What the AI SDK makes chunks of beside the sample: steps that cut parts, calls that fail,
/// approvals, files, and a run that had to wait.
fn sample_of_chunks() -> Vec<Record> {
    let events = [
        json!({"type": "run.queued", "session_id": "s", "message_id": "m", "turn": 1}),
        json!({"type": "run.started", "session_id": "s", "message_id": "m"}),
        json!({"type": "step.started", "step": "1"}),
        json!({"type": "text.delta", "part": "p", "text": "cut"}),
        json!({"type": "step.finished", "step": "1"}),
        json!({"type": "text.delta", "part": "p", "text": "again"}),
        json!({"type": "tool_call.started", "call_id": "a", "name": "f", "executor": "provider"}),
        json!({"type": "tool_call.input_end", "call_id": "a", "input": {"x": 1}}),
        json!({"type": "tool_result", "call_id": "a", "output": "half", "preliminary": true}),
        json!({"type": "tool_result", "call_id": "a", "error": {"code": "x", "message": "no"}}),
        json!({"type": "tool_call.started", "call_id": "b", "name": ""}),
        json!({"type": "tool_call.input_delta", "call_id": "b", "text": "{"}),
        json!({"type": "tool_call.input_end", "call_id": "b"}),
        json!({"type": "approval.requested", "approval_id": "q", "call_id": "b", "prompt": "?"}),
        json!({"type": "approval.requested", "approval_id": "r", "prompt": "?"}),
        json!({"type": "approval.resolved", "approval_id": "q", "call_id": "b", "decision": "deny"}),
        json!({"type": "file", "media_type": "image/png", "url": "https://x/y.png"}),
        json!({"type": "source", "url": "https://x/", "title": "X"}),
        json!({"type": "data", "name": "n", "id": "1", "value": [1]}),
        json!({"type": "state", "patch": {"a": 1}}),
        json!({"type": "metadata", "metadata": {"k": "v"}}),
        json!({"type": "warning", "code": "w", "message": "slow"}),
        json!({"type": "log", "text": "unseen"}),
    ];
    events.iter().zip(1..).map(|(fields, seq)| record(seq, fields)).collect()
}

#[test]
fn golden_ai_sdk() {
    check("ai_sdk.sse", &encode(&mut AiSdk::default(), &sample()));
    check("ai_sdk_more.sse", &encode(&mut AiSdk::default(), &sample_of_chunks()));
}

#[test]
fn golden_ai_sdk_ends() {
    let ends = [
        json!({"type": "run.finished", "finish_reason": "tool_calls"}),
        json!({"type": "run.stopped", "reason": "user"}),
        json!({"type": "run.failed", "error": {"code": "upstream", "message": "no answer"}}),
        json!({"type": "run.interrupted", "cause": "restart"}),
    ];
    let begin = [
        record(1, &json!({"type": "run.started", "message_id": "m"})),
        record(2, &json!({"type": "text.delta", "part": "p", "text": "hi"})),
    ];
    let frames = ends.map(|end| {
        let mut facade = AiSdk::default();
        encode(&mut facade, &begin);
        encode(&mut facade, &[record(3, &end)])
    });
    check("ai_sdk_ends.sse", &frames.join("---\n"));
}

/// Every frame of `records`, with the place after it.
fn frames_of<F: Facade>(facade: &mut F, records: &[Record]) -> Vec<String> {
    records
        .iter()
        .flat_map(|record| {
            let mut out = Frames::default();
            facade.encode(&run(), record, &mut out);
            out.each()
        })
        .map(|frame| String::from_utf8(frame.to_vec()).expect("text"))
        .collect()
}

/// An event of a few names, so that parts and calls meet.
fn any_event() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["a", "b"]);
    let kind = prop::sample::select(vec![
        "text.start",
        "text.delta",
        "text.end",
        "reasoning.start",
        "reasoning.delta",
        "reasoning.end",
        "tool_call.started",
        "tool_call.input_delta",
        "tool_call.input_end",
        "tool_result",
        "step.started",
        "step.finished",
        "discard",
        "approval.requested",
        "approval.resolved",
        "data",
        "usage",
        "warning",
        "file",
        "source",
        "my.own",
    ]);
    (kind, name, any::<String>()).prop_map(|(kind, name, text)| {
        json!({
            "type": kind, "part": name, "call_id": name, "step": name, "name": name, "text": text,
            "output": text, "approval_id": name, "decision": "deny",
        })
    })
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
    let asked = Start { snapshot: true, ..Start::at(Seq::FIRST) };
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

/// The law of [`Facade`]: whatever the client has, what is sent after it completes the whole. A
/// facade's state may be kept and read again at any place.
fn check_law<F: Facade>(
    make: impl Fn() -> F,
    kept: impl Fn(&F) -> F,
    records: &[Record],
    cut: usize,
) {
    let whole = encode(&mut make(), records);
    let (before, after) = records.split_at(cut);
    let mut facade = make();
    let first = encode(&mut facade, before);
    let mut again = kept(&facade);
    assert_eq!(first + &encode(&mut again, after), whole);
    assert_eq!(frames_of(&mut make(), records).concat(), whole, "frames are all there is");
}

proptest! {
    #[test]
    fn every_facade_keeps_the_law(
        events in prop::collection::vec(any_event(), 0..30),
        cut in any::<prop::sample::Index>(),
    ) {
        let started = json!({"type": "run.started", "message_id": "m"});
        let ended = json!({"type": "run.finished", "message_id": "m", "status": "finished"});
        let all = std::iter::once(&started).chain(&events).chain([&ended]);
        let records: Vec<Record> = all.zip(1..).map(|(fields, seq)| record(seq, fields)).collect();
        let cut = cut.index(records.len() + 1);
        check_law(|| NativeSse { named: true }, |facade| *facade, &records, cut);
        check_law(|| NativeSse { named: false }, |facade| *facade, &records, cut);
        check_law(|| NativeNdjson, |facade| *facade, &records, cut);
        check_law(AiSdk::default, AiSdk::kept, &records, cut);
        check_law(openai::responses, OpenAiResponses::kept, &records, cut);
        check_law(openai::chat, OpenAiChat::kept, &records, cut);
    }

    /// Clients throw at a delta or an end of what is not open, and at a call they do not know.
    #[test]
    fn the_ai_sdk_never_sees_a_chunk_out_of_place(
        events in prop::collection::vec(any_event(), 0..30),
    ) {
        let records: Vec<Record> =
            events.iter().zip(1..).map(|(fields, seq)| record(seq, fields)).collect();
        let (mut open, mut calls) = (std::collections::BTreeSet::new(), Vec::new());
        for frame in frames_of(&mut AiSdk::default(), &records) {
            let data = frame.lines().next().and_then(|line| line.strip_prefix("data: "));
            let chunk: Value = serde_json::from_str(data.expect("data")).expect("JSON");
            let kind = chunk["type"].as_str().expect("a type").to_owned();
            let key = |kind: &str| format!("{kind} {}", chunk["id"]);
            match kind.rsplit_once('-') {
                Some((part @ ("text" | "reasoning"), "start")) => prop_assert!(open.insert(key(part))),
                Some((part @ ("text" | "reasoning"), "delta")) => {
                    prop_assert!(open.contains(&key(part)));
                }
                Some((part @ ("text" | "reasoning"), "end")) => prop_assert!(open.remove(&key(part))),
                _ if kind == "finish-step" => prop_assert!(open.is_empty()),
                _ if kind == "tool-input-start" => calls.push(chunk["toolCallId"].clone()),
                _ if kind.starts_with("tool-") => prop_assert!(calls.contains(&chunk["toolCallId"])),
                _ => {}
            }
        }
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
