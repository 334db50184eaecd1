//! Reading a JSON object once and keeping its bytes.
//!
//! A producer's payload is validated and then stored as it came: numbers keep their digits,
//! keys their order, unknown fields their place. Only line breaks outside strings go, so that an
//! object is always one line.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting that is kept: what goes deeper could not be read by every client.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are not an object that can be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, not UTF-8, or not an object.
    #[error("not a JSON object: {0}")]
    Malformed(String),
    /// A key stands twice at the top level (compared decoded).
    #[error("the key {0:?} stands twice")]
    DuplicateKey(String),
    /// Arrays and objects nest deeper than [`MAX_DEPTH`].
    #[error("arrays and objects nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A `\u` escape is half of a surrogate pair.
    #[error("a \\u escape at byte {at} is half of a surrogate pair")]
    LoneSurrogate {
        /// Index of the escape's backslash.
        at: usize,
    },
}

/// The top-level fields of an object, keys decoded, values as they were written.
#[derive(Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads the fields of the object `text`.
    ///
    /// The whole text is checked: syntax, duplicate top-level keys, lone surrogates anywhere.
    pub fn read(text: &'a [u8]) -> Result<Self, JsonError> {
        let fields: Fields<'a> = serde_json::from_slice(text)
            .map_err(|error| JsonError::Malformed(error.to_string()))?;
        fields.refuse_duplicates()?;
        refuse_lone_surrogates(text)?;
        refuse_deep_nesting(text)?;
        Ok(fields)
    }

    /// Reads an object that was checked before. `None` if it is none.
    pub(crate) fn unchecked(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    fn refuse_duplicates(&self) -> Result<(), JsonError> {
        let mut keys: Vec<&str> = self.0.iter().map(|(key, _)| key.as_ref()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(JsonError::DuplicateKey(pair[0].to_owned())),
            None => Ok(()),
        }
    }

    /// The value of a field, as it was written.
    pub fn raw(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// The value of a field, read as a `T`. `None` if absent; `Some(None)` if of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<Option<T>> {
        self.raw(key).map(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The fields in the order of the text, names decoded.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// The names of the fields, decoded, in the order of the text.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_ref())
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(Key(key)) = map.next_key()? {
                    fields.push((key, map.next_value::<&'de RawValue>()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A key, borrowed from the text unless it holds escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }

            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Key<'de>, E> {
                Err(E::custom("a key is text"))
            }
        }

        deserializer.deserialize_str(KeyVisitor).map_err(D::Error::custom)
    }
}

/// Takes the line breaks out of a valid JSON text.
///
/// Inside a string a line break is always escaped, so every raw one stands outside strings.
pub fn one_line(text: &Bytes) -> Bytes {
    let is_break = |b: &u8| matches!(b, b'\n' | b'\r');
    let trimmed = text.trim_ascii();
    let text = text.slice_ref(trimmed);
    if memchr::memchr2(b'\n', b'\r', &text).is_none() {
        return text;
    }
    text.iter().copied().filter(|b| !is_break(b)).collect::<Vec<u8>>().into()
}

/// `text` is valid JSON, so a quote that no backslash escapes begins or ends a string.
fn refuse_deep_nesting(text: &[u8]) -> Result<(), JsonError> {
    if memchr::memchr2_iter(b'[', b'{', text).count() <= MAX_DEPTH {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
    }
    Ok(())
}

/// Finds `\ud800`..`\udfff` that are not a high half followed by a low one.
///
/// `text` is valid JSON, so each backslash begins an escape and `\u` has four hex digits.
fn refuse_lone_surrogates(text: &[u8]) -> Result<(), JsonError> {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &text[at..]) {
        at += found;
        at = match code_unit(text, at) {
            None => at + 2,
            Some(0xD800..=0xDBFF) => match code_unit(text, at + 6) {
                Some(0xDC00..=0xDFFF) => at + 12,
                _ => return Err(JsonError::LoneSurrogate { at }),
            },
            Some(0xDC00..=0xDFFF) => return Err(JsonError::LoneSurrogate { at }),
            Some(_) => at + 6,
        };
        if at >= text.len() {
            break;
        }
    }
    Ok(())
}

/// Whether a valid JSON text has half of a surrogate pair.
pub(crate) fn has_lone_surrogate(text: &[u8]) -> bool {
    refuse_lone_surrogates(text).is_err()
}

/// The value of the `\uXXXX` that begins at `at`, if one does.
fn code_unit(text: &[u8], at: usize) -> Option<u16> {
    let escape = text.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<Vec<String>, JsonError> {
        Fields::read(text.as_bytes()).map(|fields| fields.keys().map(str::to_owned).collect())
    }

    #[test]
    fn keys_are_decoded_and_in_order() {
        assert_eq!(
            check(r#"{"b":1,"a":[{}],"\u0063":"x"}"#),
            Ok(vec!["b".into(), "a".into(), "c".into()])
        );
        assert_eq!(check("{}"), Ok(vec![]));
    }

    #[test]
    fn duplicate_keys_are_compared_decoded() {
        assert_eq!(check(r#"{"a":1,"\u0061":2}"#), Err(JsonError::DuplicateKey("a".into())));
        assert!(check(r#"{"a":{"b":1,"b":2}}"#).is_ok(), "only the top level is ours to judge");
    }

    #[test]
    fn lone_surrogates_are_found_anywhere() {
        assert_eq!(check(r#"{"a":"\ud83d"}"#), Err(JsonError::LoneSurrogate { at: 6 }));
        assert_eq!(check(r#"{"a":{"b":"x\udc00"}}"#), Err(JsonError::LoneSurrogate { at: 12 }));
        assert_eq!(check(r#"{"a":"\ud83dx"}"#), Err(JsonError::LoneSurrogate { at: 6 }));
        assert_eq!(check(r#"{"a":"\ud83d\ud83d"}"#), Err(JsonError::LoneSurrogate { at: 6 }));
        assert!(check(r#"{"a":"\ud83d\ude00 \\ud83d \u00e9"}"#).is_ok());
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in
            ["", "1", "[]", "null", "{", "{\"a\":1}x", "{\"a\":01}", "{a:1}", "{\"a\":\"\n\"}"]
        {
            assert!(matches!(check(text), Err(JsonError::Malformed(_))), "{text:?}");
        }
        assert!(matches!(Fields::read(b"{\"a\":\"\xff\"}"), Err(JsonError::Malformed(_))));
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |n: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(check(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(check(&nested(MAX_DEPTH)), Err(JsonError::TooDeep));
        assert!(check(&format!(r#"{{"a":"\"{}"}}"#, "[{".repeat(100))).is_ok());
        let wide = format!(r#"{{"a":[{}{{}}]}}"#, "{},".repeat(500));
        assert!(check(&wide).is_ok());
    }

    #[test]
    fn one_line_takes_breaks_and_keeps_the_rest() {
        let text = Bytes::from_static(b" {\r\n \"a\" : \"x\\ny\" }\n");
        assert_eq!(&one_line(&text)[..], b"{ \"a\" : \"x\\ny\" }");
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            if Fields::read(&bytes).is_ok() {
                prop_assert_eq!(bytes.trim_ascii_start().first(), Some(&b'\x7b'));
            }
        }

        #[test]
        fn one_line_does_not_change_the_value(text: String, n: i64) {
            let value = serde_json::json!({"t": text, "n": [n, {"x": null}]});
            let pretty = Bytes::from(serde_json::to_vec_pretty(&value).expect("json"));
            prop_assert!(Fields::read(&pretty).is_ok());
            let line = one_line(&pretty);
            prop_assert!(memchr::memchr2(b'\n', b'\r', &line).is_none());
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).expect("json"), value);
        }
    }
}
