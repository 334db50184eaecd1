//! How an event stands in its run's stream.
//!
//! ```text
//! offset  size  field
//! 0       1     version, 1 or 2
//! 1       1     n, the length of the type, 1..=64
//! 2       n     the type
//! 2+n     8     of version 2: the time, milliseconds since the Unix epoch, little endian
//! -       -     the JSON object, one line, `type` included, without the envelope
//! ```
//! A record has the time of its commit. One that was brought from another journal is of version 2 and
//! has its own.
//!
//! The type stands in front so that a frame can name it without parsing the object. The engine's
//! session and catalogue records use the same codec.

use bytes::{BufMut, Bytes, BytesMut};

use super::{kind::EventKind, payload::Event};
use crate::{json::Fields, time::Timestamp};

const VERSION: u8 = 1;
const WITH_TIME: u8 = 2;
const HEAD: usize = 2;
const TIME: usize = 8;

/// The longest type, in bytes.
const MAX_NAME: usize = 64;

/// An event as it was read from its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    name_bytes: usize,
    has_time: bool,
    bytes: Bytes,
}

/// Why a record is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a version that this one does not know.
    #[error("event record version {0} is not known")]
    Version(u8),
    /// Shorter than it says.
    #[error("the event record is cut short")]
    Short,
    /// The type is not text.
    #[error("the event record's type is not text")]
    BadType,
}

impl EventRecord {
    /// The stored form of an event.
    pub fn encode(event: &Event) -> Bytes {
        Self::bytes(event.name().as_bytes(), event.json())
    }

    /// The stored form of a type, at most 64 bytes, and its object on one line.
    pub(crate) fn encode_json(name: &str, json: &[u8]) -> Bytes {
        Self::bytes(name.as_bytes(), json)
    }

    /// A record of a type and its object. `None` if the type is too long for one.
    pub(super) fn of_parts(name: &str, json: &[u8]) -> Option<Self> {
        let fits = u8::try_from(name.len()).is_ok();
        fits.then(|| Self {
            name_bytes: name.len(),
            has_time: false,
            bytes: Self::bytes(name.as_bytes(), json),
        })
    }

    fn bytes(name: &[u8], json: &[u8]) -> Bytes {
        Self::put(name, None, json)
    }

    fn put(name: &[u8], time: Option<Timestamp>, json: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD + name.len() + TIME + json.len());
        out.put_u8(if time.is_some() { WITH_TIME } else { VERSION });
        out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.put_slice(name);
        if let Some(time) = time {
            out.put_u64_le(time.as_millis());
        }
        out.put_slice(json);
        out.freeze()
    }

    /// The stored form of a record from another journal, where it had this time: its object on one
    /// line. `None` if it has no type that fits.
    pub fn encode_foreign(json: &[u8], time: Timestamp) -> Option<Bytes> {
        let name: String = Fields::read(json).ok()?.get("type").flatten()?;
        let fits = (1..=MAX_NAME).contains(&name.len());
        fits.then(|| Self::put(name.as_bytes(), Some(time), json))
    }

    /// Reads a stored event. Copies nothing.
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let Some(&[version, length]) = bytes.first_chunk() else {
            return Err(RecordError::Short);
        };
        let has_time = version == WITH_TIME;
        if version != VERSION && !has_time {
            return Err(RecordError::Version(version));
        }
        let name_bytes = usize::from(length);
        let name = bytes.get(HEAD..HEAD + name_bytes).ok_or(RecordError::Short)?;
        if std::str::from_utf8(name).is_err() {
            return Err(RecordError::BadType);
        }
        if has_time && bytes.len() < HEAD + name_bytes + TIME {
            return Err(RecordError::Short);
        }
        Ok(Self { name_bytes, has_time, bytes })
    }

    /// Its type.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.bytes[HEAD..HEAD + self.name_bytes]).unwrap_or_default()
    }

    /// What it is.
    pub fn kind(&self) -> EventKind {
        EventKind::parse(self.name())
    }

    /// The object, without the envelope.
    pub fn json(&self) -> &[u8] {
        let time = if self.has_time { TIME } else { 0 };
        &self.bytes[HEAD + self.name_bytes + time..]
    }

    /// When it was: its own time, or that of its commit.
    pub fn time(&self, commit: Timestamp) -> Timestamp {
        let own = self.bytes[HEAD + self.name_bytes..].first_chunk().filter(|_| self.has_time);
        own.map_or(commit, |bytes| Timestamp::from_millis(u64::from_le_bytes(*bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn decode_inverts_encode() {
        let event = Event::build(&json!({"type": "text.delta", "part": "p", "text": "hi"}));
        let record = EventRecord::decode(EventRecord::encode(&event)).expect("valid");
        assert_eq!((record.name(), record.kind()), ("text.delta", EventKind::TextDelta));
        assert_eq!(record.json(), &event.json()[..]);
    }

    #[test]
    fn foreign_bytes_are_named() {
        let decode = |bytes: &'static [u8]| EventRecord::decode(Bytes::from_static(bytes));
        assert_eq!(decode(b""), Err(RecordError::Short));
        assert_eq!(decode(b"\x01"), Err(RecordError::Short));
        assert_eq!(decode(b"\x03\x01a{}"), Err(RecordError::Version(3)));
        assert_eq!(decode(b"\x02\x01a1234567"), Err(RecordError::Short));
        assert_eq!(decode(b"\x01\x05data"), Err(RecordError::Short));
        assert_eq!(decode(b"\x01\x01\xff{}"), Err(RecordError::BadType));
    }

    #[test]
    fn a_foreign_record_has_its_own_time() {
        let json = br#"{"type":"x.y","n":1.0e400}"#;
        let bytes = EventRecord::encode_foreign(json, Timestamp::from_millis(7)).expect("a type");
        let record = EventRecord::decode(bytes).expect("valid");
        assert_eq!((record.name(), record.json()), ("x.y", &json[..]));
        assert_eq!(record.time(Timestamp::from_millis(9)).as_millis(), 7);
        let own = EventRecord::decode(EventRecord::encode_json("x", b"{}")).expect("valid");
        assert_eq!(own.time(Timestamp::from_millis(9)).as_millis(), 9);
        for json in [&b"{}"[..], b"[]", br#"{"type":""}"#, br#"{"type":1}"#] {
            assert_eq!(EventRecord::encode_foreign(json, Timestamp::default()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            if let Ok(record) = EventRecord::decode(bytes.into()) {
                prop_assert!(record.name().len() <= 255);
                prop_assert!(record.json().len() <= 1 << 20);
            }
        }
    }
}
