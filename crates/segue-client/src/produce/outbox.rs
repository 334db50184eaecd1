//! Lines on their way: numbered, sent, and kept until they are acknowledged.
//!
//! Pure. The number of a line is its `Producer-Seq`; it never changes, however often the line is
//! sent.

use std::{collections::VecDeque, mem};

use bytes::{BufMut, Bytes, BytesMut};

/// What a line costs beside its bytes.
const LINE_OVERHEAD: usize = 64;

/// Numbered lines between the reader of the input and the acknowledgements.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// The number of the first line that is kept.
    first: u64,
    lines: VecDeque<Bytes>,
    /// How many of `lines` went out on the present connection.
    sent: usize,
    bytes: usize,
    max_bytes: usize,
}

impl Outbox {
    /// Keeps at most about `max_bytes`; one line of any size always fits into an empty one.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { first: 0, lines: VecDeque::new(), sent: 0, bytes: 0, max_bytes }
    }

    /// Whether another line may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < self.max_bytes
    }

    /// Takes a line and gives it the next number.
    pub(crate) fn push(&mut self, line: Bytes) {
        self.bytes += cost(&line);
        self.lines.push_back(line);
    }

    /// The number of the first line that is not acknowledged; so many are.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Whether every line is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether lines wait to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.lines.len()
    }

    /// Whether lines that were sent wait to be acknowledged.
    pub(crate) fn has_unacked(&self) -> bool {
        self.sent > 0
    }

    /// The next lines to send, each with its line break, up to `max` bytes but at least one.
    pub(crate) fn next_batch(&mut self, max: usize) -> Option<Bytes> {
        let mut batch = BytesMut::new();
        for line in self.lines.range(self.sent..) {
            if !batch.is_empty() && batch.len() + line.len() >= max {
                break;
            }
            batch.reserve(line.len() + 1);
            batch.put_slice(line);
            batch.put_u8(b'\n');
            self.sent += 1;
        }
        (!batch.is_empty()).then(|| batch.freeze())
    }

    /// A new connection begins: everything that is kept goes out again. Gives how many lines go
    /// out a second time.
    pub(crate) fn rewind(&mut self) -> usize {
        mem::take(&mut self.sent)
    }

    /// Drops the lines up to number `acked`. Acknowledgements are cumulative; an older one than
    /// the last changes nothing.
    ///
    /// A server that knows lines of an earlier connection, or of an earlier life of this
    /// producer, may acknowledge more than was sent here. The lines that were not sent stay and
    /// go out all the same: within a request a line's number is its place.
    pub(crate) fn acked(&mut self, acked: u64) {
        let Some(n) = acked.saturating_add(1).checked_sub(self.first) else { return };
        let n = usize::try_from(n).unwrap_or(usize::MAX).min(self.sent);
        self.bytes -= self.lines.drain(..n).map(|line| cost(&line)).sum::<usize>();
        self.first += n as u64;
        self.sent -= n;
    }
}

fn cost(line: &Bytes) -> usize {
    line.len() + LINE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(n: u64) -> Bytes {
        n.to_string().into()
    }

    fn with_lines(n: u64) -> Outbox {
        let mut outbox = Outbox::new(1 << 20);
        (0..n).for_each(|n| outbox.push(line(n)));
        outbox
    }

    #[test]
    fn lines_go_out_in_batches_and_again_after_a_cut() {
        let mut outbox = with_lines(4);
        assert_eq!(outbox.next_batch(4).unwrap(), "0\n1\n");
        outbox.acked(0);
        assert_eq!((outbox.rewind(), outbox.first()), (1, 1));
        assert_eq!(outbox.next_batch(100).unwrap(), "1\n2\n3\n");
        assert_eq!(outbox.next_batch(100), None);
        outbox.acked(3);
        assert!(outbox.is_empty() && !outbox.has_unacked());
    }

    #[test]
    fn an_ack_may_come_late() {
        let mut outbox = with_lines(3);
        outbox.next_batch(100);
        for (acked, first) in [(1, 2), (0, 2), (1, 2), (2, 3)] {
            outbox.acked(acked);
            assert_eq!(outbox.first(), first);
        }
    }

    #[test]
    fn an_ack_ahead_leaves_what_was_not_sent_here() {
        let mut outbox = with_lines(3);
        outbox.next_batch(100);
        outbox.rewind();
        assert_eq!(outbox.next_batch(2).unwrap(), "0\n");
        outbox.acked(u64::MAX);
        assert_eq!(outbox.first(), 1);
        assert_eq!(outbox.next_batch(100).unwrap(), "1\n2\n", "each line keeps its place");
    }

    #[test]
    fn room_is_bounded_by_bytes_but_one_line_always_fits() {
        let mut outbox = Outbox::new(100);
        assert!(outbox.has_room());
        outbox.push(vec![b'x'; 1000].into());
        assert!(!outbox.has_room());
        assert_eq!(outbox.next_batch(10).unwrap().len(), 1001);
        outbox.acked(0);
        assert!(outbox.has_room());
    }

    proptest! {
        /// A server that keeps the highest number and takes only the next: every line arrives
        /// once and in order, wherever the cuts and the acknowledgements fall.
        #[test]
        fn every_line_arrives_once(moves in prop::collection::vec(0u8..5, 0..200), max in 1usize..12) {
            let mut outbox = Outbox::new(400);
            let (mut pushed, mut got, mut wire) = (0u64, Vec::new(), 0u64);
            for kind in moves {
                match kind {
                    0 if outbox.has_room() => {
                        outbox.push(line(pushed));
                        pushed += 1;
                    }
                    1 | 2 => for text in outbox.next_batch(max).unwrap_or_default().split(|b| *b == b'\n') {
                        if text.is_empty() { continue }
                        if wire == got.len() as u64 {
                            got.push(String::from_utf8(text.to_vec()).unwrap());
                        }
                        wire += 1;
                    },
                    3 => {
                        outbox.rewind();
                        wire = outbox.first();
                    }
                    _ => if let Some(last) = got.len().checked_sub(1) {
                        outbox.acked(last as u64);
                    },
                }
            }
            let expect: Vec<String> = (0..got.len()).map(|n| n.to_string()).collect();
            prop_assert_eq!(&got, &expect);
            prop_assert!(outbox.first() <= got.len() as u64 && got.len() as u64 <= pushed);
        }
    }
}
