//! A producer's inbox: what it is asked to do.

use std::sync::Arc;

use segue_core::{RunId, StopReason, TenantId};
use segue_journal::{ReadError, StreamKey};
use tokio::sync::watch;

use crate::{
    engine::Engine,
    run::{Phase, Run},
};

/// The open inbox of a push run's producer. While it is held, the run's lease does not expire.
pub struct ControlInbox {
    run: Option<Arc<Run>>,
    phase: Option<watch::Receiver<Phase>>,
}

/// Something the producer is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlItem {
    /// Its place in the inbox, from 1.
    pub id: u64,
    /// What is asked.
    pub kind: ControlKind,
}

/// What a producer can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// Say the last words and end.
    Stop {
        /// Why.
        reason: StopReason,
    },
}

/// A stop is the only item so far, and a run has at most one.
const STOP_ID: u64 = 1;

impl Engine {
    /// Opens a run's inbox. `NotFound` if the tenant has no such run; the inbox of an ended run
    /// is empty.
    pub fn control(&self, tenant: &TenantId, run: &RunId) -> Result<ControlInbox, ReadError> {
        let stream = StreamKey::run(tenant, run);
        if self.inner.supervisor.is_gone(&stream) {
            return Err(ReadError::NotFound(stream));
        }
        let run = self.inner.supervisor.find(&stream);
        match &run {
            Some(run) => run.activity.control_opened(),
            None => drop(self.inner.journal.info(&stream)?),
        }
        let phase = run.as_ref().map(|run| run.watch());
        Ok(ControlInbox { run, phase })
    }
}

impl ControlInbox {
    /// Waits for the next item after `after` (0 for the first). `None` once the run has ended or
    /// nothing can come any more.
    pub async fn next(&mut self, after: u64) -> Option<ControlItem> {
        let phase = self.phase.as_mut()?;
        let seen_stop = after >= STOP_ID;
        let ready = |phase: &Phase| match phase {
            Phase::Queued | Phase::Running | Phase::Failing => false,
            Phase::Stopping(_) => !seen_stop,
            Phase::Ended(_) => true,
        };
        let phase = phase.wait_for(ready).await.ok()?;
        match *phase {
            Phase::Stopping(reason) => {
                Some(ControlItem { id: STOP_ID, kind: ControlKind::Stop { reason } })
            }
            Phase::Queued | Phase::Running | Phase::Failing | Phase::Ended(_) => None,
        }
    }
}

impl Drop for ControlInbox {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            run.activity.control_closed();
        }
    }
}
