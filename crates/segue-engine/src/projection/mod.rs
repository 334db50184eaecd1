//! The driver that folds streams into views (P1).
//!
//! Two tasks follow the bells. One reads session and catalogue streams from their checkpoints and
//! folds their records into rows; [`runs`] folds runs into the rows of their messages. Each writes
//! rows with the place up to which they are folded in one transaction. Neither holds a truth of its
//! own: emptied views are filled again from the journal.

mod edits;
mod fold;
pub(crate) mod message;
mod progress;
pub(crate) mod rows;
mod runs;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use segue_core::fold::Message;
use segue_journal::{
    Follower, Journal, Position, ReadError, StreamKey, StreamKind,
    views::{ViewError, ViewStore},
};

use crate::spawner::Spawner;
use fold::Fold;
use progress::{Marks, Progress, Side};
use runs::Runs;

pub(crate) use message::MESSAGES;
pub use rows::SCHEMA;
pub(crate) use rows::{RUNS, SESSIONS};

const FOLLOWED: [StreamKind; 2] = [StreamKind::Session, StreamKind::Catalogue];
/// How many streams one transaction folds.
const GROUP: usize = 256;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The handle of the projection's tasks.
pub(crate) struct Projection {
    sessions: Arc<Progress>,
    runs: Runs,
}

struct Task {
    journal: Arc<dyn Journal>,
    views: Arc<dyn ViewStore>,
    marks: Arc<Marks>,
    follower: Follower,
    progress: Arc<Progress>,
    /// Streams that changed and are not folded yet.
    dirty: BTreeSet<StreamKey>,
    /// The views are to be emptied first.
    is_ahead: bool,
}

impl Projection {
    /// Starts the tasks. They begin with what changed since the views were last written.
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
        let marks = Arc::new(Marks::new(since));
        let sessions = Arc::new(Progress::default());
        let runs =
            Runs::start(journal.clone(), views.clone(), marks.clone(), sessions.clone(), spawner)?;
        let dirty = changed_since(&*journal, since, &FOLLOWED)?;
        let progress = sessions.clone();
        let task = Task { journal, views, marks, follower, progress, dirty, is_ahead };
        sessions.poke.notify_one();
        spawner.spawn(task.run());
        Ok(Self { sessions, runs })
    }

    /// Waits until every commit up to `position` is in the views, but for what runs say.
    pub(crate) async fn caught_up(&self, position: Position) -> Result<(), ViewError> {
        self.sessions.caught_up(position).await
    }

    /// Waits until every commit up to `position` is in the views, what runs say too.
    pub(crate) async fn flushed(&self, position: Position) -> Result<(), ViewError> {
        self.sessions.caught_up(position).await?;
        self.runs.flushed(position).await
    }

    /// Waits until every commit up to `position` is in the views, and of what runs say the messages
    /// that have ended.
    pub(crate) async fn ended(&self, position: Position) -> Result<(), ViewError> {
        self.sessions.caught_up(position).await?;
        self.runs.ticked().await
    }

    /// The messages of these runs as they are now, in their order; `None` of one that is gone. The
    /// views must hold the runs.
    pub(crate) async fn now(
        &self,
        runs: Vec<StreamKey>,
    ) -> Result<Vec<Option<Message>>, ViewError> {
        self.runs.now(runs).await
    }

    /// Ends the tasks after what they are doing.
    pub(crate) fn stop(&self) {
        self.sessions.stop.notify_one();
        self.runs.stop();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.progress.end();
    }
}

impl Task {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            tokio::select! {
                biased;
                () = self.progress.stop.notified() => return,
                () = self.progress.poke.notified() => {}
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
            let position = self.marks.with(Side::Sessions, position);
            fold_all(&*self.journal, &*self.views, &self.dirty, self.marks.both(), position)
                .await?;
            self.dirty.clear();
        }
        self.marks.mark(Side::Sessions, position);
        self.progress.reach(position);
        Ok(())
    }
}

/// Folds streams in groups of a bounded size. Only when all are folded does the store's position
/// go from `before` to `position`.
async fn fold_all(
    journal: &dyn Journal,
    views: &dyn ViewStore,
    streams: &BTreeSet<StreamKey>,
    before: Position,
    position: Position,
) -> Result<(), ViewError> {
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

fn changed_since(
    journal: &dyn Journal,
    since: Position,
    kinds: &[StreamKind],
) -> Result<BTreeSet<StreamKey>, ReadError> {
    let mut changed = BTreeSet::new();
    for kind in kinds {
        changed.extend(journal.changed_since(since, *kind)?);
    }
    Ok(changed)
}

/// Empties the views and fills them again from the journal. Gives how many streams were folded.
pub async fn rebuild(
    journal: Arc<dyn Journal>,
    views: Arc<dyn ViewStore>,
) -> Result<usize, ViewError> {
    views.clear().await?;
    let (start, position) = (Position::default(), journal.position());
    let changed = |kinds: &[StreamKind]| {
        let changed = changed_since(&*journal, start, kinds);
        changed.map_err(|error| ViewError::Store(error.to_string()))
    };
    let (streams, runs) = (changed(&FOLLOWED)?, changed(&[StreamKind::Run])?);
    fold_all(&*journal, &*views, &streams, start, start).await?;
    let folded = streams.len() + runs.len();
    runs::fold_all(journal.clone(), views, runs, position).await?;
    Ok(folded)
}
