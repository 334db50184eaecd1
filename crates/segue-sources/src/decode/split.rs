//! Finds the lines in chunks of bytes.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// A line is longer than its cap. The decoder that says so gives nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {max} bytes")]
pub struct LineTooLong {
    /// The cap, in bytes without the line's end.
    pub max: usize,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// LF or CRLF; a CR elsewhere belongs to the line.
    Lf,
    /// LF, CRLF or CR.
    Any,
}

/// What becomes of a line over the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlong {
    /// An error.
    Refuse,
    /// It is given in pieces of at most the cap, cut between characters where it is UTF-8.
    Cut,
}

/// Splits what it is fed into lines without their ends.
#[derive(Debug)]
pub(super) struct Splitter {
    buffer: BytesMut,
    /// Bytes of `buffer` that hold no line end: they are never searched again.
    scanned: usize,
    /// The line before ended in a CR, so an LF right here belongs to that end.
    after_cr: bool,
    ends: Ends,
    overlong: Overlong,
    max: usize,
    /// How many bytes were searched for a line end, all in all.
    #[cfg(test)]
    searched: usize,
}

impl Splitter {
    pub(super) fn new(ends: Ends, overlong: Overlong, max: usize) -> Self {
        // A piece has room for any one character, so cutting always gets on.
        let max = if overlong == Overlong::Cut { max.max(4) } else { max };
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            after_cr: false,
            ends,
            overlong,
            max,
            #[cfg(test)]
            searched: 0,
        }
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line. An error stays: nothing is consumed by it.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        self.skip_lf_after_cr();
        let end = self.find_end();
        // Without its end known, a CR at the end of the buffer may still be half of a CRLF.
        let length = self.content_before(end.unwrap_or(self.buffer.len()));
        if length > self.max {
            return self.too_long();
        }
        let Some(end) = end else { return Ok(None) };
        self.after_cr = self.ends == Ends::Any && self.buffer[end] == b'\r';
        let mut line = self.take(end);
        line.truncate(length);
        self.buffer.advance(1);
        Ok(Some(line))
    }

    /// What stands after the last line end, if anything does. Call it when `next` gives nothing.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        let length = self.content_before(self.buffer.len());
        if self.buffer.is_empty() {
            return None;
        }
        let mut line = self.take(self.buffer.len());
        line.truncate(length);
        Some(line)
    }

    fn skip_lf_after_cr(&mut self) {
        if self.after_cr && !self.buffer.is_empty() {
            self.after_cr = false;
            if self.buffer[0] == b'\n' {
                self.buffer.advance(1);
            }
        }
    }

    /// Index of the byte that ends the first line.
    fn find_end(&mut self) -> Option<usize> {
        let fresh = &self.buffer[self.scanned..];
        #[cfg(test)]
        {
            self.searched += fresh.len();
        }
        let found = match self.ends {
            Ends::Lf => memchr(b'\n', fresh),
            Ends::Any => memchr2(b'\n', b'\r', fresh),
        };
        let end = found.map(|at| self.scanned + at);
        self.scanned = end.unwrap_or(self.buffer.len());
        end
    }

    /// The length of a line that ends before `end`.
    fn content_before(&self, end: usize) -> usize {
        let crlf = self.ends == Ends::Lf && self.buffer[..end].ends_with(b"\r");
        end - usize::from(crlf)
    }

    fn too_long(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        match self.overlong {
            Overlong::Refuse => Err(LineTooLong { max: self.max }),
            Overlong::Cut => {
                let inside = |at: &usize| self.buffer[*at] & 0xC0 == 0x80;
                let cut = (self.max - 3..=self.max).rev().find(|at| !inside(at));
                Ok(Some(self.take(cut.unwrap_or(self.max))))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn searched(&self) -> usize {
        self.searched
    }

    fn take(&mut self, end: usize) -> Bytes {
        self.scanned = self.scanned.saturating_sub(end);
        self.buffer.split_to(end).freeze()
    }
}
