//! Starts, stops, ends and kills of two sessions at once, at random: whatever the order, every run ends
//! once, nobody begins before those it waits for have ended, and nothing is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use segue_core::{Event, OnRestart, Policy, RunId};
use segue_engine::{Engine, StartError, StartRun, StopRequest};
use segue_journal::memory::{Hold, MemoryJournal, MemoryOptions};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{detached::by_user_and_wait, races::of_session, support::*};

const SEEDS: u64 = 100;
/// With threads, and so with the wall clock.
const SEEDS_ON_THREADS: u64 = 20;
const STEPS: u64 = 60;
/// Each life but the last ends in a kill.
const LIVES: u64 = 3;
const SESSIONS: [&str; 2] = ["s", "t"];
const POLICIES: [Policy; 4] = [Policy::Reject, Policy::Queue, Policy::Replace, Policy::Parallel];

/// An xorshift, enough to choose.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.index(things.len())]
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// What outlives a kill: the journal, and what its clients know.
struct World {
    journal: Arc<MemoryJournal>,
    dice: Dice,
    /// Time goes on by itself: no run has to wait for a grace.
    on_threads: bool,
    /// Every start that was ever sent.
    sent: Vec<StartRun>,
    /// The runs that some answer called new.
    new: Arc<Mutex<BTreeSet<String>>>,
}

/// One life of a server.
struct Hammer<'a> {
    stage: Stage,
    world: &'a mut World,
    tasks: JoinSet<()>,
    strings: BTreeMap<String, Strings>,
    /// While it is there nothing is committed.
    hold: Option<Hold>,
}

impl<'a> Hammer<'a> {
    async fn new(world: &'a mut World) -> Self {
        let leaves = world.dice.below(2) == 0 || world.on_threads;
        let stage = Stage::over(world.journal.clone(), Puppet::new(leaves)).await;
        Self { stage, world, tasks: JoinSet::new(), strings: BTreeMap::new(), hold: None }
    }

    async fn step(&mut self) {
        let engine = self.stage.engine.clone();
        let strings = self.stage.puppet.new_strings().into_iter();
        self.strings.extend(strings.map(|(run, strings)| (run.to_string(), strings)));
        let session = self.world.dice.of(&SESSIONS);
        match self.world.dice.below(14) {
            0..4 => self.start(session),
            4 => self.send_again(),
            5 => {
                // Perhaps of a run that is not there yet, or not any more.
                let run = self.some_run();
                self.tasks.spawn(async move {
                    engine.stop_run(tenant(), &run, StopRequest::by_user()).await.unwrap();
                });
            }
            6 if self.world.dice.below(3) == 0 => {
                self.tasks.spawn(async move {
                    let session = session_id(session);
                    let stop = StopRequest::by_user();
                    // There may be no such session yet.
                    drop(engine.stop_session(tenant(), &session, None, stop).await);
                });
            }
            7 | 8 => self.pull(),
            9 | 10 => self.append(),
            11 => {
                let is_held = self.world.dice.below(2) == 0;
                self.hold = is_held.then(|| self.world.journal.hold());
            }
            12 if !self.world.on_threads => {
                let millis = self.world.dice.below(8000);
                tokio::time::advance(Duration::from_millis(millis)).await;
            }
            _ => {
                for _ in 0..self.world.dice.below(10) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// One of the newest, or one that is not there yet.
    fn some_run(&mut self) -> RunId {
        let newest = self.world.sent.len() + 1;
        run_id(&format!("r{}", newest.saturating_sub(self.world.dice.index(8))))
    }

    fn start(&mut self, session: &'static str) {
        let dice = &mut self.world.dice;
        let names = ["puppet", "puppet", "push"];
        let name = if self.world.on_threads { "puppet" } else { dice.of(&names) };
        let on_restart = match (dice.below(2), name) {
            (0, _) => None,
            (_, "push") => Some(dice.of(&[OnRestart::Await, OnRestart::Start])),
            _ => Some(OnRestart::Start),
        };
        let request = StartRun {
            session: Some(session_id(session)),
            run: Some(run_id(&format!("r{}", self.world.sent.len()))),
            policy: dice.of(&POLICIES),
            input: json!("hello"),
            on_restart,
            ..StartRun::of(agent(name))
        };
        self.world.sent.push(request.clone());
        self.send(request);
    }

    fn send_again(&mut self) {
        if !self.world.sent.is_empty() {
            let index = self.world.dice.index(self.world.sent.len());
            self.send(self.world.sent[index].clone());
        }
    }

    fn send(&mut self, request: StartRun) {
        let (engine, new): (Engine, _) = (self.stage.engine.clone(), self.world.new.clone());
        self.tasks.spawn(async move {
            match engine.start(tenant(), request).await {
                Ok(started) if started.is_new => {
                    let id = started.run.id.to_string();
                    assert!(new.lock().unwrap().insert(id), "a run is new once");
                }
                Ok(_) | Err(StartError::Busy(_)) => {}
                Err(error) => panic!("{error}"),
            }
        });
    }

    /// Pulls a string of some run.
    fn pull(&mut self) {
        if self.strings.is_empty() {
            return;
        }
        let index = self.world.dice.index(self.strings.len());
        let strings = self.strings.values().nth(index).unwrap();
        match self.world.dice.below(4) {
            0 => strings.may_leave.send_replace(true),
            1 => strings.try_pull(Pull::Give(segue_core::Inbound::Event(text("x")))),
            2 => strings.try_pull(Pull::Panic),
            _ => strings.try_pull(Pull::Give(segue_core::Inbound::Finished {
                finish_reason: None,
                usage: None,
            })),
        };
    }

    /// Appends to some run, whether it takes that or not.
    fn append(&mut self) {
        let run = self.some_run();
        let event = match self.world.dice.below(3) {
            0 => Event::build(&json!({"type": "run.finished"})),
            _ => text("words"),
        };
        let engine = self.stage.engine.clone();
        self.tasks.spawn(async move {
            if let Ok(appended) = engine.append(tenant(), &run, vec![event], None).await {
                drop(appended.await);
            }
        });
    }

    /// Stops until nothing is alive, and looks at what was stored.
    async fn end(mut self) {
        self.hold = None;
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        for session in SESSIONS {
            let session = session_id(session);
            if self.stage.engine.session(tenant(), &session).await.unwrap().is_none() {
                continue;
            }
            self.stage
                .engine
                .stop_session(tenant(), &session, None, by_user_and_wait())
                .await
                .unwrap();
            let view = self.stage.engine.session(tenant(), &session).await.unwrap().unwrap();
            assert_eq!((view.status, view.active_runs), ("idle", vec![]));
            self.check_session(session.as_str()).await;
        }
    }

    async fn check_session(&self, session: &str) {
        let records = of_session(&self.stage, session);
        let of_type = |name: &str| {
            let named = records.iter().filter(|record| record["type"] == name);
            named.map(|record| record["run_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (created, mut ended) = (of_type("run.created"), of_type("run.ended"));
        let mut once = created.clone();
        once.sort();
        ended.sort();
        assert_eq!(once, ended, "each is created once and ends once");
        let mut ends: Vec<(String, String)> = Vec::new();
        for run in created {
            let events = self.stage.follow(&run_id(&run)).await;
            check_whole(&events);
            check_beginning(&events);
            let at = |event: &Value| event["at"].as_str().unwrap().to_owned();
            let queued = events[0]["type"] == "run.queued";
            if let Some(began) = events.iter().find(|event| event["type"] == "run.started")
                && queued
            {
                for (before, end) in &ends {
                    assert!(*end < at(began), "{run} began before {before} had ended");
                }
            }
            ends.push((run, at(events.last().unwrap())));
        }
    }
}

/// Nothing stands before a run has begun but that it was queued.
fn check_beginning(events: &[Value]) {
    let types = types(events);
    let begins = types.iter().position(|name| *name == "run.started");
    let queued = usize::from(types[0] == "run.queued");
    match begins {
        Some(begins) => assert_eq!(begins, queued, "{types:?}"),
        None => assert_eq!((queued, types.len()), (1, 2), "{types:?}"),
    }
}

/// Lives once; without an end it is killed, since its runtime is dropped with all that it does.
fn live(world: &mut World, is_last: bool) {
    let runtime = if world.on_threads {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    } else {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
    };
    runtime.unwrap().block_on(async {
        let mut hammer = Hammer::new(world).await;
        for _ in 0..STEPS {
            hammer.step().await;
        }
        if is_last {
            hammer.end().await;
        }
    });
}

#[expect(clippy::print_stdout, reason = "a failure is found again by its seed")]
fn hammer(seeds: u64, on_threads: bool) {
    for seed in 1..=seeds {
        println!("seed {seed}");
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let options = MemoryOptions::new(Arc::new(TickingClock::default()));
        let journal = Arc::new(MemoryJournal::new(options));
        let new = Arc::default();
        let mut world = World { journal, dice, on_threads, sent: Vec::new(), new };
        for life in 1..=LIVES {
            live(&mut world, life == LIVES);
        }
    }
}

#[test]
fn whatever_the_order_every_run_ends_once_and_in_its_turn() {
    hammer(SEEDS, false);
}

#[test]
fn whatever_the_order_on_threads_every_run_ends_once_and_in_its_turn() {
    hammer(SEEDS_ON_THREADS, true);
}
