//! Going down in order, in phases with a bound each; a phase that fails does not keep the next
//! ones from running.

use std::time::Duration;

use futures_util::future::join_all;

use crate::engine::Engine;

/// What a shutdown left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Runs that did not end in time; the next start interrupts them.
    pub left_running: usize,
    /// The views were brought up to date.
    pub views_flushed: bool,
}

impl Engine {
    /// Refuses new work, stops every run with reason `shutdown`, waits up to `budget` for their
    /// ends, writes what message stores have unwritten, brings the views up to date and closes the journal. Whoever calls it again waits for
    /// the same.
    pub async fn shutdown(&self, budget: Duration) -> ShutdownReport {
        *self.inner.down.get_or_init(|| self.shut_down(budget)).await
    }

    async fn shut_down(&self, budget: Duration) -> ShutdownReport {
        self.inner.supervisor.close();
        self.inner.retention.wake();
        let left_running = self.stop_all(budget).await;
        self.inner.stores.shutdown(budget).await;
        let flush = self.inner.projection.flushed(self.inner.journal.position());
        let views_flushed = matches!(tokio::time::timeout(budget, flush).await, Ok(Ok(())));
        self.inner.projection.stop();
        if left_running == 0 {
            // Only bookkeeping is left in the tasks; it does not touch the journal.
            let drained = tokio::time::timeout(budget, self.inner.spawner.drained()).await;
            metrics::gauge!("segue_shutdown_drained").set(f64::from(u8::from(drained.is_ok())));
        }
        self.inner.journal.close();
        ShutdownReport { left_running, views_flushed }
    }

    /// Stops what runs and waits until nothing does. A run that is just being started stops
    /// itself. The clean-up gets half of the budget, so that its end can still be written.
    async fn stop_all(&self, budget: Duration) -> usize {
        let runs = self.inner.supervisor.all();
        let grace = self.inner.settings.grace.min(budget / 2);
        let stopped = async {
            join_all(runs.iter().map(|run| run.stop_for_shutdown(grace))).await;
            self.inner.supervisor.emptied().await;
        };
        if tokio::time::timeout(budget, stopped).await.is_ok() {
            0
        } else {
            self.inner.supervisor.seats()
        }
    }
}
