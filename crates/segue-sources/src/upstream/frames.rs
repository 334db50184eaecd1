//! The body of an answer to frames.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::fault::Fault;
use crate::decode::{LineDecoder, SseDecoder};

/// One thing an upstream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The type of a server-sent event; `message` where there is none.
    pub(super) event: String,
    /// Its text, usually JSON.
    pub(super) data: String,
}

impl Frame {
    fn plain(data: &[u8]) -> Self {
        let data = String::from_utf8_lossy(data).into_owned();
        Self { event: "message".to_owned(), data }
    }

    /// The JSON of its text. Half of a surrogate pair, which some upstreams cut between two
    /// deltas, becomes U+FFFD instead of the end of a paid answer.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let read = serde_json::from_str(&self.data);
        let read = read.or_else(|error| match whole_surrogates(&self.data) {
            Cow::Owned(mended) => serde_json::from_str(&mended),
            Cow::Borrowed(_) => Err(error),
        });
        read.map_err(|error| Fault::malformed(format!("a frame is not as its API says: {error}")))
    }
}

/// How a body is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events.
    Sse,
    /// A line of JSON each.
    Ndjson,
    /// All of it is one.
    Whole,
}

impl Framing {
    /// What the media type says; `default` where it says nothing of use. `None` if it is none
    /// that an API answers with.
    pub(super) fn of(media: Option<&str>, default: Self) -> Option<Self> {
        let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match media.to_ascii_lowercase().as_str() {
            "text/event-stream" => Some(Self::Sse),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                Some(Self::Ndjson)
            }
            "application/json" => Some(if default == Self::Sse { Self::Whole } else { default }),
            "" | "text/plain" | "application/octet-stream" => Some(default),
            _ => None,
        }
    }
}

/// Reads frames of at most so many bytes.
#[derive(Debug)]
pub(super) enum Frames {
    Sse(SseDecoder),
    Ndjson(LineDecoder),
    Whole { body: Vec<u8>, max: usize },
}

impl Frames {
    pub(super) fn new(framing: Framing, max: usize) -> Self {
        match framing {
            Framing::Sse => Self::Sse(SseDecoder::new(max)),
            Framing::Ndjson => Self::Ndjson(LineDecoder::new(max)),
            Framing::Whole => Self::Whole { body: Vec::new(), max },
        }
    }

    /// Adds bytes. Take what they complete with [`Self::next`] before adding more.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        match self {
            Self::Sse(sse) => sse.feed(chunk),
            Self::Ndjson(lines) => lines.feed(chunk),
            Self::Whole { body, .. } => body.extend_from_slice(chunk),
        }
    }

    /// The next whole frame, or nothing until more is fed.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Fault> {
        match self {
            Self::Sse(sse) => {
                let event = sse.next()?;
                Ok(event.map(|event| Frame { event: event.event, data: event.data }))
            }
            Self::Ndjson(lines) => {
                while let Some(line) = lines.next()? {
                    if !line.trim_ascii().is_empty() {
                        return Ok(Some(Frame::plain(&line)));
                    }
                }
                Ok(None)
            }
            Self::Whole { body, max } if body.len() > *max => {
                Err(Fault::new("upstream_too_large", format!("the answer has over {max} bytes")))
            }
            Self::Whole { .. } => Ok(None),
        }
    }

    /// The last frame, if the end of the body ends one.
    pub(super) fn finish(&mut self) -> Option<Frame> {
        let last = match self {
            Self::Sse(_) => None,
            Self::Ndjson(lines) => lines.finish().map(|line| line.to_vec()),
            Self::Whole { body, .. } => Some(std::mem::take(body)),
        };
        last.filter(|last| !last.trim_ascii().is_empty()).map(|last| Frame::plain(&last))
    }
}

/// JSON text in which every escaped half of a surrogate pair that has no other half is U+FFFD.
fn whole_surrogates(text: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        let (length, is_half) = match (code_unit(text, at), code_unit(text, at + 6)) {
            (None, _) => (2, false),
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, false),
            (Some(unit), _) => (6, (0xD800..=0xDFFF).contains(&unit)),
        };
        if is_half {
            mended.push_str(&text[copied..at]);
            mended.push_str("\\ufffd");
            copied = at + length;
        }
        at += length;
        if !text.is_char_boundary(at) {
            break;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    mended.push_str(&text[copied..]);
    Cow::Owned(mended)
}

/// The value of the `\uXXXX` that begins at `at`, if one does.
fn code_unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at.checked_add(6)?)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn half_characters_are_replaced_and_whole_ones_kept() {
        for (text, mended) in [
            (r#""\ud83d""#, "\"\u{fffd}\""),
            (r#""\ud83d\ude00""#, "\"\u{1f600}\""),
            (r#""a\ude00\ud83d\n""#, "\"a\u{fffd}\u{fffd}\\n\""),
            (r#""\\ud83d""#, r#""\\ud83d""#),
        ] {
            let frame = Frame { event: String::new(), data: text.to_owned() };
            let wanted: Value = serde_json::from_str(mended).expect("json");
            assert_eq!(frame.json::<Value>().expect("mended"), wanted, "{text}");
        }
        for text in ["{", "\\", "\"\\", "\"\\é", "\"\\u12"] {
            let frame = Frame { event: String::new(), data: text.to_owned() };
            assert_eq!(frame.json::<Value>().expect_err(text).code, "upstream_malformed");
        }
    }

    #[test]
    fn the_media_type_decides_and_else_the_dialect() {
        let of = |media| Framing::of(media, Framing::Sse);
        assert_eq!(of(Some("text/event-stream; charset=utf-8")), Some(Framing::Sse));
        assert_eq!(of(Some("Application/JSON")), Some(Framing::Whole));
        assert_eq!(of(Some("application/x-ndjson")), Some(Framing::Ndjson));
        assert_eq!((of(None), of(Some("text/plain"))), (Some(Framing::Sse), Some(Framing::Sse)));
        assert_eq!((of(Some("text/html")), of(Some("image/png"))), (None, None));
        let ollama = Framing::of(Some("application/json"), Framing::Ndjson);
        assert_eq!(ollama, Some(Framing::Ndjson));
    }

    proptest! {
        #[test]
        fn any_text_is_mended_without_a_panic(text in "([\\\\uédD8c0-9\"a]){0,40}") {
            let frame = Frame { event: String::new(), data: text };
            drop(frame.json::<Value>());
        }

        #[test]
        fn whole_json_is_never_changed(text: String) {
            let json = serde_json::to_string(&text).expect("json");
            prop_assert_eq!(whole_surrogates(&json), json.as_str());
        }
    }
}
