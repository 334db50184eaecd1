//! A run that is alive: what everybody may see of it, and the ways to its owner.
//!
//! The owner task (`owner`) owns the lifecycle, not the bytes: appends go beside it through
//! [`log`], under the run's short lock.

mod finish;
pub(crate) mod log;
pub(crate) mod owner;
mod timers;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use segue_core::{
    AgentName, Event, Limits, MessageId, Outcome, RunId, RunStatus, SessionId, StopReason,
    StopSignal, TenantId, Timestamp,
};
use segue_journal::{Journal, ProducerClaim, StreamKey};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::append::{AppendError, Appended};

pub(crate) use finish::terminal_parts;
pub(crate) use log::RunLog;
pub(crate) use timers::Activity;

/// The epoch of the engine that starts a run. The batch that ends it raises it by one.
pub(crate) const FIRST_EPOCH: u64 = 1;

/// What is fixed about a run when it starts.
#[derive(Clone)]
pub(crate) struct RunFacts {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) session: SessionId,
    pub(crate) message: MessageId,
    pub(crate) agent: AgentName,
    pub(crate) limits: Limits,
    pub(crate) metadata: Value,
    pub(crate) created_at: Timestamp,
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
    log: Mutex<RunLog>,
    phase: watch::Sender<Phase>,
    commands: mpsc::Sender<Command>,
    over_limit: AtomicBool,
}

/// Where a run is, for those who watch it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
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
    /// Told whether this stop was the one that was accepted.
    pub(crate) accepted: Option<oneshot::Sender<bool>>,
}

impl StopCommand {
    pub(crate) fn new(reason: StopReason) -> Self {
        Self { reason, by: None, grace: None, accepted: None }
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
    ) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let run = Self {
            stream: StreamKey::run(&facts.tenant, &facts.run),
            facts,
            journal,
            takes_appends,
            event_bytes,
            activity: Activity::start(),
            log: Mutex::new(log),
            phase: watch::Sender::new(Phase::Running),
            commands,
            over_limit: AtomicBool::new(false),
        };
        (Arc::new(run), inbox)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
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
            let left_running = phase.wait_for(|phase| *phase != Phase::Running).await;
            match left_running.as_deref() {
                Ok(Phase::Stopping(reason)) => *reason,
                Ok(Phase::Ended(outcome)) => outcome.reason().unwrap_or(StopReason::User),
                // Nothing more of it can be kept.
                Ok(Phase::Failing) => StopReason::Limit,
                Ok(Phase::Running) | Err(_) => StopReason::Shutdown,
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

    /// Asks a run that is not owned yet to stop as soon as it is.
    pub(crate) fn stop_at_once(&self) {
        let stop =
            StopCommand { grace: Some(Duration::ZERO), ..StopCommand::new(StopReason::Shutdown) };
        // A full inbox has a stop already: nothing else comes before the owner does.
        drop(self.commands.try_send(Command::Stop(stop)));
    }

    /// Asks the owner to end the run because the engine goes down.
    pub(crate) async fn stop_for_shutdown(&self, grace: Duration) {
        let stop = StopCommand { grace: Some(grace), ..StopCommand::new(StopReason::Shutdown) };
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
