//! An engine on a memory journal, a source that the test plays, and a reader.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use segue_core::{
    AgentName, Clock, Event, EventRecord, Inbound, InboundStream, Ingress, Policy, RunId, RunInput,
    Seq, SessionId, Source, StopReason, StopSignal, TenantId, Timestamp, event::wire::write_event,
};
use segue_engine::{
    Agents, Engine, EngineOptions, Entropy, Facade, Fill, Frames, RunView, SCHEMA, Settings,
    StartError, StartRun,
};
use segue_journal::{
    Journal, ProducerClaim, Record, StreamKey,
    cache::Encoding,
    memory::{MemoryJournal, MemoryOptions},
    views::{MemoryViews, ViewStore},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// A clock that goes a second a look.
#[derive(Default)]
pub struct TickingClock(AtomicU64);

impl Clock for TickingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.fetch_add(1000, Ordering::Relaxed))
    }
}

/// Random bytes from a seed (an xorshift, enough for ids).
pub fn seeded(seed: u64) -> Entropy {
    let state = AtomicU64::new(seed | 1);
    Arc::new(move |out: &mut [u8]| {
        for byte in out {
            let mut x = state.load(Ordering::Relaxed);
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            state.store(x, Ordering::Relaxed);
            *byte = x.to_le_bytes()[3];
        }
    })
}

pub fn tenant() -> &'static TenantId {
    static TENANT: LazyLock<TenantId> = LazyLock::new(TenantId::local);
    &TENANT
}

pub fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

pub fn run_id(id: &str) -> RunId {
    RunId::parse(id).unwrap()
}

pub fn session_id(id: &str) -> SessionId {
    SessionId::parse(id).unwrap()
}

pub fn text(words: &str) -> Event {
    Event::build(&json!({"type": "text.delta", "part": "p", "text": words}))
}

pub fn of_type(name: &str) -> Event {
    Event::build(&json!({"type": name}))
}

pub fn claim(seq: u64) -> Option<ProducerClaim> {
    claims(seq, seq)
}

pub fn claims(first_seq: u64, last_seq: u64) -> Option<ProducerClaim> {
    let id = segue_core::ProducerId::parse("tester").unwrap();
    Some(ProducerClaim { id, epoch: 0, first_seq, last_seq })
}

/// What the puppet does next.
#[derive(Debug)]
pub enum Pull {
    Give(Inbound),
    Panic,
}

/// How much of the conversation the puppet is told, in bytes.
pub const TOLD: usize = 2_000;

/// The strings of one run of the puppet.
pub struct Strings {
    /// What it was told of the conversation.
    pub history: Vec<Value>,
    pulls: mpsc::Sender<Pull>,
    /// The reason it was told to stop for, once it was.
    pub stopped: watch::Receiver<Option<StopReason>>,
    /// Whether its clean-up may end.
    pub may_leave: watch::Sender<bool>,
    /// Whether everything it held is released.
    pub released: watch::Receiver<bool>,
}

impl Strings {
    pub async fn give(&self, event: Event) {
        self.pull(Pull::Give(Inbound::Event(event))).await;
    }

    pub async fn pull(&self, pull: Pull) {
        self.pulls.send(pull).await.expect("the puppet listens");
    }

    /// Pulls if the puppet still listens and has room.
    pub fn try_pull(&self, pull: Pull) -> bool {
        self.pulls.try_send(pull).is_ok()
    }

    pub async fn finish(&self) {
        let finish_reason = Some("stop".to_owned());
        self.pull(Pull::Give(Inbound::Finished { finish_reason, usage: None })).await;
    }

    pub async fn is_released(&mut self) {
        self.released.wait_for(|released| *released).await.expect("the puppet is dropped first");
    }
}

/// A source that does what its strings say, and cleans up when it is stopped.
pub struct Puppet {
    strings: Mutex<HashMap<RunId, Strings>>,
    /// Counts starts.
    pub starts: watch::Sender<usize>,
    /// Resources that were released.
    pub releases: Mutex<Vec<String>>,
    /// Whether clean-up ends by itself.
    pub leaves: bool,
    /// Whether its deltas may be merged.
    merges: bool,
}

impl Puppet {
    pub fn new(leaves: bool) -> Arc<Self> {
        Arc::new(Self::with(leaves, false))
    }

    /// One whose deltas may be merged.
    pub fn merging() -> Arc<Self> {
        Arc::new(Self::with(true, true))
    }

    fn with(leaves: bool, merges: bool) -> Self {
        let (strings, releases) = (Mutex::default(), Mutex::default());
        Self { strings, starts: watch::Sender::new(0), releases, leaves, merges }
    }

    /// The strings of runs that were started and are not held yet.
    pub fn new_strings(&self) -> Vec<(RunId, Strings)> {
        let mut strings: Vec<_> = self.strings.lock().unwrap().drain().collect();
        strings.sort_by(|(left, _), (right, _)| left.cmp(right));
        strings
    }

    /// The strings of a run, once it was started.
    pub async fn strings(&self, run: &RunId) -> Strings {
        let mut starts = self.starts.subscribe();
        loop {
            if let Some(strings) = self.strings.lock().unwrap().remove(run) {
                return strings;
            }
            starts.changed().await.expect("the puppet lives");
        }
    }
}

struct Playing {
    pulls: mpsc::Receiver<Pull>,
    stop: StopSignal,
    stopped: watch::Sender<Option<StopReason>>,
    may_leave: watch::Receiver<bool>,
    _released: Release,
}

struct Release(watch::Sender<bool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Playing {
    async fn next(mut self) -> Option<(Inbound, Self)> {
        let stopped = self.stopped.borrow().is_some();
        if stopped {
            self.may_leave.wait_for(|may| *may).await.ok()?;
            return None;
        }
        tokio::select! {
            biased;
            pull = self.pulls.recv() => match pull? {
                Pull::Give(inbound) => Some((inbound, self)),
                Pull::Panic => panic!("the puppet was told to"),
            },
            reason = self.stop.stopped() => {
                self.stopped.send_replace(Some(reason));
                Some((Inbound::Event(text("last words")), self))
            }
        }
    }
}

impl Source for Puppet {
    fn merges_deltas(&self) -> bool {
        self.merges
    }

    fn history_bytes(&self) -> usize {
        TOLD
    }

    fn start(&self, input: RunInput, stop: StopSignal) -> InboundStream {
        let (sender, pulls) = mpsc::channel(64);
        let (stopped, was_stopped) = watch::channel(None);
        let (may_leave, leave) = watch::channel(self.leaves);
        let (release, released) = watch::channel(false);
        let history = input.history;
        let strings = Strings { history, pulls: sender, stopped: was_stopped, may_leave, released };
        self.strings.lock().unwrap().insert(input.run, strings);
        self.starts.send_modify(|starts| *starts += 1);
        let playing =
            Playing { pulls, stop, stopped, may_leave: leave, _released: Release(release) };
        Box::pin(stream::unfold(playing, Playing::next))
    }

    fn release<'a>(
        &'a self,
        resource: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.releases.lock().unwrap().push(resource.to_owned());
        Box::pin(std::future::ready(()))
    }
}

/// A source whose events come through appends.
pub struct Push;

impl Source for Push {
    fn ingress(&self) -> Ingress {
        Ingress::Append
    }

    fn start(&self, _: RunInput, stop: StopSignal) -> InboundStream {
        Box::pin(stream::unfold(stop, async |stop| {
            stop.stopped().await;
            None
        }))
    }
}

/// An engine and what it stands on.
pub struct Stage {
    pub engine: Engine,
    pub puppet: Arc<Puppet>,
    pub journal: Arc<dyn Journal>,
}

pub fn memory_journal() -> Arc<dyn Journal> {
    let clock = Arc::new(TickingClock::default());
    Arc::new(MemoryJournal::new(MemoryOptions { seed: Some(7), ..MemoryOptions::new(clock) }))
}

/// The whole queue of a [`small_journal`].
pub const SMALL: usize = 1 << 20;

pub fn small_journal() -> Arc<dyn Journal> {
    let options = MemoryOptions::new(Arc::new(TickingClock::default()));
    Arc::new(MemoryJournal::new(MemoryOptions { queue_bytes: SMALL, ..options }))
}

impl Stage {
    pub async fn new() -> Self {
        Self::over(memory_journal(), Puppet::new(true)).await
    }

    /// On a journal whose commits the test may hold up.
    pub async fn holdable() -> (Self, Arc<MemoryJournal>) {
        let options = MemoryOptions::new(Arc::new(TickingClock::default()));
        let journal = Arc::new(MemoryJournal::new(options));
        (Self::over(journal.clone(), Puppet::new(true)).await, journal)
    }

    pub async fn over(journal: Arc<dyn Journal>, puppet: Arc<Puppet>) -> Self {
        let settings = Settings { event_bytes: 4096, ..Settings::default() };
        Self::with(journal, puppet, settings, Arc::new(TickingClock::default())).await
    }

    pub async fn with(
        journal: Arc<dyn Journal>,
        puppet: Arc<Puppet>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let views = Arc::new(MemoryViews::new(SCHEMA).unwrap());
        Self::on(journal, views, puppet, settings, clock).await
    }

    pub async fn on(
        journal: Arc<dyn Journal>,
        views: Arc<dyn ViewStore>,
        puppet: Arc<Puppet>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let agents = Agents::default()
            .with(agent("puppet"), "test", puppet.clone())
            .with(agent("push"), "push", Arc::new(Push))
            .with_default(agent("puppet"));
        let options = EngineOptions {
            journal: journal.clone(),
            views,
            agents,
            clock,
            entropy: seeded(42),
            settings,
        };
        Self { engine: Engine::open(options).await.unwrap(), puppet, journal }
    }

    /// Starts a run of the puppet and takes its strings.
    pub async fn play(&self, session: &str) -> (RunView, Strings) {
        let request =
            StartRun { session: Some(session_id(session)), ..StartRun::of(agent("puppet")) };
        let view = self.engine.start(tenant(), request).await.unwrap().run;
        let strings = self.puppet.strings(&view.id).await;
        (view, strings)
    }

    /// Asks for a run of the puppet in this session; its id is `name`.
    pub async fn start_named(
        &self,
        session: &str,
        name: &str,
        policy: Policy,
    ) -> Result<RunView, StartError> {
        let request = StartRun {
            session: Some(session_id(session)),
            run: Some(run_id(name)),
            policy,
            ..StartRun::of(agent("puppet"))
        };
        Ok(self.engine.start(tenant(), request).await?.run)
    }

    /// Starts a push run.
    pub async fn push(&self, session: &str) -> RunView {
        let request =
            StartRun { session: Some(session_id(session)), ..StartRun::of(agent("push")) };
        self.engine.start(tenant(), request).await.unwrap().run
    }

    pub async fn append(&self, run: &RunId, words: &str) -> segue_engine::Appended {
        let pending = self.engine.append(tenant(), run, vec![text(words)], None).await.unwrap();
        pending.await.unwrap()
    }

    pub async fn status(&self, run: &RunId) -> &'static str {
        self.engine.run(tenant(), run).await.unwrap().unwrap().status.as_str()
    }

    /// Everything that a client sees of a run, to its end.
    pub async fn follow(&self, run: &RunId) -> Vec<Value> {
        self.follow_from(run, Seq::FIRST).await
    }

    /// Stops a run and gives everything that a client sees of it.
    pub async fn follow_after_stop(&self, run: &RunId) -> Vec<Value> {
        let stop = segue_engine::StopRequest::by_user();
        self.engine.stop_run(tenant(), run, stop).await.unwrap();
        self.follow(run).await
    }

    pub async fn follow_from(&self, run: &RunId, from: Seq) -> Vec<Value> {
        let attached = self.engine.attach(tenant(), run).unwrap();
        let shard = self.engine.shard();
        let mut reader = attached.reader(Lines, from, &shard).unwrap();
        let mut seen = Vec::new();
        loop {
            reader.listener().hear();
            match reader.fill(1 << 20) {
                Fill::Bytes(bytes) => seen.extend(lines(&bytes)),
                Fill::Silent => {}
                Fill::End => return seen,
                Fill::Failed(error) => panic!("{error}"),
                Fill::Idle => {
                    shard.rung().await;
                    shard.pump();
                }
            }
        }
    }

    /// Waits until the run shows an event of this type.
    pub async fn sees(&self, run: &RunId, name: &str) {
        let attached = self.engine.attach(tenant(), run).unwrap();
        let shard = self.engine.shard();
        let mut reader = attached.reader(Lines, Seq::FIRST, &shard).unwrap();
        loop {
            reader.listener().hear();
            match reader.fill(1 << 20) {
                Fill::Bytes(bytes) if lines(&bytes).iter().any(|event| event["type"] == name) => {
                    return;
                }
                Fill::Bytes(_) => {}
                Fill::Idle => {
                    shard.rung().await;
                    shard.pump();
                }
                other => panic!("no {name}: {other:?}"),
            }
        }
    }

    pub fn stream(run: &RunId) -> StreamKey {
        StreamKey::run(tenant(), run)
    }
}

/// NDJSON.
pub struct Lines;

impl Facade for Lines {
    fn encoding(&self) -> Option<Encoding> {
        Some(Encoding(999))
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames) {
        let event = EventRecord::decode(record.bytes.clone()).unwrap();
        out.put(|out| {
            write_event(out, run, record.seq, record.at, &event);
            out.extend_from_slice(b"\n");
        });
    }
}

pub fn lines(bytes: &Bytes) -> Vec<Value> {
    bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

pub fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Seqs are dense from 1, and the terminal is one and last.
pub fn check_whole(events: &[Value]) {
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1);
    }
    let is_terminal = |event: &&Value| {
        segue_core::EventKind::parse(event["type"].as_str().unwrap()).is_terminal()
    };
    assert_eq!(events.iter().filter(is_terminal).count(), 1, "{:?}", types(events));
    assert!(events.last().is_some_and(|last| is_terminal(&last)));
}

pub const MINUTE: Duration = Duration::from_mins(1);
