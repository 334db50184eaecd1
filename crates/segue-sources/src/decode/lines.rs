//! Lines of text, as in NDJSON and on a standard error.

use bytes::Bytes;

use super::split::{Ends, LineTooLong, Overlong, Splitter};

/// Splits bytes into lines at LF or CRLF. A blank line is an empty line, given like any other.
#[derive(Debug)]
pub struct LineDecoder(Splitter);

impl LineDecoder {
    /// A decoder of lines of at most `max` bytes, without their ends. A longer one is an error.
    pub fn new(max: usize) -> Self {
        Self(Splitter::new(Ends::Lf, Overlong::Refuse, max))
    }

    /// A decoder that gives a line over `max` bytes (at least 4) in pieces.
    pub fn cutting(max: usize) -> Self {
        Self(Splitter::new(Ends::Lf, Overlong::Cut, max))
    }

    /// Adds bytes. Take what they complete with [`Self::next`] before adding more.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.0.feed(chunk);
    }

    /// The next whole line, or nothing until more is fed.
    ///
    /// Fails with [`LineTooLong`] as soon as the line is known to be over the cap; the lines
    /// before it have been given, and the error stays.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at the first `None`")]
    pub fn next(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        self.0.next()
    }

    /// The last line, if the input did not end with a line end. Call it when [`Self::next`] has
    /// given all.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.0.rest()
    }
}
