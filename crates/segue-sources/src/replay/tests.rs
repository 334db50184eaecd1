use std::future;

use futures_util::FutureExt;
use segue_core::{Event, EventKind, RunId, SessionId, StopReason};
use serde_json::{Value, json};

use super::*;

fn input(params: Value) -> RunInput {
    RunInput {
        run: RunId::parse("r").expect("valid"),
        session: SessionId::parse("s").expect("valid"),
        agent: segue_core::AgentName::parse("demo").expect("valid"),
        input: Value::Null,
        history: Vec::new(),
        params,
    }
}

async fn all(source: &ReplaySource, params: Value) -> Vec<Inbound> {
    source.start(input(params), StopSignal::never()).collect().await
}

fn events(inbound: &[Inbound]) -> Vec<Event> {
    let event = |inbound: &Inbound| match inbound {
        Inbound::Event(event) => Some(event.clone()),
        _ => None,
    };
    inbound.iter().filter_map(event).collect()
}

fn text_of(events: &[Event], kind: EventKind) -> String {
    let of_kind = events.iter().filter(|event| event.kind() == kind);
    of_kind
        .map(|event| {
            let fields: Value = serde_json::from_slice(event.json()).expect("json");
            fields["text"].as_str().expect("text").to_owned()
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_demo_has_all_that_a_console_shows() {
    let begun = Instant::now();
    let given = all(&ReplaySource::demo(), Value::Null).await;
    let events = events(&given);
    let took = begun.elapsed().as_secs();
    assert!((15..=25).contains(&took), "{took} s of paused time");
    assert!((200..=300).contains(&events.len()), "{} events", events.len());
    for kind in [
        EventKind::ReasoningStart,
        EventKind::ReasoningEnd,
        EventKind::ToolCallStarted,
        EventKind::ToolCallInputEnd,
        EventKind::ToolResult,
        EventKind::TextEnd,
        EventKind::Usage,
    ] {
        assert_eq!(events.iter().filter(|event| event.kind() == kind).count(), 1, "{kind:?}");
    }
    let input: Value =
        serde_json::from_str(&text_of(&events, EventKind::ToolCallInputDelta)).expect("json");
    assert!(input.is_object());
    let text = text_of(&events, EventKind::TextDelta);
    for markdown in ["# ", "\n## ", "\n1. ", "\n- ", "\n```sh\n", "\n| --- |", "**"] {
        assert!(text.contains(markdown), "{markdown:?}");
    }
    let Some(Inbound::Finished { finish_reason, usage: Some(_) }) = given.last() else {
        panic!("{:?}", given.last());
    };
    assert_eq!(finish_reason.as_deref(), Some("stop"));
}

#[tokio::test(start_paused = true)]
async fn speed_divides_the_pauses_and_changes_no_event() {
    let source = ReplaySource::demo();
    let begun = Instant::now();
    let plain = events(&all(&source, json!({})).await);
    let natural = begun.elapsed();

    let begun = Instant::now();
    assert_eq!(events(&all(&source, json!({"speed": 10})).await), plain);
    let fast = begun.elapsed();
    assert!(fast * 9 < natural && natural < fast * 11, "{natural:?} and {fast:?} of paused time");

    let begun = Instant::now();
    assert_eq!(events(&all(&source, json!({"speed": 0})).await), plain);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn repeated_text_comes_as_parts_of_their_own() {
    let source = ReplaySource::demo();
    let once = events(&all(&source, json!({"speed": 0})).await);
    let thrice = events(&all(&source, json!({"speed": 0, "repeat": 3})).await);
    let parts = |events: &[Event], kind| -> Vec<String> {
        let of_kind = events.iter().filter(|event| event.kind() == kind);
        of_kind.filter_map(|event| event.subject().map(str::to_owned)).collect()
    };
    assert_eq!(parts(&thrice, EventKind::TextStart), ["t1", "t1.2", "t1.3"]);
    assert_eq!(parts(&thrice, EventKind::TextEnd), ["t1", "t1.2", "t1.3"]);
    let text = text_of(&once, EventKind::TextDelta);
    assert_eq!(text_of(&thrice, EventKind::TextDelta), text.repeat(3));
    assert_eq!(parts(&thrice, EventKind::ToolResult).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_pause_ends_it_at_once() {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let signal = StopSignal::new(stopped.map(|_| StopReason::User));
    let mut stream = ReplaySource::demo().start(input(json!({"speed": 0.0001})), signal);
    let begun = Instant::now();
    assert!(stream.next().now_or_never().is_none(), "the first pause takes long");
    stop.send(()).expect("the stream listens");
    assert!(stream.next().await.is_none());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn bad_params_are_told_with_their_right_shape() {
    for params in [
        json!([]),
        json!("fast"),
        json!({"speed": -1}),
        json!({"speed": "10"}),
        json!({"repeat": 0}),
        json!({"repeat": 1.5}),
        json!({"repeat": 1_000_001}),
        json!({"sped": 1}),
    ] {
        let given = all(&ReplaySource::demo(), params.clone()).await;
        let [Inbound::Failed(error)] = &given[..] else { panic!("{params}: {given:?}") };
        assert_eq!(error.code, "bad_params", "{params}");
        assert!(error.message.contains("\"speed\"") && error.message.contains("\"repeat\""));
    }
}

#[tokio::test(start_paused = true)]
async fn the_slowest_speed_is_still_a_speed() {
    let slow = all(&ReplaySource::demo(), json!({"speed": 1e-300})).await;
    assert!(matches!(slow.last(), Some(Inbound::Finished { .. })));
}

#[test]
fn a_recording_is_read_strictly() {
    let parse = |text: &str| Recording::parse(text).map(|_| ());
    let end = r#"{"delay_ms":0,"event":{"type":"run.failed","error":"e"}}"#;
    let log = r#"{"delay_ms":0,"event":{"type":"log","text":"x"}}"#;
    assert!(parse(&format!("{log}\n\n{end}\n")).is_ok());
    assert!(matches!(parse(""), Err(RecordingError::End)));
    assert!(matches!(parse(log), Err(RecordingError::End)));
    assert!(matches!(parse(&format!("{end}\n{log}")), Err(RecordingError::End)));
    assert!(matches!(parse("{}"), Err(RecordingError::Malformed { line: 1, .. })));
    let forged = format!("{log}\n{}", log.replace("log", "run.started"));
    assert!(matches!(parse(&forged), Err(RecordingError::Event { line: 2, .. })));
}

#[tokio::test]
async fn a_recorded_failure_is_a_failure() {
    let end = r#"{"delay_ms":0,"event":{"type":"run.failed","error":{"code":"c","message":"m"}}}"#;
    let source = ReplaySource::new(Recording::parse(end).expect("valid"));
    let mut stream = source.start(input(Value::Null), StopSignal::new(future::pending()));
    let Some(Inbound::Failed(error)) = stream.next().await else { panic!("no failure") };
    assert_eq!((error.code.as_str(), error.message.as_str()), ("c", "m"));
    assert!(stream.next().await.is_none());
}
