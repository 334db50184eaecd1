//! Lines of a byte stream, bounded.

use bytes::{Bytes, BytesMut};

/// A line is longer than the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line has more than {max} bytes")]
pub(crate) struct LineTooLong {
    pub(crate) max: usize,
}

/// Cuts bytes at LF. What follows the last LF is held until its own comes.
#[derive(Debug)]
pub(crate) struct Lines {
    held: BytesMut,
    /// Bytes of `held` that are known to hold no LF, so that no byte is searched twice.
    searched: usize,
    max: usize,
}

impl Lines {
    /// Lines of at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { held: BytesMut::new(), searched: 0, max }
    }

    /// Takes more bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    pub(crate) fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        let found = memchr::memchr(b'\n', &self.held[self.searched..]);
        let len = found.map_or(self.held.len(), |at| self.searched + at);
        if len > self.max {
            return Err(LineTooLong { max: self.max });
        }
        if found.is_none() {
            self.searched = len;
            return Ok(None);
        }
        self.searched = 0;
        let line = self.held.split_to(len + 1).freeze();
        Ok(Some(line.slice(..len)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(lines: &mut Lines) -> Result<Vec<Bytes>, LineTooLong> {
        std::iter::from_fn(|| lines.next_line().transpose()).collect()
    }

    #[test]
    fn the_last_piece_waits_for_its_end() {
        let mut lines = Lines::new(10);
        lines.feed(b"a\n\nbc");
        assert_eq!(drain(&mut lines).unwrap(), ["a", ""]);
        lines.feed(b"d\n");
        assert_eq!(drain(&mut lines).unwrap(), ["bcd"]);
    }

    #[test]
    fn the_cap_holds_for_whole_and_for_endless_lines() {
        let error = Err(LineTooLong { max: 3 });
        for (bytes, expect) in [
            (&b"abc\n"[..], Ok(Some(Bytes::from_static(b"abc")))),
            (b"abcd\n", error.clone()),
            (b"abcd", error),
            (b"abc", Ok(None)),
        ] {
            let mut lines = Lines::new(3);
            lines.feed(bytes);
            assert_eq!(lines.next_line(), expect, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[a\n]{0,40}", cut in 1usize..7) {
            let mut lines = Lines::new(100);
            let mut got = Vec::new();
            for piece in text.as_bytes().chunks(cut) {
                lines.feed(piece);
                got.extend(drain(&mut lines).unwrap());
            }
            let mut expect: Vec<&str> = text.split('\n').collect();
            expect.pop();
            prop_assert_eq!(got, expect);
        }
    }
}
