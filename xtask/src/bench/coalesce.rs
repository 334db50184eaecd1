//! `coalesce` and `fold`: how little is written of messages that grow, and what a delta costs.
//!
//! The engine in process, with runs that say a hundred deltas a second, beside two that write
//! rows of the same size: one for each delta, and one at the end of a window of 33 ms after a
//! message's first change. Those two are counted, not run: no disk would keep up with the first.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use segue_core::{
    AgentName, Event, EventRecord, Fold, InboundStream, Ingress, RunId, RunInput, Seq, SessionId,
    Source, StopSignal, TenantId, Timestamp,
};
use segue_engine::{Agents, Engine, EngineOptions, SCHEMA, Settings, StartRun, SystemClock};
use segue_journal::{
    Log, LogOptions, Position, StreamKey,
    views::{
        Applied, Change, Checkpoint, Row, Select, SqliteViews, Value as Cell, ViewError, ViewStore,
    },
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    table::{Goal, Sample},
    target::Bench,
};
use crate::live::stamp;

/// Between two deltas of a run.
const PACE: Duration = Duration::from_millis(10);
/// The window of who writes a message 33 ms after its first change, in milliseconds.
const WINDOW_MS: u64 = 33;
/// What each delta says.
const DELTA: &str = " token1234";
/// Deltas that are folded for `fold`.
const FOLDED: u64 = 1_000_000;

/// Runs and the deltas of each.
const SHORT: (usize, u64) = (1_000, 1_000);
const LONG: (usize, u64) = (50, 8_000);

pub(super) async fn round(bench: &Bench) -> anyhow::Result<Vec<Sample>> {
    let short = ours(bench, SHORT).await?;
    let long = ours(bench, LONG).await?;
    let row = short.row();
    let (each, window) = (written(SHORT, row, 0), written(SHORT, row, WINDOW_MS));
    let beside = |what, unit, ours, other, goal| Sample::beside(what, unit, ours, other, goal);
    let at_most = Goal::RatioAtMost;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let of_all = (short.events + short.bytes) / short.events;
    Ok(vec![
        beside("transactions", "", short.applies, window.rows, at_most(0.01)),
        beside("transactions, a row a delta", "", short.applies, each.rows, Goal::Report),
        beside("message bytes", "MiB", mib(short.bytes), mib(window.bytes), at_most(0.05)),
        beside(
            "message bytes, a row a delta",
            "MiB",
            mib(short.bytes),
            mib(each.bytes),
            Goal::Report,
        ),
        {
            let window = written(LONG, long.row(), WINDOW_MS);
            let what = "message bytes, 8,000 deltas a run";
            beside(what, "MiB", mib(long.bytes), mib(window.bytes), at_most(0.01))
        },
        Sample::alone("events and messages, of the events' bytes", "x", of_all).at_most(3.0),
        Sample::alone("seconds for 10 s of deltas", "s", short.seconds),
    ])
}

/// One delta after the other into one message.
pub(super) fn fold() -> anyhow::Result<Vec<Sample>> {
    let delta = record(&json!({"type": "text.delta", "part": "p", "text": DELTA}))?;
    let run = RunId::parse("r")?;
    let mut fold = Fold::new(&run, Seq::FIRST);
    let (begun, at) = (stamp(), Timestamp::default());
    for seq in 1..=FOLDED {
        fold.apply(Seq(seq), at, black_box(&delta))?;
    }
    black_box(fold.message());
    let ns = number(stamp() - begun) / number(FOLDED);
    Ok(vec![Sample::alone("a delta", "ns", ns).at_most(1_000.0)])
}

#[expect(clippy::cast_precision_loss, reason = "a figure of a benchmark")]
fn number(count: u64) -> f64 {
    count as f64
}

fn record(fields: &serde_json::Value) -> anyhow::Result<EventRecord> {
    Ok(EventRecord::decode(EventRecord::encode(&Event::build(fields)))?)
}

/// What was written.
struct Written {
    applies: f64,
    rows: f64,
    /// Of the rows of messages.
    bytes: f64,
    /// Of the events' JSON.
    events: f64,
    seconds: f64,
    deltas: u64,
    /// The bytes of all rows as they were at the end.
    last: f64,
    runs: usize,
}

impl Written {
    /// Bytes of a row beside its text.
    fn row(&self) -> f64 {
        let text = number(self.deltas) * number(DELTA.len() as u64);
        self.last / number(self.runs as u64) - text
    }
}

/// Who writes whole rows, each a transaction: for each delta, or so long after a first change.
fn written((runs, deltas): (usize, u64), row: f64, window_ms: u64) -> Written {
    let pace = u64::try_from(PACE.as_millis()).unwrap_or(1);
    let each = (window_ms / pace + 1).max(1);
    let (mut rows, mut bytes, mut said) = (0.0, 0.0, 0);
    while said < deltas {
        said = (said + each).min(deltas);
        rows += 1.0;
        bytes += row + number(said) * number(DELTA.len() as u64);
    }
    let all = number(runs as u64);
    let (applies, rows, bytes) = (rows * all, rows * all, bytes * all);
    Written { applies, rows, bytes, events: 0.0, seconds: 0.0, deltas, last: 0.0, runs }
}

async fn ours(bench: &Bench, (runs, deltas): (usize, u64)) -> anyhow::Result<Written> {
    let folder = TempDir::new_in(bench.scratch())?;
    let views = Arc::new(Counted::open(&folder)?);
    let fatal = Arc::new(|why: &str| eprintln!("the journal failed: {why}"));
    let clock = Arc::new(SystemClock);
    let journal = Log::open(LogOptions::new(folder.path().join("data"), clock.clone(), fatal))?;
    let agent = AgentName::parse("push")?;
    let options = EngineOptions {
        journal,
        views: views.clone(),
        agents: Agents::default().with(agent.clone(), "push", Arc::new(Push)),
        clock,
        entropy: Arc::new(|bytes: &mut [u8]| bytes.fill_with(|| fastrand::u8(..))),
        settings: Settings::default(),
    };
    let engine = Engine::open(options).await?;
    let began = Instant::now();
    let mut loops = JoinSet::new();
    for index in 0..runs {
        let request = StartRun {
            session: Some(SessionId::parse(&format!("s{index}"))?),
            ..StartRun::of(agent.clone())
        };
        let run = engine.start(&TenantId::local(), request).await?.run.id;
        loops.spawn(say(engine.clone(), run, deltas));
    }
    let mut events = 0;
    while let Some(said) = loops.join_next().await {
        events += said??;
    }
    let seconds = began.elapsed().as_secs_f64();
    engine.shutdown(Duration::from_secs(30)).await;
    let load = |count: &AtomicU64| number(count.load(Ordering::Relaxed));
    Ok(Written {
        applies: load(&views.applies),
        rows: load(&views.rows),
        bytes: load(&views.bytes),
        events: number(events),
        seconds,
        deltas,
        last: number(views.last_bytes()?),
        runs,
    })
}

/// A run's deltas, at their pace; gives the bytes of their JSON.
async fn say(engine: Engine, run: RunId, deltas: u64) -> anyhow::Result<u64> {
    let tenant = TenantId::local();
    let delta = Event::build(&json!({"type": "text.delta", "part": "p", "text": DELTA}));
    let mut next = Instant::now();
    for _ in 0..deltas {
        sleep_until(next).await;
        next += PACE;
        engine.append(&tenant, &run, vec![delta.clone()], None).await?.await?;
    }
    let end = Event::build(&json!({"type": "run.finished"}));
    engine.append(&tenant, &run, vec![end], None).await?.await?;
    Ok(deltas * delta.json().len() as u64)
}

/// A source whose events come through appends.
struct Push;

impl Source for Push {
    fn ingress(&self) -> Ingress {
        Ingress::Append
    }

    fn start(&self, _: RunInput, stop: StopSignal) -> InboundStream {
        Box::pin(futures_util::stream::unfold(stop, async |stop| {
            stop.stopped().await;
            None
        }))
    }
}

/// Views that count.
struct Counted {
    inner: SqliteViews,
    applies: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Counted {
    fn open(folder: &TempDir) -> anyhow::Result<Self> {
        let inner = SqliteViews::open(&folder.path().join("views.db"), SCHEMA)?;
        let (applies, rows, bytes) = Default::default();
        Ok(Self { inner, applies, rows, bytes })
    }

    /// Of all rows as they are.
    fn last_bytes(&self) -> anyhow::Result<u64> {
        let query = Select {
            table: "messages",
            filter: Vec::new(),
            phrases: Vec::new(),
            order_by: "key",
            descending: false,
            after: None,
            limit: usize::MAX >> 1,
        };
        let rows = self.inner.select(&query).context("the rows")?;
        Ok(rows.iter().flatten().map(|cell| cell.bytes() as u64).sum())
    }
}

fn bytes_of(change: &Change) -> Option<usize> {
    match change {
        Change::Put { table: "messages", row } => Some(row.iter().map(Cell::bytes).sum()),
        Change::Update { table: "messages", cells, .. } => {
            Some(cells.iter().map(|(_, cell)| cell.bytes()).sum())
        }
        Change::Index { text, .. } => Some(text.len()),
        Change::Put { .. } | Change::Update { .. } | Change::Delete { .. } => None,
    }
}

impl ViewStore for Counted {
    fn apply(
        &self,
        changes: Vec<Change>,
        checkpoints: Vec<Checkpoint>,
        position: Position,
    ) -> Applied {
        self.applies.fetch_add(1, Ordering::Relaxed);
        for bytes in changes.iter().filter_map(bytes_of) {
            self.rows.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
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
