//! Server-sent events, decoded by the WHATWG rules and bounded.
//!
//! Lines end in LF, CR or CRLF; one leading byte order mark is dropped; one space after the colon
//! is dropped; data lines join with LF; an id with NUL is ignored; `retry` takes digits only; a
//! block without data is not dispatched, but its id counts; a block cut by the end of the stream
//! is discarded.

use std::{collections::VecDeque, mem, time::Duration};

use bytes::Bytes;

/// One block of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The id this block sets; one that an earlier block set is the reader's to keep.
    pub(crate) id: Option<String>,
    /// The event's name; empty if there was none.
    pub(crate) event: String,
    /// The data; none for a block that only sets an id.
    pub(crate) data: Option<Bytes>,
}

/// What a decoder finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Frame(Frame),
    /// How long to wait before a reconnect.
    Retry(Duration),
}

/// A line or a block is larger than the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame has more than {max} bytes")]
pub(crate) struct FrameTooLarge {
    max: usize,
}

/// Turns bytes into signals. Holds at most one unfinished block, of at most `max` bytes.
#[derive(Debug)]
pub(crate) struct Decoder {
    max: usize,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The last line ended in CR: a LF that comes first belongs to it.
    after_cr: bool,
    /// The first line has not come: it may begin with a byte order mark.
    at_start: bool,
    id: Option<String>,
    event: String,
    /// Data lines, each followed by LF.
    data: Vec<u8>,
    found: VecDeque<Signal>,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            id: None,
            event: String::new(),
            data: Vec::new(),
            found: VecDeque::new(),
        }
    }

    /// The next signal of what was fed.
    pub(crate) fn next_signal(&mut self) -> Option<Signal> {
        self.found.pop_front()
    }

    /// Takes more bytes. After an error the decoder is of no more use.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), FrameTooLarge> {
        while !bytes.is_empty() {
            if mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else {
                return self.hold(bytes);
            };
            self.after_cr = bytes[end] == b'\r';
            self.take_line(&bytes[..end])?;
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    fn hold(&mut self, piece: &[u8]) -> Result<(), FrameTooLarge> {
        self.check(self.line.len() + piece.len())?;
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn check(&self, more: usize) -> Result<(), FrameTooLarge> {
        if self.data.len() + more > self.max {
            return Err(FrameTooLarge { max: self.max });
        }
        Ok(())
    }

    fn take_line(&mut self, rest: &[u8]) -> Result<(), FrameTooLarge> {
        self.check(self.line.len() + rest.len())?;
        if self.line.is_empty() {
            self.line_done(rest);
        } else {
            let mut line = mem::take(&mut self.line);
            line.extend_from_slice(rest);
            self.line_done(&line);
            line.clear();
            self.line = line;
        }
        Ok(())
    }

    fn line_done(&mut self, line: &[u8]) {
        let bom: &[u8] = if mem::take(&mut self.at_start) { b"\xEF\xBB\xBF" } else { b"" };
        let line = line.strip_prefix(bom).unwrap_or(line);
        if line.is_empty() {
            return self.dispatch();
        }
        match memchr::memchr(b':', line) {
            Some(0) => {}
            Some(colon) => {
                let value = &line[colon + 1..];
                self.field(&line[..colon], value.strip_prefix(b" ").unwrap_or(value));
            }
            None => self.field(line, b""),
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => {
                self.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"retry" => self.found.extend(retry(value).map(Signal::Retry)),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let mut data = mem::take(&mut self.data);
        let frame = Frame {
            id: self.id.take(),
            event: mem::take(&mut self.event),
            data: data.pop().map(|_| utf8(data)),
        };
        if frame.id.is_some() || frame.data.is_some() {
            self.found.push_back(Signal::Frame(frame));
        }
    }
}

fn retry(value: &[u8]) -> Option<Duration> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    // More digits than fit are a wait without end, which the back-off bounds.
    Some(Duration::from_millis(text.parse().unwrap_or(u64::MAX)))
}

fn utf8(bytes: Vec<u8>) -> Bytes {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(id: Option<&str>, event: &str, data: Option<&str>) -> Signal {
        let data = data.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        Signal::Frame(Frame { id: id.map(str::to_owned), event: event.to_owned(), data })
    }

    fn decode(bytes: &[u8], piece: usize) -> Vec<Signal> {
        let mut decoder = Decoder::new(1 << 10);
        for piece in bytes.chunks(piece) {
            decoder.feed(piece).expect("small");
        }
        std::iter::from_fn(|| decoder.next_signal()).collect()
    }

    /// Every case must decode the same in pieces of any size.
    fn check(text: impl AsRef<[u8]>, expect: &[Signal]) {
        let bytes = text.as_ref();
        for piece in [1, 2, 3, 5, usize::MAX] {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(decode(bytes, piece), expect, "{text:?} by {piece}");
        }
    }

    #[test]
    fn a_frame_of_our_server() {
        check(
            ": hello\nretry: 1000\n\nid: r:1\nevent: data\ndata: {\"a\":1}\n\n",
            &[Signal::Retry(Duration::from_secs(1)), frame(Some("r:1"), "data", Some("{\"a\":1}"))],
        );
    }

    #[test]
    fn lines_end_in_lf_cr_or_crlf() {
        for end in ["\n", "\r", "\r\n"] {
            let text = "data: a\ndata: b\n\ndata\n\n".replace('\n', end);
            check(text, &[frame(None, "", Some("a\nb")), frame(None, "", Some(""))]);
        }
    }

    #[test]
    fn one_space_after_the_colon_goes_and_a_leading_mark_too() {
        check(
            "\u{feff}data:  x\n\ndata:y \n\n\u{feff}data: z\n\n",
            &[frame(None, "", Some(" x")), frame(None, "", Some("y "))],
        );
    }

    #[test]
    fn a_block_without_data_only_sets_the_id() {
        check("id: r:4\n\n", &[frame(Some("r:4"), "", None)]);
        check("event: x\n\n\n: hb\n\n", &[]);
        check("id\n\n", &[frame(Some(""), "", None)]);
        check("id: a\0b\ndata: x\n\n", &[frame(None, "", Some("x"))]);
    }

    #[test]
    fn retry_takes_digits_only() {
        check("retry: 1s\nretry:\nretry: -1\n", &[]);
        check("retry:7\n", &[Signal::Retry(Duration::from_millis(7))]);
        let endless = format!("retry: {}\n", "9".repeat(40));
        check(endless, &[Signal::Retry(Duration::from_millis(u64::MAX))]);
    }

    #[test]
    fn an_unfinished_block_is_discarded() {
        check("data: a\n\ndata: b\n", &[frame(None, "", Some("a"))]);
        check("data: a\n\ndata: b", &[frame(None, "", Some("a"))]);
    }

    #[test]
    fn bad_utf8_is_replaced() {
        check(b"data: a\xffb\n\n", &[frame(None, "", Some("a\u{fffd}b"))]);
    }

    #[test]
    fn the_cap_holds_for_lines_and_for_blocks() {
        let feed = |text: &str| Decoder::new(8).feed(text.as_bytes());
        assert_eq!(feed("data: ab\n\ndata: cd\n\n"), Ok(()));
        assert_eq!(feed("data: abc\n"), Err(FrameTooLarge { max: 8 }));
        assert_eq!(feed("123456789"), Err(FrameTooLarge { max: 8 }));
        assert_eq!(feed("data:a\ndata:b\ndata:c\n"), Err(FrameTooLarge { max: 8 }));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "(data|id|: x|\\x{feff}|[\r\n: ab\0]){0,40}", piece in 1usize..9) {
            let whole = decode(text.as_bytes(), usize::MAX);
            prop_assert_eq!(decode(text.as_bytes(), piece), whole);
        }

        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            let fed = Decoder::new(16).feed(&bytes);
            prop_assert!(fed.is_ok() || bytes.len() > 16);
        }
    }
}
