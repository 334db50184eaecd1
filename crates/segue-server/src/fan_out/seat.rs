//! A seat: a task that can be moved to another runtime between two polls.
//!
//! Moving is safe for whatever the task holds: sockets and timers keep the driver of the runtime
//! they were made in, and wake the task wherever it is. The main runtime therefore outlives the
//! fan-out threads' tasks.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use hyper::rt::Executor;

use super::{FanOut, thread};

tokio::task_local! {
    /// The wish of the task that is being polled.
    static WISH: Wish;
}

/// Where a task can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Place {
    pub(super) const HOME: Place = Place(0);

    pub(super) fn thread(index: usize) -> Self {
        Self(index + 1)
    }

    /// The fan-out thread; `None` for home.
    pub(super) fn index(self) -> Option<usize> {
        self.0.checked_sub(1)
    }

    /// Where the caller runs.
    pub(super) fn here() -> Self {
        thread::current().map_or(Self::HOME, Self::thread)
    }
}

/// Where a task wishes to be. Read by its seat after each poll.
#[derive(Clone, Default)]
pub(crate) struct Wish {
    own: Arc<AtomicUsize>,
    /// Of an HTTP/2 stream: the wish of its connection, whose socket should follow its streams.
    connection: Option<Arc<AtomicUsize>>,
}

impl Wish {
    fn of_stream(&self) -> Self {
        Self { own: Arc::default(), connection: Some(Arc::clone(&self.own)) }
    }

    fn place(&self) -> Place {
        Place(self.own.load(Ordering::Acquire))
    }

    fn board(&self, next: impl FnOnce() -> Place) -> Place {
        let connection = self.connection.as_ref().unwrap_or(&self.own);
        let mut place = Place(connection.load(Ordering::Acquire));
        if place == Place::HOME {
            place = next();
            connection.store(place.0, Ordering::Release);
        }
        self.own.store(place.0, Ordering::Release);
        place
    }
}

/// Wishes the current task onto a fan-out thread, `next` if it has none yet. Gives the thread
/// and whether the task has to move for it.
///
/// Outside a seat (a unit test of a route) nothing moves.
pub(super) fn wish_thread(next: impl FnOnce() -> Place) -> (Place, bool) {
    let mut next = Some(next);
    let mut pick = || next.take().map_or(Place::thread(0), |next| next());
    match WISH.try_with(|wish| wish.board(&mut pick)) {
        Ok(place) => (place, place != Place::here()),
        Err(_) => (pick(), false),
    }
}

/// Wishes the current task home. Whether it has to move for it.
pub(super) fn wish_home() -> bool {
    let wished = WISH.try_with(|wish| wish.own.store(Place::HOME.0, Ordering::Release)).is_ok();
    wished && Place::here() != Place::HOME
}

/// A task with its wish. Gives the place it wishes for, to be polled on there; `None` once over.
pub(crate) struct Seat {
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
    wish: Wish,
}

impl Seat {
    pub(crate) fn new(task: impl Future<Output = ()> + Send + 'static, wish: Wish) -> Self {
        Self { task: Box::pin(task), wish }
    }
}

impl Future for Seat {
    type Output = Option<Place>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let wish = self.wish.clone();
        if WISH.sync_scope(wish, || self.task.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(None);
        }
        let place = self.wish.place();
        if place == Place::here() { Poll::Pending } else { Poll::Ready(Some(place)) }
    }
}

/// Runs the streams of one HTTP/2 connection, each in a seat of its own that starts at home.
#[derive(Clone)]
pub(crate) struct Streams {
    fan_out: Arc<FanOut>,
    connection: Wish,
}

impl Streams {
    pub(crate) fn new(fan_out: &Arc<FanOut>, connection: &Wish) -> Self {
        Self { fan_out: Arc::clone(fan_out), connection: connection.clone() }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.fan_out.seat(Seat::new(stream, self.connection.of_stream()));
    }
}
