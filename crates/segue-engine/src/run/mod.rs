//! A run that is alive: what everybody may see of it, and the ways to its owner.
//!
//! The owner task (`owner`) owns the lifecycle, not the bytes: appends go beside it through
//! [`log`], under the run's short lock.

mod accepted;
mod finish;
pub(crate) mod log;
mod merge;
pub(crate) mod owner;
mod timers;
mod turn;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use segue_core::{
    AgentName, Event, Limits, MessageId, OnRestart, Outcome, Policy, RunId, RunStatus, SessionId,
    StopReason, StopSignal, TenantId, Timestamp,
};
use segue_journal::{Journal, ProducerClaim, StreamKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::append::{AppendError, Appended};

pub(crate) use finish::terminal_parts;
pub(crate) use log::RunLog;
pub(crate) use timers::Activity;
pub(crate) use turn::Turn;

/// The epoch of the engine that starts a run. The batch that ends it raises it by one.
pub(crate) const FIRST_EPOCH: u64 = 1;

/// What is fixed about a run when it starts.
#[derive(Clone)]
pub(crate) struct RunFacts {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) session: SessionId,
    pub(crate) message: MessageId,
    /// The run whose message this one goes on with.
    pub(crate) continues: Option<RunId>,
    pub(crate) agent: AgentName,
    pub(crate) limits: Limits,
    /// What a restart needs to go on with it; none: it is interrupted.
    pub(crate) restart: Option<Restart>,
    pub(crate) metadata: Value,
    pub(crate) created_at: Timestamp,
}

/// What a restart needs to go on with a run; kept in its first event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Restart {
    #[serde(rename = "on_restart")]
    pub(crate) how: OnRestart,
    pub(crate) policy: Policy,
    pub(crate) params: Value,
    pub(crate) limits: Limits,
    pub(crate) metadata: Value,
}

/// A run that is alive.
pub(crate) struct Run {
    pub(crate) facts: RunFacts,
    pub(crate) stream: StreamKey,
    pub(crate) journal: Arc<dyn Journal>,
    /// Whether events come through appends from outside.
    pub(crate) takes_appends: bool,
    pub(crate) event_bytes: usize,
    pub(crate) activity: Activity,
    /// When its source began; not set while it is queued.
    started_at: OnceLock<Timestamp>,
    log: Mutex<RunLog>,
    phase: watch::Sender<Phase>,
    commands: mpsc::Sender<Command>,
    over_limit: AtomicBool,
    /// Rung when last words were taken or refused.
    words: Notify,
    /// Its session's stream cannot be read, so that its end is written without it.
    session_lost: AtomicBool,
}

/// Where a run is, for those who watch it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// It waits for the runs before it.
    Queued,
    /// Its source is at work.
    Running,
    /// A stop was accepted.
    Stopping(StopReason),
    /// The run ends because it cannot be stored.
    Failing,
    /// Its terminal event is durable.
    Ended(Outcome),
}

impl Phase {
    pub(crate) fn status(&self) -> RunStatus {
        match self {
            Self::Queued => RunStatus::Queued,
            Self::Running => RunStatus::Running,
            Self::Stopping(_) | Self::Failing => RunStatus::Stopping,
            Self::Ended(outcome) => outcome.status(),
        }
    }
}

/// What others ask of the owner.
pub(crate) enum Command {
    /// End the run. Answers whether this stop was the one that was accepted.
    Stop(StopCommand),
    /// A producer's last words, with the terminal it wants.
    End(LastWords),
}

/// A stop on its way to the owner.
pub(crate) struct StopCommand {
    pub(crate) reason: StopReason,
    pub(crate) by: Option<String>,
    /// How long the source may clean up; the engine's grace if there is none.
    pub(crate) grace: Option<Duration>,
    /// The engine goes down: runs that asked for it are left to the next one.
    pub(crate) goes_down: bool,
    /// Told whether this stop was the one that was accepted.
    pub(crate) accepted: Option<oneshot::Sender<bool>>,
}

impl StopCommand {
    /// Answers whether this stop was the one that was accepted.
    pub(crate) fn answer(self, accepted: bool) {
        if let Some(answer) = self.accepted {
            // Whoever asked may have gone; the stop stands.
            answer.send(accepted).unwrap_or_default();
        }
    }

    /// Whether somebody waits for the answer.
    pub(crate) fn is_awaited(&self) -> bool {
        self.accepted.as_ref().is_some_and(|accepted| !accepted.is_closed())
    }

    /// A stop because the engine goes down.
    fn of_shutdown(grace: Duration) -> Self {
        Self { grace: Some(grace), goes_down: true, ..Self::new(StopReason::Shutdown) }
    }

    /// How a run ends that is stopped before its source was started.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::Stopped { reason: self.reason, by: self.by.clone(), source_outcome: None }
    }

    pub(crate) fn new(reason: StopReason) -> Self {
        Self { reason, by: None, grace: None, goes_down: false, accepted: None }
    }
}

/// The events of an append that ends its run, the terminal taken off.
pub(crate) struct LastWords {
    pub(crate) events: Vec<Event>,
    pub(crate) outcome: Outcome,
    pub(crate) claim: Option<ProducerClaim>,
    pub(crate) answer: oneshot::Sender<Result<Appended, AppendError>>,
    /// Keeps other appends from being stored before them.
    pub(crate) _ahead: Ahead,
}

/// While it is held, appends from outside wait for last words. Given back on every path.
pub(crate) struct Ahead(Arc<Run>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.log().ending_is_over();
        self.0.words.notify_waiters();
    }
}

/// How many commands wait for an owner. Senders wait beyond that.
const COMMANDS: usize = 16;

impl Run {
    pub(crate) fn new(
        facts: RunFacts,
        journal: Arc<dyn Journal>,
        takes_appends: bool,
        event_bytes: usize,
        log: RunLog,
        activity: Activity,
        started_at: Option<Timestamp>,
    ) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let phase = if started_at.is_some() { Phase::Running } else { Phase::Queued };
        let run = Self {
            stream: StreamKey::run(&facts.tenant, &facts.run),
            facts,
            journal,
            takes_appends,
            event_bytes,
            activity,
            started_at: started_at.map_or_else(OnceLock::new, OnceLock::from),
            log: Mutex::new(log),
            phase: watch::Sender::new(phase),
            commands,
            over_limit: AtomicBool::new(false),
            words: Notify::new(),
            session_lost: AtomicBool::new(false),
        };
        (Arc::new(run), inbox)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// When its source began, if it did.
    pub(crate) fn started_at(&self) -> Option<Timestamp> {
        self.started_at.get().copied()
    }

    /// Whether it waits for its turn, or ends without ever having begun: it takes no events.
    pub(crate) fn has_not_begun(&self) -> bool {
        self.started_at.get().is_none()
    }

    /// Whether this stop leaves the run to the next start of the engine, which goes on with it.
    pub(crate) fn is_left_by(&self, stop: &StopCommand) -> bool {
        if !stop.goes_down {
            return false;
        }
        match self.facts.restart.as_ref().map(|restart| restart.how) {
            Some(OnRestart::Start) => *self.phase.borrow() == Phase::Queued,
            Some(OnRestart::Await) => *self.phase.borrow() == Phase::Running,
            None => false,
        }
    }

    /// Whether a producer should come to its end.
    pub(crate) fn stop_requested(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Stopping(_))
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Fires when a stop is accepted or the run has ended.
    pub(crate) fn stop_signal(&self) -> StopSignal {
        let mut phase = self.watch();
        StopSignal::new(async move {
            let at_work = |phase: &Phase| matches!(phase, Phase::Queued | Phase::Running);
            let left_running = phase.wait_for(|phase| !at_work(phase)).await;
            match left_running.as_deref() {
                Ok(Phase::Stopping(reason)) => *reason,
                Ok(Phase::Ended(outcome)) => outcome.reason().unwrap_or(StopReason::User),
                // Nothing more of it can be kept.
                Ok(Phase::Failing) => StopReason::Limit,
                Ok(Phase::Queued | Phase::Running) | Err(_) => StopReason::Shutdown,
            }
        })
    }

    /// Gives a command to the owner; gives it back if the run has no owner any more.
    pub(crate) async fn command(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command).await.map_err(|refused| refused.0)
    }

    /// Asks the owner to stop a run that went over a limit. Asking once is enough.
    pub(crate) fn stop_for_limit(&self) {
        if !self.over_limit.swap(true, Ordering::Relaxed) {
            let stop = Command::Stop(StopCommand::new(StopReason::Limit));
            if self.commands.try_send(stop).is_err() {
                self.over_limit.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Gives the owner a producer's last words. From the call on nothing is stored before them.
    /// `None`: the run has no owner any more.
    pub(crate) async fn give_last_words(
        self: &Arc<Self>,
        events: Vec<Event>,
        outcome: Outcome,
        claim: Option<ProducerClaim>,
    ) -> Option<oneshot::Receiver<Result<Appended, AppendError>>> {
        let place = self.commands.reserve().await.ok()?;
        self.log().ending_begins();
        let ahead = Ahead(self.clone());
        let (answer, answered) = oneshot::channel();
        place.send(Command::End(LastWords { events, outcome, claim, answer, _ahead: ahead }));
        Some(answered)
    }

    /// Waits while last words are on their way to the owner: what they hold is known only then, and
    /// nothing is stored before them.
    pub(crate) async fn words_are_over(&self) {
        loop {
            let over = self.words.notified();
            if !self.log().is_ending() {
                return;
            }
            over.await;
        }
    }

    /// Asks a run that is not owned yet to stop as soon as it is.
    pub(crate) fn stop_at_once(&self) {
        let stop = StopCommand::of_shutdown(Duration::ZERO);
        // A full inbox has a stop already: nothing else comes before the owner does.
        drop(self.commands.try_send(Command::Stop(stop)));
    }

    /// Asks the owner to end the run because the engine goes down.
    pub(crate) async fn stop_for_shutdown(&self, grace: Duration) {
        let stop = StopCommand::of_shutdown(grace);
        // A run without an owner has ended.
        drop(self.command(Command::Stop(stop)).await);
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, RunLog> {
        // A panic under the lock may have left it half changed: it is read again from the journal.
        self.log.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut log = poisoned.into_inner();
            log.mark_stale();
            log
        })
    }
}
