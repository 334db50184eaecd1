//! How far a task of the projection is, and who waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use segue_journal::{Position, views::ViewError};
use tokio::sync::{Notify, oneshot};

/// A task's progress over the journal's commits.
#[derive(Default)]
pub(super) struct Progress {
    /// Wakes the task.
    pub(super) poke: Notify,
    /// Ends the task.
    pub(super) stop: Notify,
    /// Up to where everything is done, and who waits for more: told in the order in which they
    /// came, so that what follows does not depend on chance.
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    position: Position,
    waiting: Vec<(Position, oneshot::Sender<()>)>,
    is_over: bool,
}

impl Progress {
    /// Waits until everything up to `position` is done.
    pub(super) async fn caught_up(&self, position: Position) -> Result<(), ViewError> {
        let (told, reached) = oneshot::channel();
        {
            let mut done = self.done();
            if done.position >= position {
                return Ok(());
            }
            if done.is_over {
                return Err(over());
            }
            done.waiting.push((position, told));
        }
        self.poke.notify_one();
        reached.await.map_err(|_| over())
    }

    /// Whether somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.done().waiting.iter().any(|(_, told)| !told.is_closed())
    }

    /// Everything up to `position` is done.
    pub(super) fn reach(&self, position: Position) {
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

    /// Nothing more will be done.
    pub(super) fn end(&self) {
        let mut done = self.done();
        done.is_over = true;
        done.waiting.clear();
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        // A panic elsewhere leaves it whole: every change is one step.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told to who waits for a task that has ended.
pub(super) fn over() -> ViewError {
    ViewError::Store("the projection has stopped".into())
}

/// Up to where each task has written everything. The store's own position is the lesser, so that
/// after a kill what either of them lacks is found among what changed since.
#[derive(Debug)]
pub(super) struct Marks(Mutex<[Position; 2]>);

/// A task of the projection.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Sessions,
    Runs,
}

impl Marks {
    pub(super) fn new(since: Position) -> Self {
        Self(Mutex::new([since; 2]))
    }

    /// What the store may say once a task has written everything up to `position`.
    pub(super) fn with(&self, side: Side, position: Position) -> Position {
        let mut marks = *self.lock();
        marks[side as usize] = position;
        marks[0].min(marks[1])
    }

    /// A task has written everything up to `position`.
    pub(super) fn mark(&self, side: Side, position: Position) {
        self.lock()[side as usize] = position;
    }

    /// What the store may say with what is written on the way.
    pub(super) fn both(&self) -> Position {
        let marks = *self.lock();
        marks[0].min(marks[1])
    }

    fn lock(&self) -> MutexGuard<'_, [Position; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
