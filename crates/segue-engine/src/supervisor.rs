//! Which runs are alive (E1): one owner a run, one line of runs a session.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use segue_core::{Outcome, Policy, RunId, StopReason, TenantId};
use segue_journal::StreamKey;
use tokio::sync::{Notify, futures::Notified};

use crate::{
    line::{Joined, Line, LineError},
    run::{Run, StopCommand},
    tombstones::Tombstones,
};

/// The table of runs that are alive. Short locks only; nothing is awaited under them.
#[derive(Default)]
pub(crate) struct Supervisor {
    table: Mutex<Table>,
    /// Rung whenever a run comes to life, or a seat or a name is given back.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    /// By run stream.
    runs: HashMap<StreamKey, Arc<Run>>,
    /// By session stream. A place is taken before its run exists.
    lines: HashMap<StreamKey, Line>,
    /// What starts that are under way are known by, with the stops that came meanwhile.
    names: HashMap<String, Vec<StopCommand>>,
    tombstones: Tombstones,
    /// Sessions that are being deleted and their runs: to everybody else they do not exist.
    gone: HashSet<StreamKey>,
    closing: bool,
}

/// Why a seat was not given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SeatError {
    /// The session has an active run.
    Busy(RunId),
    /// A start of the session is under way; try again when something changed.
    Later,
    /// The session is being deleted.
    Gone,
    /// The engine shuts down.
    Closing,
}

/// Where a stop has to go.
pub(crate) enum StopRoute {
    /// To the run's owner.
    Alive(Arc<Run>, StopCommand),
    /// It is kept for the run, whose start is under way.
    Kept,
    /// No such run is alive or on its way.
    Nowhere,
}

/// The right to run in a session; given back on drop, on every path.
pub(crate) struct Seat {
    supervisor: Arc<Supervisor>,
    session: StreamKey,
    place: Joined,
    is_called: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.supervisor.table();
        if let Some(line) = table.lines.get_mut(&self.session) {
            line.leave(self.place.turn);
            if line.is_empty() {
                table.lines.remove(&self.session);
            }
        }
        drop(table);
        self.supervisor.changed.notify_waiters();
    }
}

impl Seat {
    /// Its number in the session's line.
    pub(crate) fn turn(&self) -> u64 {
        self.place.turn
    }

    /// Whether others have to end first.
    pub(crate) fn waits(&self) -> bool {
        self.place.waits
    }

    /// Waits until all before it have ended. Never completes while the engine goes down: nothing
    /// begins then.
    pub(crate) async fn called(&mut self) {
        if !self.is_called {
            // An error cannot be: the line keeps the bell for as long as the place is taken.
            self.is_called = (&mut self.place.called).await.is_ok();
        }
        if !self.is_called || self.supervisor.is_closing() {
            std::future::pending::<()>().await;
        }
    }

    /// The runs before it that are alive, newest first.
    pub(crate) fn before(&self, tenant: &TenantId) -> Vec<Arc<Run>> {
        let table = self.supervisor.table();
        let Some(line) = table.lines.get(&self.session) else { return Vec::new() };
        let before = line.before(self.place.turn);
        before.filter_map(|run| table.runs.get(&StreamKey::run(tenant, run)).cloned()).collect()
    }
}

/// What a start is known by while it is under way; given back on drop, on every path.
pub(crate) struct Names {
    supervisor: Arc<Supervisor>,
    run: StreamKey,
    texts: Vec<String>,
}

impl Drop for Names {
    fn drop(&mut self) {
        let mut table = self.supervisor.table();
        for text in &self.texts {
            table.names.remove(text);
        }
        drop(table);
        self.supervisor.changed.notify_waiters();
    }
}

impl Names {
    /// How the run ends if somebody stopped it before it exists.
    pub(crate) fn stopped(&self) -> Option<Outcome> {
        let mut table = self.supervisor.table();
        let first = table.names.get(&self.texts[0]).and_then(|stops| stops.first());
        match first {
            Some(stop) => Some(stop.outcome()),
            None => table.tombstones.has(&self.run).then(|| Outcome::stopped(StopReason::User)),
        }
    }

    /// The run was created and ended at once: gives the stops that are to be told.
    pub(crate) fn take_stops(&mut self) -> Vec<StopCommand> {
        let mut table = self.supervisor.table();
        table.tombstones.take(&self.run);
        table.names.get_mut(&self.texts[0]).map(std::mem::take).unwrap_or_default()
    }
}

impl Supervisor {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table whole: every change to it is one call.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place in the session's line for `run`.
    pub(crate) fn take_seat(
        self: &Arc<Self>,
        session: &StreamKey,
        run: &RunId,
        policy: Policy,
    ) -> Result<Seat, SeatError> {
        let mut table = self.table();
        if table.closing {
            return Err(SeatError::Closing);
        }
        if table.gone.contains(session) {
            return Err(SeatError::Gone);
        }
        let line = table.lines.entry(session.clone()).or_default();
        let place = line.join(run, policy).map_err(|error| match error {
            LineError::Busy(run) => SeatError::Busy(run),
            LineError::Later => SeatError::Later,
        })?;
        Ok(Seat { supervisor: self.clone(), session: session.clone(), place, is_called: false })
    }

    /// Takes a place for a run of before a restart; in the order of turns.
    pub(crate) fn take_seat_again(
        self: &Arc<Self>,
        session: &StreamKey,
        run: &RunId,
        turn: u64,
        policy: Policy,
    ) -> Seat {
        let mut table = self.table();
        let place = table.lines.entry(session.clone()).or_default().join_at(turn, run, policy);
        Seat { supervisor: self.clone(), session: session.clone(), place, is_called: false }
    }

    /// Claims what a start is known by: its run, and its key. `None` if another start under way
    /// has one of them.
    pub(crate) fn claim(self: &Arc<Self>, run: &StreamKey, key: Option<String>) -> Option<Names> {
        let texts: Vec<String> = std::iter::once(run.to_string()).chain(key).collect();
        let mut table = self.table();
        if texts.iter().any(|text| table.names.contains_key(text)) {
            return None;
        }
        for text in &texts {
            table.names.insert(text.clone(), Vec::new());
        }
        Some(Names { supervisor: self.clone(), run: run.clone(), texts })
    }

    /// A run is durable and has its owner: gives the stops that came before.
    pub(crate) fn insert(
        &self,
        run: &Arc<Run>,
        seat: &Seat,
        names: Option<Names>,
    ) -> Vec<StopCommand> {
        let mut table = self.table();
        table.runs.insert(run.stream.clone(), run.clone());
        table.tombstones.take(&run.stream);
        let stops = names.as_ref().and_then(|names| table.names.get_mut(&names.texts[0]));
        let stops = stops.map(std::mem::take).unwrap_or_default();
        if let Some(line) = table.lines.get_mut(&seat.session) {
            line.settle(seat.place.turn);
        }
        drop(table);
        // After the lock: they take it to give themselves back.
        drop(names);
        self.changed.notify_waiters();
        stops
    }

    /// Forgets a run whose terminal is durable.
    pub(crate) fn remove(&self, stream: &StreamKey) {
        self.table().runs.remove(stream);
    }

    /// A run that is alive and that others may know of.
    pub(crate) fn find(&self, stream: &StreamKey) -> Option<Arc<Run>> {
        let table = self.table();
        table.runs.get(stream).filter(|_| !table.gone.contains(stream)).cloned()
    }

    /// Hides streams from everybody. From here on nobody takes a place in a hidden session's line.
    /// False if the first of them is hidden already.
    pub(crate) fn hide<'a>(&self, streams: impl IntoIterator<Item = &'a StreamKey>) -> bool {
        let mut table = self.table();
        let mut new = streams.into_iter().map(|stream| table.gone.insert(stream.clone()));
        let is_new = new.next().unwrap_or_default();
        new.for_each(drop);
        is_new
    }

    /// They are erased, or were not to be deleted after all.
    pub(crate) fn show<'a>(&self, streams: impl IntoIterator<Item = &'a StreamKey>) {
        let mut table = self.table();
        for stream in streams {
            table.gone.remove(stream);
        }
        drop(table);
        self.changed.notify_waiters();
    }

    /// Whether a session or run is being deleted.
    pub(crate) fn is_gone(&self, stream: &StreamKey) -> bool {
        self.table().gone.contains(stream)
    }

    /// Waits until every run that has a place in the session's line is durable.
    pub(crate) async fn settled(&self, session: &StreamKey) {
        loop {
            let changed = self.changed.notified();
            if self.table().lines.get(session).is_none_or(Line::is_settled) {
                return;
            }
            changed.await;
        }
    }

    /// The runs of a session that are alive, hidden or not.
    pub(crate) fn alive_in(&self, tenant: &TenantId, session: &StreamKey) -> Vec<Arc<Run>> {
        let table = self.table();
        let Some(line) = table.lines.get(session) else { return Vec::new() };
        let alive = line.runs().filter_map(|run| table.runs.get(&StreamKey::run(tenant, run)));
        alive.cloned().collect()
    }

    /// Waits until nobody has a place in the session's line.
    pub(crate) async fn left(&self, session: &StreamKey) {
        loop {
            let changed = self.changed.notified();
            if !self.table().lines.contains_key(session) {
                return;
            }
            changed.await;
        }
    }

    /// Whether a start of the run is under way.
    pub(crate) fn is_coming(&self, run: &StreamKey) -> bool {
        self.table().names.contains_key(&run.to_string())
    }

    /// Finds where a stop has to go, and keeps it where the run is on its way.
    pub(crate) fn route_stop(&self, run: &StreamKey, stop: StopCommand) -> StopRoute {
        let mut table = self.table();
        if table.gone.contains(run) {
            return StopRoute::Nowhere;
        }
        if let Some(alive) = table.runs.get(run) {
            return StopRoute::Alive(alive.clone(), stop);
        }
        match table.names.get_mut(&run.to_string()) {
            Some(stops) => {
                // The first says why. Of the others only those matter that somebody waits for.
                let mut is_first = true;
                stops.retain(|stop| std::mem::take(&mut is_first) || stop.is_awaited());
                stops.push(stop);
                StopRoute::Kept
            }
            None => StopRoute::Nowhere,
        }
    }

    /// Leaves a stop for a run that nobody knows yet. False if it has come meanwhile.
    pub(crate) fn leave_tombstone(&self, run: &StreamKey) -> bool {
        let mut table = self.table();
        let is_known = table.runs.contains_key(run) || table.names.contains_key(&run.to_string());
        if !is_known {
            table.tombstones.leave(run.clone());
        }
        !is_known
    }

    /// The active runs of a session, in the order of their turns.
    pub(crate) fn active(&self, session: &StreamKey) -> Vec<RunId> {
        let table = self.table();
        let lines = table.lines.get(session).filter(|_| !table.gone.contains(session));
        lines.map(|line| line.runs().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Run>> {
        self.table().runs.values().cloned().collect()
    }

    /// Completes when, after this call, a run comes to life or a seat or a name is given back.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// How many runs are alive, those that are being started among them.
    pub(crate) fn seats(&self) -> usize {
        self.table().lines.values().map(Line::len).sum()
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

    /// Refuses new runs from here on if none is alive or being started; tells whether it does.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut table = self.table();
        let is_empty = table.lines.values().all(Line::is_empty);
        table.closing |= is_empty;
        table.closing
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.table().closing
    }
}
