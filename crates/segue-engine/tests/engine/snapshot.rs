//! Snapshots: what is in them, what follows, and what they cost.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::BytesMut;
use segue_core::{
    Event, EventRecord, Fold, ProducerId, RunId, Seq, Snapshot,
    event::wire::write_event,
    fold::{Message, Part as MessagePart},
};
use segue_journal::{
    AppendError, Batch, Doorbell, Epoch, FrameCache, Journal, Listener, MemoryJournal,
    MemoryOptions, Page, Part, Permit, Position, ProducerState, ReadError, ReadLimit, Reserve,
    Shard, StreamInfo, StreamKey, StreamKind, Ticket,
};
use serde_json::{Value, json};

use super::support::*;

/// A journal that counts the records that are read of runs.
struct Counting {
    inner: Arc<dyn Journal>,
    read: AtomicU64,
}

impl Journal for Counting {
    fn reserve(&self, stream: &StreamKey, bytes: usize) -> Reserve<'_> {
        self.inner.reserve(stream, bytes)
    }

    fn submit(&self, permit: Permit, batch: Batch) -> Ticket {
        self.inner.submit(permit, batch)
    }

    fn read(&self, stream: &StreamKey, from: Seq, limit: ReadLimit) -> Result<Page, ReadError> {
        let page = self.inner.read(stream, from, limit)?;
        if stream.kind() == StreamKind::Run {
            self.read.fetch_add(page.records.len() as u64, Ordering::Relaxed);
        }
        Ok(page)
    }

    fn info(&self, stream: &StreamKey) -> Result<StreamInfo, ReadError> {
        self.inner.info(stream)
    }

    fn producers(&self, stream: &StreamKey) -> Result<Vec<(ProducerId, ProducerState)>, ReadError> {
        self.inner.producers(stream)
    }

    fn listen(&self, stream: &StreamKey, shard: &Shard) -> Result<Listener, ReadError> {
        self.inner.listen(stream, shard)
    }

    fn doorbell(&self) -> &Doorbell {
        self.inner.doorbell()
    }

    fn frames(&self) -> &FrameCache {
        self.inner.frames()
    }

    fn open_runs(&self) -> Vec<StreamKey> {
        self.inner.open_runs()
    }

    fn changed_since(
        &self,
        since: Position,
        kind: StreamKind,
    ) -> Result<Vec<StreamKey>, ReadError> {
        self.inner.changed_since(since, kind)
    }

    fn position(&self) -> Position {
        self.inner.position()
    }

    fn close(&self) {
        self.inner.close();
    }
}

impl Counting {
    /// The records read since it was last asked.
    fn since(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }
}

async fn counted() -> (Stage, Arc<Counting>) {
    let journal = Arc::new(Counting { inner: memory_journal(), read: AtomicU64::new(0) });
    (Stage::over(journal.clone(), Puppet::new(true)).await, journal)
}

async fn append(stage: &Stage, run: &RunId, events: &[Value]) {
    let events = events.iter().map(Event::build).collect();
    stage.engine.append(tenant(), run, events, None).await.unwrap().await.unwrap();
}

async fn texts(stage: &Stage, run: &RunId, count: usize) {
    let events = (0..count).map(|n| text(&format!("{n} "))).collect();
    stage.engine.append(tenant(), run, events, None).await.unwrap().await.unwrap();
}

async fn finish(stage: &Stage, run: &RunId) {
    append(stage, run, &[json!({"type": "run.finished"})]).await;
}

async fn snapshot(stage: &Stage, run: &RunId) -> Snapshot {
    stage.engine.attach(tenant(), run).unwrap().snapshot().await.unwrap()
}

fn fold_of(snapshot: &Snapshot) -> Fold {
    serde_json::from_slice(&snapshot.json).unwrap()
}

/// All text of a message.
fn said(message: &Message) -> String {
    let text = message.parts.iter().filter_map(|part| match part {
        MessagePart::Prose(prose) => Some(prose.text.as_str()),
        MessagePart::Call(_) | MessagePart::Whole(_) => None,
    });
    text.collect()
}

/// Folds what stands in the journal from the fold's place on.
fn go_on(stage: &Stage, run: &RunId, mut fold: Fold) -> Fold {
    let next = fold.seq().next();
    let page = stage.journal.read(&Stage::stream(run), next, ReadLimit::default()).unwrap();
    for record in page.records {
        let event = EventRecord::decode(record.bytes).unwrap();
        fold.apply(record.seq, record.at, &event).unwrap();
    }
    fold
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_and_what_follows_are_the_whole_at_every_place() {
    let stage = Stage::new().await;
    let run = stage.push("s").await.id;
    let mut snapshots = vec![snapshot(&stage, &run).await];
    for event in [
        json!({"type": "step.started", "step": 1}),
        json!({"type": "reasoning.delta", "part": "r", "text": "hm"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "{\"a\":"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "1}"}),
        json!({"type": "approval.requested", "approval_id": "a", "prompt": "?", "options": []}),
        json!({"type": "state", "name": "s", "snapshot": {"n": 1}}),
        json!({"type": "tool_result", "call_id": "c", "output": 1, "preliminary": true}),
        json!({"type": "state", "name": "s", "patch": {"n": 2}}),
        json!({"type": "text.delta", "part": "p", "text": "void"}),
        json!({"type": "discard", "step": 1}),
        json!({"type": "text.delta", "part": "p", "text": "kept"}),
        json!({"type": "usage", "input": 1, "output": 2}),
    ] {
        append(&stage, &run, &[event]).await;
        snapshots.push(snapshot(&stage, &run).await);
    }
    finish(&stage, &run).await;
    let whole = go_on(&stage, &run, Fold::new(&run, Seq::FIRST));
    assert_eq!(whole.skipped(), 0);
    for snapshot in &snapshots {
        assert_eq!(fold_of(snapshot).seq(), snapshot.seq);
        assert_eq!(go_on(&stage, &run, fold_of(snapshot)), whole);
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_is_never_in_a_snapshot_but_follows_it() {
    let stage = Stage::new().await;
    let run = stage.push("s").await.id;
    texts(&stage, &run, 3).await;
    finish(&stage, &run).await;
    let events = stage.follow(&run).await;
    for _ in 0..2 {
        let snapshot = snapshot(&stage, &run).await;
        let rest = stage.follow_from(&run, snapshot.seq.next()).await;
        assert_eq!(types(&rest), ["run.finished"]);
        assert_eq!(rest[..], events[events.len() - 1..]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_costs_what_the_message_has_and_not_what_happened() {
    let (stage, journal) = counted().await;
    let run = stage.push("s").await.id;
    for _ in 0..20 {
        texts(&stage, &run, 1000).await;
    }
    assert_eq!(journal.since(), 0, "who appends does not fold");
    let first = snapshot(&stage, &run).await;
    assert!(journal.since() > 20_000, "the first to ask reads the run once");
    texts(&stage, &run, 10).await;
    let second = snapshot(&stage, &run).await;
    assert_eq!((journal.since(), second.seq.0 - first.seq.0), (10, 10));
    let run_stream = stage.engine.attach(tenant(), &run).unwrap();
    let mut replay = BytesMut::new();
    let mut next = Seq::FIRST;
    while next <= second.seq {
        for record in run_stream.read(next, ReadLimit::default()).unwrap().records {
            next = record.seq.next();
            let event = EventRecord::decode(record.bytes).unwrap();
            write_event(&mut replay, &run, record.seq, record.at, &event);
        }
    }
    let share = second.json.len() * 100 / replay.len();
    assert!(share < 5, "{} of {} bytes", second.json.len(), replay.len());
    let thousand: usize = (0..1000).map(|n| format!("{n} ").len()).sum();
    assert_eq!(said(fold_of(&second).message()).len(), 20 * thousand + 20);
}

#[tokio::test(start_paused = true)]
async fn i13_what_is_ready_is_given_again_and_never_stale() {
    let (stage, journal) = counted().await;
    let run = stage.push("s").await.id;
    texts(&stage, &run, 3).await;
    let first = snapshot(&stage, &run).await;
    journal.since();
    let again = snapshot(&stage, &run).await;
    assert_eq!((first.json.as_ptr(), journal.since()), (again.json.as_ptr(), 0));
    texts(&stage, &run, 1).await;
    let grown = snapshot(&stage, &run).await;
    assert_eq!(said(fold_of(&grown).message()), "0 1 2 0 ");
    assert_eq!(grown.seq, first.seq.next());
}

#[tokio::test(start_paused = true)]
async fn i13_an_append_during_the_fold_is_in_it_or_follows_it() {
    let stage = Stage::new().await;
    let run = stage.push("s").await.id;
    for _ in 0..10 {
        texts(&stage, &run, 1000).await;
    }
    let asks = async {
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.push(snapshot(&stage, &run).await);
        }
        seen
    };
    let appends = async {
        for n in 0..20 {
            texts(&stage, &run, n).await;
            tokio::task::yield_now().await;
        }
    };
    let (snapshots, ()) = tokio::join!(asks, appends);
    finish(&stage, &run).await;
    let said_all = said(fold_of(&snapshot(&stage, &run).await).message());
    for snapshot in snapshots {
        let mut text = said(fold_of(&snapshot).message());
        for event in stage.follow_from(&run, snapshot.seq.next()).await {
            text.push_str(event["text"].as_str().unwrap_or_default());
        }
        assert_eq!(text, said_all);
    }
}

#[tokio::test(start_paused = true)]
async fn i17_a_call_that_was_pending_at_a_restart_is_uncertain_in_the_message() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let call = json!({"type": "tool_call.started", "call_id": "c", "name": "rm"});
    strings.give(Event::build(&call)).await;
    stage.sees(&run.id, "tool_call.started").await;
    let after = Stage::over(stage.journal.clone(), Puppet::new(true)).await;
    let snapshot = snapshot(&after, &run.id).await;
    let shown: Value = serde_json::from_slice(&snapshot.json).unwrap();
    let parts = shown["message"]["parts"].as_array().unwrap();
    assert_eq!((&parts[0]["type"], parts[0].get("open")), (&json!("tool_call"), None));
    assert_eq!((&parts[1]["type"], &parts[1]["uncertain"]), (&json!("tool_result"), &json!(true)));
    assert_eq!(*after.puppet.starts.borrow(), 0, "it is never run again");
}

#[tokio::test(start_paused = true)]
async fn i12_a_record_of_another_version_is_passed_over_and_counted() {
    let stage = Stage::new().await;
    let run = stage.push("s").await.id;
    texts(&stage, &run, 1).await;
    let stream = Stage::stream(&run);
    let records = vec![b"\x09later".to_vec().into(), EventRecord::encode(&text("after"))];
    let part = Part::append(stream.clone(), Epoch(1), records);
    let permit = stage.journal.reserve(&stream, part.bytes()).await.unwrap();
    stage.journal.submit(permit, Batch { parts: vec![part] }).await.unwrap();
    let fold = fold_of(&snapshot(&stage, &run).await);
    assert_eq!((fold.skipped(), said(fold.message())), (1, "0 after".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn h02_of_a_run_over_its_cap_a_snapshot_says_where_it_begins() {
    let options = MemoryOptions::new(Arc::new(TickingClock::default()));
    let options = MemoryOptions { run_cap: Some(1000), ..options };
    let stage = Stage::over(Arc::new(MemoryJournal::new(options)), Puppet::new(true)).await;
    let run = stage.push("s").await.id;
    let mut begins = Seq::ZERO;
    for n in 0..100 {
        texts(&stage, &run, 3).await;
        if n % 7 > 0 {
            continue;
        }
        let fold = fold_of(&snapshot(&stage, &run).await);
        let info = stage.journal.info(&Stage::stream(&run)).unwrap();
        assert_eq!((fold.from_seq(), fold.seq().next()), (info.available_from, info.tail.next));
        let events = fold.seq().0 + 1 - fold.from_seq().0;
        assert!(said(fold.message()).len() as u64 <= 2 * events, "no more than is there");
        begins = fold.from_seq();
    }
    assert!(begins > Seq(100));
}

#[tokio::test(start_paused = true)]
async fn h10_a_cursor_near_the_end_of_a_huge_run_reads_only_what_follows() {
    let (stage, journal) = counted().await;
    let run = stage.push("s").await.id;
    for _ in 0..20 {
        texts(&stage, &run, 1000).await;
    }
    finish(&stage, &run).await;
    let tail = stage.journal.info(&Stage::stream(&run)).unwrap().tail.next;
    journal.since();
    let rest = stage.follow_from(&run, Seq(tail.0 - 5)).await;
    assert_eq!((rest.len(), journal.since()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn p07_a_second_client_costs_no_read_and_no_encoding() {
    let (stage, journal) = counted().await;
    let run = stage.push("s").await.id;
    texts(&stage, &run, 1000).await;
    finish(&stage, &run).await;
    journal.since();
    let first = stage.follow(&run).await;
    assert_eq!(journal.since(), first.len() as u64);
    assert_eq!(stage.follow(&run).await, first);
    assert_eq!(journal.since(), 0, "its frames are those of the first");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_nobody_is_not_found() {
    let stage = Stage::new().await;
    let missing = stage.engine.attach(tenant(), &run_id("nobody"));
    assert!(matches!(missing.map(drop), Err(ReadError::NotFound(_))));
    let run = stage.push("s").await.id;
    let attached = stage.engine.attach(tenant(), &run).unwrap();
    let stream = Stage::stream(&run);
    let op = segue_journal::Op::Delete;
    let part = Part { stream: stream.clone(), op, epoch: Epoch(2) };
    let permit = stage.journal.reserve(&stream, 0).await.unwrap();
    let erased: Result<_, AppendError> =
        stage.journal.submit(permit, Batch { parts: vec![part] }).await;
    erased.unwrap();
    assert!(matches!(attached.snapshot().await, Err(ReadError::NotFound(_))));
}
