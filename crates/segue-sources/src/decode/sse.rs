//! Server-sent events, by the rules of the WHATWG.

use std::mem;

use super::split::{Ends, LineTooLong, Overlong, Splitter};

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// An event of an SSE stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// Its type; `message` where the stream does not say.
    pub event: String,
    /// Its data lines, joined with LF.
    pub data: String,
    /// The last id that the stream has given; it sticks to later events, empty for none.
    pub id: String,
}

/// Why a stream of SSE cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line is over the cap.
    #[error(transparent)]
    Line(#[from] LineTooLong),
    /// The data lines of an event together are over the cap.
    #[error("an event is longer than {max} bytes")]
    EventTooLarge {
        /// The cap, in bytes of the joined data.
        max: usize,
    },
}

/// Reads SSE. Text that is not UTF-8 becomes U+FFFD: no byte ends a stream but through the cap.
///
/// An event that is unfinished at the end of the input is not one, so there is no `finish`.
#[derive(Debug)]
pub struct SseDecoder {
    lines: Splitter,
    max: usize,
    /// Nothing has been read: a byte order mark may come.
    at_start: bool,
    event: String,
    data: Option<String>,
    id: String,
    /// The id as of the last finished block.
    last_id: String,
    retry_ms: Option<u64>,
    failed: Option<SseError>,
}

impl SseDecoder {
    /// A decoder of lines and events of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            lines: Splitter::new(Ends::Any, Overlong::Refuse, max),
            max,
            at_start: true,
            event: String::new(),
            data: None,
            id: String::new(),
            last_id: String::new(),
            retry_ms: None,
            failed: None,
        }
    }

    /// Adds bytes. Take what they complete with [`Self::next`] before adding more.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.lines.feed(chunk);
    }

    /// The next whole event, or nothing until more is fed.
    ///
    /// Fails with [`SseError`] once a line or an event is over the cap, and the error stays.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at the first `None`")]
    pub fn next(&mut self) -> Result<Option<SseEvent>, SseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while let Some(line) = self.lines.next()? {
            let start = mem::take(&mut self.at_start);
            let line = if start { line.strip_prefix(BOM).unwrap_or(&line) } else { &line };
            if line.is_empty() {
                if let Some(event) = self.end_block() {
                    return Ok(Some(event));
                }
            } else {
                self.read_field(line)?;
            }
        }
        Ok(None)
    }

    /// The last id of the stream, also that of a block without data; empty for none.
    pub fn last_event_id(&self) -> &str {
        &self.last_id
    }

    /// The last wish of the stream for the pause before a reconnect, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn end_block(&mut self) -> Option<SseEvent> {
        self.last_id.clone_from(&self.id);
        let event = mem::take(&mut self.event);
        let data = self.data.take()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(SseEvent { event, data, id: self.last_id.clone() })
    }

    fn read_field(&mut self, line: &[u8]) -> Result<(), SseError> {
        let colon = memchr::memchr(b':', line);
        let (name, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => self.add_data(value)?,
            b"event" => self.event = text(value),
            b"id" if !value.contains(&0) => self.id = text(value),
            b"retry" => self.retry_ms = digits(value).or(self.retry_ms),
            // A comment (an empty name), an id with NUL, or a field that nobody defined.
            _ => {}
        }
        Ok(())
    }

    fn add_data(&mut self, value: &[u8]) -> Result<(), SseError> {
        let value = String::from_utf8_lossy(value);
        let length = self.data.as_ref().map_or(0, |data| data.len() + 1) + value.len();
        if length > self.max {
            let error = SseError::EventTooLarge { max: self.max };
            self.failed = Some(error);
            return Err(error);
        }
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(&value);
            }
            None => self.data = Some(value.into_owned()),
        }
        Ok(())
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Digits only, and not more of them than a number holds.
fn digits(value: &[u8]) -> Option<u64> {
    let only_digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| only_digits)?.parse().ok()
}
