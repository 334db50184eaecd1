//! A recording: NDJSON, one `{"delay_ms": 40, "event": {"type": ...}}` a line.
//!
//! `delay_ms` is the pause before the event. The last event, and only that, is `run.finished` or
//! `run.failed`.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use segue_core::{Event, EventError, Inbound, Outcome, limits::EVENT_BYTES};
use serde::Deserialize;
use serde_json::{Value, json};

/// The built-in recording.
const DEMO: &str = include_str!("demo.ndjson");

/// A recorded answer.
#[derive(Clone, Debug)]
pub struct Recording {
    steps: Vec<Step>,
    text: Range<usize>,
}

/// Why a text is not a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A line is not `{"delay_ms", "event"}`.
    #[error("line {line} is not a step of a recording")]
    Malformed {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line's event is none that a producer may send.
    #[error("the event of line {line} is not valid")]
    Event {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        source: EventError,
    },
    /// The end is missing, or something stands after it.
    #[error("a recording ends with its only run.finished or run.failed")]
    End,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    delay_ms: u64,
    event: Value,
}

/// An event and the pause before it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) pause: Duration,
    inbound: Inbound,
    fields: Value,
}

impl Recording {
    /// Reads a recording.
    pub fn parse(text: &str) -> Result<Self, RecordingError> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let steps: Vec<Step> =
            lines.map(|(index, text)| Step::parse(index + 1, text)).collect::<Result<_, _>>()?;
        if steps.iter().position(Step::is_end).map(|at| at + 1) != Some(steps.len()) {
            return Err(RecordingError::End);
        }
        let start = steps.iter().position(Step::is_text).unwrap_or(steps.len());
        let length = steps[start..].iter().take_while(|step| step.is_text()).count();
        Ok(Self { steps, text: start..start + length })
    }

    /// The built-in answer.
    pub fn demo() -> Self {
        Self::parse(DEMO).expect("the built-in recording is valid, as its test shows")
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps of the first text, which may be repeated.
    pub(super) fn text(&self) -> Range<usize> {
        self.text.clone()
    }
}

impl Step {
    fn parse(line: usize, text: &str) -> Result<Self, RecordingError> {
        let Line { delay_ms, event: fields } = serde_json::from_str(text)
            .map_err(|source| RecordingError::Malformed { line, source })?;
        let event = Event::from_producer(&Bytes::from(fields.to_string()), EVENT_BYTES)
            .map_err(|source| RecordingError::Event { line, source })?;
        let inbound = match Outcome::from_json(&fields) {
            Some(Outcome::Finished { finish_reason, usage }) => {
                Inbound::Finished { finish_reason, usage }
            }
            Some(Outcome::Failed { error }) => Inbound::Failed(error),
            _ => Inbound::Event(event),
        };
        Ok(Self { pause: Duration::from_millis(delay_ms), inbound, fields })
    }

    /// What it gives when the text comes for the `round`th time, from 1.
    pub(super) fn inbound(&self, round: u32) -> Inbound {
        if round == 1 || !self.is_text() {
            return self.inbound.clone();
        }
        let mut fields = self.fields.clone();
        let part = fields["part"].as_str().unwrap_or_default();
        fields["part"] = json!(format!("{part}.{round}"));
        Inbound::Event(Event::build(&fields))
    }

    fn is_text(&self) -> bool {
        matches!(&self.inbound, Inbound::Event(event) if event.name().starts_with("text."))
    }

    fn is_end(&self) -> bool {
        !matches!(self.inbound, Inbound::Event(_))
    }
}
