//! A broker for programs that embed the engine: values to whoever listens now.
//!
//! A [`Feed`] makes two promises. [`Feed::publish`] never waits: who has no room loses the value.
//! [`Feed::publish_must_deliver`] waits for who has no room, for all of them at the same time, and
//! not longer than [`FeedOptions::patience`]. Every subscriber gets what it gets in the order in
//! which it was published, and whoever lost something is told how many, in the place where they
//! would have come. Nothing of it is stored: what must survive is in the journal.

mod queue;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::Instant;

use queue::{Queue, Slip};

/// What a subscriber hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// What was published.
    Value(T),
    /// So many values were lost here, since there was no room for them.
    Lost(u64),
}

impl<T> Heard<T> {
    /// What was published, if it was not lost.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Lost(_) => None,
        }
    }
}

/// The numbers of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedOptions {
    /// How many values wait for a subscriber; at least one. As many more that must be delivered may
    /// wait behind them.
    pub capacity: usize,
    /// How long what must be delivered waits for room.
    pub patience: Duration,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self { capacity: 64, patience: Duration::from_millis(50) }
    }
}

/// What a feed has counted. No loss is in two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Values published, by either promise.
    pub published: u64,
    /// Losses of [`Feed::publish`]: one for each subscriber without room.
    pub dropped: u64,
    /// Losses of [`Feed::publish_must_deliver`]: one for each subscriber that had no room in time.
    pub missed: u64,
}

/// Gives values to whoever is subscribed. Cheap to clone; ends with its last clone.
pub struct Feed<T> {
    handle: Arc<Handle<T>>,
}

/// Listens to a [`Feed`]. Dropped, it is not subscribed any more.
#[derive(Debug)]
pub struct Subscription<T> {
    shared: Arc<Shared<T>>,
    /// Where its queue is; none if the feed had ended.
    id: Option<u64>,
}

/// Ends the feed when no publisher is left.
struct Handle<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    options: FeedOptions,
    state: Mutex<State<T>>,
}

struct State<T> {
    queues: BTreeMap<u64, Queue<T>>,
    next_id: u64,
    counts: FeedCounts,
    is_over: bool,
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self::new(FeedOptions::default())
    }
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<T> Feed<T> {
    /// One that nobody listens to yet.
    pub fn new(options: FeedOptions) -> Self {
        let counts = FeedCounts::default();
        let state = State { queues: BTreeMap::new(), next_id: 0, counts, is_over: false };
        let shared = Arc::new(Shared { options, state: Mutex::new(state) });
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Listens from here on. After the feed's end there is nothing to hear.
    pub fn subscribe(&self) -> Subscription<T> {
        let shared = Arc::clone(&self.handle.shared);
        let mut state = shared.state();
        let id = (!state.is_over).then_some(state.next_id);
        if let Some(id) = id {
            state.next_id += 1;
            state.queues.insert(id, Queue::new(shared.options.capacity));
        }
        drop(state);
        Subscription { shared, id }
    }

    /// How many listen.
    pub fn subscribers(&self) -> usize {
        self.handle.shared.state().queues.len()
    }

    /// What it has counted.
    pub fn counts(&self) -> FeedCounts {
        self.handle.shared.state().counts
    }

    /// Ends it: subscribers hear what they have, then the end; what is published later goes
    /// nowhere. Doing it twice does nothing.
    pub fn shutdown(&self) {
        self.handle.shared.end();
    }
}

impl<T: Clone> Feed<T> {
    /// Gives a value to every subscriber that has room. Never waits.
    pub fn publish(&self, value: T) {
        let shared = &self.handle.shared;
        let dropped = shared.give(Instant::now(), |queue| queue.offer(value.clone()), Promise::Try);
        metrics::counter!("segue_feed_dropped_total").increment(dropped);
    }

    /// Gives a value to every subscriber at once, and waits for those that have no room, for all of
    /// them together up to [`FeedOptions::patience`]. Gives how many have missed it.
    ///
    /// The value is on its way when this returns: who drops the future only does not wait.
    #[expect(clippy::needless_pass_by_value, reason = "what is published is given away")]
    pub fn publish_must_deliver(&self, value: T) -> impl Future<Output = usize> + Send + use<T>
    where
        T: Send,
    {
        let shared = Arc::clone(&self.handle.shared);
        let now = Instant::now();
        let (until, slip) = (now + shared.options.patience, Arc::new(Slip::default()));
        let give = |queue: &mut Queue<T>| queue.insist(value.clone(), until, &slip);
        let missed = shared.give(now, give, Promise::Must);
        metrics::counter!("segue_feed_missed_total").increment(missed);
        async move {
            if tokio::time::timeout_at(until, slip.settled()).await.is_err() {
                shared.expire(until.max(Instant::now()));
            }
            slip.missed()
        }
    }
}

/// What was promised of a value, and so by which count its losses are told.
#[derive(Clone, Copy)]
enum Promise {
    Try,
    Must,
}

impl<T> Shared<T> {
    /// Gives every subscriber a value in one step, then wakes those that got it. Gives how many got
    /// none.
    fn give(
        &self,
        now: Instant,
        mut give: impl FnMut(&mut Queue<T>) -> bool,
        promise: Promise,
    ) -> u64 {
        let mut readers: Vec<Waker> = Vec::new();
        let (mut expired, mut without) = (0, 0);
        {
            let mut state = self.state();
            let State { queues, counts, is_over: false, .. } = &mut *state else { return 0 };
            for queue in queues.values_mut() {
                expired += queue.expire(now);
                if give(queue) {
                    readers.extend(queue.waiting_reader());
                } else {
                    without += 1;
                }
            }
            counts.published += 1;
            counts.missed += expired;
            match promise {
                Promise::Try => counts.dropped += without,
                Promise::Must => counts.missed += without,
            }
        }
        readers.into_iter().for_each(Waker::wake);
        metrics::counter!("segue_feed_missed_total").increment(expired);
        without
    }

    /// Gives up on what has waited until now.
    fn expire(&self, now: Instant) {
        let missed = {
            let mut state = self.state();
            let missed = state.queues.values_mut().map(|queue| queue.expire(now)).sum();
            state.counts.missed += missed;
            missed
        };
        metrics::counter!("segue_feed_missed_total").increment(missed);
    }

    fn end(&self) {
        let mut readers: Vec<Waker> = Vec::new();
        {
            let mut state = self.state();
            state.is_over = true;
            for queue in state.queues.values_mut() {
                queue.admit_all();
                readers.extend(queue.waiting_reader());
            }
        }
        readers.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // A value that panics when it is cloned leaves the queues whole: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<T> Subscription<T> {
    /// What comes next; `None` once the feed has ended and all is heard. It may be dropped while it
    /// waits: nothing is lost by that.
    pub async fn next(&mut self) -> Option<Heard<T>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Heard<T>>> {
        let Some(id) = self.id else { return Poll::Ready(None) };
        let mut state = self.shared.state();
        let State { queues, counts, is_over, .. } = &mut *state;
        let Some(queue) = queues.get_mut(&id) else { return Poll::Ready(None) };
        let missed = queue.expire_now();
        counts.missed += missed;
        let heard = queue.take();
        let is_pending = heard.is_none() && !*is_over;
        if is_pending {
            queue.wait(cx.waker());
        }
        drop(state);
        metrics::counter!("segue_feed_missed_total").increment(missed);
        if is_pending { Poll::Pending } else { Poll::Ready(heard) }
    }
}

impl<T> Stream for Subscription<T> {
    type Item = Heard<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard<T>>> {
        self.get_mut().poll(cx)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let queue = self.shared.state().queues.remove(&id);
        if let Some(mut queue) = queue {
            queue.leave();
        }
    }
}

impl<T> std::fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.handle.shared.fmt(f)
    }
}

impl<T> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let subscribers = state.queues.len();
        f.debug_struct("Feed").field("subscribers", &subscribers).finish_non_exhaustive()
    }
}
