//! Which runs are alive (E1): one owner a run, one active run a session.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use segue_core::RunId;
use segue_journal::StreamKey;
use tokio::sync::{Notify, futures::Notified};

use crate::run::Run;

/// The table of runs that are alive. Short locks only; nothing is awaited under them.
#[derive(Default)]
pub(crate) struct Supervisor {
    table: Mutex<Table>,
    /// Rung whenever a run comes to life or a seat is given back.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    /// By run stream.
    runs: HashMap<StreamKey, Arc<Run>>,
    /// The active run of a session, by session stream. A seat is taken before the run exists.
    seats: HashMap<StreamKey, RunId>,
    closing: bool,
}

/// Why a seat was not given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SeatError {
    /// The session has an active run.
    Busy(RunId),
    /// The engine shuts down.
    Closing,
}

/// The right to run in a session; given back on drop, on every path.
pub(crate) struct Seat {
    supervisor: Arc<Supervisor>,
    session: StreamKey,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.supervisor.table().seats.remove(&self.session);
        self.supervisor.changed.notify_waiters();
    }
}

impl Supervisor {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table whole: every change to it is one call.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the session's seat for `run`.
    pub(crate) fn take_seat(
        self: &Arc<Self>,
        session: &StreamKey,
        run: &RunId,
    ) -> Result<Seat, SeatError> {
        let mut table = self.table();
        if table.closing {
            return Err(SeatError::Closing);
        }
        if let Some(active) = table.seats.get(session) {
            return Err(SeatError::Busy(active.clone()));
        }
        table.seats.insert(session.clone(), run.clone());
        Ok(Seat { supervisor: self.clone(), session: session.clone() })
    }

    pub(crate) fn insert(&self, run: Arc<Run>) {
        self.table().runs.insert(run.stream.clone(), run);
        self.changed.notify_waiters();
    }

    /// Forgets a run whose terminal is durable.
    pub(crate) fn remove(&self, stream: &StreamKey) {
        self.table().runs.remove(stream);
    }

    pub(crate) fn find(&self, stream: &StreamKey) -> Option<Arc<Run>> {
        self.table().runs.get(stream).cloned()
    }

    /// Finds a run that is alive; of one that is being started, waits until it is or is not.
    pub(crate) async fn find_or_await(&self, stream: &StreamKey) -> Option<Arc<Run>> {
        loop {
            let changed = self.changed.notified();
            {
                let table = self.table();
                if let Some(run) = table.runs.get(stream) {
                    return Some(run.clone());
                }
                let is_seated = |(session, run): (&StreamKey, &RunId)| {
                    session.tenant() == stream.tenant() && run.as_str() == stream.id()
                };
                if !table.seats.iter().any(is_seated) {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// The active run of a session.
    pub(crate) fn active(&self, session: &StreamKey) -> Option<RunId> {
        self.table().seats.get(session).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Run>> {
        self.table().runs.values().cloned().collect()
    }

    /// Completes when, after this call, a run comes to life or a seat is given back.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// How many runs are alive, those that are being started among them.
    pub(crate) fn seats(&self) -> usize {
        self.table().seats.len()
    }

    /// Waits until no run is alive.
    pub(crate) async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            if self.seats() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Refuses new runs from here on.
    pub(crate) fn close(&self) {
        self.table().closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.table().closing
    }
}
