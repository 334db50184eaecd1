//! Stopping runs, from anywhere.

use std::time::Duration;

use futures_util::future::join_all;
use segue_core::{RunId, RunStatus, SessionId, StopReason, TenantId};
use segue_journal::{ReadError, StreamKey};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    engine::Engine,
    run::{Command, Phase, Run, StopCommand},
    supervisor::StopRoute,
};

/// A request to stop.
#[derive(Clone, Debug)]
pub struct StopRequest {
    /// Why.
    pub reason: StopReason,
    /// Who asks, as the terminal event will say.
    pub by: Option<String>,
    /// How long to wait for the end, clean-up included; at most the engine's `stop_wait`.
    pub wait: Option<Duration>,
}

impl StopRequest {
    /// A user's stop that does not wait.
    pub fn by_user() -> Self {
        Self { reason: StopReason::User, by: None, wait: None }
    }
}

/// What a stop did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// This stop was the one that was accepted.
    pub stopped: bool,
    /// The run's status now, of a session's runs that of the oldest; `None` if there is no run it
    /// could mean.
    pub status: Option<RunStatus>,
    /// No such run exists yet. If it is started within a minute, or its start is under way, it is
    /// stopped before it begins.
    pub pending: bool,
}

/// Why a stop was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// The tenant has no such session.
    #[error("there is no such run or session")]
    NotFound,
    /// The run's stream could not be read.
    #[error("the run cannot be read")]
    Unreadable,
}

impl From<ReadError> for StopError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound(_) => Self::NotFound,
            ReadError::Trimmed { .. } | ReadError::Corrupt { .. } | ReadError::Io(_) => {
                Self::Unreadable
            }
        }
    }
}

impl Stopped {
    /// It is kept for a run that is not there yet.
    const PENDING: Self = Self { stopped: false, status: None, pending: true };
}

impl Engine {
    /// Stops a run. Idempotent: of several stops one is accepted, and none changes an ended run.
    /// Of a run that nobody knows the stop is kept for a minute: if it is started by then, it is
    /// stopped before it begins.
    pub async fn stop_run(
        &self,
        tenant: &TenantId,
        run: &RunId,
        request: StopRequest,
    ) -> Result<Stopped, StopError> {
        let stream = StreamKey::run(tenant, run);
        let deadline = Instant::now() + self.inner.settings.stop_wait;
        loop {
            if self.inner.supervisor.is_gone(&stream) {
                return Err(StopError::NotFound);
            }
            if let Some(stopped) = self.stop_known(tenant, run, request.clone(), deadline).await? {
                return Ok(stopped);
            }
            if self.inner.supervisor.leave_tombstone(&stream) {
                return Ok(Stopped::PENDING);
            }
        }
    }

    /// Stops the active runs of a session, those that wait included; with `run`, only that one,
    /// and only if it is active. Runs that are started later are not hit.
    pub async fn stop_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        run: Option<&RunId>,
        request: StopRequest,
    ) -> Result<Stopped, StopError> {
        let deadline = Instant::now() + self.inner.settings.stop_wait;
        let stream = StreamKey::session(tenant, session);
        if self.inner.supervisor.is_gone(&stream) {
            return Err(StopError::NotFound);
        }
        let mut active = self.inner.supervisor.active(&StreamKey::session(tenant, session));
        active.retain(|active| run.is_none_or(|run| run == active));
        // Newest first: none that waits begins because the one before it ends.
        let stops =
            active.iter().rev().map(|run| self.stop_known(tenant, run, request.clone(), deadline));
        let mut all = Stopped { stopped: false, status: None, pending: false };
        for stopped in join_all(stops).await {
            if let Some(one) = stopped? {
                all = Stopped { stopped: all.stopped || one.stopped, ..one };
            }
        }
        if active.is_empty() {
            self.inner.journal.info(&StreamKey::session(tenant, session))?;
        }
        Ok(all)
    }

    /// Stops a run that is alive, on its way, or ended. `None` if there is none.
    async fn stop_known(
        &self,
        tenant: &TenantId,
        run: &RunId,
        request: StopRequest,
        deadline: Instant,
    ) -> Result<Option<Stopped>, StopError> {
        let stream = StreamKey::run(tenant, run);
        let StopRequest { reason, by, wait } = request;
        let (accepted, answer) = oneshot::channel();
        let stop = StopCommand { by, accepted: Some(accepted), ..StopCommand::new(reason) };
        let (alive, is_kept) = match self.inner.supervisor.route_stop(&stream, stop) {
            StopRoute::Alive(alive, stop) => {
                // What cannot be given to the owner is dropped, and its answer with it.
                drop(timeout_at(deadline, alive.command(Command::Stop(stop))).await);
                (Some(alive), false)
            }
            StopRoute::Kept => (None, true),
            StopRoute::Nowhere => (None, false),
        };
        // An owner that is writing its run's end answers late. Without an answer the run was not
        // started, or it has ended.
        let stopped = match timeout_at(deadline, answer).await {
            Ok(answer) => answer.unwrap_or(false),
            // The start is still under way, and the stop is kept for it.
            Err(_) if is_kept => return Ok(Some(Stopped::PENDING)),
            Err(_) => false,
        };
        let alive = alive.or_else(|| self.inner.supervisor.find(&stream));
        if let Some(alive) = &alive {
            wait_for_end(alive, wait, deadline).await;
        }
        let status = match alive {
            Some(alive) => alive.phase().status(),
            None => match self.ended_status(tenant, run)? {
                Some(status) => status,
                None => return Ok(None),
            },
        };
        Ok(Some(Stopped { stopped, status: Some(status), pending: false }))
    }

    /// The status of a run without an owner; `None` if there is no such run.
    fn ended_status(&self, tenant: &TenantId, run: &RunId) -> Result<Option<RunStatus>, StopError> {
        match self.attach(tenant, run) {
            Err(ReadError::NotFound(_)) => Ok(None),
            // Open without an owner: damaged, so that recovery could not end it, or left to the
            // next start of the engine.
            stream => Ok(Some(stream?.outcome()?.map_or(RunStatus::Running, |o| o.status()))),
        }
    }
}

/// Waits for the end of a run, its clean-up included, as long as was asked for.
async fn wait_for_end(run: &Run, wait: Option<Duration>, deadline: Instant) {
    let Some(wait) = wait else { return };
    let mut phase = run.watch();
    let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_)));
    let until = Instant::now().checked_add(wait).map_or(deadline, |at| at.min(deadline));
    if timeout_at(until, ended).await.is_err() {
        metrics::counter!("segue_stop_wait_timeouts_total").increment(1);
    }
}
