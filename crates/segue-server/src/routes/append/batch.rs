//! Lines that are appended together.

use bytes::Bytes;
use segue_core::{Event, EventError};

/// The most lines of a batch.
const MAX_LINES: usize = 1_000;
/// A batch takes no more lines once it has as many bytes.
const MAX_BYTES: usize = 256 << 10;

/// Items of the request that stand on consecutive lines, as they were sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The number of the first item in the request, from 0.
    pub(super) first_item: u64,
    /// The line of the first item, from 1.
    pub(super) first_line: u64,
    /// The items. Kept until they are answered, to be sent again without their beginning.
    pub(super) texts: Vec<Bytes>,
}

impl Sent {
    /// The number of the last item in the request.
    pub(super) fn last_item(&self) -> u64 {
        (self.first_item + self.texts.len() as u64).saturating_sub(1)
    }

    /// Without its first `count` items.
    pub(super) fn without(mut self, count: usize) -> Self {
        let count = count.min(self.texts.len());
        self.texts.drain(..count);
        self.first_item += count as u64;
        self.first_line += count as u64;
        self
    }
}

/// A batch that still grows.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) sent: Sent,
    pub(super) events: Vec<Event>,
    bytes: usize,
    /// Nothing can be added: the last event is a terminal, or a blank line came.
    closed: bool,
}

impl Batch {
    /// Reads the items of a batch again.
    pub(super) fn of(sent: Sent, max: usize) -> Result<Self, EventError> {
        let read = |text| Event::from_producer(text, max);
        let events = sent.texts.iter().map(read).collect::<Result<Vec<Event>, _>>()?;
        Ok(Self { sent, events, bytes: 0, closed: true })
    }

    /// Adds the item that stands on `line`, the `item`th of the request.
    pub(super) fn push(&mut self, event: Event, item: u64, line: u64) {
        if self.events.is_empty() {
            (self.sent.first_item, self.sent.first_line) = (item, line);
        }
        self.bytes += event.json().len();
        self.closed = event.kind().is_terminal();
        self.sent.texts.push(event.json().clone());
        self.events.push(event);
    }

    /// Ends it, so that its items stand on consecutive lines.
    pub(super) fn close(&mut self) {
        self.closed = !self.events.is_empty();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.closed || self.events.len() >= MAX_LINES || self.bytes >= MAX_BYTES
    }
}
