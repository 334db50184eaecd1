//! Short words for what every case does.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use bytes::Bytes;
use segue_core::{ProducerId, Seq};

use super::Fixture;
use crate::{
    api::{
        AppendError, Batch, Committed, Op, Part, ProducerClaim, ReadError, ReadLimit, Record, Tail,
        Ticket,
    },
    doorbell::{Listener, Shard},
    stream::{Epoch, StreamKey},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Polls a future once.
pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The key of a test's stream: `run("a")` is a run, `key("s", "a")` a session.
pub(super) fn key(letter: &str, id: &str) -> StreamKey {
    StreamKey::parse(&format!("default/{letter}/{id}")).expect("a well-formed key")
}

pub(super) fn run(id: &str) -> StreamKey {
    key("r", id)
}

pub(super) fn texts(records: &[&str]) -> Vec<Bytes> {
    records.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect()
}

/// An append with everything open: change it by its methods.
pub(super) fn part(stream: &StreamKey, records: &[&str]) -> Part {
    Part::append(stream.clone(), Epoch(0), texts(records))
}

pub(super) fn batch(parts: impl IntoIterator<Item = Part>) -> Batch {
    Batch { parts: parts.into_iter().collect() }
}

impl Part {
    pub(super) fn at_epoch(mut self, n: u64) -> Self {
        self.epoch = Epoch(n);
        self
    }

    pub(super) fn creating(mut self) -> Self {
        if let Op::Append { create, .. } = &mut self.op {
            *create = true;
        }
        self
    }

    pub(super) fn closing(mut self) -> Self {
        if let Op::Append { close, .. } = &mut self.op {
            *close = true;
        }
        self
    }

    pub(super) fn expecting(mut self, seq: u64) -> Self {
        if let Op::Append { expect, .. } = &mut self.op {
            *expect = Some(Seq(seq));
        }
        self
    }

    pub(super) fn claiming(mut self, id: &str, epoch: u64, first_seq: u64, last_seq: u64) -> Self {
        if let Op::Append { producer, .. } = &mut self.op {
            let id = ProducerId::parse(id).expect("a well-formed id");
            *producer = Some(ProducerClaim { id, epoch, first_seq, last_seq });
        }
        self
    }

    pub(super) fn trim(stream: &StreamKey, before: u64) -> Self {
        Self { stream: stream.clone(), op: Op::Trim { before: Seq(before) }, epoch: Epoch(0) }
    }

    pub(super) fn delete(stream: &StreamKey) -> Self {
        Self { stream: stream.clone(), op: Op::Delete, epoch: Epoch(0) }
    }
}

/// What cases do with a fixture.
impl dyn Fixture + '_ {
    pub(super) fn submit(&self, batch: Batch) -> Ticket {
        let stream = batch.parts.first().map_or_else(|| run("none"), |part| part.stream.clone());
        let bytes = batch.parts.iter().map(Part::bytes).sum();
        let journal = self.journal();
        let permit = block_on(journal.reserve(&stream, bytes)).expect("an open door");
        journal.submit(permit, batch)
    }

    pub(super) fn commit(
        &self,
        parts: impl IntoIterator<Item = Part>,
    ) -> Result<Committed, AppendError> {
        let ticket = self.submit(batch(parts));
        self.settle();
        ticket.wait()
    }

    /// The positions of the first part's records.
    pub(super) fn append(&self, part: Part) -> (u64, u64) {
        let committed = self.commit([part]).expect("an allowed append");
        assert!(!committed.duplicate);
        range(&committed, 0)
    }

    pub(super) fn create(&self, stream: &StreamKey, records: &[&str]) {
        self.append(part(stream, records).creating());
    }

    pub(super) fn refusal(&self, part: Part) -> AppendError {
        self.commit([part]).expect_err("a refused append")
    }

    pub(super) fn read_all(&self, stream: &StreamKey) -> Vec<Record> {
        let everything = ReadLimit { bytes: usize::MAX, records: usize::MAX };
        let from = self.journal().info(stream).expect("a known stream").available_from;
        self.journal().read(stream, from, everything).expect("a readable stream").records
    }

    /// All records as texts, checked to be dense up to the tail.
    pub(super) fn contents(&self, stream: &StreamKey) -> Vec<String> {
        let info = self.journal().info(stream).expect("a known stream");
        let records = self.read_all(stream);
        let seqs: Vec<Seq> = records.iter().map(|record| record.seq).collect();
        let expected: Vec<Seq> = (info.available_from.0..info.tail.next.0).map(Seq).collect();
        assert_eq!(seqs, expected);
        records.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect()
    }

    pub(super) fn tail(&self, stream: &StreamKey) -> Tail {
        self.journal().info(stream).expect("a known stream").tail
    }

    pub(super) fn is_unknown(&self, stream: &StreamKey) -> bool {
        self.journal().info(stream) == Err(ReadError::NotFound(stream.clone()))
    }
}

/// The positions of a part's records.
pub(super) fn range(committed: &Committed, part: usize) -> (u64, u64) {
    let part = committed.parts[part];
    (part.first_seq.0, part.last_seq.0)
}

/// Drives a shard until the listener's tail is as wanted.
pub(super) fn listen_until(shard: &Shard, listener: &Listener, wanted: impl Fn(Tail) -> bool) {
    loop {
        listener.hear();
        if wanted(listener.tail()) {
            return;
        }
        wait(shard, listener);
    }
}

/// Drives a shard until the listener is rung.
pub(super) fn wait(shard: &Shard, listener: &Listener) {
    let mut cx = Context::from_waker(Waker::noop());
    while listener.poll_rung(&mut cx).is_pending() {
        block_on(shard.rung());
        shard.pump();
    }
}
