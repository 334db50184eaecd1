//! Events as producers send them, validated once.

use bytes::Bytes;
use serde_json::Value;

use super::{kind::EventKind, record::EventRecord};
use crate::json::{Fields, JsonError, one_line};

/// The longest event type, in bytes.
pub const MAX_TYPE_BYTES: usize = 64;

/// The longest `part`, `call_id`, `step` or `approval_id`, in bytes: the server repeats them in
/// the events that it inserts.
pub const MAX_SUBJECT_BYTES: usize = 256;

/// Fields of the envelope, which only the engine writes.
const ENVELOPE: [&str; 3] = ["seq", "at", "run_id"];

/// A validated event: a JSON object on one line, its type, and the id it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    kind: EventKind,
    name: Bytes,
    subject: Option<String>,
    preliminary: bool,
    json: Bytes,
}

/// Why bytes are not an event that a producer may send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not a JSON object that can be kept.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// More bytes than an event may have.
    #[error("the event has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        max: usize,
    },
    /// No `type`, or one outside `[a-z][a-z0-9_.]{0,63}`.
    #[error("`type` must match [a-z][a-z0-9_.]{{0,63}}")]
    BadType,
    /// A type that only the engine writes.
    #[error("events of type {0} are written by the server only")]
    Reserved(String),
    /// A field of the envelope, which only the engine writes.
    #[error("the field {0:?} is written by the server only")]
    Forged(String),
    /// A terminal event whose `finish_reason` is not a string, whose `usage` is not an object of
    /// numbers that 64 bits can hold, or whose `error` is neither a string nor an object.
    #[error(
        "a terminal event needs `finish_reason` to be a string, `usage` an object, `error` a \
         string or an object, and numbers that 64 bits can hold"
    )]
    BadTerminal,
    /// An id that an event is about is longer than [`MAX_SUBJECT_BYTES`].
    #[error("an id in an event has at most {MAX_SUBJECT_BYTES} bytes, this one has {bytes}")]
    LongSubject {
        /// How many bytes there were.
        bytes: usize,
    },
    /// A field that the type needs is absent or of another type.
    #[error("{name} needs the field {field:?} to be {needs}")]
    BadField {
        /// The event's type.
        name: &'static str,
        /// The field.
        field: &'static str,
        /// What it has to be.
        needs: &'static str,
    },
}

/// What a field has to be.
#[derive(Clone, Copy)]
enum Needs {
    Text,
    TextOrInteger,
    Integer,
    List,
}

impl Needs {
    fn as_str(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::TextOrInteger => "a string or an integer",
            Self::Integer => "a non-negative integer",
            Self::List => "a list",
        }
    }

    /// `value` is valid JSON without white space around it, so its first byte tells its type.
    fn met_by(self, value: &str) -> bool {
        let text = value.starts_with('"');
        let integer = value.parse::<u64>().is_ok();
        match self {
            Self::Text => text,
            Self::TextOrInteger => text || integer,
            Self::Integer => integer,
            Self::List => value.starts_with('['),
        }
    }
}

/// The fields each type needs; the first, where it is an id, is what the event is about.
fn needed(kind: EventKind) -> &'static [(&'static str, Needs)] {
    use EventKind as K;
    use Needs::{Integer, List, Text, TextOrInteger};
    match kind {
        K::StepStarted | K::StepFinished | K::Discard => &[("step", TextOrInteger)],
        K::TextStart | K::TextEnd | K::ReasoningStart | K::ReasoningEnd => &[("part", Text)],
        K::TextDelta | K::ReasoningDelta => &[("part", Text), ("text", Text)],
        K::ToolCallStarted => &[("call_id", Text), ("name", Text)],
        K::ToolCallInputDelta => &[("call_id", Text), ("text", Text)],
        K::ToolCallInputEnd | K::ToolResult => &[("call_id", Text)],
        K::ApprovalRequested => &[("approval_id", Text), ("prompt", Text), ("options", List)],
        K::File => &[("media_type", Text), ("url", Text)],
        K::Source => &[("url", Text)],
        K::Usage => &[("input", Integer), ("output", Integer)],
        K::Data => &[("name", Text)],
        K::Log => &[("text", Text)],
        K::Warning => &[("message", Text)],
        K::State
        | K::Metadata
        | K::Opaque
        | K::RunQueued
        | K::RunStarted
        | K::RunResource
        | K::RunStopping
        | K::RunFinished
        | K::RunStopped
        | K::RunFailed
        | K::RunInterrupted
        | K::ApprovalResolved
        | K::InputReceived => &[],
    }
}

impl Event {
    /// Validates what a producer sent; `max` is the cap on its bytes.
    ///
    /// The bytes are kept as they are but for line breaks outside strings.
    pub fn from_producer(text: &Bytes, max: usize) -> Result<Self, EventError> {
        if text.len() > max {
            return Err(EventError::TooLarge { bytes: text.len(), max });
        }
        let json = one_line(text);
        let fields = Fields::read(&json)?;
        let name = event_type(&fields)?;
        let kind = EventKind::parse(&name);
        if kind.is_reserved() || name.starts_with("control.") {
            return Err(EventError::Reserved(name));
        }
        if let Some(forged) = fields.keys().find(|key| ENVELOPE.contains(key)) {
            return Err(EventError::Forged(forged.to_owned()));
        }
        let subject = check_fields(kind, &fields)?;
        if let Some(bytes) = subject.as_ref().map(String::len).filter(|n| *n > MAX_SUBJECT_BYTES) {
            return Err(EventError::LongSubject { bytes });
        }
        if kind.is_terminal() && !is_terminal_readable(&fields) {
            return Err(EventError::BadTerminal);
        }
        let preliminary = fields.get::<bool>("preliminary").flatten().unwrap_or(false);
        Ok(Self { kind, name: name.into(), subject, preliminary, json: json.clone() })
    }

    /// An event that the engine or a source makes itself from an object with a `type`.
    ///
    /// Falls back to a `warning` that says so when `fields` is not such an object.
    pub fn build(fields: &Value) -> Self {
        let subject = |key: &str| fields.get(key).and_then(plain_id);
        let Some(name) = fields.get("type").and_then(Value::as_str).filter(|n| type_ok(n)) else {
            return Self::build(&serde_json::json!({
                "type": "warning", "message": "an event without a type was built", "code": "internal",
            }));
        };
        let kind = EventKind::parse(name);
        Self {
            kind,
            name: Bytes::copy_from_slice(name.as_bytes()),
            subject: needed(kind).first().and_then(|(field, _)| subject(field)),
            preliminary: fields.get("preliminary").and_then(Value::as_bool).unwrap_or(false),
            json: fields.to_string().into(),
        }
    }

    /// The event that a record holds, to be admitted again.
    ///
    /// Reads with the same eyes as [`Event::from_producer`], so that what was admitted once is
    /// read back alike.
    pub fn from_record(record: &EventRecord) -> Self {
        let json = Bytes::copy_from_slice(record.json());
        let kind = record.kind();
        let fields = Fields::read(&json).ok();
        let subject = fields.as_ref().and_then(|fields| check_fields(kind, fields).ok().flatten());
        let preliminary = fields.as_ref().and_then(|fields| fields.get("preliminary").flatten());
        Self {
            kind,
            name: Bytes::copy_from_slice(record.name().as_bytes()),
            subject,
            preliminary: preliminary.unwrap_or(false),
            json: json.clone(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Its type on the wire.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }

    /// The part, call, step or approval it is about.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Whether a tool result says that a later one will replace it.
    pub fn is_preliminary(&self) -> bool {
        self.preliminary
    }

    /// The object, on one line, without the envelope.
    pub fn json(&self) -> &Bytes {
        &self.json
    }
}

fn is_terminal_readable(fields: &Fields<'_>) -> bool {
    let value = |key: &str| fields.get::<Value>(key);
    let is = |key: &str, right: fn(&Value) -> bool| match value(key) {
        None | Some(Some(Value::Null)) => true,
        Some(read) => read.is_some_and(|value| right(&value)),
    };
    is("finish_reason", Value::is_string)
        && is("usage", Value::is_object)
        && is("error", |error| error.is_string() || error.is_object())
}

fn event_type(fields: &Fields<'_>) -> Result<String, EventError> {
    let name = fields.get::<String>("type").flatten().ok_or(EventError::BadType)?;
    if type_ok(&name) { Ok(name) } else { Err(EventError::BadType) }
}

fn type_ok(name: &str) -> bool {
    let tail_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.');
    name.len() <= MAX_TYPE_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(tail_ok)
}

fn check_fields(kind: EventKind, fields: &Fields<'_>) -> Result<Option<String>, EventError> {
    let mut subject = None;
    for (index, (field, needs)) in needed(kind).iter().enumerate() {
        let Some(value) = fields.raw(field).filter(|value| needs.met_by(value.get())) else {
            let name = kind.as_str();
            return Err(EventError::BadField { name, field, needs: needs.as_str() });
        };
        if index == 0 {
            subject = serde_json::from_str(value.get()).ok().as_ref().and_then(plain_id);
        }
    }
    Ok(subject)
}

fn plain_id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Event, EventError> {
        Event::from_producer(&Bytes::copy_from_slice(text.as_bytes()), 1 << 20)
    }

    #[test]
    fn a_delta_keeps_its_bytes() {
        let text = r#"{"part":"p1","x":1.0e5,"type":"text.delta","text":"h\u0069"}"#;
        let event = read(text).expect("valid");
        assert_eq!((event.kind(), event.name()), (EventKind::TextDelta, "text.delta"));
        assert_eq!(event.subject(), Some("p1"));
        assert_eq!(&event.json()[..], text.as_bytes());
    }

    #[test]
    fn an_unknown_type_is_kept() {
        let event = read(r#"{"type":"my.own_type2","a":[1]}"#).expect("valid");
        assert_eq!((event.kind(), event.name()), (EventKind::Opaque, "my.own_type2"));
    }

    #[test]
    fn what_only_the_server_writes_is_refused() {
        for name in [
            "run.queued",
            "run.started",
            "run.stopped",
            "run.interrupted",
            "approval.resolved",
            "input.received",
            "control.gap",
        ] {
            let text = format!(r#"{{"type":"{name}"}}"#);
            assert_eq!(read(&text), Err(EventError::Reserved(name.into())));
        }
        for field in ["seq", "at", "run_id", "s\\u0065q"] {
            let text = format!(r#"{{"type":"data","name":"n","{field}":1}}"#);
            assert!(matches!(read(&text), Err(EventError::Forged(_))), "{text}");
        }
    }

    #[test]
    fn types_outside_the_alphabet_are_refused() {
        let long = format!("a{}", "b".repeat(64));
        for name in ["", "Text", "1a", ".a", "a-b", "a b", "a\\n", &long] {
            assert_eq!(
                read(&format!(r#"{{"type":"{name}"}}"#)),
                Err(EventError::BadType),
                "{name}"
            );
        }
        assert_eq!(read(r#"{"type":1}"#), Err(EventError::BadType));
        assert_eq!(read("{}"), Err(EventError::BadType));
    }

    #[test]
    fn needed_fields_of_the_wrong_type_are_named() {
        let error = read(r#"{"type":"text.delta","part":"p","text":1}"#).expect_err("wrong type");
        assert_eq!(error.to_string(), r#"text.delta needs the field "text" to be a string"#);
        for text in [
            r#"{"type":"text.delta","text":"x"}"#,
            r#"{"type":"step.started","step":-1}"#,
            r#"{"type":"usage","input":1,"output":"2"}"#,
            r#"{"type":"approval.requested","approval_id":"a","prompt":"?","options":"yes"}"#,
        ] {
            assert!(matches!(read(text), Err(EventError::BadField { .. })), "{text}");
        }
    }

    #[test]
    fn a_terminal_that_could_not_be_read_back_is_refused() {
        for fields in [r#""usage":{"cost":1e999}"#, r#""usage":[1]"#, r#""finish_reason":1"#] {
            let text = format!(r#"{{"type":"run.finished",{fields}}}"#);
            assert_eq!(read(&text), Err(EventError::BadTerminal), "{text}");
        }
        assert!(read(r#"{"type":"run.finished","usage":null,"finish_reason":"stop"}"#).is_ok());
        assert!(read(r#"{"type":"run.failed","error":"x"}"#).is_ok());
    }

    #[test]
    fn long_subjects_are_refused() {
        let text = format!(r#"{{"type":"text.start","part":"{}"}}"#, "p".repeat(257));
        assert_eq!(read(&text), Err(EventError::LongSubject { bytes: 257 }));
    }

    #[test]
    fn a_record_is_read_back_with_the_same_eyes() {
        let odd = r#"{"type":"text.start","part":"p","x":1e999,"preliminary":true}"#;
        let event = read(odd).expect("valid");
        let record = EventRecord::decode(EventRecord::encode(&event)).expect("valid");
        assert_eq!(Event::from_record(&record), event);
    }

    #[test]
    fn the_cap_counts_bytes() {
        let text = Bytes::from_static(br#"{"type":"data","name":"n"}"#);
        assert!(Event::from_producer(&text, text.len()).is_ok());
        let max = text.len() - 1;
        assert_eq!(
            Event::from_producer(&text, max),
            Err(EventError::TooLarge { bytes: max + 1, max })
        );
    }

    #[test]
    fn build_reads_back_as_sent() {
        let event = Event::build(
            &serde_json::json!({"type": "tool_call.started", "call_id": "c", "name": "n"}),
        );
        assert_eq!((event.kind(), event.subject()), (EventKind::ToolCallStarted, Some("c")));
        assert_eq!(Event::build(&serde_json::json!([])).name(), "warning");
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_line_of_json_with_its_type(text: String, part: String) {
            let fields = serde_json::json!({"type": "text.delta", "part": part, "text": text});
            let pretty = serde_json::to_vec_pretty(&fields).expect("json");
            let event = Event::from_producer(&pretty.into(), 1 << 20).expect("valid");
            prop_assert!(!event.json().contains(&b'\n'));
            prop_assert_eq!(event.subject(), Some(part.as_str()));
            let back: Value = serde_json::from_slice(event.json()).expect("json");
            prop_assert_eq!(back, fields);
        }
    }
}
