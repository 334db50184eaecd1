//! Stopping runs, from anywhere.

use std::{sync::Arc, time::Duration};

use segue_core::{RunId, RunStatus, SessionId, StopReason, TenantId};
use segue_journal::{ReadError, StreamKey};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    engine::Engine,
    run::{Command, Phase, Run, StopCommand},
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
    /// The run's status now; `None` for a session without a run it could mean.
    pub status: Option<RunStatus>,
}

/// Why a stop was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// The tenant has no such run or session.
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

impl Engine {
    /// Stops a run. Idempotent: of several stops one is accepted, and none changes an ended run.
    pub async fn stop_run(
        &self,
        tenant: &TenantId,
        run: &RunId,
        request: StopRequest,
    ) -> Result<Stopped, StopError> {
        let stream = StreamKey::run(tenant, run);
        let alive = self.inner.supervisor.find_or_await(&stream);
        match tokio::time::timeout(self.inner.settings.stop_wait, alive).await.ok().flatten() {
            Some(alive) => Ok(self.stop_alive(&alive, request).await),
            None => {
                let outcome = self.attach(tenant, run)?.outcome()?;
                // Open without an owner: damaged, so that recovery could not end it.
                let status = outcome.map_or(RunStatus::Running, |outcome| outcome.status());
                Ok(Stopped { stopped: false, status: Some(status) })
            }
        }
    }

    /// Stops the active run of a session; with `run`, only if that is the one.
    pub async fn stop_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        run: Option<&RunId>,
        request: StopRequest,
    ) -> Result<Stopped, StopError> {
        let stream = StreamKey::session(tenant, session);
        let active = self.inner.supervisor.active(&stream);
        let Some(active) = active.filter(|active| run.is_none_or(|run| run == active)) else {
            self.inner.journal.info(&stream)?;
            return Ok(Stopped { stopped: false, status: None });
        };
        self.stop_run(tenant, &active, request).await
    }

    /// Asks a run's owner to stop it, and waits as far as the request says. All of it takes at
    /// most `stop_wait`: an owner that is writing its run's end answers late.
    async fn stop_alive(&self, run: &Arc<Run>, request: StopRequest) -> Stopped {
        let deadline = Instant::now() + self.inner.settings.stop_wait;
        let mut phase = run.watch();
        let (accepted, answer) = oneshot::channel();
        let StopRequest { reason, by, wait } = request;
        let stop = StopCommand { by, accepted: Some(accepted), ..StopCommand::new(reason) };
        let asked = async {
            match run.command(Command::Stop(stop)).await {
                Ok(()) => answer.await.unwrap_or(false),
                Err(_) => false,
            }
        };
        let stopped = tokio::time::timeout_at(deadline, asked).await.unwrap_or(false);
        if let Some(wait) = wait {
            let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_)));
            let until = Instant::now().checked_add(wait).map_or(deadline, |at| at.min(deadline));
            if tokio::time::timeout_at(until, ended).await.is_err() {
                metrics::counter!("segue_stop_wait_timeouts_total").increment(1);
            }
        }
        let status = run.phase().status();
        Stopped { stopped, status: Some(status) }
    }
}
