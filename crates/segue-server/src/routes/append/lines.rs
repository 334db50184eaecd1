//! The lines of a body, as its chunks come.

use bytes::{Buf, Bytes, BytesMut};

/// A line of the body, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Something to journal.
    Event(Bytes),
    /// Nothing: it is not counted and renews the lease.
    Blank,
}

/// A line that grew over the cap; nothing after it can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Splits chunks into lines. A line that is whole within a chunk is not copied.
pub(super) struct Lines {
    max: usize,
    chunk: Bytes,
    /// The beginning of a line whose end has yet to come.
    begun: BytesMut,
}

impl Lines {
    /// Lines of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, chunk: Bytes::new(), begun: BytesMut::new() }
    }

    /// Takes the next chunk. The one before must be used up: [`Lines::next`] gave `None`.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "lines of the last chunk are left");
        self.chunk = chunk;
    }

    /// The next whole line; `None` until more comes.
    pub(super) fn next(&mut self) -> Result<Option<Line>, TooLong> {
        let Some(end) = memchr::memchr(b'\n', &self.chunk) else {
            if self.begun.len() + self.chunk.len() > self.max {
                return Err(TooLong);
            }
            self.begun.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            return Ok(None);
        };
        let rest = self.chunk.split_to(end);
        self.chunk.advance(1);
        let line = if self.begun.is_empty() {
            rest
        } else {
            self.begun.extend_from_slice(&rest);
            self.begun.split().freeze()
        };
        if line.len() > self.max {
            return Err(TooLong);
        }
        let is_blank = line.trim_ascii().is_empty();
        Ok(Some(if is_blank { Line::Blank } else { Line::Event(line) }))
    }

    /// What stands after the last line end of a body that came to its end in order.
    pub(super) fn last(&mut self) -> Option<Bytes> {
        let last = self.begun.split().freeze();
        (!last.trim_ascii().is_empty()).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(body: &[u8], cuts: usize, max: usize) -> Result<Vec<String>, TooLong> {
        let mut lines = Lines::new(max);
        let mut found = Vec::new();
        for chunk in body.chunks(cuts.max(1)) {
            lines.push(Bytes::copy_from_slice(chunk));
            while let Some(line) = lines.next()? {
                found.push(match line {
                    Line::Event(line) => String::from_utf8_lossy(&line).trim_end().to_owned(),
                    Line::Blank => String::new(),
                });
            }
        }
        found.extend(lines.last().map(|line| String::from_utf8_lossy(&line).into_owned()));
        Ok(found)
    }

    #[test]
    fn blank_lines_and_line_ends() {
        let found = split(b"a\r\n\n \t\nb\nc", 100, 10).expect("short");
        assert_eq!(found, ["a", "", "", "b", "c"]);
        assert_eq!(split(b"", 1, 10), Ok(vec![]));
    }

    #[test]
    fn a_line_over_the_cap_is_refused_before_its_end_comes() {
        assert_eq!(split(b"12345\n", 2, 5), Ok(vec!["12345".into()]));
        assert_eq!(split(b"123456\n", 100, 5), Err(TooLong));
        assert_eq!(split(b"1234567", 2, 5), Err(TooLong));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(body in "[ab\n]{0,200}", cuts in 1..50_usize) {
            prop_assert_eq!(split(body.as_bytes(), cuts, 1000), split(body.as_bytes(), 1000, 1000));
        }
    }
}
