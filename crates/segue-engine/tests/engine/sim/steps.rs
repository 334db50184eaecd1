//! One life of a server, step by step.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use segue_core::{Event, Inbound, Limits, OnRestart, Policy, RunId};
use segue_engine::{DeleteError, Engine, StartRun, StopError, StopRequest};
use segue_journal::memory::Hold;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use super::{
    actors,
    world::{Known, Seen, Tracer, World},
};
use crate::{
    detached::by_user_and_wait,
    support::{Pull, Puppet, Stage, Strings, agent, run_id, session_id, tenant, text},
};

/// The last one is deleted now and then.
pub(super) const SESSIONS: [&str; 3] = ["s", "t", "gone"];
const POLICIES: [Policy; 4] = [Policy::Reject, Policy::Queue, Policy::Replace, Policy::Parallel];

pub(super) struct Sim<'a> {
    pub(super) stage: Stage,
    pub(super) world: &'a mut World,
    tasks: JoinSet<()>,
    readers: JoinSet<()>,
    strings: BTreeMap<String, Strings>,
    /// While it is there nothing is committed.
    hold: Option<Hold>,
    began: Instant,
}

impl<'a> Sim<'a> {
    pub(super) async fn begin(world: &'a mut World) -> Self {
        let leaves = world.dice.below(2) == 0 || world.on_threads;
        let stage = Stage::over(world.journal.clone(), Puppet::new(leaves)).await;
        let (tasks, readers, strings) = (JoinSet::new(), JoinSet::new(), BTreeMap::new());
        Self { stage, world, tasks, readers, strings, hold: None, began: Instant::now() }
    }

    fn trace(&self, line: impl FnOnce() -> String) {
        let at = if self.world.on_threads { Duration::ZERO } else { self.began.elapsed() };
        self.world.trace(|| format!("{at:?} {}", line()));
    }

    pub(super) async fn step(&mut self) {
        let strings = self.stage.puppet.new_strings().into_iter();
        self.strings.extend(strings.map(|(run, strings)| (run.to_string(), strings)));
        match self.world.dice.below(20) {
            0..5 => self.start(),
            5 => self.send_again(),
            6 => self.stop_run(),
            7 if self.world.dice.one_in(3) => self.stop_session(),
            8 | 9 => self.pull(),
            10 | 11 => self.append(),
            12 | 13 => self.produce(),
            14 | 15 => self.read(),
            16 if self.world.dice.one_in(8) => self.delete(),
            17 => {
                let is_held = self.world.dice.one_in(2);
                self.trace(|| format!("held {is_held}"));
                self.hold = is_held.then(|| self.world.journal.hold());
            }
            18 if !self.world.on_threads => {
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

    fn engine(&self) -> (Engine, Tracer) {
        (self.stage.engine.clone(), self.world.tracer())
    }

    /// One of the newest, or one that is not there yet.
    fn some_run(&mut self) -> RunId {
        let newest = self.world.sent.len() + 1;
        run_id(&format!("r{}", newest.saturating_sub(self.world.dice.index(8))))
    }

    fn start(&mut self) {
        let dice = &mut self.world.dice;
        let names = ["puppet", "puppet", "push", "push"];
        let name = if self.world.on_threads { "puppet" } else { dice.of(&names) };
        let on_restart = match (dice.below(2), name) {
            (0, _) => None,
            (_, "push") => Some(dice.of(&[OnRestart::Await, OnRestart::Start])),
            _ => Some(OnRestart::Start),
        };
        // Seconds: a step moves the time by up to eight.
        let limits = match dice.below(6) {
            0 => Limits { idle_s: 10, ..Limits::default() },
            1 => Limits { wall_clock_s: 20, ..Limits::default() },
            2 => Limits { lease_s: 15, ..Limits::default() },
            3 => Limits { events: 6, ..Limits::default() },
            _ => Limits::default(),
        };
        let limits = if self.world.on_threads { Limits::default() } else { limits };
        let request = StartRun {
            session: Some(session_id(dice.of(&SESSIONS))),
            run: Some(run_id(&format!("r{}", self.world.sent.len()))),
            policy: dice.of(&POLICIES),
            input: json!("hello"),
            on_restart,
            limits,
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
        let ((engine, tracer), new) = (self.engine(), self.world.new.clone());
        self.tasks.spawn(actors::start(engine, request, new, tracer));
    }

    /// Perhaps of a run that is not there yet, or not any more.
    fn stop_run(&mut self) {
        let (run, (engine, tracer)) = (self.some_run(), self.engine());
        self.tasks.spawn(async move {
            let stopped = engine.stop_run(tenant(), &run, StopRequest::by_user()).await;
            tracer.line(|| format!("stop {run}: {stopped:?}"));
            // Of a session that is being deleted.
            assert!(matches!(stopped, Ok(_) | Err(StopError::NotFound)), "{stopped:?}");
        });
    }

    fn stop_session(&mut self) {
        let (session, (engine, _)) = (self.world.dice.of(&SESSIONS), self.engine());
        self.tasks.spawn(async move {
            let stop = StopRequest::by_user();
            // There may be no such session yet.
            drop(engine.stop_session(tenant(), &session_id(session), None, stop).await);
        });
    }

    /// Pulls a string of some run.
    fn pull(&mut self) {
        if self.strings.is_empty() {
            return;
        }
        let index = self.world.dice.index(self.strings.len());
        let strings = self.strings.values().nth(index).unwrap();
        let call = json!({"type": "tool_call.started", "call_id": "c", "name": "n"});
        match self.world.dice.below(6) {
            0 => strings.may_leave.send_replace(true),
            1 | 2 => strings.try_pull(Pull::Give(Inbound::Event(text("x")))),
            3 => strings.try_pull(Pull::Give(Inbound::Event(Event::build(&call)))),
            4 => strings.try_pull(Pull::Panic),
            _ => {
                strings.try_pull(Pull::Give(Inbound::Finished { finish_reason: None, usage: None }))
            }
        };
    }

    /// Appends to some run, whether it takes that or not.
    fn append(&mut self) {
        let run = self.some_run();
        let event = match self.world.dice.below(3) {
            0 => Event::build(&json!({"type": "run.finished"})),
            _ => text("words"),
        };
        let (engine, _) = self.engine();
        self.tasks.spawn(async move {
            if let Ok(appended) = engine.append(tenant(), &run, vec![event], None).await {
                drop(appended.await);
            }
        });
    }

    /// A producer with numbers, one append in flight.
    fn produce(&mut self) {
        let run = self.some_run();
        let again = self.world.dice.one_in(3).then(|| self.world.dice.below(100));
        let ((engine, tracer), known) = (self.engine(), self.world.produced.clone());
        let turn = self.world.turn(&run);
        self.tasks.spawn(async move {
            let _turn = turn.lock().await;
            actors::produce(engine, run, again, known, tracer).await;
        });
    }

    /// A new reader somewhere in a run, or one that comes back.
    fn read(&mut self) {
        let seen = match self.world.seen.len() {
            known if known > 0 && self.world.dice.one_in(2) => {
                let index = self.world.dice.index(known);
                self.world.seen[index].clone()
            }
            _ => {
                let (run, from) = (self.some_run().to_string(), 1 + self.world.dice.below(3));
                let seen: Known<Seen> = Known::new(Seen { run, from, events: Vec::new() }.into());
                self.world.seen.push(seen.clone());
                seen
            }
        };
        // It is in one place at a time.
        if Arc::strong_count(&seen) > 2 {
            return;
        }
        let ((engine, tracer), dice) = (self.engine(), self.world.dice.fork());
        self.readers.spawn(actors::read(engine, seen, dice, tracer));
    }

    fn delete(&mut self) {
        let (engine, tracer) = self.engine();
        *self.world.asked.lock().unwrap() += 1;
        self.tasks.spawn(async move {
            let done = engine.delete_session(tenant(), &session_id("gone")).await;
            tracer.line(|| format!("delete: {done:?}"));
            // As with a start, a kill may come between.
            let fine =
                matches!(done, Ok(()) | Err(DeleteError::NotFound | DeleteError::ShuttingDown));
            assert!(fine, "{done:?}");
        });
    }

    /// Stops until nothing is alive, and looks at what was stored.
    pub(super) async fn end(mut self) {
        self.hold = None;
        for session in SESSIONS {
            // It may be unknown, or be deleted at the moment.
            let session = session_id(session);
            drop(
                self.stage.engine.stop_session(tenant(), &session, None, by_user_and_wait()).await,
            );
        }
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        // Some read a run that nobody starts.
        self.readers.abort_all();
        while let Some(done) = self.readers.join_next().await {
            assert!(done.is_ok() || done.is_err_and(|error| error.is_cancelled()));
        }
        self.verify().await;
    }
}
