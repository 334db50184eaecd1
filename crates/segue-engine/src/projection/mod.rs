//! The driver that folds streams into views (P1).
//!
//! It follows the bells of session and catalogue streams, reads each stream from its checkpoint,
//! folds the records into rows, and writes rows and checkpoints in one transaction. It holds no
//! truth of its own: emptied views are filled again from the journal.

mod edits;
mod fold;
pub(crate) mod message;
pub(crate) mod rows;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use segue_journal::{
    Follower, Journal, Position, ReadError, StreamKey, StreamKind,
    views::{ViewError, ViewStore},
};
use tokio::sync::{Notify, oneshot};

use crate::spawner::Spawner;
use fold::Fold;

pub(crate) use message::MESSAGES;
pub use rows::SCHEMA;
pub(crate) use rows::{RUNS, SESSIONS};

const FOLLOWED: [StreamKind; 2] = [StreamKind::Session, StreamKind::Catalogue];
/// How many streams one transaction folds.
const GROUP: usize = 256;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The handle of the projection's task.
pub(crate) struct Projection {
    shared: Arc<Shared>,
}

struct Shared {
    poke: Notify,
    stop: Notify,
    /// Up to where everything is folded, and who waits for more: told in the order in which they
    /// came, so that what follows does not depend on chance.
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    position: Position,
    waiting: Vec<(Position, oneshot::Sender<()>)>,
    is_over: bool,
}

impl Shared {
    fn done(&self) -> MutexGuard<'_, Done> {
        // A panic elsewhere leaves it whole: every change is one step.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to `position` is folded.
    fn reach(&self, position: Position) {
        let mut done = self.done();
        done.position = position;
        let waiting = std::mem::take(&mut done.waiting);
        let (reached, rest) = waiting.into_iter().partition(|(wanted, _)| *wanted <= position);
        done.waiting = rest;
        drop(done);
        for (_, told) in reached {
            // Who waited may have gone.
            told.send(()).unwrap_or_default();
        }
    }

    /// Nothing more will be folded.
    fn end(&self) {
        let mut done = self.done();
        done.is_over = true;
        done.waiting.clear();
    }
}

struct Task {
    journal: Arc<dyn Journal>,
    views: Arc<dyn ViewStore>,
    follower: Follower,
    shared: Arc<Shared>,
    /// Streams that changed and are not folded yet.
    dirty: BTreeSet<StreamKey>,
    /// The views are to be emptied first.
    is_ahead: bool,
}

impl Projection {
    /// Starts the task. It begins with what changed since the views were last written.
    pub(crate) fn start(
        journal: Arc<dyn Journal>,
        views: Arc<dyn ViewStore>,
        spawner: &Spawner,
    ) -> Result<Self, crate::engine::OpenError> {
        // Followed before it is asked what changed, so that nothing falls between.
        let follower = journal.doorbell().follow(&FOLLOWED);
        let since = views.position()?;
        // Views that know more than the journal are of another one, or of one that lost its end.
        let is_ahead = since > journal.position();
        let since = if is_ahead { Position::default() } else { since };
        let dirty = changed_since(&*journal, since)?;
        let (poke, stop, done) = (Notify::new(), Notify::new(), Mutex::default());
        let shared = Arc::new(Shared { poke, stop, done });
        let task = Task { journal, views, follower, shared: shared.clone(), dirty, is_ahead };
        shared.poke.notify_one();
        spawner.spawn(task.run());
        Ok(Self { shared })
    }

    /// Waits until every commit up to `position` is in the views.
    pub(crate) async fn caught_up(&self, position: Position) -> Result<(), ViewError> {
        let (told, reached) = oneshot::channel();
        let over = || ViewError::Store("the projection has stopped".into());
        {
            let mut done = self.shared.done();
            if done.position >= position {
                return Ok(());
            }
            if done.is_over {
                return Err(over());
            }
            done.waiting.push((position, told));
        }
        self.shared.poke.notify_one();
        reached.await.map_err(|_| over())
    }

    /// Ends the task after what it is doing.
    pub(crate) fn stop(&self) {
        self.shared.stop.notify_one();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Task {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            tokio::select! {
                biased;
                () = self.shared.stop.notified() => return,
                () = self.shared.poke.notified() => {}
                () = self.follower.rung() => {}
            }
            while let Err(error) = self.catch_up().await {
                metrics::counter!("segue_projection_retries_total").increment(1);
                tracing::error!(%error, "the views could not be written, trying again");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LAST_RETRY);
            }
            retry = FIRST_RETRY;
        }
    }

    /// Folds everything that is acknowledged now.
    async fn catch_up(&mut self) -> Result<(), ViewError> {
        // Read before the changed streams are taken: what is rung later is folded later.
        let position = self.follower.heard(self.journal.position()).await;
        self.dirty.extend(self.follower.take());
        if self.is_ahead {
            metrics::counter!("segue_views_ahead_total").increment(1);
            tracing::error!("the views are ahead of the journal, they are built again");
            self.views.clear().await?;
            self.is_ahead = false;
        }
        if !self.dirty.is_empty() {
            fold_all(&*self.journal, &*self.views, &self.dirty, position).await?;
            self.dirty.clear();
        }
        self.shared.reach(position);
        Ok(())
    }
}

/// Folds streams in groups of a bounded size. Only when all are folded does the store know that
/// everything up to `position` is.
async fn fold_all(
    journal: &dyn Journal,
    views: &dyn ViewStore,
    streams: &BTreeSet<StreamKey>,
    position: Position,
) -> Result<(), ViewError> {
    let before = views.position()?;
    let streams: Vec<&StreamKey> = streams.iter().collect();
    let groups = streams.chunks(GROUP).count();
    for (index, group) in streams.chunks(GROUP).enumerate() {
        let (changes, checkpoints) = {
            let mut fold = Fold::new(views);
            for stream in group {
                fold.stream(journal, stream)?;
            }
            fold.finish()
        };
        let position = if index + 1 == groups { position } else { before };
        views.apply(changes, checkpoints, position).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn changed_since(journal: &dyn Journal, since: Position) -> Result<BTreeSet<StreamKey>, ReadError> {
    let mut changed = BTreeSet::new();
    for kind in FOLLOWED {
        changed.extend(journal.changed_since(since, kind)?);
    }
    Ok(changed)
}

/// Empties the views and fills them again from the journal.
pub async fn rebuild(journal: &dyn Journal, views: &dyn ViewStore) -> Result<usize, ViewError> {
    views.clear().await?;
    let position = journal.position();
    let streams = changed_since(journal, Position::default())
        .map_err(|error| ViewError::Store(error.to_string()))?;
    fold_all(journal, views, &streams, position).await?;
    Ok(streams.len())
}
