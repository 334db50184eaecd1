//! Standard output to events.

use std::collections::VecDeque;

use bytes::Bytes;
use segue_core::{Event, EventError, Inbound, Outcome, RunError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::decode::{LineDecoder, LineTooLong, SseDecoder, SseError, Utf8Decoder};

/// How many bad lines a run is told about; more are only counted.
const BAD_LINES_TOLD: u32 = 20;

/// The part that `text` output is.
const PART: &str = "stdout";

/// How a command's standard output is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// All of it is one part of text, one delta per read.
    #[default]
    Text,
    /// Each line is an event. A blank line is a sign of life.
    Ndjson,
    /// The data of each server-sent event is an event.
    Sse,
}

/// What output turned out to be.
#[derive(Debug)]
pub(super) enum Decoded {
    /// Something for the run.
    Inbound(Inbound),
    /// The command's own terminal. Nothing after it counts.
    End(Inbound),
    /// It cannot be read on.
    Broken(RunError),
}

/// Reads the output of one run. Gives nothing more after an end.
#[derive(Debug)]
pub(super) struct Output {
    reader: Reader,
    event_bytes: usize,
    bad_lines: u32,
    over: bool,
}

#[derive(Debug)]
enum Reader {
    Text(TextReader),
    Ndjson { lines: LineDecoder, last: Option<Bytes> },
    Sse(SseDecoder),
}

impl Output {
    /// `event_bytes` caps an event and a line.
    pub(super) fn new(format: Format, event_bytes: usize) -> Self {
        let reader = match format {
            Format::Text => Reader::Text(TextReader::default()),
            Format::Ndjson => Reader::Ndjson { lines: LineDecoder::new(event_bytes), last: None },
            Format::Sse => Reader::Sse(SseDecoder::new(event_bytes)),
        };
        Self { reader, event_bytes, bad_lines: 0, over: false }
    }

    /// Adds bytes. Take what they complete with [`Self::next`] before adding more.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        match &mut self.reader {
            _ if self.over => {}
            Reader::Text(text) => text.feed(chunk),
            Reader::Ndjson { lines, .. } => lines.feed(chunk),
            Reader::Sse(sse) => sse.feed(chunk),
        }
    }

    /// There is no more. What was still open is given by [`Self::next`].
    pub(super) fn finish(&mut self) {
        match &mut self.reader {
            Reader::Text(text) => text.finish(),
            Reader::Ndjson { lines, last } => *last = lines.finish(),
            Reader::Sse(_) => {}
        }
    }

    /// The next thing that is whole.
    pub(super) fn next(&mut self) -> Option<Decoded> {
        if self.over {
            return None;
        }
        let decoded = match &mut self.reader {
            Reader::Text(text) => text.ready.pop_front().map(Decoded::Inbound),
            Reader::Ndjson { lines, last } => match lines.next() {
                Ok(line) => line.or_else(|| last.take()).map(|line| self.line(&line)),
                Err(error) => Some(Decoded::Broken(too_long(error))),
            },
            Reader::Sse(sse) => match sse.next() {
                Ok(event) => event.map(|event| self.line(&event.data.into())),
                Err(error) => Some(Decoded::Broken(too_large(error))),
            },
        };
        self.over = matches!(decoded, Some(Decoded::End(_) | Decoded::Broken(_)));
        decoded
    }

    fn line(&mut self, line: &Bytes) -> Decoded {
        if line.trim_ascii().is_empty() {
            return Decoded::Inbound(Inbound::Progress);
        }
        match Event::from_producer(line, self.event_bytes) {
            Ok(event) if event.kind().is_terminal() => Decoded::End(terminal(event)),
            Ok(event) => Decoded::Inbound(Inbound::Event(event)),
            Err(error) => Decoded::Inbound(self.bad_line(&error)),
        }
    }

    /// A warning, or past the cap just a sign of life.
    fn bad_line(&mut self, error: &EventError) -> Inbound {
        metrics::counter!("segue_source_bad_lines_total").increment(1);
        self.bad_lines = self.bad_lines.saturating_add(1);
        let message = match self.bad_lines {
            ..BAD_LINES_TOLD => format!("a line of the output is not an event: {error}"),
            BAD_LINES_TOLD => "more lines of the output are not events".to_owned(),
            _ => return Inbound::Progress,
        };
        Inbound::Event(Event::build(
            &json!({"type": "warning", "code": "bad_line", "message": message}),
        ))
    }
}

/// A terminal that a producer may send is `run.finished` or `run.failed`.
fn terminal(event: Event) -> Inbound {
    let fields = serde_json::from_slice(event.json()).unwrap_or_default();
    match Outcome::from_json(&fields) {
        Some(Outcome::Finished { finish_reason, usage }) => {
            Inbound::Finished { finish_reason, usage }
        }
        Some(Outcome::Failed { error }) => Inbound::Failed(error),
        _ => Inbound::Event(event),
    }
}

fn too_long(error: LineTooLong) -> RunError {
    let LineTooLong { max } = error;
    RunError::new("line_too_long", format!("a line of the output is longer than {max} bytes"))
}

fn too_large(error: SseError) -> RunError {
    match error {
        SseError::Line(error) => too_long(error),
        SseError::EventTooLarge { max } => RunError::new(
            "event_too_large",
            format!("an event of the output is longer than {max} bytes"),
        ),
    }
}

/// One part of text: opened by the first byte, closed at the end.
#[derive(Debug, Default)]
struct TextReader {
    utf8: Utf8Decoder,
    open: bool,
    ready: VecDeque<Inbound>,
}

impl TextReader {
    fn feed(&mut self, chunk: &[u8]) {
        let text = self.utf8.feed(chunk);
        self.push(&text);
    }

    fn finish(&mut self) {
        let text = self.utf8.finish();
        self.push(&text);
        if std::mem::take(&mut self.open) {
            self.ready.push_back(event(&json!({"type": "text.end", "part": PART})));
        }
    }

    fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.open, true) {
            self.ready.push_back(event(&json!({"type": "text.start", "part": PART})));
        }
        self.ready.push_back(event(&json!({"type": "text.delta", "part": PART, "text": text})));
    }
}

fn event(fields: &serde_json::Value) -> Inbound {
    Inbound::Event(Event::build(fields))
}

#[cfg(test)]
mod tests;
