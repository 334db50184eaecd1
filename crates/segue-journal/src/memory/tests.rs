use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::*;
use crate::{
    api::Committed,
    cache::{Encoding, FrameBlock},
    conformance::{Fixture, ManualClock},
    stream::Epoch,
};

struct InMemory {
    clock: Arc<ManualClock>,
    journal: Arc<MemoryJournal>,
}

impl InMemory {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(1_000));
        let options = MemoryOptions { seed: Some(7), ..MemoryOptions::new(clock.clone()) };
        Self { clock, journal: Arc::new(MemoryJournal::new(options)) }
    }
}

impl Fixture for InMemory {
    fn journal(&self) -> Arc<dyn Journal> {
        self.journal.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn reopen(&mut self) {}
}

crate::journal_conformance!(InMemory::new());

#[tokio::test]
async fn a_hold_keeps_submits_under_way_and_their_order() {
    let journal = InMemory::new().journal;
    let key = stream("r", "held");
    let hold = journal.hold();
    let mut tickets = Vec::new();
    let record = |text| vec![Bytes::from_static(text)];
    for part in [
        Part::create(key.clone(), Epoch(0), record(b"a")),
        Part::append(key.clone(), Epoch(0), record(b"b")),
    ] {
        let permit = journal.reserve(&key, 10).await.expect("an open door");
        tickets.push(journal.submit(permit, Batch { parts: vec![part] }));
    }
    assert!(journal.info(&key).is_err());
    drop(hold);
    for (ticket, seq) in tickets.into_iter().zip([1, 2]) {
        let committed = ticket.await.expect("allowed");
        assert_eq!(committed.parts[0].first_seq, Seq(seq));
    }
}

fn stream(letter: &str, id: &str) -> StreamKey {
    StreamKey::parse(&format!("default/{letter}/{id}")).expect("well-formed")
}

async fn commit(journal: &MemoryJournal, part: Part) -> Committed {
    let permit = journal.reserve(&part.stream, part.bytes()).await.expect("an open door");
    let batch = Batch { parts: vec![part] };
    journal.submit(permit, batch).await.expect("an allowed batch")
}

fn texts(count: usize, text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes()); count]
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_ready_when_submit_returns() {
    let journal = InMemory::new().journal;
    let part = Part::create(stream("r", "a"), Epoch(0), texts(1, "x"));
    let permit = journal.reserve(&part.stream, 1).await.expect("an open door");
    let shard = journal.doorbell().shard();
    let mut ticket = journal.submit(permit, Batch { parts: vec![part] });
    let ready = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(_))));
    assert_eq!(journal.position(), Position(1));
    drop(journal.listen(&stream("r", "a"), &shard).expect("a known stream"));
}

#[tokio::test]
async fn a_capped_run_trims_its_oldest_records() {
    let clock = Arc::new(ManualClock::new(0));
    let options = MemoryOptions { run_cap: Some(10), ..MemoryOptions::new(clock) };
    let journal = MemoryJournal::new(options);
    let (run, session) = (stream("r", "a"), stream("s", "a"));
    for stream in [&run, &session] {
        commit(&journal, Part::create(stream.clone(), Epoch(0), texts(2, "1234"))).await;
        commit(&journal, Part::append(stream.clone(), Epoch(0), texts(3, "1234"))).await;
    }
    let info = journal.info(&run).expect("a known stream");
    assert_eq!((info.available_from, info.tail.next), (Seq(4), Seq(6)));
    let trimmed = journal.read(&run, Seq(1), ReadLimit::default());
    assert_eq!(trimmed, Err(ReadError::Trimmed { available_from: Seq(4) }));
    assert_eq!(journal.info(&session).expect("a known stream").available_from, Seq(1));
    commit(&journal, Part::append(run.clone(), Epoch(0), texts(1, "more than the cap"))).await;
    let page = journal.read(&run, Seq(6), ReadLimit::default()).expect("the last stays");
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.info.available_from, Seq(6));
}

#[test]
fn trimming_and_deleting_forget_ready_frames() {
    let fixture = InMemory::new();
    let journal = &fixture.journal;
    let run = stream("r", "a");
    let submit = |part: Part| {
        let mut reserve = journal.reserve(&run, part.bytes());
        let polled = Pin::new(&mut reserve).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(permit)) = polled else { panic!("no room") };
        journal.submit(permit, Batch { parts: vec![part] }).wait().expect("allowed")
    };
    submit(Part::create(run.clone(), Epoch(0), texts(2, "x")));
    let incarnation = journal.info(&run).expect("a known stream").incarnation;
    for op in [Op::Trim { before: Seq(2) }, Op::Delete] {
        let block = FrameBlock { first: Seq(1), bytes: Bytes::from("f"), ends: [1].into() };
        journal.frames().put(incarnation, Encoding(0), block);
        assert!(journal.frames().bytes() > 0);
        submit(Part { stream: run.clone(), op, epoch: Epoch(0) });
        assert_eq!(journal.frames().bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_forgets_ready_frames_of_what_it_trims() {
    let clock = Arc::new(ManualClock::new(1_000));
    let options = MemoryOptions { run_cap: Some(10), ..MemoryOptions::new(clock) };
    let journal = MemoryJournal::new(options);
    let run = stream("r", "a");
    commit(&journal, Part::create(run.clone(), Epoch(0), texts(2, "12345"))).await;
    let incarnation = journal.info(&run).expect("a known stream").incarnation;
    let block = FrameBlock { first: Seq(1), bytes: Bytes::from("f"), ends: [1].into() };
    journal.frames().put(incarnation, Encoding(0), block);
    commit(&journal, Part::append(run.clone(), Epoch(0), Vec::new())).await;
    assert!(journal.frames().bytes() > 0, "nothing was trimmed");
    commit(&journal, Part::append(run, Epoch(0), texts(1, "x"))).await;
    assert_eq!(journal.frames().bytes(), 0);
}

#[test]
fn seeds_decide_incarnations() {
    let incarnation = || {
        let fixture = InMemory::new();
        let part = Part::create(stream("r", "a"), Epoch(0), Vec::new());
        let batch = Batch { parts: vec![part] };
        let mut writer = held(&fixture.journal.writer);
        let (result, _) = fixture.journal.apply(&mut writer, &batch);
        assert!(result.is_ok());
        fixture.journal.info(&stream("r", "a")).expect("a known stream").incarnation
    };
    assert_eq!(incarnation(), incarnation());
}
