//! Runs, folded into the rows of their messages.
//!
//! A tick, [`WINDOW`] after the first bell, folds every run that changed from where it is in
//! memory and writes the rows that are due in one transaction. It follows the task that makes the
//! rows: a tick folds up to a position only when that task is there, so that a run's row exists or
//! its message was deleted, and an update of a row that is not there writes nothing.
//!
//! What is asked for is folded at once and answered from memory: a read needs no write.

mod draft;
mod held;
mod work;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use segue_core::fold::Message;
use segue_journal::{
    Follower, Journal, Position, StreamKey, StreamKind,
    views::{ViewError, ViewStore},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    FIRST_RETRY, LAST_RETRY, changed_since,
    progress::{Marks, Progress, over},
};
use crate::spawner::Spawner;
use work::Work;

/// How long after its first bell a tick comes.
const WINDOW: Duration = Duration::from_millis(33);

/// How long a message stays as it is before its row is written whatever it has grown by.
const SETTLE: Duration = Duration::from_secs(1);

/// The handle of the task.
pub(super) struct Runs {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How far rows are written.
    progress: Progress,
    asks: Mutex<Vec<Ask>>,
}

/// Somebody wants to know messages as they are now.
struct Ask {
    runs: Vec<StreamKey>,
    /// A tick comes first.
    ticks: bool,
    told: oneshot::Sender<Result<Vec<Option<Message>>, ViewError>>,
}

struct Task {
    work: Work,
    follower: Follower,
    shared: Arc<Shared>,
    sessions: Arc<Progress>,
    /// When the next tick is, if anything is to be done.
    tick_at: Option<Instant>,
    /// Bells do not make the tick come earlier any more.
    is_set: bool,
    retry: Duration,
}

impl Runs {
    pub(super) fn start(
        journal: Arc<dyn Journal>,
        views: Arc<dyn ViewStore>,
        marks: Arc<Marks>,
        sessions: Arc<Progress>,
        spawner: &Spawner,
    ) -> Result<Self, crate::engine::OpenError> {
        let follower = journal.doorbell().follow(&[StreamKind::Run]);
        let since = marks.both();
        let dirty = changed_since(&*journal, since, &[StreamKind::Run])?;
        let work = Work::new(journal, views, marks, dirty, since);
        let shared = Arc::<Shared>::default();
        let (tick_at, retry) = (Some(Instant::now()), FIRST_RETRY);
        let task =
            Task { work, follower, shared: shared.clone(), sessions, tick_at, is_set: true, retry };
        spawner.spawn(task.run());
        Ok(Self { shared })
    }

    /// Waits until the rows are the fold of every commit up to `position`.
    pub(super) async fn flushed(&self, position: Position) -> Result<(), ViewError> {
        self.shared.progress.caught_up(position).await
    }

    /// The messages of these runs as they are now, in their order.
    pub(super) async fn now(
        &self,
        runs: Vec<StreamKey>,
    ) -> Result<Vec<Option<Message>>, ViewError> {
        self.ask(runs, false).await
    }

    /// Waits for a tick: the rows of messages whose end is acknowledged are whole.
    pub(super) async fn ticked(&self) -> Result<(), ViewError> {
        self.ask(Vec::new(), true).await.map(drop)
    }

    async fn ask(
        &self,
        runs: Vec<StreamKey>,
        ticks: bool,
    ) -> Result<Vec<Option<Message>>, ViewError> {
        let (told, answer) = oneshot::channel();
        self.shared.asks().push(Ask { runs, ticks, told });
        self.shared.progress.poke.notify_one();
        answer.await.unwrap_or_else(|_| Err(over()))
    }

    pub(super) fn stop(&self) {
        self.shared.progress.stop.notify_one();
    }
}

impl Shared {
    fn asks(&self) -> std::sync::MutexGuard<'_, Vec<Ask>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.shared.progress.end();
        self.shared.asks().clear();
    }
}

/// Folds these runs into their rows, up to `position`.
pub(super) async fn fold_all(
    journal: Arc<dyn Journal>,
    views: Arc<dyn ViewStore>,
    runs: BTreeSet<StreamKey>,
    position: Position,
) -> Result<(), ViewError> {
    let start = Position::default();
    let mut work = Work::new(journal, views, Arc::new(Marks::new(position)), runs, start);
    work.fold().await?;
    work.write(true, position).await?;
    Ok(())
}

impl Task {
    async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let is_asked = tokio::select! {
                biased;
                () = shared.progress.stop.notified() => return,
                () = shared.progress.poke.notified() => true,
                () = self.due() => false,
            };
            if is_asked {
                self.answer().await;
            }
            if !is_asked || shared.progress.is_awaited() {
                // It has been told, and comes again.
                drop(self.tick().await);
            }
        }
    }

    /// Waits for the time of the next tick. What it noted stays when it is dropped.
    async fn due(&mut self) {
        if !self.is_set {
            let settled = async {
                match self.tick_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.follower.rung() => {}
                () = settled => return,
            }
            let at = Instant::now() + WINDOW;
            self.tick_at = Some(self.tick_at.map_or(at, |settled| settled.min(at)));
            self.is_set = true;
        }
        if let Some(at) = self.tick_at {
            sleep_until(at).await;
        }
    }

    async fn tick(&mut self) -> Result<(), ViewError> {
        let ticked = self.try_tick().await;
        match &ticked {
            Ok(()) => {
                self.retry = FIRST_RETRY;
                self.is_set = false;
                self.tick_at = self.work.has_unwritten().then(|| Instant::now() + SETTLE);
            }
            Err(error) => {
                metrics::counter!("segue_projection_retries_total").increment(1);
                tracing::error!(%error, "messages could not be written, trying again");
                (self.tick_at, self.is_set) = (Some(Instant::now() + self.retry), true);
                self.retry = (self.retry * 2).min(LAST_RETRY);
            }
        }
        ticked
    }

    async fn try_tick(&mut self) -> Result<(), ViewError> {
        // Read before the changed streams are taken: what is rung later is folded later.
        let position = self.follower.heard(self.work.position()).await;
        let everything = self.shared.progress.is_awaited();
        self.work.changed(self.follower.take());
        self.sessions.caught_up(position).await?;
        self.work.fold().await?;
        let written = self.work.write(everything, position).await?;
        self.shared.progress.reach(written);
        Ok(())
    }

    async fn answer(&mut self) {
        let asks = std::mem::take(&mut *self.shared.asks());
        let wants_tick = asks.iter().any(|ask| ask.ticks && !ask.told.is_closed());
        let ticked = if wants_tick { self.tick().await } else { Ok(()) };
        for Ask { runs, ticks, told } in asks {
            if told.is_closed() {
                continue;
            }
            let messages = match &ticked {
                Err(error) if ticks => Err(error.clone()),
                _ => self.work.messages(&runs).await,
            };
            // Who asked may have gone.
            drop(told.send(messages));
        }
    }
}
