use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::run::{InterruptionCause, StopReason};

fn event(name: &str, subject: &str) -> Event {
    let fields = match name {
        "text.start" | "text.end" | "reasoning.start" | "reasoning.end" => {
            json!({"type": name, "part": subject})
        }
        "text.delta" | "reasoning.delta" => json!({"type": name, "part": subject, "text": "x"}),
        "tool_call.started" => json!({"type": name, "call_id": subject, "name": "n"}),
        "tool_call.input_delta" => json!({"type": name, "call_id": subject, "text": "x"}),
        "tool_call.input_end" => json!({"type": name, "call_id": subject, "input": {}}),
        "tool_result" => json!({"type": name, "call_id": subject, "output": 1}),
        "preliminary" => {
            json!({"type": "tool_result", "call_id": subject, "output": 1, "preliminary": true})
        }
        "step.started" | "step.finished" | "discard" => json!({"type": name, "step": subject}),
        other => json!({"type": other}),
    };
    Event::build(&fields)
}

fn show(events: &[Event]) -> String {
    let word = |e: &Event| match e.subject() {
        Some(subject) => format!("{}({subject})", e.name()),
        None => e.name().to_owned(),
    };
    events.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Admits `name(subject)` words and shows what enters the stream; `END` ends the run.
fn check(words: &str, expected: &str) {
    let message = MessageId::parse("m").expect("valid");
    let (mut admission, mut out) = (Admission::default(), Vec::new());
    for word in words.split_whitespace() {
        match word.trim_end_matches(')').split_once('(') {
            Some((name, subject)) => admission.admit(event(name, subject), &mut out),
            None if word == "END" => {
                admission.end(&Outcome::stopped(StopReason::User), &message, &mut out);
            }
            None => admission.admit(event(word, ""), &mut out),
        }
    }
    assert_eq!(show(&out), expected);
}

#[test]
fn missing_starts_are_inserted() {
    check("text.delta(a) text.delta(a)", "text.start(a) text.delta(a) text.delta(a)");
    check(
        "reasoning.delta(a) text.delta(a)",
        "reasoning.start(a) reasoning.delta(a) text.start(a) text.delta(a)",
    );
    check("tool_call.input_delta(c)", "tool_call.started(c) tool_call.input_delta(c)");
    check("tool_call.input_end(c)", "tool_call.started(c) tool_call.input_end(c)");
    check("tool_result(c)", "tool_call.started(c) tool_call.input_end(c) tool_result(c)");
    check("step.finished(1)", "step.started(1) step.finished(1)");
}

#[test]
fn double_starts_and_ends_are_dropped() {
    check("text.start(a) text.start(a) text.end(a) text.end(a)", "text.start(a) text.end(a)");
    check("text.end(a)", "");
    check("step.started(1) step.started(1)", "step.started(1)");
    check(
        "tool_call.started(c) tool_call.started(c) tool_call.input_end(c) tool_call.input_end(c) \
         tool_call.input_delta(c) tool_result(c) tool_result(c) preliminary(c)",
        "tool_call.started(c) tool_call.input_end(c) tool_result(c)",
    );
}

#[test]
fn a_preliminary_result_leaves_the_call_open() {
    check(
        "tool_call.started(c) tool_call.input_end(c) preliminary(c) preliminary(c) tool_result(c)",
        "tool_call.started(c) tool_call.input_end(c) tool_result(c) tool_result(c) tool_result(c)",
    );
}

#[test]
fn the_end_closes_what_is_open_in_the_order_it_was_opened() {
    check(
        "step.started(1) text.delta(b) reasoning.delta(a) tool_call.started(z) \
         tool_call.started(c) tool_call.input_end(c) END",
        "step.started(1) text.start(b) text.delta(b) reasoning.start(a) reasoning.delta(a) \
         tool_call.started(z) tool_call.started(c) tool_call.input_end(c) text.end(b) \
         reasoning.end(a) tool_call.input_end(z) tool_result(z) tool_result(c) step.finished(1) \
         run.stopped",
    );
}

#[test]
fn nothing_comes_after_the_end() {
    check("END text.delta(a) END", "run.stopped");
    check("run.finished text.delta(a)", "text.start(a) text.delta(a)");
}

#[test]
fn a_discarded_step_takes_its_open_parts_with_it() {
    check(
        "text.delta(keep) step.started(1) text.delta(void) tool_call.started(c) discard(1) \
         text.delta(void) END",
        "text.start(keep) text.delta(keep) step.started(1) text.start(void) text.delta(void) \
         tool_call.started(c) discard(1) text.start(void) text.delta(void) text.end(keep) \
         text.end(void) step.finished(1) run.stopped",
    );
}

#[test]
fn a_retry_of_a_discarded_step_may_use_its_names_again() {
    check(
        "step.started(1) tool_call.started(c) tool_call.input_end(c) tool_result(c) discard(1) \
         tool_call.started(c) tool_call.input_end(c) tool_result(c)",
        "step.started(1) tool_call.started(c) tool_call.input_end(c) tool_result(c) discard(1) \
         tool_call.started(c) tool_call.input_end(c) tool_result(c)",
    );
}

#[test]
fn a_clients_call_waits_over_the_end_of_a_finished_run_and_of_no_other() {
    let message = MessageId::parse("m").expect("valid");
    let started = json!({
        "type": "tool_call.started", "call_id": "c", "name": "f", "executor": "client",
    });
    let end = json!({"type": "tool_call.input_end", "call_id": "c", "input": {}});
    let finished = || Outcome::Finished { finish_reason: None, usage: None };
    let stopped = || Outcome::stopped(StopReason::User);
    for (events, outcome, has_result) in [
        (vec![&started, &end], finished(), false),
        (vec![&started], finished(), true),
        (vec![&started, &end], stopped(), true),
    ] {
        let (mut admission, mut out) = (Admission::default(), Vec::new());
        for event in events {
            admission.admit(Event::build(event), &mut out);
        }
        admission.end(&outcome, &message, &mut out);
        let is_result = |event: &Event| event.kind() == EventKind::ToolResult;
        assert_eq!(out.iter().any(is_result), has_result, "{outcome:?}");
    }
}

#[test]
fn after_an_interruption_an_unfinished_call_is_uncertain() {
    let message = MessageId::parse("m").expect("valid");
    let (mut admission, mut out) = (Admission::default(), Vec::new());
    admission.admit(event("tool_call.input_end", "c"), &mut out);
    out.clear();
    let outcome = Outcome::Interrupted { cause: InterruptionCause::Restart };
    admission.end(&outcome, &message, &mut out);
    let result: Value = serde_json::from_slice(out[0].json()).expect("json");
    assert_eq!((&result["call_id"], &result["uncertain"]), (&json!("c"), &json!(true)));
}

#[test]
fn unknown_types_pass_as_they_are() {
    check("my.type data", "my.type data");
}

fn any_event() -> impl Strategy<Value = Event> {
    let names = prop::sample::select(vec![
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
        "preliminary",
        "step.started",
        "step.finished",
        "discard",
        "data",
        "odd",
    ]);
    (names, prop::sample::select(vec!["a", "b"])).prop_map(|(name, subject)| event(name, subject))
}

proptest! {
    /// Admission is idempotent on its own output, so a state rebuilt from the stream is the
    /// state that wrote it.
    #[test]
    fn replaying_the_stream_gives_the_same_state(events in prop::collection::vec(any_event(), 0..60)) {
        let (mut live, mut stream) = (Admission::default(), Vec::new());
        for event in events {
            live.admit(event, &mut stream);
        }
        let mut replayed = Admission::default();
        for event in &stream {
            replayed.replay(&EventRecord::decode(EventRecord::encode(event)).expect("valid"));
        }
        let message = MessageId::parse("m").expect("valid");
        let bound = live.end_bytes();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        live.end(&Outcome::stopped(StopReason::User), &message, &mut a);
        replayed.end(&Outcome::stopped(StopReason::User), &message, &mut b);
        prop_assert_eq!(&a, &b);
        let ends = a.iter().take(a.len() - 1).map(|end| EventRecord::encode(end).len());
        prop_assert!(ends.sum::<usize>() <= bound);

        let (mut again, mut same) = (Admission::default(), Vec::new());
        for event in &stream {
            again.admit(event.clone(), &mut same);
        }
        prop_assert_eq!(same, stream);
    }

    /// Whatever comes, the stored history has each part opened before its deltas and closed by
    /// the end, and one result per call.
    #[test]
    fn what_is_stored_is_well_formed(events in prop::collection::vec(any_event(), 0..60)) {
        let message = MessageId::parse("m").expect("valid");
        let (mut admission, mut stream) = (Admission::default(), Vec::new());
        for event in events {
            admission.admit(event, &mut stream);
        }
        admission.end(&Outcome::stopped(StopReason::User), &message, &mut stream);
        let discards = stream.iter().any(|e| e.kind() == EventKind::Discard);
        let mut open = std::collections::BTreeSet::new();
        for event in &stream {
            let part = (event.name().split('.').next().unwrap_or("").to_owned(), event.subject());
            match event.kind() {
                EventKind::TextStart | EventKind::ReasoningStart => {
                    prop_assert!(open.insert(part) || discards);
                }
                EventKind::TextDelta | EventKind::ReasoningDelta => prop_assert!(open.contains(&part)),
                EventKind::TextEnd | EventKind::ReasoningEnd => prop_assert!(open.remove(&part)),
                _ => {}
            }
        }
        prop_assert!(open.is_empty() || discards);
        let terminals = stream.iter().filter(|e| e.kind().is_terminal()).count();
        prop_assert_eq!(terminals, 1);
        prop_assert!(stream.last().is_some_and(|e| e.kind().is_terminal()));
    }
}
