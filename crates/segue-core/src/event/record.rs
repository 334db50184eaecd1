//! How an event stands in its run's stream.
//!
//! ```text
//! offset  size  field
//! 0       1     version, 1
//! 1       1     n, the length of the type, 1..=64
//! 2       n     the type
//! 2+n     -     the JSON object, one line, `type` included, without the envelope
//! ```
//! The type stands in front so that a frame can name it without parsing the object. The engine's
//! session and catalogue records use the same codec.

use bytes::{BufMut, Bytes, BytesMut};

use super::{kind::EventKind, payload::Event};

const VERSION: u8 = 1;
const HEAD: usize = 2;

/// An event as it was read from its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    name_bytes: usize,
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
        fits.then(|| Self { name_bytes: name.len(), bytes: Self::bytes(name.as_bytes(), json) })
    }

    fn bytes(name: &[u8], json: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD + name.len() + json.len());
        out.put_u8(VERSION);
        out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.put_slice(name);
        out.put_slice(json);
        out.freeze()
    }

    /// Reads a stored event. Copies nothing.
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let Some(&[version, length]) = bytes.first_chunk() else {
            return Err(RecordError::Short);
        };
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let name_bytes = usize::from(length);
        let name = bytes.get(HEAD..HEAD + name_bytes).ok_or(RecordError::Short)?;
        if std::str::from_utf8(name).is_err() {
            return Err(RecordError::BadType);
        }
        Ok(Self { name_bytes, bytes })
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
        &self.bytes[HEAD + self.name_bytes..]
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
        assert_eq!(decode(b"\x02\x01a{}"), Err(RecordError::Version(2)));
        assert_eq!(decode(b"\x01\x05data"), Err(RecordError::Short));
        assert_eq!(decode(b"\x01\x01\xff{}"), Err(RecordError::BadType));
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
