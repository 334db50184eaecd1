//! Fan-out on threads of its own (W2).
//!
//! Connections are accepted and requests are served on the main runtime, beside ingest and
//! commits. Each fan-out thread has a runtime of its own with one [`Shard`] of the journal's
//! doorbell, which it pumps. A request that turns out to be an event stream boards one of these
//! threads ([`FanOut::board`]): the *whole task* that serves it moves there ([`seat`]) before the
//! first record is read, and each next request of its connection begins at home again ([`go_home`]).
//!
//! Invariant: a frame for a client is encoded, copied and written by a fan-out thread, and no
//! append is decoded, admitted or submitted by one. So the slowest or most numerous readers take
//! time from each other, never from ingest. (Of an HTTP/2 connection that carries both, the
//! framing of its own appends moves along: it costs only the client that mixed them.)

mod seat;
mod thread;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use segue_journal::Shard;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use seat::{Place, Wish};
pub(crate) use seat::{Seat, Streams};
use thread::Thread;

/// Where the tasks of connections run: the main runtime and the fan-out threads.
pub(crate) struct FanOut {
    home: Handle,
    threads: Vec<Thread>,
    /// Deals out the threads in turn.
    turn: AtomicUsize,
    tasks: TaskTracker,
}

impl FanOut {
    /// Starts `threads` threads, at least one. The caller's runtime becomes home.
    pub(crate) fn start(threads: usize, shard: impl Fn() -> Shard) -> io::Result<Arc<Self>> {
        let threads =
            (0..threads.max(1)).map(|n| Thread::start(n, shard())).collect::<io::Result<_>>()?;
        let (turn, tasks) = (AtomicUsize::new(0), TaskTracker::new());
        Ok(Arc::new(Self { home: Handle::current(), threads, turn, tasks }))
    }

    /// Moves the calling task to a fan-out thread and gives that thread's shard.
    ///
    /// What comes after the call runs there. A task that is on such a thread stays on it.
    pub(crate) async fn board(&self) -> Shard {
        let next = || Place::thread(self.turn.fetch_add(1, Ordering::Relaxed) % self.threads.len());
        let (place, moves) = seat::wish_thread(next);
        if moves {
            tokio::task::yield_now().await;
        }
        self.threads[place.index().unwrap_or(0)].shard.clone()
    }

    /// Starts the task of a seat at home.
    pub(crate) fn seat(self: &Arc<Self>, seat: Seat) {
        self.spawn(Place::HOME, seat);
    }

    fn spawn(self: &Arc<Self>, place: Place, mut seat: Seat) {
        let fan_out = Arc::clone(self);
        let task = async move {
            // The next task is counted before this one is over, so the tracker never sees a gap.
            if let Some(place) = (&mut seat).await {
                fan_out.spawn(place, seat);
            }
        };
        let runtime = place.index().map_or(&self.home, |index| &self.threads[index].runtime);
        // The handle is not needed: the tracker knows when the task is over.
        drop(self.tasks.spawn_on(task, runtime));
    }

    /// Starts a task that is not a client's at home.
    pub(crate) fn spawn_home(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn_on(task, &self.home));
    }

    /// Waits until every task is over. Whoever calls it has seen to it that they will be.
    pub(crate) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Takes the calling task back to the main runtime. What comes after the call runs there.
pub(crate) async fn go_home() {
    if seat::wish_home() {
        tokio::task::yield_now().await;
    }
}

/// Whether the caller runs at home, on no fan-out thread.
pub(crate) fn is_home() -> bool {
    Place::here() == Place::HOME
}

/// A new wish for a connection's task.
pub(crate) fn wish() -> Wish {
    Wish::default()
}

#[cfg(test)]
mod tests;
