//! What runs say, folded into the rows of their messages.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use segue_core::{
    Event, EventRecord, Fold, RunId, Seq,
    fold::{Message, MessageStatus},
};
use segue_engine::{
    CreateMessage, MessageQuery, RunView, SCHEMA, SearchQuery, Settings, StartRun, rebuild,
};
use segue_journal::{
    Journal, Position, ReadLimit, StreamKey,
    views::{
        Applied, Change, Checkpoint, MemoryViews, Row, Select, Value as Cell, ViewError, ViewStore,
    },
};
use serde_json::json;
use tokio::time::{Duration, advance, sleep};

use super::support::*;

/// Views that count what is written of messages and can be told to fail.
struct Watched {
    inner: MemoryViews,
    failures: AtomicU64,
    /// The bytes of the parts of each row that was written, a transaction each.
    written: Mutex<Vec<Vec<usize>>>,
}

impl Watched {
    fn new() -> Arc<Self> {
        let inner = MemoryViews::new(SCHEMA).unwrap();
        Arc::new(Self { inner, failures: AtomicU64::new(0), written: Mutex::default() })
    }

    fn take_written(&self) -> Vec<Vec<usize>> {
        std::mem::take(&mut self.written.lock().unwrap())
    }
}

fn parts_bytes(change: &Change) -> Option<usize> {
    let Change::Update { table: "messages", cells, .. } = change else { return None };
    let parts = cells.iter().find(|(name, _)| *name == "parts");
    parts.map(|(_, cell)| match cell {
        Cell::Text(text) => text.len(),
        Cell::Null | Cell::Int(_) => 0,
    })
}

impl ViewStore for Watched {
    fn apply(
        &self,
        changes: Vec<Change>,
        checkpoints: Vec<Checkpoint>,
        position: Position,
    ) -> Applied {
        let rows: Vec<usize> = changes.iter().filter_map(parts_bytes).collect();
        if !rows.is_empty() {
            let fails = self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if fails.is_ok() {
                return Box::pin(async { Err(ViewError::Store("told to".into())) });
            }
            self.written.lock().unwrap().push(rows);
        }
        self.inner.apply(changes, checkpoints, position)
    }

    fn select(&self, query: &Select) -> Result<Vec<Row>, ViewError> {
        self.inner.select(query)
    }

    fn get(&self, table: &'static str, key: &Cell) -> Result<Option<Row>, ViewError> {
        self.inner.get(table, key)
    }

    fn checkpoint(&self, stream: &StreamKey) -> Result<Seq, ViewError> {
        self.inner.checkpoint(stream)
    }

    fn position(&self) -> Result<Position, ViewError> {
        self.inner.position()
    }

    fn clear(&self) -> Applied {
        self.inner.clear()
    }
}

async fn on(journal: Arc<dyn Journal>, views: Arc<dyn ViewStore>) -> Stage {
    let clock = Arc::new(TickingClock::default());
    Stage::on(journal, views, Puppet::new(true), Settings::default(), clock).await
}

async fn message(stage: &Stage, run: &RunView) -> Message {
    stage.engine.message(tenant(), &run.message_id).await.unwrap().unwrap()
}

/// The message that the journal says.
pub fn folded(journal: &dyn Journal, run: &RunId) -> Message {
    let mut fold = Fold::new(run, Seq::FIRST);
    loop {
        let page = journal.read(&Stage::stream(run), fold.seq().next(), ReadLimit::default());
        let records = page.unwrap().records;
        if records.is_empty() {
            return fold.message().clone();
        }
        for record in records {
            let event = EventRecord::decode(record.bytes).unwrap();
            fold.apply(record.seq, record.at, &event).unwrap();
        }
    }
}

async fn append(stage: &Stage, run: &RunView, events: Vec<Event>) {
    stage.engine.append(tenant(), &run.id, events, None).await.unwrap().await.unwrap();
}

/// What is stored of the message, which may be behind.
fn stored_version(views: &dyn ViewStore, run: &RunView) -> i64 {
    let key = Cell::Text(format!("default/{}", run.message_id));
    let row = views.get("messages", &key).unwrap().unwrap();
    let Cell::Int(version) = row[8] else { panic!("no version in {row:?}") };
    version
}

fn deltas(count: usize) -> Vec<Event> {
    (0..count).map(|index| text(&format!("word {index}, "))).collect()
}

#[tokio::test(start_paused = true)]
async fn c09_a_read_sees_every_acknowledged_delta_and_writes_nothing() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal.clone(), views.clone()).await;
    let (run, other) = (stage.push("s").await, stage.push("t").await);
    for index in 0..100 {
        stage.append(&run.id, &format!("{index} ")).await;
        assert_eq!(message(&stage, &run).await, folded(&*journal, &run.id));
        let query = MessageQuery { session: Some(session_id("s")), ..MessageQuery::default() };
        let list = stage.engine.messages(tenant(), query).await.unwrap().data;
        assert_eq!(list, [folded(&*journal, &run.id)]);
    }
    append(&stage, &other, deltas(3)).await;
    assert_eq!(message(&stage, &other).await.version, Seq(5));
    assert!(views.take_written().len() < 5, "reading wrote rows");
}

#[tokio::test(start_paused = true)]
async fn p01_every_ending_is_in_the_row_within_a_tick() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal.clone(), views.clone()).await;
    for (ending, status) in [
        (json!({"type": "run.finished", "usage": {"output": 7}}), MessageStatus::Complete),
        (
            json!({"type": "run.failed", "error": {"code": "x", "message": "y"}}),
            MessageStatus::Failed,
        ),
    ] {
        let run = stage.push(status.as_str()).await;
        let call = json!({"type": "tool_call.started", "call_id": "c", "name": "n"});
        append(&stage, &run, vec![text("a"), Event::build(&call), Event::build(&ending)]).await;
        sleep(Duration::from_millis(40)).await;
        let last = stage.engine.run(tenant(), &run.id).await.unwrap().unwrap().last_seq;
        assert_eq!(stored_version(&*views, &run), i64::try_from(last.0).unwrap());
        let message = message(&stage, &run).await;
        assert_eq!((message.status, &message), (status, &folded(&*journal, &run.id)));
    }
}

#[tokio::test(start_paused = true)]
async fn a13_a16_bytes_written_stay_within_a_few_times_the_message() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal.clone(), views.clone()).await;
    let run = stage.push("s").await;
    let call = json!({"type": "tool_call.started", "call_id": "c", "name": "n"});
    append(&stage, &run, vec![Event::build(&call)]).await;
    for index in 0..10_000 {
        let input = json!({"type": "tool_call.input_delta", "call_id": "c", "text": "0123456789"});
        let event = if index % 2 == 0 { Event::build(&input) } else { text("0123456789") };
        append(&stage, &run, vec![event]).await;
        sleep(Duration::from_millis(1)).await;
    }
    append(&stage, &run, vec![of_type("run.finished")]).await;
    sleep(Duration::from_secs(2)).await;
    let written = views.take_written();
    let (last, all) =
        (*written.last().unwrap().last().unwrap(), written.iter().flatten().sum::<usize>());
    println!("{} transactions, {all} bytes for {last}", written.len());
    assert!(written.len() <= 10_000 / 33 + 3, "{} transactions", written.len());
    assert!(all <= 6 * last, "{all} bytes for {last}");
    assert_eq!(message(&stage, &run).await, folded(&*journal, &run.id));
}

#[tokio::test(start_paused = true)]
async fn one_transaction_has_all_messages_of_a_tick() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal, views.clone()).await;
    let mut runs = Vec::new();
    for index in 0..50 {
        runs.push(stage.push(&format!("s{index}")).await);
    }
    sleep(Duration::from_secs(2)).await;
    views.take_written();
    for run in &runs {
        append(&stage, run, vec![text("hi"), of_type("run.finished")]).await;
    }
    sleep(Duration::from_secs(2)).await;
    let written = views.take_written();
    assert_eq!(written.iter().map(Vec::len).collect::<Vec<_>>(), [50]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_rests_is_stored_whole() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal, views.clone()).await;
    let run = stage.push("s").await;
    append(&stage, &run, deltas(1000)).await;
    append(&stage, &run, deltas(1)).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(stored_version(&*views, &run), 1003);
    assert_eq!(views.position().unwrap(), stage.journal.position());
}

#[tokio::test(start_paused = true)]
async fn a06_rows_that_cannot_be_written_are_tried_again_and_read_all_the_same() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal.clone(), views.clone()).await;
    let run = stage.push("s").await;
    views.failures.store(5, Ordering::SeqCst);
    append(&stage, &run, vec![text("hi"), of_type("run.finished")]).await;
    assert_eq!(message(&stage, &run).await, folded(&*journal, &run.id));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(views.failures.load(Ordering::SeqCst), 0);
    let message = message(&stage, &run).await;
    assert_eq!(stored_version(&*views, &run), i64::try_from(message.version.0).unwrap());
    assert_eq!(message, folded(&*journal, &run.id));
}

/// What a killed process did: its tasks are gone, the journal and the views stay as they are.
fn live_and_be_killed<T>(life: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(life)
}

async fn one_life(stage: &Stage, life: u64) -> Vec<RunView> {
    let mut runs = Vec::new();
    for index in 0..5 {
        let name = format!("r{life}-{index}");
        let request = StartRun {
            session: Some(session_id(&name)),
            run: Some(run_id(&name)),
            ..StartRun::of(agent("push"))
        };
        let run = stage.engine.start(tenant(), request).await.unwrap().run;
        append(stage, &run, deltas(200)).await;
        advance(Duration::from_millis(7 * life * index)).await;
        append(stage, &run, vec![text("more")]).await;
        if index % 2 == 0 {
            append(stage, &run, vec![of_type("run.finished")]).await;
        }
        runs.push(run);
    }
    runs
}

#[test]
fn after_a_kill_messages_are_the_fold_of_the_journal() {
    let (journal, views) = (memory_journal(), Watched::new());
    let mut runs: Vec<RunView> = Vec::new();
    for life in 0..6 {
        live_and_be_killed(async {
            let stage = on(journal.clone(), views.clone()).await;
            for run in &runs {
                assert_eq!(message(&stage, run).await, folded(&*journal, &run.id));
            }
            runs.extend(one_life(&stage, life).await);
        });
    }
    let again = Watched::new();
    live_and_be_killed(async {
        let stage = on(journal.clone(), views.clone()).await;
        for run in &runs {
            let message = message(&stage, run).await;
            assert!(message.status.is_terminal());
            assert_eq!(message, folded(&*journal, &run.id));
            while stored_version(&*views, run) != i64::try_from(message.version.0).unwrap() {
                sleep(Duration::from_millis(10)).await;
            }
        }
        rebuild(journal.clone(), again.clone()).await.unwrap();
    });
    for run in &runs {
        let key = Cell::Text(format!("default/{}", run.message_id));
        let [built, kept] = [&again, &views].map(|views| views.get("messages", &key).unwrap());
        assert_eq!(built, kept, "where the fold was cut and kept between matters");
    }
    assert_eq!(again.position().unwrap(), journal.position());
}

#[tokio::test(start_paused = true)]
async fn o01_a_run_whose_message_is_deleted_leaves_no_row() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal, views.clone()).await;
    let run = stage.push("s").await;
    append(&stage, &run, deltas(10)).await;
    stage.engine.delete_session(tenant(), &session_id("s")).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.engine.message(tenant(), &run.message_id).await.unwrap(), None);
    let key = Cell::Text(format!("default/{}", run.message_id));
    assert_eq!(views.get("messages", &key).unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_any_size_and_shape_is_served_and_harms_no_other() {
    let (journal, views) = (memory_journal(), Watched::new());
    let stage = on(journal.clone(), views.clone()).await;
    let run = stage.push("s").await;
    let of = |fields: serde_json::Value| Event::build(&fields);
    let odd = [
        json!({"type": "text.end", "part": "never started"}),
        json!({"type": "tool_result", "call_id": "unknown", "output": "x".repeat(10 << 20)}),
        json!({"type": "tool_call.started", "call_id": "c", "name": "f"}),
        json!({"type": "tool_call.input_delta", "call_id": "c", "text": "{not JSON"}),
        json!({"type": "tool_call.input_end", "call_id": "c"}),
        json!({"type": "tool_call.input_end", "call_id": "c"}),
        json!({"type": "text.delta", "part": "nul", "text": "a\u{0}b '; DROP TABLE messages; --"}),
        json!({"type": "x.unknown", "anything": [1, {"deep": null}]}),
    ];
    append(&stage, &run, odd.into_iter().map(of).collect()).await;
    for block in 0..100 {
        let file = |n: u32| json!({"type": "file", "media_type": "a/b", "url": format!("u:{n}")});
        let files = (0..1_000).map(|n| of(file(block * 1_000 + n))).collect();
        append(&stage, &run, files).await;
    }
    let said = segue_core::fold::said::one(&json!({"role": "user", "content": "beside"})).unwrap();
    let request = CreateMessage { said, is_summary: false, replaces: None };
    let beside = stage.engine.create_message(tenant(), &session_id("s"), request).await.unwrap();
    append(&stage, &run, vec![of_type("run.finished")]).await;
    let query = MessageQuery { session: Some(session_id("s")), ..MessageQuery::default() };
    let listed = stage.engine.messages(tenant(), query).await.unwrap().data;
    assert_eq!(listed[0], folded(&*journal, &run.id));
    // What a fold has no room for is in the events alone.
    assert!(listed[0].parts.len() > 10_000, "{}", listed[0].parts.len());
    assert_eq!(listed[1], beside);
    let text = "drop beside".split(' ').map(str::to_owned);
    for (text, found) in text.zip([&listed[0].id, &beside.id]) {
        let query = SearchQuery { text, ..SearchQuery::default() };
        let hits = stage.engine.search(tenant(), query).await.unwrap().data;
        assert_eq!(hits.iter().map(|hit| &hit.message_id).collect::<Vec<_>>(), [found]);
    }
}
