//! Each event type's effect, and the law: what is kept of a fold goes on as the fold would.

mod bounds;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    admission::Admission,
    event::wire::{read_event, write_event},
};

fn run() -> RunId {
    RunId::parse("r1").expect("valid")
}

fn record(event: &Event) -> EventRecord {
    EventRecord::decode(EventRecord::encode(event)).expect("what was just encoded decodes")
}

fn at(seq: Seq) -> Timestamp {
    Timestamp::from_millis(seq.0 * 1000)
}

/// Folds events on; what cannot be used is counted by the fold.
fn go_on(fold: &mut Fold, events: &[Event]) {
    for event in events {
        let seq = fold.seq().next();
        drop(fold.apply(seq, at(seq), &record(event)));
    }
}

fn fold_of(events: &[Event]) -> Fold {
    let mut fold = Fold::new(&run(), Seq::FIRST);
    go_on(&mut fold, events);
    fold
}

/// As a client folds them.
fn from_the_wire(events: &[Event]) -> Fold {
    let mut fold = Fold::new(&run(), Seq::FIRST);
    for event in events {
        let (seq, mut line) = (fold.seq().next(), bytes::BytesMut::new());
        write_event(&mut line, &run(), seq, at(seq), &record(event));
        let read = read_event(&line).expect("an event of a server");
        drop(fold.apply(seq, at(seq), &read));
    }
    fold
}

fn built(events: &[Value]) -> Vec<Event> {
    events.iter().map(Event::build).collect()
}

fn as_json(fold: &Fold) -> Value {
    serde_json::from_slice(&serde_json::to_vec(fold).expect("JSON")).expect("JSON")
}

fn message(events: &[Value]) -> Value {
    as_json(&fold_of(&built(events)))["message"].take()
}

/// The message's parts after these events.
fn parts(events: &[Value]) -> Value {
    message(events)["parts"].take()
}

#[test]
fn text_and_reasoning_grow_and_close() {
    let events = [
        json!({"type": "reasoning.start", "part": "p"}),
        json!({"type": "reasoning.delta", "part": "p", "text": "h"}),
        json!({"type": "reasoning.delta", "part": "p", "text": "m\u{e9}", "signature": "s1"}),
        json!({"type": "reasoning.end", "part": "p", "signature": "s2"}),
        json!({"type": "text.start", "part": "p"}),
        json!({"type": "text.delta", "part": "p", "text": "a"}),
        json!({"type": "text.end", "part": "p"}),
        json!({"type": "text.start", "part": "p"}),
        json!({"type": "text.delta", "part": "p", "text": "b"}),
    ];
    let expect = json!([
        {"type": "reasoning", "part": "p", "text": "hm\u{e9}", "signature": "s2"},
        {"type": "text", "part": "p", "text": "a"},
        {"type": "text", "part": "p", "text": "b", "open": true},
    ]);
    assert_eq!(parts(&events), expect);
}

#[test]
fn a_call_has_its_input_or_what_is_wrong_with_it() {
    let started =
        json!({"type": "tool_call.started", "call_id": "c", "name": "n", "executor": "client"});
    let delta = |text| json!({"type": "tool_call.input_delta", "call_id": "c", "text": text});
    let end = json!({"type": "tool_call.input_end", "call_id": "c"});
    let call = |rest: Value| {
        let mut call =
            json!({"type": "tool_call", "call_id": "c", "name": "n", "executor": "client"});
        rest.as_object().expect("object").iter().for_each(|(k, v)| call[k] = v.clone());
        json!([call])
    };
    let events = [started.clone(), delta("{\"a\":\n"), delta("1.50}"), end.clone()];
    assert_eq!(parts(&events[..3]), call(json!({"text": "{\"a\":\n1.50}", "open": true})));
    assert_eq!(parts(&events), call(json!({"input": {"a": 1.50}})));
    let whole = json!({"type": "tool_call.input_end", "call_id": "c", "input": {"b": 2}});
    assert_eq!(parts(&[started.clone(), delta("{"), whole]), call(json!({"input": {"b": 2}})));
    let broken = call(json!({"raw": "{\"a", "error": "the input is not JSON"}));
    assert_eq!(parts(&[started.clone(), delta("{\"a"), end.clone()]), broken);
    let said = json!({"type": "tool_call.input_end", "call_id": "c", "raw": "x", "error": "no"});
    assert_eq!(
        parts(&[started.clone(), delta("y"), said]),
        call(json!({"raw": "x", "error": "no"}))
    );
    let cut = json!({"type": "tool_call.input_end", "call_id": "c", "error": "cut"});
    assert_eq!(
        parts(&[started.clone(), delta("1"), cut]),
        call(json!({"raw": "1", "error": "cut"}))
    );
    assert_eq!(parts(&[started, end]), call(json!({})));
}

#[test]
fn of_results_the_last_wins_and_its_doubt_is_kept() {
    let result = |rest: Value| {
        let mut result = json!({"type": "tool_result", "call_id": "c"});
        rest.as_object().expect("object").iter().for_each(|(k, v)| result[k] = v.clone());
        result
    };
    let started = json!({"type": "tool_call.started", "call_id": "c", "name": "n"});
    let first = result(json!({"output": 1, "preliminary": true}));
    let last = result(json!({"error": "x", "uncertain": true}));
    let events = [
        started,
        first.clone(),
        json!({"type": "file", "media_type": "a/b", "url": "u"}),
        last.clone(),
    ];
    assert_eq!(parts(&events[..2])[1], first);
    let expect = json!([last, {"type": "file", "media_type": "a/b", "url": "u"}]);
    assert_eq!(json!([parts(&events)[1], parts(&events)[2]]), expect);
}

#[test]
fn a_discard_makes_its_steps_parts_void_and_no_others() {
    let events = [
        json!({"type": "step.started", "step": 1}),
        json!({"type": "text.delta", "part": "a", "text": "kept"}),
        json!({"type": "text.end", "part": "a"}),
        json!({"type": "step.finished", "step": 1}),
        json!({"type": "step.started", "step": 2}),
        json!({"type": "text.delta", "part": "b", "text": "void"}),
        json!({"type": "tool_call.started", "call_id": "c", "name": "n"}),
        json!({"type": "tool_result", "call_id": "c", "output": 1}),
        json!({"type": "my.own", "x": 1}),
        json!({"type": "warning", "message": "again", "code": "retried"}),
        json!({"type": "input.received", "parts": ["hi"], "step": 2}),
        json!({"type": "discard", "step": 2}),
        json!({"type": "text.delta", "part": "b", "text": "anew"}),
    ];
    let expect = json!([
        {"type": "text", "part": "a", "step": "1", "text": "kept"},
        {"type": "warning", "message": "again", "code": "retried"},
        {"type": "input", "parts": ["hi"]},
        {"type": "text", "part": "b", "step": "2", "text": "anew", "open": true},
    ]);
    assert_eq!(parts(&events), expect);
}

#[test]
fn data_state_and_metadata_are_by_name() {
    let events = [
        json!({"type": "data", "name": "d", "x": 1}),
        json!({"type": "data", "name": "d", "x": 2}),
        json!({"type": "state", "name": "s", "snapshot": {"a": [1]}}),
        json!({"type": "state", "name": "s", "patch": [{"op": "add", "path": "/a/-", "value": 2}]}),
        json!({"type": "state", "patch": {"k": true}}),
        json!({"type": "metadata", "metadata": {"m": 1, "n": {"o": 1}}}),
        json!({"type": "metadata", "metadata": {"m": null, "n": {"p": 2}}}),
        json!({"type": "log", "text": "no content"}),
        json!({"type": "run.resource", "resource": "secret"}),
        json!({"type": "run.stopping", "reason": "user"}),
    ];
    let message = message(&events);
    assert_eq!(message["data"], json!({"d": {"type": "data", "name": "d", "x": 2}}));
    assert_eq!(message["state"], json!({"": {"k": true}, "s": {"a": [1, 2]}}));
    assert_eq!(message["metadata"], json!({"n": {"o": 1, "p": 2}}));
    assert_eq!((&message["parts"], &message["version"]), (&json!([]), &json!(10)));
}

#[test]
fn approvals_are_pending_until_they_are_resolved() {
    let asked =
        json!({"type": "approval.requested", "approval_id": "a", "prompt": "?", "options": []});
    let answer = json!({"type": "approval.resolved", "approval_id": "a", "decision": "yes"});
    let approvals = |events: &[Value]| message(events)["approvals"].take();
    assert_eq!(approvals(std::slice::from_ref(&asked)), json!({"a": {"requested": asked}}));
    let both = json!({"a": {"requested": asked, "resolved": answer}});
    assert_eq!(approvals(&[asked, answer]), both);
}

#[test]
fn usage_is_the_newest_or_a_sum() {
    let usage = |events: &[Value]| message(events)["usage"].take();
    let first = json!({"type": "usage", "input": 1, "output": 2, "cost": 0.5});
    let second = json!({"type": "usage", "input": 3, "output": 4});
    assert_eq!(usage(&[first.clone(), second]), json!({"input": 3, "output": 4}));
    let more = json!({"type": "usage", "input": 3, "output": 4, "cost": 1, "cumulative": false});
    assert_eq!(usage(&[first, more]), json!({"input": 4, "output": 6, "cost": 1.5}));
}

#[test]
fn a_terminal_gives_the_status_and_a_last_part() {
    let open = json!({"type": "text.delta", "part": "p", "text": "x"});
    let text = json!({"type": "text", "part": "p", "text": "x"});
    for (terminal, status) in [
        (json!({"type": "run.finished", "status": "finished", "usage": {"input": 9}}), "complete"),
        (json!({"type": "run.stopped", "status": "stopped", "reason": "user"}), "stopped"),
        (json!({"type": "run.stopped", "reason": "one of later"}), "stopped"),
        (json!({"type": "run.failed", "status": "failed", "error": {"code": "c"}}), "failed"),
        (
            json!({"type": "run.interrupted", "status": "interrupted", "cause": "restart"}),
            "interrupted",
        ),
    ] {
        let message = message(&[open.clone(), terminal.clone()]);
        assert_eq!((&message["status"], &message["parts"][0]), (&json!(status), &text));
        let mut finish = terminal;
        finish["type"] = json!("finish");
        assert_eq!(message["parts"][1], finish);
    }
}

#[test]
fn i12_what_is_not_known_is_kept_and_what_is_broken_passed_over() {
    let odd = r#"{"type":"text","step":7,"n":1e999}"#;
    let odd = Event::from_producer(&odd.into(), 100).expect("kept by admission");
    let broken = [
        json!({"type": "text.delta", "part": "p", "text": 1}),
        json!({"type": "text.start"}),
        json!({"type": "discard", "step": {}}),
        json!({"type": "state", "name": "s"}),
        json!({"type": "state", "name": "s", "patch": [{"op": "remove", "path": "/no"}]}),
        json!({"type": "metadata", "metadata": [1]}),
        json!({"type": "approval.resolved"}),
    ];
    let mut fold = fold_of(&[odd]);
    go_on(&mut fold, &built(&broken));
    assert_eq!(fold.skipped(), broken.len() as u64);
    assert!(fold.message().state.is_empty(), "what does not fit leaves nothing");
    let Part::Whole(part) = &fold.message().parts[0] else { panic!("an opaque part") };
    let kept = r#"{"type":"event","event":{"type":"text","step":7,"n":1e999}}"#;
    assert_eq!(part.json().text(), kept);
    assert_eq!(fold.skip(fold.seq().next(), at(Seq(9))), Ok(()));
    assert_eq!((fold.skipped(), fold.seq()), (broken.len() as u64 + 1, Seq(9)));
    let text = serde_json::to_string(&fold).expect("JSON");
    assert_eq!(serde_json::from_str::<Fold>(&text).expect("its own form"), fold);
    let newer = text.replacen(r#""format":1"#, r#""format":2"#, 1);
    let refusal = serde_json::from_str::<Fold>(&newer).expect_err("of later");
    assert!(refusal.to_string().contains("format 2"), "{refusal}");
}

#[test]
fn only_the_next_event_is_taken() {
    let mut fold = Fold::new(&run(), Seq(5));
    let event = record(&Event::build(&json!({"type": "log", "text": "x"})));
    for seq in [Seq(4), Seq(6)] {
        let refusal = Err(FoldError::Order { seq, after: Seq(4) });
        assert_eq!(fold.apply(seq, at(seq), &event), refusal);
    }
    assert_eq!(fold.apply(Seq(5), at(Seq(5)), &event), Ok(()));
    assert_eq!((fold.from_seq(), fold.seq()), (Seq(5), Seq(5)));
    assert_eq!(fold.message().created_at, at(Seq(5)));
}

/// Any event, with ids from a small set, so that they meet.
fn any_event() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["a", "b", "c"]);
    let text = prop::sample::select(vec!["", "x", "{\"k\":", "1}", "\u{1f980}\n", "[1"]);
    (0..29_u8, id, text, any::<u32>()).prop_map(|(kind, id, text, float)| match kind {
        0 => json!({"type": "text.start", "part": id}),
        1..=4 => json!({"type": "text.delta", "part": id, "text": text}),
        5 => json!({"type": "text.end", "part": id}),
        6 => json!({"type": "reasoning.delta", "part": id, "text": text, "signature": text}),
        7 => json!({"type": "reasoning.end", "part": id}),
        8 => json!({"type": "tool_call.started", "call_id": id, "name": text}),
        9..=10 => json!({"type": "tool_call.input_delta", "call_id": id, "text": text}),
        11 => json!({"type": "tool_call.input_end", "call_id": id}),
        12 => json!({"type": "tool_result", "call_id": id, "output": text, "preliminary": true}),
        13 => json!({"type": "tool_result", "call_id": id, "error": text}),
        14 => json!({"type": "step.started", "step": id}),
        15 => json!({"type": "step.finished", "step": id}),
        16 => json!({"type": "discard", "step": id}),
        17 => json!({"type": "data", "name": id, "value": text}),
        18 => json!({"type": "state", "name": id, "patch": {"k": text, "l": {"m": null}}}),
        19 => json!({"type": "metadata", "metadata": {id: text}}),
        20 => json!({"type": "usage", "cost": 1.0 / (3.0 + f64::from(float)), "output": text.len(), "cumulative": false}),
        21 => {
            json!({"type": "approval.requested", "approval_id": id, "prompt": text, "options": []})
        }
        22 => json!({"type": "input.received", "text": text}),
        23 => json!({"type": "state", "name": id, "snapshot": {"list": [text], "n": {"m": 1}}}),
        24 => json!({"type": "state", "name": id, "patch": [
            {"op": "add", "path": "/l", "value": [text]},
            {"op": "copy", "from": "/l", "path": "/l/0"},
            {"op": "move", "from": "/l/0", "path": "/m"},
        ]}),
        25 => json!({"type": "approval.resolved", "approval_id": id, "decision": text}),
        26 => json!({"type": "file", "media_type": "a/b", "url": text, "truncated": 1}),
        27 => json!({"type": "warning", "message": text, "code": id}),
        _ => json!({"type": "my.own", "x": text}),
    })
}

#[test]
fn a_discard_leaves_what_came_between_and_after() {
    let mut events = vec![json!({"type": "step.started", "step": "s"})];
    events.push(json!({"type": "file", "media_type": "a/b", "url": "void"}));
    events.push(json!({"type": "step.started", "step": "t"}));
    events.extend((0..3).map(|n| json!({"type": "file", "media_type": "a/b", "url": n})));
    events.push(json!({"type": "step.finished", "step": "t"}));
    events.push(json!({"type": "file", "media_type": "a/b", "url": "void"}));
    events.push(json!({"type": "discard", "step": "s"}));
    events.push(json!({"type": "file", "media_type": "a/b", "url": 3}));
    let parts = parts(&events);
    let urls: Vec<&Value> = parts.as_array().expect("parts").iter().map(|p| &p["url"]).collect();
    assert_eq!(json!(urls), json!([0, 1, 2, 3]));
}

/// What stands in a run's stream when a producer sends these events, to its end or not.
fn admitted(events: &[Value], ends: bool) -> Vec<Event> {
    let mut admission = Admission::default();
    let mut out = Vec::new();
    for event in built(events) {
        admission.admit(event, &mut out);
    }
    if ends {
        let outcome = crate::Outcome::Interrupted { cause: crate::InterruptionCause::Restart };
        admission.end(&outcome, &MessageId::of_run(&run()), &mut out);
    }
    out
}

proptest! {
    /// A checkpoint and a snapshot, each as JSON, and the events behind it make the whole, at
    /// every cut; also of a run whose beginning was trimmed.
    #[test]
    fn a_prefix_kept_and_the_rest_are_the_whole(
        events in prop::collection::vec(any_event(), 0..60),
        trimmed in 0..20_usize,
        ends: bool,
    ) {
        let mut events = admitted(&events, ends);
        events.drain(..trimmed.saturating_sub(10).min(events.len()));
        let whole = fold_of(&events);
        prop_assert_eq!(whole.skipped(), 0);
        prop_assert_eq!(&from_the_wire(&events), &whole);
        let mut prefix = Fold::new(&run(), Seq::FIRST);
        for cut in 0..=events.len() {
            let kept = serde_json::to_vec(&prefix).expect("JSON");
            let snapshot = prefix.snapshot(&SnapshotLimits::default());
            prop_assert_eq!((snapshot.seq, snapshot.is_cut), (prefix.seq(), false));
            let anew = held::of(&prefix.message, &prefix.steps);
            prop_assert_eq!(prefix.values, anew, "kept up to date");
            prop_assert!(prefix.cost() >= kept.len() / 2);
            let read = |json: &[u8]| serde_json::from_slice::<Fold>(json).expect("a fold");
            let apart = Fold::resume(&prefix.checkpoint(), prefix.message().clone());
            let kept = [read(&kept), read(&snapshot.json), apart.expect("a fold")];
            for mut again in kept {
                prop_assert_eq!(&again, &prefix);
                go_on(&mut again, &events[cut..]);
                prop_assert_eq!(&again, &whole);
            }
            go_on(&mut prefix, &events[cut..(cut + 1).min(events.len())]);
        }
    }

    /// Against a model that knows nothing of indexes: all text of a part id, in order.
    #[test]
    fn no_text_is_lost_doubled_or_reordered(
        events in prop::collection::vec(any_event(), 0..80),
    ) {
        let events: Vec<Value> = events.into_iter().filter(|e| e["type"] != "discard").collect();
        let events = admitted(&events, true);
        let mut model = BTreeMap::<String, String>::new();
        for event in &events {
            if event.kind() == EventKind::TextDelta {
                let fields: Value = serde_json::from_slice(event.json()).expect("JSON");
                let part = event.subject().expect("a part").to_owned();
                model.entry(part).or_default().push_str(fields["text"].as_str().expect("text"));
            }
        }
        let mut folded = BTreeMap::<String, String>::new();
        for part in &fold_of(&events).message().parts {
            match part {
                Part::Prose(prose) => {
                    prop_assert!(!prose.open, "the end closes all");
                    if prose.kind == ProseKind::Text && !prose.text.is_empty() {
                        folded.entry(prose.part.clone()).or_default().push_str(&prose.text);
                    }
                }
                Part::Call(call) => prop_assert!(!call.open && call.text.is_empty()),
                Part::Whole(_) => {}
            }
        }
        model.retain(|_, text| !text.is_empty());
        prop_assert_eq!(folded, model);
    }

    /// A producer's bytes never break the fold, nor the line that a snapshot is.
    #[test]
    fn any_payload_has_an_answer(kind in 0..EventKind::NAMES.len(), key in "[a-z_]{1,8}", text: String) {
        let name = EventKind::NAMES[kind].1;
        let mut fields = json!({"type": name, "part": "p", "call_id": "c", "step": 1, "name": text});
        fields["text"] = json!(text);
        fields[&key] = json!([text]);
        fields["type"] = json!(name);
        let fold = fold_of(&built(&[fields]));
        let snapshot = fold.snapshot(&SnapshotLimits::default());
        prop_assert!(!snapshot.json.contains(&b'\n'));
        prop_assert_eq!(serde_json::from_slice::<Fold>(&snapshot.json).expect("a fold"), fold);
    }
}
