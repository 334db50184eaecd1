//! The event of every benchmark: 120 bytes of JSON that carry an index and a time.
//!
//! ```text
//! {"type":"text.delta","part":"p","text":"@i<8 digits>t<19 digits>@xx...x"}
//! ```
//! Both sides get the same bytes. Ours takes them for what they are, a delta of a text.

use anyhow::ensure;
use memchr::memmem;

/// Bytes of an event.
pub(super) const BYTES: usize = 120;

const HEAD: &[u8] = br#"{"type":"text.delta","part":"p","text":"@i"#;
const TAIL: &[u8] = br#""}"#;
/// The digits of the index, then those of the time, one letter between.
const INDEX: usize = HEAD.len();
const TIME: usize = INDEX + 8 + 1;
/// From `@i` to the second `@`.
const MARK_BYTES: usize = 2 + 8 + 1 + 19 + 1;

/// An event that can be given another index and time.
#[derive(Clone, Debug)]
pub(super) struct Event([u8; BYTES]);

impl Event {
    pub(super) fn new() -> Self {
        let mut bytes = [b'x'; BYTES];
        bytes[..HEAD.len()].copy_from_slice(HEAD);
        bytes[TIME - 1] = b't';
        bytes[TIME + 19] = b'@';
        bytes[BYTES - TAIL.len()..].copy_from_slice(TAIL);
        let mut event = Self(bytes);
        event.set(0, 0);
        event
    }

    /// Gives it an index and a time in nanoseconds.
    pub(super) fn set(&mut self, index: u64, time: u64) -> &[u8] {
        write_digits(&mut self.0[INDEX..INDEX + 8], index);
        write_digits(&mut self.0[TIME..TIME + 19], time);
        &self.0
    }
}

fn write_digits(to: &mut [u8], mut number: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

/// Finds events in what a subscriber gets and sees that none is missing and none comes twice.
#[derive(Debug, Default)]
pub(super) struct Follower {
    next: u64,
}

impl Follower {
    /// How many events there were.
    pub(super) fn count(&self) -> u64 {
        self.next
    }

    /// Takes the events out of `buffer` and gives each one's time. An unfinished one stays.
    pub(super) fn take(
        &mut self,
        buffer: &mut Vec<u8>,
        mut each: impl FnMut(u64),
    ) -> anyhow::Result<()> {
        let mut done = 0;
        while let Some(found) = memmem::find(&buffer[done..], b"@i") {
            let mark = done + found;
            let Some(text) = buffer.get(mark..mark + MARK_BYTES) else {
                buffer.drain(..mark);
                return Ok(());
            };
            let index = digits(&text[2..10]);
            ensure!(index == self.next, "event {index} came where {} should", self.next);
            self.next += 1;
            each(digits(&text[11..30]));
            done = mark + MARK_BYTES;
        }
        let rest = usize::from(buffer.len() > done && buffer.ends_with(b"@"));
        buffer.drain(..buffer.len() - rest);
        Ok(())
    }
}

fn digits(text: &[u8]) -> u64 {
    text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_valid_and_has_its_size() {
        let mut event = Event::new();
        let bytes = event.set(12_345_678, 1_234_567_890_123_456_789).to_vec();
        assert_eq!(bytes.len(), 120);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let text = json["text"].as_str().unwrap();
        assert!(text.starts_with("@i12345678t1234567890123456789@x"), "{text}");
    }

    #[test]
    fn events_are_found_however_they_are_cut() {
        let mut event = Event::new();
        let text: Vec<u8> = (0..5).flat_map(|n| event.set(n, n + 7).to_vec()).collect();
        for piece in 1..200 {
            let (mut follower, mut buffer, mut times) = (Follower::default(), Vec::new(), vec![]);
            for piece in text.chunks(piece) {
                buffer.extend_from_slice(piece);
                follower.take(&mut buffer, |time| times.push(time)).unwrap();
            }
            assert_eq!((follower.count(), times), (5, vec![7, 8, 9, 10, 11]), "{piece}");
        }
    }

    #[test]
    fn a_hole_and_a_double_are_seen() {
        for indexes in [[0, 2], [0, 0]] {
            let mut event = Event::new();
            let mut text: Vec<u8> =
                indexes.iter().flat_map(|n| event.set(*n, 1).to_vec()).collect();
            assert!(Follower::default().take(&mut text, |_| ()).is_err());
        }
    }
}
