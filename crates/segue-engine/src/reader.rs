//! The one path from the journal to a client.
//!
//! A [`Reader`] is a cursor and a facade's state. It gives the next bytes when asked and never
//! waits; a task or a fan-out shard drives it:
//!
//! ```text
//! 1  listener.hear()                     before the tail is looked at
//! 2  while fill() gives bytes: send them  the cursor moves only by what was given
//! 3  fill() == End: finish
//! 4  fill() == Idle: wait for the bell, a heartbeat, the socket or shutdown
//! ```
//! There is no second buffer that could overlap or overflow: a slow client is a client with an
//! old cursor.

use std::{cmp::Ordering, sync::Arc};

use bytes::{Bytes, BytesMut};
use segue_core::{RunId, Seq};
use segue_journal::{
    Incarnation, Journal, Listener, Page, ReadError, ReadLimit, Record, StreamKey,
    cache::{Encoding, FrameBlock},
};

use crate::attached::Attachment;

/// A wire protocol: how a record becomes frames.
///
/// Frames are a pure function of the records before them and of the facade's version (W1); each
/// frame's id resumes exactly after that frame.
pub trait Facade: Send + 'static {
    /// Names the encoding if the frames of a record depend on that record alone, so that readers
    /// can share them and begin anywhere. The name changes whenever the frames do. A facade without
    /// a name is given every record from the first on, and what its client has is not sent.
    fn encoding(&self) -> Option<Encoding>;

    /// Appends the frames of the next record, none or many. Called once a record, in order.
    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames);
}

/// What facades write into: bytes that know where frames end.
#[derive(Debug, Default)]
pub struct Frames {
    out: BytesMut,
    /// Where the frames of the newest record end.
    ends: Vec<usize>,
}

impl Frames {
    /// Appends one frame, as `write` writes it.
    pub fn put(&mut self, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.out);
        self.ends.push(self.out.len());
    }

    /// The bytes so far.
    pub fn into_bytes(self) -> Bytes {
        self.out.freeze()
    }

    /// The frames of the newest record, one by one.
    pub fn each(&self) -> Vec<Bytes> {
        let begins = std::iter::once(&0).chain(&self.ends);
        let frames = begins.zip(&self.ends);
        frames.map(|(begin, end)| Bytes::copy_from_slice(&self.out[*begin..*end])).collect()
    }

    /// Begins the next record, and gives where it begins.
    fn begin(&mut self) -> usize {
        self.ends.clear();
        self.out.len()
    }

    /// Takes away all frames of the newest record but those after its first `frames`.
    fn drop_first(&mut self, begin: usize, frames: u32) {
        let frames = usize::try_from(frames).unwrap_or(usize::MAX);
        let Some(last) = frames.checked_sub(1) else { return };
        let kept = self.ends.get(last).map_or(self.out.len(), |end| *end);
        let rest = self.out.split_off(kept);
        self.out.truncate(begin);
        self.out.unsplit(rest);
    }
}

/// The first frame that is given: of the record `seq`, the one after its first `frames`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record.
    pub seq: Seq,
    /// How many of its frames the client has.
    pub frames: u32,
}

impl From<Seq> for Place {
    fn from(seq: Seq) -> Self {
        Self { seq, frames: 0 }
    }
}

/// What a reader has to give.
#[derive(Debug)]
pub enum Fill {
    /// The next frames, whole.
    Bytes(Bytes),
    /// Records were read whose frames the client has, or that have none. Ask again, after others
    /// had their turn.
    Silent,
    /// Nothing until the bell rings.
    Idle,
    /// Everything was given and nothing will come.
    End,
    /// The stream cannot be read on from here.
    Failed(ReadError),
}

/// A client's place in a run.
pub struct Reader<F> {
    journal: Arc<dyn Journal>,
    stream: StreamKey,
    run: RunId,
    incarnation: Incarnation,
    facade: F,
    next: Seq,
    place: Place,
    listener: Listener,
    /// Keeps retention away from what is being read.
    _attachment: Attachment,
}

impl<F: Facade> Reader<F> {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        run: RunId,
        listener: Listener,
        incarnation: Incarnation,
        facade: F,
        place: Place,
        attachment: Attachment,
    ) -> Self {
        let stream = listener.stream().clone();
        let is_free = facade.encoding().is_some() && place.frames == 0;
        let next = if is_free { place.seq } else { Seq::FIRST };
        Self {
            journal,
            stream,
            run,
            incarnation,
            facade,
            next,
            place,
            listener,
            _attachment: attachment,
        }
    }

    /// The last position that was given.
    pub fn cursor(&self) -> Seq {
        self.next.prev()
    }

    /// The bell of the stream.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// The next frames, up to about `budget` bytes, at least one record's if there is one.
    pub fn fill(&mut self, budget: usize) -> Fill {
        let tail = self.listener.tail();
        if self.next >= tail.next && !self.listener.deleted() {
            return if tail.closed { Fill::End } else { Fill::Idle };
        }
        if let Some(encoding) = self.facade.encoding() {
            let frames = self.journal.frames();
            if let Some(cached) = frames.get(self.incarnation, encoding, self.next, budget) {
                self.next = cached.last.next();
                return Fill::Bytes(cached.bytes);
            }
        }
        let limit = ReadLimit { bytes: budget, ..ReadLimit::default() };
        match self.journal.read(&self.stream, self.next, limit) {
            Ok(page) => self.encode(&page),
            Err(error) => Fill::Failed(error),
        }
    }

    fn encode(&mut self, page: &Page) -> Fill {
        let Some(last) = page.records.last() else {
            return if page.info.tail.closed { Fill::End } else { Fill::Idle };
        };
        let first = self.next;
        let mut out = Frames::default();
        let mut ends = Vec::with_capacity(page.records.len());
        for record in &page.records {
            let begin = out.begin();
            self.facade.encode(&self.run, record, &mut out);
            match record.seq.cmp(&self.place.seq) {
                Ordering::Less => out.drop_first(begin, u32::MAX),
                Ordering::Equal => out.drop_first(begin, self.place.frames),
                Ordering::Greater => {}
            }
            ends.push(u32::try_from(out.out.len()).unwrap_or(u32::MAX));
        }
        self.next = last.seq.next();
        let bytes = out.into_bytes();
        if bytes.is_empty() {
            return Fill::Silent;
        }
        if let Some(encoding) = self.facade.encoding() {
            let block = FrameBlock { first, bytes: bytes.clone(), ends: ends.into() };
            self.journal.frames().put(self.incarnation, encoding, block);
        }
        Fill::Bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(frames: u32) -> String {
        let mut out = Frames::default();
        out.put(|out| out.extend_from_slice(b"old;"));
        let begin = out.begin();
        for frame in ["a;", "b;", "c;"] {
            out.put(|out| out.extend_from_slice(frame.as_bytes()));
        }
        out.drop_first(begin, frames);
        String::from_utf8(out.into_bytes().to_vec()).expect("text")
    }

    #[test]
    fn a_place_within_a_record_keeps_the_frames_after_it() {
        assert_eq!(left(0), "old;a;b;c;");
        assert_eq!(left(1), "old;b;c;");
        assert_eq!(left(3), "old;");
        assert_eq!(left(u32::MAX), "old;");
    }
}
