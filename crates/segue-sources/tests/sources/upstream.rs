//! Models over HTTP, against a scripted upstream on a real socket.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use segue_core::{Inbound, InterruptionCause, RunInput, Source, StopSignal};
use segue_sources::{
    UpstreamSource,
    upstream::{Api, Secret, UpstreamLimits, UpstreamSpec},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    scripted::{Act, Scripted, answer, sse},
    support::{Stop, event, fields, input, next, rest, text, until},
};

/// An answer with reasoning, text, a tool call and usage.
pub(crate) const WHOLE: &str = include_str!("fixtures/openai-chat.sse");

/// Where the first content of [`WHOLE`] is whole.
const FIRST_CONTENT: &str = "\"hm\"}}]}\n\n";

fn source(upstream: &Scripted, limits: UpstreamLimits) -> UpstreamSource {
    let spec = UpstreamSpec { limits, ..UpstreamSpec::new(&upstream.base_url, "m") };
    let spec = UpstreamSpec { key: Some(Secret::new("sk-secret")), ..spec };
    UpstreamSource::new(Api::OpenAiChat, spec).expect("can be used")
}

/// No patience for what does not come, all of it for what does.
fn limits() -> UpstreamLimits {
    UpstreamLimits { pause: Duration::from_millis(1), ..UpstreamLimits::default() }
}

fn question() -> RunInput {
    RunInput { input: json!("hi"), ..input(Value::Null) }
}

/// The whole run with an upstream of these scripts, without signs of life.
async fn run(scripts: Vec<Vec<Act>>, limits: UpstreamLimits) -> (Vec<Inbound>, Vec<String>) {
    let upstream = Scripted::start(scripts).await;
    let mut stream = source(&upstream, limits).start(question(), StopSignal::never());
    let mut given = rest(&mut stream).await;
    given.retain(|inbound| !matches!(inbound, Inbound::Progress));
    (given, upstream.requests())
}

fn events(given: &[Inbound]) -> Vec<String> {
    let json = |event: &segue_core::Event| String::from_utf8_lossy(event.json()).into_owned();
    given.iter().filter_map(event).map(json).collect()
}

/// The code of the end: of a failure its own, else what kind of end it is.
fn end(given: &[Inbound]) -> String {
    match given.last().expect("an end") {
        Inbound::Failed(error) => error.code.clone(),
        Inbound::Interrupted(cause) => cause.as_str().to_owned(),
        Inbound::Finished { finish_reason, .. } => {
            format!("finished {}", finish_reason.as_deref().unwrap_or_default())
        }
        other => panic!("no end: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_the_same_however_it_is_cut_into_packets() {
    let (whole, requests) = run(vec![sse(&[WHOLE])], limits()).await;
    assert_eq!(
        (text(&whole, "text.delta"), text(&whole, "reasoning.delta")),
        ("Grüße dich".into(), "hm".into())
    );
    assert_eq!(fields(&whole, "tool_call.input_end")[0]["input"], json!({}));
    let Some(Inbound::Finished { finish_reason, usage }) = whole.last() else {
        panic!("{whole:?}")
    };
    assert_eq!(finish_reason.as_deref(), Some("tool_calls"));
    assert_eq!(usage, &Some(json!({"input": 3, "output": 2})));
    assert_eq!(requests.len(), 1);
    let request = requests[0].to_lowercase();
    assert!(request.starts_with("post /v1/chat/completions http/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: bearer sk-secret\r\n"), "{request}");
    for size in [1, 2, 7, 64] {
        let mut script = sse(&[]);
        script.extend(WHOLE.as_bytes().chunks(size).map(|chunk| Act::Send(chunk.to_vec())));
        let (given, _) = run(vec![script], limits()).await;
        assert_eq!(events(&given), events(&whole), "in pieces of {size}");
    }
}

/// A body that is cut, cleanly or not, at any byte is never a success before the model said that
/// it had ended, and keeps what came before. Before the first content it is asked for again.
#[tokio::test]
async fn a_body_that_is_cut_anywhere_is_no_success() {
    let content = WHOLE.find(FIRST_CONTENT).expect("it is there") + FIRST_CONTENT.len();
    let finish = WHOLE.find("\"finish_reason\"").expect("it is there");
    let finished = finish + WHOLE[finish..].find("\n\n").expect("a block") + 2;
    for at in (0..WHOLE.len()).step_by(9) {
        for last in [None, Some(Act::Reset)] {
            let is_reset = last.is_some();
            let mut script = sse(&[]);
            script.push(Act::Send(WHOLE.as_bytes()[..at].to_vec()));
            script.extend(last);
            let (given, requests) = run(vec![script, sse(&[WHOLE])], limits()).await;
            // A reset may overtake bytes that were sent before it.
            let was_retried = requests.len() == 2;
            let end = end(&given);
            if was_retried {
                assert!(is_reset || at < content, "asked again after content, cut at {at}");
                assert_eq!(end, "finished tool_calls", "cut at {at}");
                assert_eq!(fields(&given, "warning")[0]["code"], "upstream_retry");
            } else if at < finished {
                assert_eq!(end, "upstream_eof", "cut at {at}");
            } else if !is_reset {
                assert_eq!(end, "finished tool_calls", "cut at {at}");
            }
            assert!("Grüße dich".starts_with(&text(&given, "text.delta")), "cut at {at}");
        }
    }
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_may_not_is_not() {
    let refused = |status: &str| {
        answer(status, "application/json", &[r#"{"error":{"message":"no sk-secret"}}"#])
    };
    let none = UpstreamLimits { retries: 0, ..limits() };
    for (script, code, passes) in [
        (refused("400 Bad Request"), "upstream_refused", false),
        (refused("401 Unauthorized"), "upstream_unauthorized", false),
        (refused("404 Not Found"), "upstream_refused", false),
        (refused("429 Too Many Requests"), "upstream_rate_limited", true),
        (refused("503 Service Unavailable"), "upstream_failed", true),
        (answer("302 Found", "text/plain", &[]), "upstream_redirect", false),
        (answer("200 OK", "text/html", &["<html>hello"]), "upstream_not_a_stream", false),
        (sse(&["data: {\"error\":{\"message\":\"no\"}}\n\n"]), "upstream_error", false),
        (sse(&["event: error\ndata: no\n\n"]), "upstream_error", false),
        (sse(&["data: {\n\n"]), "upstream_malformed", false),
        (sse(&[]), "upstream_eof", true),
    ] {
        let (given, requests) = run(vec![script.clone()], none).await;
        assert_eq!((end(&given).as_str(), requests.len()), (code, 1));
        assert!(!format!("{given:?}").contains("sk-secret"), "{given:?}");
        let (given, requests) = run(vec![script, sse(&[WHOLE])], limits()).await;
        let asked = if passes { 2 } else { 1 };
        let wanted = if passes { "finished tool_calls" } else { code };
        assert_eq!((end(&given).as_str(), requests.len()), (wanted, asked), "{code}");
    }
}

#[tokio::test]
async fn asking_again_ends() {
    let script = answer("500 Internal Server Error", "text/plain", &["oh"]);
    let (given, requests) = run(vec![script], limits()).await;
    assert_eq!((end(&given).as_str(), requests.len()), ("upstream_failed", 3));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let spec = UpstreamSpec {
        limits: limits(),
        ..UpstreamSpec::new(format!("http://127.0.0.1:{port}"), "m")
    };
    let source = UpstreamSource::new(Api::OpenAiChat, spec).expect("can be used");
    let given = rest(&mut source.start(question(), StopSignal::never())).await;
    assert_eq!(end(&given), "upstream_unreachable");
}

#[tokio::test]
async fn silence_is_a_timeout_and_a_slow_answer_is_not() {
    let short = Duration::from_millis(50);
    let impatient = UpstreamLimits { first_byte: short, idle: short, retries: 0, ..limits() };
    let mut never_begins = sse(&[]);
    never_begins.push(Act::Stall);
    let mut stops = sse(&[&WHOLE[..WHOLE.find("dich").expect("it is there")]]);
    stops.push(Act::Stall);
    for script in [vec![Act::Stall], never_begins, stops] {
        let (given, _) = run(vec![script], impatient).await;
        assert_eq!(end(&given), "upstream_timeout");
    }
    // The model has ended: what does not come is only its usage.
    let mut finished = sse(&[&WHOLE[..WHOLE.find("data: {\"choices\":[],").expect("it is there")]]);
    finished.push(Act::Stall);
    let (given, _) = run(vec![finished], impatient).await;
    assert_eq!(end(&given), "finished tool_calls");
}

/// A model that speaks now and then for longer than the idle time is waited for; one that falls
/// silent is not. The clock is moved by the test alone, since a blocking task keeps it from moving
/// itself.
#[tokio::test(start_paused = true)]
async fn q10_a_slow_upstream_is_waited_for_and_a_silent_one_fails() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let clock = tokio::task::spawn_blocking(move || held.recv().is_err());
    let permits = Arc::new(Semaphore::new(0));
    let mut script = sse(&[]);
    for piece in ["a", "b", "c", "d"] {
        script.push(Act::Await(Arc::clone(&permits)));
        let delta =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{piece}\"}}}}]}}\n\n");
        script.push(Act::Send(delta.into_bytes()));
    }
    script.push(Act::Stall);
    let upstream = Scripted::start(vec![script]).await;
    let idle = Duration::from_mins(1);
    let limits = UpstreamLimits { first_byte: idle, idle, ..limits() };
    let mut stream = source(&upstream, limits).start(question(), StopSignal::never());
    let mut given = Vec::new();
    given.extend(next_unhurried(&mut stream).await);
    assert!(matches!(given[..], [Inbound::Progress]), "the head has come: {given:?}");
    for piece in ["a", "b", "c", "d"] {
        // It is polled, and so its wait begun, before the clock moves on.
        assert!(stream.next().now_or_never().is_none());
        tokio::time::advance(idle * 9 / 10).await;
        permits.add_permits(1);
        loop {
            let inbound = next_unhurried(&mut stream).await.expect("it is waited for");
            let found = event(&inbound).is_some_and(|event| event.name() == "text.delta");
            given.push(inbound);
            if found {
                break;
            }
        }
        assert!(text(&given, "text.delta").ends_with(piece), "{given:?}");
    }
    assert!(stream.next().now_or_never().is_none());
    tokio::time::advance(idle + Duration::from_secs(1)).await;
    while let Some(inbound) = next_unhurried(&mut stream).await {
        given.push(inbound);
    }
    assert_eq!(
        (text(&given, "text.delta").as_str(), end(&given).as_str()),
        ("abcd", "upstream_timeout")
    );
    drop(release);
    assert!(clock.await.expect("it ends"));
}

/// Without a time-out of its own, which the moved clock would run out.
async fn next_unhurried(stream: &mut segue_core::InboundStream) -> Option<Inbound> {
    stream.next().await
}

#[tokio::test]
async fn what_has_no_end_is_cut_off() {
    let small = UpstreamLimits { frame_bytes: 1 << 16, ..limits() };
    let long = "x".repeat(1 << 17);
    let line = format!("data: {long}");
    let whole = format!("{{\"choices\":[],\"x\":\"{long}\"}}");
    for script in [sse(&[&line]), answer("200 OK", "application/json", &[&whole])] {
        let (given, requests) = run(vec![script], small).await;
        assert_eq!((end(&given).as_str(), requests.len()), ("upstream_too_large", 1));
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_stream_answers_all_the_same() {
    let body = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    let (given, _) = run(vec![answer("200 OK", "application/json", &[body])], limits()).await;
    assert_eq!(
        (text(&given, "text.delta").as_str(), end(&given).as_str()),
        ("Hi", "finished stop")
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_marked_and_do_not_end_an_answer() {
    let mut script = sse(&[]);
    let (before, after) = WHOLE.split_once("dich").expect("it is there");
    script.push(Act::Send([before.as_bytes(), b"d\xffch\\ud83d", after.as_bytes()].concat()));
    let (given, _) = run(vec![script], limits()).await;
    assert_eq!(text(&given, "text.delta"), "Grüße d\u{fffd}ch\u{fffd}");
    assert_eq!(end(&given), "finished tool_calls");
}

/// Wherever the run is, a stop closes the connection and is the end of the stream.
#[tokio::test]
async fn a_stop_closes_the_upstream() {
    for (script, last) in [
        (vec![Act::Stall], None),
        (sse(&[&WHOLE[..WHOLE.find("dich").expect("it is there")]]), Some("Gr")),
    ] {
        let mut upstream = Scripted::start(vec![[script, vec![Act::Stall]].concat()]).await;
        let (stop, signal) = Stop::new();
        let mut stream = source(&upstream, limits()).start(question(), signal);
        let waits = async {
            if let Some(last) = last {
                until(&mut stream, last).await;
            }
            tokio::join!(rest(&mut stream), async {
                while upstream.requests().is_empty() {
                    tokio::task::yield_now().await;
                }
                stop.pull();
            })
        };
        let (given, ()) = waits.await;
        assert!(given.iter().all(|inbound| !matches!(inbound, Inbound::Failed(_))), "{given:?}");
        assert!(next(&mut stream).await.is_none());
        upstream.left(1).await;
    }
}

#[tokio::test]
async fn an_input_that_cannot_be_said_is_not_asked() {
    let upstream = Scripted::start(vec![sse(&[WHOLE])]).await;
    let nothing = input(Value::Null);
    let given = rest(&mut source(&upstream, limits()).start(nothing, StopSignal::never())).await;
    assert_eq!(end(&given), "bad_input");
    assert!(upstream.requests().is_empty());
    let error = source(&upstream, limits()).check(&json!({"stream": false})).expect_err("ours");
    assert_eq!(error.code, "bad_params");
    assert_eq!(InterruptionCause::UpstreamEof.as_str(), "upstream_eof");
}

/// An API, its recorded answer, and the events and end that it becomes.
struct Golden {
    api: Api,
    path: &'static str,
    key: &'static str,
    media: &'static str,
    body: &'static str,
    events: &'static str,
}

macro_rules! golden {
    ($api:ident, $name:literal, $ext:literal, $media:literal, $path:literal, $key:literal) => {
        Golden {
            api: Api::$api,
            path: $path,
            key: $key,
            media: $media,
            body: include_str!(concat!("fixtures/", $name, ".", $ext)),
            events: include_str!(concat!("fixtures/", $name, ".events")),
        }
    };
}

const SSE: &str = "text/event-stream";

const GOLDEN: [Golden; 5] = [
    golden!(
        OpenAiChat,
        "openai-chat",
        "sse",
        "text/event-stream",
        "/chat/completions",
        "authorization: Bearer sk-secret"
    ),
    golden!(
        OpenAiResponses,
        "openai-responses",
        "sse",
        "text/event-stream",
        "/responses",
        "authorization: Bearer sk-secret"
    ),
    golden!(
        Anthropic,
        "anthropic",
        "sse",
        "text/event-stream",
        "/messages",
        "x-api-key: sk-secret"
    ),
    golden!(
        Gemini,
        "gemini",
        "sse",
        "text/event-stream",
        "/models/m:streamGenerateContent?alt=sse",
        "x-goog-api-key: sk-secret"
    ),
    golden!(
        Ollama,
        "ollama",
        "ndjson",
        "application/x-ndjson",
        "/chat",
        "authorization: Bearer sk-secret"
    ),
];

/// A run of this API over these scripts: its events a line each, its end, and the requests.
async fn told(api: Api, scripts: Vec<Vec<Act>>) -> (Vec<String>, Vec<Inbound>, Vec<String>) {
    let upstream = Scripted::start(scripts).await;
    let spec = UpstreamSpec { limits: limits(), ..UpstreamSpec::new(&upstream.base_url, "m") };
    let spec = UpstreamSpec { key: Some(Secret::new("sk-secret")), ..spec };
    let source = UpstreamSource::new(api, spec).expect("can be used");
    let given = rest(&mut source.start(question(), StopSignal::never())).await;
    let mut lines = events(&given);
    lines.push(format!("{:?}", given.last().expect("an end")));
    (lines, given, upstream.requests())
}

#[tokio::test]
async fn every_api_becomes_its_recorded_events_however_it_is_cut_into_packets() {
    for golden in GOLDEN {
        let wanted: Vec<&str> = golden.events.lines().collect();
        for size in [1, 7, usize::MAX] {
            let mut script = answer("200 OK", golden.media, &[]);
            let chunks = golden.body.as_bytes().chunks(size);
            script.extend(chunks.map(|chunk| Act::Send(chunk.to_vec())));
            let (lines, _, requests) = told(golden.api, vec![script]).await;
            assert_eq!(
                lines,
                wanted,
                "{:?} in pieces of {size}:\n{}",
                golden.api,
                lines.join("\n")
            );
            let path = format!("POST /v1{} HTTP/1.1\r\n", golden.path);
            assert!(requests[0].starts_with(&path), "{}", requests[0]);
            assert!(requests[0].contains(&format!("\r\n{}\r\n", golden.key)), "{}", requests[0]);
        }
    }
}

/// Cut at any byte, every API keeps what came before, and is a success only where the model had
/// said that it ended.
#[tokio::test]
async fn every_api_cut_anywhere_is_no_success_before_its_end() {
    for golden in GOLDEN {
        let wanted: Vec<&str> = golden.events.lines().collect();
        for at in (0..golden.body.len()).step_by(23) {
            let body = [&golden.body[..golden.body.floor_char_boundary(at)]];
            let script = answer("200 OK", golden.media, &body);
            let refused = answer("400 Bad Request", "text/plain", &["no"]);
            let (lines, given, _) = told(golden.api, vec![script, refused]).await;
            let is_whole = matches!(given.last(), Some(Inbound::Finished { .. }));
            let told = lines.iter().filter(|line| line.contains(".delta"));
            assert!(told.clone().all(|line| wanted.contains(&line.as_str())), "{lines:?}");
            if is_whole {
                let deltas = wanted.iter().filter(|line| line.contains(".delta")).count();
                assert_eq!(told.count(), deltas, "{:?} cut at {at}", golden.api);
            }
        }
    }
}

/// Each API's own words for what goes wrong: before any content, and in the middle of it.
#[tokio::test]
async fn every_api_says_errors_in_its_own_words() {
    for (api, media, body, code) in [
        (
            Api::OpenAiChat,
            SSE,
            "data: {\"error\":{\"message\":\"m\",\"code\":400}}\n\n",
            "upstream_error",
        ),
        (Api::OpenAiChat, SSE, "event: error\ndata: {\"message\":\"m\"}\n\n", "upstream_error"),
        (
            Api::OpenAiResponses,
            SSE,
            "event: error\ndata: {\"type\":\"error\",\"message\":\"m\"}\n\n",
            "upstream_error",
        ),
        (
            Api::OpenAiResponses,
            SSE,
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"m\"}}}\n\n",
            "upstream_error",
        ),
        (
            Api::Anthropic,
            SSE,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"m\"}}\n\n",
            "upstream_error",
        ),
        (
            Api::Gemini,
            SSE,
            "data: {\"error\":{\"code\":400,\"message\":\"m\",\"status\":\"INVALID_ARGUMENT\"}}\n\n",
            "upstream_error",
        ),
        (
            Api::Gemini,
            "application/json",
            "[{\"error\":{\"code\":400,\"message\":\"m\"}}]",
            "upstream_error",
        ),
        (
            Api::Gemini,
            SSE,
            "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n",
            "upstream_refused",
        ),
        (Api::Ollama, "application/x-ndjson", "{\"error\":\"m\"}\n", "upstream_error"),
        (Api::Ollama, "application/x-ndjson", "<html>\n", "upstream_malformed"),
    ] {
        let (_, given, requests) = told(api, vec![answer("200 OK", media, &[body])]).await;
        assert_eq!((end(&given).as_str(), requests.len()), (code, 1), "{api:?} {body}");
        let golden = GOLDEN.iter().find(|golden| golden.api == api).expect("each has one");
        let begun = if api == Api::Ollama { "\n" } else { "\n\n" };
        let head = golden.body.find(begun).expect("a frame") + begun.len();
        let script = answer("200 OK", golden.media, &[&golden.body[..head], body]);
        if golden.media == media {
            let (_, given, _) = told(api, vec![script]).await;
            assert_eq!(end(&given), code, "{api:?} {body} in the middle");
        }
    }
}

/// What may pass is asked again in every API, where the error says so.
#[tokio::test]
async fn an_overloaded_upstream_is_asked_again() {
    let golden = &GOLDEN[2];
    let busy = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let scripts = vec![sse(&[busy]), sse(&[golden.body])];
    let (_, given, requests) = told(Api::Anthropic, scripts).await;
    assert_eq!((end(&given).as_str(), requests.len()), ("finished tool_calls", 2));
    assert_eq!(fields(&given, "warning")[0]["message"], "busy");
}

/// What a stop finds held back, because it might have been a tag, still belongs to the answer.
#[tokio::test]
async fn a_stop_loses_nothing_that_was_said() {
    let mut script =
        sse(&["data: {\"choices\":[{\"delta\":{\"content\":\"<thi\"}}]}\n\n: held\n\n"]);
    script.push(Act::Stall);
    let mut upstream = Scripted::start(vec![script]).await;
    let (stop, signal) = Stop::new();
    let mut stream = source(&upstream, limits()).start(question(), signal);
    // Of the request, and of the first bytes.
    for _ in 0..2 {
        assert!(matches!(next(&mut stream).await, Some(Inbound::Progress)));
    }
    stop.pull();
    let given = rest(&mut stream).await;
    assert_eq!(text(&given, "text.delta"), "<thi");
    upstream.left(1).await;
}
