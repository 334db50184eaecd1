//! The envelope, written beside an event's own bytes.
//!
//! `{"seq":5,"at":"2026-11-20T12:00:00.120Z","run_id":"r1","type":"text.delta",...}`: the form
//! of an event in an SSE frame's `data:`, as an NDJSON line and in a page.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::record::EventRecord;
use crate::{id::RunId, json::Fields, position::Seq, time::Timestamp};

/// Appends an event with its envelope to `out`. Writes no line break.
pub fn write_event(out: &mut BytesMut, run: &RunId, seq: Seq, at: Timestamp, event: &EventRecord) {
    let (json, at) = (event.json(), event.time(at));
    out.reserve(96 + json.len());
    out.put_slice(b"{\"seq\":");
    // Writing to memory that grows does not fail.
    write!(out, "{seq},\"at\":\"{at}\",\"run_id\":\"{run}\",").unwrap_or_default();
    // The object begins with `{` and has at least its `type`, so a comma is right.
    out.put_slice(json.trim_ascii_start().strip_prefix(b"{").unwrap_or(json).trim_ascii_start());
}

/// The event of what [`write_event`] has written, its own bytes as they were. `None` of anything
/// else.
pub fn read_event(written: &[u8]) -> Option<EventRecord> {
    let rest = written.strip_prefix(b"{\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = quoted(rest[digits..].strip_prefix(b",\"at\":")?)?;
    let rest = quoted(rest.strip_prefix(b",\"run_id\":")?)?;
    let own = [b"{", rest.strip_prefix(b",")?].concat();
    let name: String = Fields::read(&own).ok()?.get("type").flatten()?;
    EventRecord::of_parts(&name, &own)
}

/// What follows a text without escapes, as times and ids are.
fn quoted(json: &[u8]) -> Option<&[u8]> {
    let text = json.strip_prefix(b"\"")?;
    let end = text.iter().position(|byte| *byte == b'"')?;
    Some(&text[end + 1..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::Event;

    fn written(event: &Event) -> String {
        let run = RunId::parse("r1").expect("valid");
        let record = EventRecord::decode(EventRecord::encode(event)).expect("valid");
        let mut out = BytesMut::new();
        write_event(&mut out, &run, Seq(5), Timestamp::from_millis(120), &record);
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn the_envelope_stands_before_the_events_own_bytes() {
        let event =
            Event::from_producer(&r#"{ "type":"data","name":"n"}"#.into(), 100).expect("ok");
        assert_eq!(
            written(&event),
            r#"{"seq":5,"at":"1970-01-01T00:00:00.120Z","run_id":"r1","type":"data","name":"n"}"#
        );
    }

    #[test]
    fn only_an_envelope_is_read_and_numbers_keep_their_digits() {
        let text = r#"{"seq":5,"at":"x","run_id":"r1","type":"my.own","n":1e999,"m":1.50}"#;
        let record = read_event(text.as_bytes()).expect("an event");
        assert_eq!(record.json(), br#"{"type":"my.own","n":1e999,"m":1.50}"#);
        for bad in ["", "{}", r#"{"type":"my.own"}"#, &text[..text.len() - 1], &text[..40]] {
            assert_eq!(read_event(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_result_is_json_with_all_fields(text: String) {
            let fields = json!({"type": "text.delta", "part": "p", "text": text});
            let event = Event::build(&fields);
            let line = written(&event);
            prop_assert!(!line.contains('\n'));
            let again = read_event(line.as_bytes()).expect("what was just written");
            prop_assert_eq!(again.json(), &event.json()[..]);
            prop_assert_eq!(again.name(), "text.delta");
            let mut value: Value = serde_json::from_str(&line).expect("json");
            let envelope = value.as_object_mut().expect("object");
            prop_assert_eq!(envelope.remove("seq"), Some(json!(5)));
            prop_assert_eq!(envelope.remove("run_id"), Some(json!("r1")));
            prop_assert!(envelope.remove("at").is_some());
            prop_assert_eq!(value, fields);
        }
    }
}
