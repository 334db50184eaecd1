//! The one place that spawns tasks, so that shutdown can wait for all of them.

use std::future::Future;

use tokio_util::task::TaskTracker;

/// Spawns tasks on the runtime it was made in and keeps count of them.
#[derive(Clone)]
pub(crate) struct Spawner {
    tracker: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl Spawner {
    /// On the runtime of the caller.
    pub(crate) fn current() -> Self {
        Self { tracker: TaskTracker::new(), runtime: tokio::runtime::Handle::current() }
    }

    /// Starts a task that outlives whoever asked for it.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // The handle is not needed: the tracker knows when the task is over.
        drop(self.tracker.spawn_on(task, &self.runtime));
    }

    /// Waits until every task is over.
    pub(crate) async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
