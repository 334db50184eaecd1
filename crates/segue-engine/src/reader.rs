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

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use segue_core::{RunId, Seq};
use segue_journal::{
    Incarnation, Journal, Listener, Page, ReadError, ReadLimit, Record, StreamKey,
    cache::{Encoding, FrameBlock},
};

use crate::attached::Attachment;

/// A wire protocol: how a record becomes frames.
///
/// Frames are a pure function of the journal and the facade's version (W1); each frame's id
/// resumes exactly after that frame.
pub trait Facade: Send + 'static {
    /// Names the encoding if the frames of a record depend on that record alone, so that readers
    /// can share them. The name changes whenever the frames do.
    fn encoding(&self) -> Option<Encoding>;

    /// Appends the frames of the next record. Called once a record, in order.
    fn encode(&mut self, run: &RunId, record: &Record, out: &mut BytesMut);
}

/// What a reader has to give.
#[derive(Debug)]
pub enum Fill {
    /// The next frames, whole.
    Bytes(Bytes),
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
        next: Seq,
        attachment: Attachment,
    ) -> Self {
        let stream = listener.stream().clone();
        Self { journal, stream, run, incarnation, facade, next, listener, _attachment: attachment }
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
        let mut out = BytesMut::new();
        let mut ends = Vec::with_capacity(page.records.len());
        for record in &page.records {
            self.facade.encode(&self.run, record, &mut out);
            ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
        }
        self.next = last.seq.next();
        let bytes = out.freeze();
        if let Some(encoding) = self.facade.encoding() {
            let block = FrameBlock { first, bytes: bytes.clone(), ends: ends.into() };
            self.journal.frames().put(self.incarnation, encoding, block);
        }
        Fill::Bytes(bytes)
    }
}
