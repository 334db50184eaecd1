use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What a run is told, one line each.
fn read(format: Format, max: usize, chunks: &[&[u8]]) -> Vec<String> {
    let mut output = Output::new(format, max);
    let mut told = Vec::new();
    for chunk in chunks {
        output.feed(chunk);
        drain(&mut output, &mut told);
    }
    output.finish();
    drain(&mut output, &mut told);
    told
}

fn drain(output: &mut Output, told: &mut Vec<String>) {
    while let Some(decoded) = output.next() {
        told.push(match decoded {
            Decoded::Inbound(Inbound::Event(event)) => {
                String::from_utf8_lossy(event.json()).into_owned()
            }
            Decoded::Inbound(other) => format!("{other:?}"),
            Decoded::End(end) => format!("end {end:?}"),
            Decoded::Broken(error) => format!("broken {}", error.code),
        });
    }
}

fn field(line: &str, name: &str) -> String {
    let fields: Value = serde_json::from_str(line).expect("an event");
    fields[name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn text_is_one_part_with_a_delta_per_read() {
    let told = read(Format::Text, 100, &[b"a\xC3", b"\xA9b", b"\xF0"]);
    let types: Vec<String> = told.iter().map(|line| field(line, "type")).collect();
    assert_eq!(types, ["text.start", "text.delta", "text.delta", "text.delta", "text.end"]);
    let text: String = told.iter().map(|line| field(line, "text")).collect();
    assert_eq!(text, "a\u{e9}b\u{fffd}");
    assert!(told.iter().all(|line| field(line, "part") == "stdout"));
    assert!(read(Format::Text, 100, &[]).is_empty(), "no output, no part");
}

#[test]
fn ndjson_lines_are_events_and_blank_ones_life() {
    let log = r#"{"type":"log","text":"x"}"#;
    let told = read(Format::Ndjson, 100, &[format!("{log}\n\n \r\n{log}").as_bytes()]);
    assert_eq!(told, [log, "Progress", "Progress", log]);
}

#[test]
fn an_end_in_the_output_is_the_end_and_nothing_after_it_counts() {
    let lines = b"{\"type\":\"run.finished\",\"finish_reason\":\"length\"}\n{\"type\":\"log\"}\n";
    let told = read(Format::Ndjson, 100, &[lines, lines]);
    assert_eq!(told, [r#"end Finished { finish_reason: Some("length"), usage: None }"#]);
    let told = read(Format::Sse, 100, &[b"data: {\"type\":\"run.failed\",\"error\":\"e\"}\n\n"]);
    assert_eq!(told, [r#"end Failed(RunError { code: "source_failed", message: "e" })"#]);
}

#[test]
fn bad_lines_are_told_up_to_a_cap_and_the_run_goes_on() {
    let forged = "{\"type\":\"run.started\"}\nnot json\n".repeat(15);
    let good = "{\"type\":\"log\",\"text\":\"x\"}\n";
    let told = read(Format::Ndjson, 100, &[format!("{forged}{good}").as_bytes()]);
    let warnings: Vec<&String> = told.iter().filter(|line| line.contains("bad_line")).collect();
    assert_eq!((warnings.len(), told.len()), (20, 31));
    assert!(field(warnings[0], "message").contains("run.started"));
    assert_eq!(told.last().map(String::as_str), Some(good.trim()));
}

#[test]
fn output_over_the_cap_fails_loudly() {
    let long = "x".repeat(101);
    assert_eq!(read(Format::Ndjson, 100, &[long.as_bytes(), b"\n"]), ["broken line_too_long"]);
    assert_eq!(read(Format::Sse, 100, &[long.as_bytes()]), ["broken line_too_long"]);
    let lines = "data: 123456789\n".repeat(11);
    assert_eq!(read(Format::Sse, 100, &[lines.as_bytes()]), ["broken event_too_large"]);
}

#[test]
fn the_data_of_server_sent_events_are_events() {
    let told = read(
        Format::Sse,
        100,
        &[b"event: x\ndata: {\"type\":\"log\",\ndata: \"text\":\"x\"}\n\n: alive\n\ndata\n\n"],
    );
    assert_eq!(told, [r#"{"type":"log","text":"x"}"#, "Progress"]);
}

proptest! {
    #[test]
    fn any_bytes_in_any_format_are_read_to_their_end(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..10),
    ) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        for format in [Format::Text, Format::Ndjson, Format::Sse] {
            read(format, 64, &chunks);
        }
    }
}
