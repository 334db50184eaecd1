//! Which form of events a client accepts.

use http::{HeaderMap, header};

use crate::error::{Code, Problem};

/// A form of a run's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `text/event-stream`
    Sse,
    /// `application/x-ndjson`
    Ndjson,
    /// `application/json`
    Json,
}

/// In the order in which they win a tie; the first is what a client gets that says nothing.
const FORMS: [(Form, &str); 3] = [
    (Form::Sse, "text/event-stream"),
    (Form::Ndjson, "application/x-ndjson"),
    (Form::Json, "application/json"),
];

/// The accepted form with the highest quality (RFC 9110, 12.5.1).
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Form, Problem> {
    let values = headers.get_all(header::ACCEPT);
    let accepted: Vec<&str> =
        values.iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')).collect();
    if accepted.is_empty() {
        return Ok(Form::Sse);
    }
    let mut best = None;
    for (form, media) in FORMS {
        let quality = quality(media, &accepted);
        if quality > 0.0 && best.is_none_or(|(_, other)| quality > other) {
            best = Some((form, quality));
        }
    }
    best.map(|(form, _)| form).ok_or_else(|| {
        let media: Vec<&str> = FORMS.iter().map(|(_, media)| *media).collect();
        Problem::new(Code::NotAcceptable, format!("there are: {}", media.join(", ")))
    })
}

/// Whether a client asks for an event stream by name.
pub(crate) fn wants_sse(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let mut media = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    media.any(|range| range_of(range).0.eq_ignore_ascii_case("text/event-stream"))
}

/// The quality of the most specific range that covers `media`; 0 if none does.
fn quality(media: &str, accepted: &[&str]) -> f32 {
    let group = media.split('/').next().unwrap_or_default();
    let ranges = accepted.iter().map(|text| range_of(text));
    let covering = ranges.filter_map(|(range, quality)| {
        let specific = if range.eq_ignore_ascii_case(media) {
            2
        } else if range.strip_suffix("/*").is_some_and(|g| g.eq_ignore_ascii_case(group)) {
            1
        } else if range == "*/*" {
            0
        } else {
            return None;
        };
        Some((specific, quality))
    });
    covering.max_by_key(|(specific, _)| *specific).map_or(0.0, |(_, quality)| quality)
}

/// A media range and its quality.
fn range_of(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    (range, quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("ascii"));
        negotiate(&headers).ok()
    }

    #[test]
    fn the_form_that_is_named_is_given() {
        assert_eq!(check("text/event-stream"), Some(Form::Sse));
        assert_eq!(check("Application/JSON"), Some(Form::Json));
        assert_eq!(check("application/x-ndjson; charset=utf-8"), Some(Form::Ndjson));
        assert_eq!(check("text/html, application/json;q=0.9, */*;q=0.1"), Some(Form::Json));
        assert_eq!(check("application/json;q=0.5, application/x-ndjson;q=0.6"), Some(Form::Ndjson));
        assert_eq!(check("text/event-stream;q=0, */*"), Some(Form::Ndjson));
    }

    #[test]
    fn who_says_nothing_gets_a_stream() {
        assert_eq!(negotiate(&HeaderMap::new()).ok(), Some(Form::Sse));
        assert_eq!(check("*/*"), Some(Form::Sse));
        assert_eq!(check("text/*"), Some(Form::Sse));
        assert_eq!(check("application/*"), Some(Form::Ndjson));
    }

    #[test]
    fn what_there_is_not_is_refused() {
        assert_eq!(check("text/html"), None);
        assert_eq!(check("text/event-stream;q=0"), None);
        assert_eq!(check(""), None);
    }

    #[test]
    fn a_stream_in_place_of_an_answer_has_to_be_asked_for_by_name() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("ascii"));
            wants_sse(&headers)
        };
        assert!(wants("text/event-stream"));
        assert!(wants("application/json, text/event-stream"));
        assert!(!wants("*/*"));
        assert!(!wants_sse(&HeaderMap::new()));
    }
}
