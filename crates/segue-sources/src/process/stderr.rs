//! Standard error to `log` events.

use bytes::Bytes;
use segue_core::{Event, Inbound};
use serde_json::json;

use crate::decode::LineDecoder;

/// A longer line is given in pieces.
const LINE_BYTES: usize = 16 << 10;

/// Reads the standard error of one run, up to a cap.
#[derive(Debug)]
pub(super) struct Stderr {
    lines: LineDecoder,
    left: u64,
    state: State,
}

/// In the usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// The cap is reached: the line it cut, then a warning.
    Cutting,
    /// The pipe has ended: its last line.
    Ending,
    Done,
}

impl Stderr {
    /// `max` bytes become events; the rest is read and dropped, so that it holds nobody up.
    pub(super) fn new(max: u64) -> Self {
        Self { lines: LineDecoder::cutting(LINE_BYTES), left: max, state: State::Reading }
    }

    /// Adds bytes. Take what they complete with [`Self::next`] before adding more.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        if self.state != State::Reading {
            return;
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let kept = &chunk[..chunk.len().min(room)];
        self.left -= kept.len() as u64;
        self.lines.feed(kept);
        if kept.len() < chunk.len() {
            self.state = State::Cutting;
            metrics::counter!("segue_source_stderr_truncated_total").increment(1);
        }
    }

    /// There is no more.
    pub(super) fn finish(&mut self) {
        if self.state == State::Reading {
            self.state = State::Ending;
        }
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Option<Inbound> {
        // A cutting decoder has no errors.
        if let Ok(Some(line)) = self.lines.next() {
            return Some(log(&line));
        }
        match self.state {
            State::Reading | State::Done => None,
            State::Cutting => self.lines.finish().map(|line| log(&line)).or_else(|| {
                self.state = State::Done;
                Some(truncated())
            }),
            State::Ending => {
                self.state = State::Done;
                self.lines.finish().map(|line| log(&line))
            }
        }
    }
}

fn log(line: &Bytes) -> Inbound {
    let text = String::from_utf8_lossy(line);
    Inbound::Event(Event::build(&json!({"type": "log", "stream": "stderr", "text": text})))
}

fn truncated() -> Inbound {
    Inbound::Event(Event::build(&json!({
        "type": "warning",
        "code": "stderr_truncated",
        "message": "the command wrote more to its standard error than is kept",
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(max: u64, chunks: &[&str]) -> Vec<String> {
        let mut stderr = Stderr::new(max);
        let mut told = Vec::new();
        let mut take = |stderr: &mut Stderr| {
            while let Some(Inbound::Event(event)) = stderr.next() {
                let fields: serde_json::Value = serde_json::from_slice(event.json()).expect("json");
                let field = if event.name() == "log" { "text" } else { "code" };
                told.push(fields[field].as_str().expect("text").to_owned());
            }
        };
        for chunk in chunks {
            stderr.feed(chunk.as_bytes());
            take(&mut stderr);
        }
        stderr.finish();
        take(&mut stderr);
        told
    }

    #[test]
    fn each_line_is_a_log_event() {
        assert_eq!(read(100, &["a\nb", "c\n\nd"]), ["a", "bc", "", "d"]);
        assert!(read(100, &[]).is_empty());
    }

    #[test]
    fn the_cap_is_exact_and_told_once() {
        assert_eq!(read(4, &["a\nbc"]), ["a", "bc"]);
        let expected = ["a", "bc", "stderr_truncated"];
        assert_eq!(read(4, &["a\nbcd\ne\n"]), expected);
        assert_eq!(read(4, &["a", "\n", "b", "c", "d", "\n", "e\n"]), expected);
        assert_eq!(read(2, &["a\n", "b\n"]), ["a", "stderr_truncated"]);
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let told = read(1 << 20, &[&"x".repeat(LINE_BYTES + 1)]);
        assert_eq!(told.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES, 1]);
    }
}
