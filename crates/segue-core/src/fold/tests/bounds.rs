//! What is cut or left out, and that it is told.

use serde_json::{Value, json};

use super::*;

#[test]
fn a_large_message_is_cut_marked_and_goes_on() {
    let limits = SnapshotLimits { bytes: 20_000, ..SnapshotLimits::default() };
    let big = "\u{e9}\"".repeat(30_000);
    let events = [
        json!({"type": "text.delta", "part": "small", "text": "stays"}),
        json!({"type": "text.delta", "part": "big", "text": big}),
        json!({"type": "tool_result", "call_id": "c", "output": big, "x": 1}),
        json!({"type": "data", "name": "d", "value": big}),
        json!({"type": "state", "name": "s", "snapshot": {"v": big}}),
    ];
    let snapshot = fold_of(&built(&events)).snapshot(&limits);
    assert!(snapshot.is_cut && snapshot.json.len() <= limits.bytes, "{}", snapshot.json.len());
    let json: Value = serde_json::from_slice(&snapshot.json).expect("JSON");
    assert_eq!((&json["truncated"], &json["omitted"]), (&json!(2), &json!(2)));
    let parts = json["message"]["parts"].as_array().expect("parts");
    assert_eq!((&parts[0]["text"], parts[0].get("truncated")), (&json!("stays"), None));
    let (kept, missing) = (parts[1]["text"].as_str().expect("text"), &parts[1]["truncated"]);
    assert!(big.ends_with(kept) && kept.len() > 1000);
    assert_eq!(missing.as_u64(), Some((big.len() - kept.len()) as u64));
    assert_eq!((&parts[2]["call_id"], &parts[2]["x"]), (&json!("c"), &json!(1)));
    assert!(parts[2].get("output").is_none() && parts[2]["truncated"].as_u64() > Some(30_000));
    let mut fold: Fold = serde_json::from_slice(&snapshot.json).expect("a fold");
    go_on(&mut fold, &built(&[json!({"type": "text.delta", "part": "big", "text": "!"})]));
    let Part::Prose(prose) = &fold.message().parts[1] else { panic!("text") };
    assert_eq!(prose.text, format!("{kept}!"));
}

#[test]
fn a_snapshot_is_bounded_whatever_there_are_many_of() {
    let limits = SnapshotLimits { bytes: 20_000, ..SnapshotLimits::default() };
    let name = |n: usize| format!("{n}");
    let shapes: [fn(String) -> Value; 6] = [
        |n| json!({"type": "text.delta", "part": n, "text": "x"}),
        |n| json!({"type": "data", "name": n}),
        |n| json!({"type": "state", "name": n, "snapshot": 1}),
        |n| json!({"type": "step.started", "step": n}),
        |n| json!({"type": "approval.requested", "approval_id": n, "prompt": "", "options": []}),
        |n| json!({"type": "tool_call.started", "call_id": n, "name": "\u{1}".repeat(100)}),
    ];
    for shape in shapes {
        let events: Vec<Value> = (0..3_000).map(|n| shape(name(n))).collect();
        let snapshot = fold_of(&built(&events)).snapshot(&limits);
        assert!(snapshot.json.len() <= limits.bytes, "{}: {}", events[0], snapshot.json.len());
    }
    let fields: Value =
        (0..3_000).map(|n| (name(n), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    for mut event in [json!({"type": "usage"}), json!({"type": "source"})] {
        event.as_object_mut().expect("object").extend(fields.as_object().expect("object").clone());
        let snapshot = fold_of(&built(&[event])).snapshot(&limits);
        assert!(snapshot.is_cut && snapshot.json.len() <= limits.bytes, "{}", snapshot.json.len());
    }
}

#[test]
fn h15_a_pathological_call_is_cut_in_a_snapshot_and_marked() {
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let events = [
        json!({"type": "tool_call.started", "call_id": "c", "name": "n"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": deep}),
        json!({"type": "tool_call.input_end", "call_id": "c"}),
    ];
    let fold = fold_of(&built(&events));
    let snapshot = fold.snapshot(&SnapshotLimits::default());
    assert!(snapshot.is_cut && snapshot.json.len() < 1_000);
    let json: Value = serde_json::from_slice(&snapshot.json).expect("any reader can read it");
    assert!(json["message"]["parts"][0]["truncated"].as_u64() > Some(90_000));
    let kept = serde_json::to_vec(&fold).expect("JSON");
    assert_eq!(serde_json::from_slice::<Fold>(&kept).expect("whole"), fold);
}

#[test]
fn a_field_called_like_our_mark_is_the_producers() {
    let file = json!({"type": "file", "url": "u", "truncated": true});
    let fold = fold_of(&built(&[file]));
    let expect = json!([{"type": "file", "url": "u", "_truncated": true}]);
    assert_eq!(as_json(&fold)["message"]["parts"], expect);
    let snapshot = fold.snapshot(&SnapshotLimits::default());
    assert!(!snapshot.is_cut);
    let again: Fold = serde_json::from_slice(&snapshot.json).expect("a fold");
    assert!(!again.snapshot(&SnapshotLimits::default()).is_cut);
}

#[test]
fn h15_a_cut_part_still_says_which_call_it_is_of_and_huge_keys_go() {
    let (id, key) = ("\u{1}".repeat(250), "k".repeat(30_000));
    let event = json!({"type": "tool_result", "call_id": id, "output": "x", key: 1});
    let limits = SnapshotLimits { bytes: 10_000, ..SnapshotLimits::default() };
    let snapshot = fold_of(&built(&[event])).snapshot(&limits);
    let json: Value = serde_json::from_slice(&snapshot.json).expect("JSON");
    let part = &json["message"]["parts"][0];
    assert_eq!((&part["call_id"], &part["output"]), (&json!(id), &json!("x")));
    assert!(part["truncated"].as_u64() > Some(29_000));
}

/// Whatever there can be many of, each by its number.
fn growing() -> Vec<fn(usize) -> Value> {
    vec![
        |n| json!({"type": "text.delta", "part": n.to_string(), "text": "x"}),
        |n| json!({"type": "tool_call.started", "call_id": n.to_string(), "name": "n"}),
        |n| json!({"type": "tool_result", "call_id": n.to_string(), "output": 1}),
        |n| json!({"type": "file", "media_type": "a/b", "url": n}),
        |n| json!({"type": "my.own", "x": n}),
        |n| json!({"type": "data", "name": n.to_string()}),
        |n| json!({"type": "state", "name": n.to_string(), "snapshot": {"k": [0, 0, 0, 0]}}),
        |n| json!({"type": "state", "patch": {n.to_string(): [0, 0, 0, 0]}}),
        |n| json!({"type": "metadata", "metadata": {n.to_string(): [0, 0, 0, 0]}}),
        |n| json!({"type": "usage", "cumulative": false, n.to_string(): [0, 0, 0, 0]}),
        |n| json!({"type": "step.started", "step": n}),
        |n| json!({"type": "approval.requested", "approval_id": n.to_string(), "prompt": "?"}),
    ]
}

#[test]
fn a_fold_reckons_what_it_holds_whatever_it_is_made_of() {
    for shape in growing() {
        let events: Vec<Value> = (0..500).map(shape).collect();
        let fold = fold_of(&built(&events));
        let kept = serde_json::to_vec(&fold).expect("JSON");
        assert!(fold.cost() >= kept.len() / 2, "{}", events[0]);
        let again: Fold = serde_json::from_slice(&kept).expect("a fold");
        assert_eq!(again.cost(), fold.cost(), "{}", events[0]);
    }
}

#[test]
fn a_fold_has_a_bound_and_tells_what_has_no_room() {
    let zeros = |n: usize| json!(vec![0; n]);
    let filler = json!({"type": "my.own", "x": "x".repeat(MAX_HELD / 2)});
    let mut fold = fold_of(&built(&[filler]));
    let before = fold.cost();
    let large: Vec<Value> = vec![
        json!({"type": "state", "name": "s", "snapshot": zeros(MAX_HELD / 8)}),
        json!({"type": "metadata", "metadata": {"m": zeros(MAX_HELD / 8)}}),
        json!({"type": "usage", "u": zeros(MAX_HELD / 8)}),
        json!({"type": "data", "name": "d", "x": "x".repeat(MAX_HELD / 2)}),
        json!({"type": "approval.requested", "approval_id": "a", "x": "x".repeat(MAX_HELD / 2)}),
        json!({"type": "tool_result", "call_id": "c", "output": "x".repeat(MAX_HELD / 2)}),
    ];
    go_on(&mut fold, &built(&large));
    assert_eq!((fold.omitted, fold.skipped(), fold.cost()), (large.len() as u64, 0, before));
    let grow = json!({"type": "state", "snapshot": {"a": ["x".repeat(1 << 20)]}});
    let double = json!([{"op": "copy", "from": "/a", "path": "/a/-"}]);
    let double = json!({"type": "state", "patch": double});
    go_on(&mut fold, &built(&[grow, double.clone(), double.clone(), double.clone(), double]));
    assert!(fold.skipped() > 0 && fold.cost() <= MAX_HELD);
    assert!(fold.snapshot(&SnapshotLimits::default()).is_cut);
}

#[test]
fn a_text_that_has_no_room_keeps_its_newest_and_a_call_says_that_it_is_cut() {
    let chunk = "0123456789abcdef".repeat(1 << 15);
    let delta =
        |n: usize| json!({"type": "text.delta", "part": "p", "text": format!("{chunk}{n}")});
    let input = json!({"type": "tool_call.input_delta", "call_id": "c", "text": chunk});
    let mut fold = fold_of(&built(&[json!({"type": "text.start", "part": "p"}), input]));
    for n in 0..100 {
        go_on(&mut fold, &built(&[delta(n)]));
        assert!(fold.cost() <= MAX_HELD);
    }
    let Part::Prose(prose) = &fold.message().parts[0] else { panic!("text") };
    assert!(prose.text.len() > MAX_HELD / 4 && prose.text.ends_with(&format!("{chunk}99")));
    let said = (0..100).map(|n| chunk.len() + n.to_string().len()).sum::<usize>();
    assert_eq!(prose.truncated, Some((said - prose.text.len()) as u64));
    let input =
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "x".repeat(MAX_HELD)});
    go_on(&mut fold, &built(&[input, json!({"type": "tool_call.input_end", "call_id": "c"})]));
    let Part::Call(call) = &fold.message().parts[1] else { panic!("a call") };
    assert_eq!(call.error.as_ref().map(Json::text), Some(r#""the input is cut""#));
    assert!(call.truncated > Some(MAX_HELD as u64) && !call.open);
}

#[test]
fn h15_pending_approvals_are_shown_before_those_that_are_resolved() {
    let limits = SnapshotLimits { bytes: 3_000, ..SnapshotLimits::default() };
    let ask = |id: &str| json!({"type": "approval.requested", "approval_id": id, "prompt": "?"});
    let mut events: Vec<Value> = (0..500).map(|n| ask(&format!("a{n}"))).collect();
    events.extend((0..500).map(
        |n| json!({"type": "approval.resolved", "approval_id": format!("a{n}"), "decision": "y"}),
    ));
    events.push(ask("z"));
    let snapshot = fold_of(&built(&events)).snapshot(&limits);
    let json: Value = serde_json::from_slice(&snapshot.json).expect("JSON");
    assert!(snapshot.json.len() <= limits.bytes && json["omitted"].as_u64() > Some(400));
    assert_eq!(json["message"]["approvals"]["z"], json!({"requested": ask("z")}));
}
