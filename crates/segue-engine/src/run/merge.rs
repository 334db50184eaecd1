//! Deltas that wait for the same commit become one, before they are numbered.

use std::borrow::Cow;

use segue_core::{Event, EventKind};
use serde::Deserialize;
use serde_json::json;

/// The text of a merged delta has at most so many bytes, so that clients see progress.
const MOST: usize = 64 << 10;
/// The longest escape of a byte of text in JSON.
const ESCAPE: usize = 6;

/// Merges adjacent deltas of one part or call. Text and order stay; nothing is merged across
/// another event, nor are deltas that say more than text, as those with a signature do.
///
/// No event becomes larger than `event_bytes`, if none is.
pub(super) fn merge(events: Vec<Event>, event_bytes: usize) -> Vec<Event> {
    let most = MOST.min(event_bytes / (2 * ESCAPE));
    let mut merged: Vec<Event> = Vec::with_capacity(events.len());
    let mut open: Option<Open> = None;
    for event in events {
        if open.as_mut().is_some_and(|open| open.takes(&event, most)) {
            continue;
        }
        merged.extend(open.take().map(Open::close));
        match Open::of(event) {
            Ok(begun) => open = Some(begun),
            Err(other) => merged.push(other),
        }
    }
    merged.extend(open.map(Open::close));
    merged
}

/// A delta that the next ones may be merged into.
struct Open {
    first: Event,
    /// The text of all, once there is a second.
    text: Option<String>,
    count: u64,
}

impl Open {
    fn of(event: Event) -> Result<Self, Event> {
        let is_delta = matches!(
            event.kind(),
            EventKind::TextDelta | EventKind::ReasoningDelta | EventKind::ToolCallInputDelta
        );
        if is_delta { Ok(Self { first: event, text: None, count: 1 }) } else { Err(event) }
    }

    /// Whether `next` is merged.
    fn takes(&mut self, next: &Event, most: usize) -> bool {
        if next.kind() != self.first.kind() || next.subject() != self.first.subject() {
            return false;
        }
        let Some(more) = text_of(next) else { return false };
        if self.text.is_none() {
            self.text = text_of(&self.first).map(Cow::into_owned);
        }
        match &mut self.text {
            Some(text) if text.len() + more.len() <= most => {
                text.push_str(&more);
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    fn close(self) -> Event {
        let Some(text) = self.text.filter(|_| self.count > 1) else { return self.first };
        metrics::counter!("segue_merged_deltas_total").increment(self.count - 1);
        let about = match self.first.kind() {
            EventKind::ToolCallInputDelta => "call_id",
            _ => "part",
        };
        let subject = self.first.subject();
        Event::build(&json!({"type": self.first.name(), about: subject, "text": text}))
    }
}

/// A delta that says nothing but text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain<'a> {
    #[serde(rename = "type")]
    _type: serde::de::IgnoredAny,
    #[serde(rename = "part")]
    _part: Option<serde::de::IgnoredAny>,
    #[serde(rename = "call_id")]
    _call_id: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

fn text_of(event: &Event) -> Option<Cow<'_, str>> {
    serde_json::from_slice::<Plain<'_>>(event.json()).ok().map(|plain| plain.text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn merged(events: &[Value]) -> Vec<Value> {
        let events = events.iter().map(Event::build).collect();
        let json = |event: &Event| serde_json::from_slice(event.json()).expect("json");
        merge(events, 16 << 20).iter().map(json).collect()
    }

    fn delta(part: &str, text: &str) -> Value {
        json!({"type": "text.delta", "part": part, "text": text})
    }

    #[test]
    fn a10_adjacent_deltas_become_one() {
        let a = [delta("a", "x\n"), delta("a", "\u{1f600}"), delta("a", "z")];
        assert_eq!(merged(&a), [delta("a", "x\n\u{1f600}z")]);
        let input =
            |text: &str| json!({"type": "tool_call.input_delta", "call_id": "c", "text": text});
        assert_eq!(merged(&[input("{"), input("}")]), [input("{}")]);
        assert_eq!(merged(&[delta("a", "x")]), [delta("a", "x")]);
    }

    #[test]
    fn a11_nothing_is_merged_across_another_event() {
        let log = json!({"type": "log", "text": "x"});
        let reasoning = json!({"type": "reasoning.delta", "part": "a", "text": "r"});
        let signed = json!({"type": "reasoning.delta", "part": "a", "text": "r", "signature": "s"});
        for between in [log, delta("b", "y"), reasoning.clone()] {
            let events = [delta("a", "x"), between, delta("a", "z")];
            assert_eq!(merged(&events), events);
        }
        for events in [[reasoning.clone(), signed.clone()], [signed, reasoning]] {
            assert_eq!(merged(&events), events);
        }
    }

    #[test]
    fn what_is_merged_has_a_bound() {
        let large = "x".repeat(MOST / 2);
        let events = [delta("a", &large), delta("a", &large), delta("a", "y")];
        assert_eq!(merged(&events), [delta("a", &"x".repeat(MOST)), delta("a", "y")]);
        let events: Vec<Event> = (0..99).map(|_| Event::build(&delta("a", "\u{1}"))).collect();
        assert!(merge(events, 120).iter().all(|event| event.json().len() <= 120));
    }

    fn event() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec!["text", "reasoning"]);
        prop_oneof![
            8 => (name, "[ab]", ".{0,4}").prop_map(|(name, part, text)| {
                json!({"type": format!("{name}.delta"), "part": part, "text": text})
            }),
            1 => "[ab]".prop_map(|part| json!({"type": "text.end", "part": part})),
            1 => Just(json!({"type": "log", "text": "x"})),
        ]
    }

    /// Each event's deltas taken apart again, so that cuts do not count.
    fn spelt(events: &[Value]) -> Vec<(Value, Value, String)> {
        let mut spelt = Vec::new();
        for event in events {
            let text = event["text"].as_str().unwrap_or_default();
            if event["part"].is_null() || event["type"] == "text.end" {
                spelt.push((event["type"].clone(), event["part"].clone(), text.to_owned()));
                continue;
            }
            let letters = text.chars().map(String::from);
            spelt.extend(letters.map(|c| (event["type"].clone(), event["part"].clone(), c)));
        }
        spelt
    }

    proptest! {
        #[test]
        fn a10_text_and_order_stay(events in prop::collection::vec(event(), 0..40)) {
            let merged = merged(&events);
            prop_assert_eq!(spelt(&merged), spelt(&events));
            let pair_is_one = |pair: &[Value]| {
                let is_delta = pair[0]["type"].as_str().is_some_and(|name| name.contains(".delta"));
                is_delta && pair[0]["type"] == pair[1]["type"] && pair[0]["part"] == pair[1]["part"]
            };
            prop_assert!(!merged.windows(2).any(pair_is_one));
        }
    }
}
