//! JSON that is kept as it was written.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::{Fields, has_lone_surrogate, one_line};

/// A JSON value on one line, in the very bytes of its writer: numbers keep their digits and
/// objects the order of their keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Json {
    /// Reads a text. `None` if it is no JSON or has half a surrogate pair.
    pub fn parse(text: &str) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        let line = one_line(&Bytes::copy_from_slice(raw.get().as_bytes()));
        let line = String::from_utf8(line.to_vec()).ok()?;
        let sound = !has_lone_surrogate(line.as_bytes());
        RawValue::from_string(line).ok().filter(|_| sound).map(Self)
    }

    /// A text as JSON.
    pub(super) fn string(text: &str) -> Self {
        let raw = RawValue::from_string(quoted(text));
        Self(raw.expect("a quoted text is JSON"))
    }

    /// A field of an object; `None` if it is absent or null.
    pub(super) fn of_field(fields: &Fields<'_>, key: &str) -> Option<Self> {
        fields.raw(key).map(Self::from).filter(|json| !json.is_null())
    }

    pub(super) fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// The value as it is written.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

/// A JSON object in the making, from values as they are written.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a field. `value` is JSON.
    pub(super) fn put(&mut self, key: &str, value: &str) {
        let comma = if self.0.len() == 1 { "" } else { "," };
        // Writing to memory that grows does not fail.
        write!(self.0, "{comma}{}:{value}", quoted(key)).unwrap_or_default();
    }

    /// Adds the fields of another object that are wanted by name and value. Looks at each once.
    pub(super) fn put_all(&mut self, fields: &Fields<'_>, wanted: impl Fn(&str, &str) -> bool) {
        for (key, value) in fields.iter().filter(|(key, value)| wanted(key, value.get())) {
            self.put(key, value.get());
        }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn finish(mut self) -> Json {
        self.0.push('}');
        let raw = RawValue::from_string(self.0);
        Json(raw.expect("an object made of JSON values is JSON"))
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_bytes_on_one_line() {
        let json = Json::parse(" {\"a\":\n 1.0e5, \"b\": 123456789012345678901234567890}\r\n");
        let text = r#"{"a": 1.0e5, "b": 123456789012345678901234567890}"#;
        assert_eq!(json.as_ref().map(Json::text), Some(text));
        let again: Json = serde_json::from_str(text).expect("JSON");
        assert_eq!(Some(again), json);
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in ["", "{", "nul", "1 2", r#""\ud800""#, "\"\n\""] {
            assert_eq!(Json::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_object_is_made_of_values_as_they_are() {
        let mut object = Object::new();
        object.put("a\"b", "1.50");
        let fields = br#"{"type":"x","n":1e999}"#;
        object.put_all(&Fields::read(fields).expect("object"), |key, _| key != "type");
        assert_eq!(object.finish().text(), r#"{"a\"b":1.50,"n":1e999}"#);
        assert_eq!(Object::new().finish().text(), "{}");
    }
}
