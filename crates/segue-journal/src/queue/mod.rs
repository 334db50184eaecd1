//! The byte-bounded queue in front of a journal's writer, and its door.
//!
//! ```text
//!  reserve -> [door: bytes held, per stream and in total] -> Permit
//!  push(Permit, Batch) -> [items, in the order of push] -> take -> commit -> Permit dropped
//! ```
//!
//! A permit is held from the door until its batch is answered, so the door bounds what is queued
//! and what is being written together. Pushing never waits, so the order of pushes is the order
//! of seqs.

mod door;
#[cfg(test)]
mod tests;
mod ticket;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    api::{AppendError, Batch, Part, ReserveError},
    stream::StreamKey,
    sync::held,
};

pub use ticket::Ticket;

pub(crate) use ticket::{Answer, Outcome, Told};

use door::Door;

/// So many batches at once come from many producers; fewer may be one producer's.
const CROWD: usize = 8;
/// So many batches share a commit's cost well: nothing is won by waiting for more.
const ENOUGH: usize = 64;
/// How long a crowd is waited for.
const GATHER: Duration = Duration::from_millis(1);

/// How much a queue takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    /// Bytes that may be held at once.
    pub(crate) capacity: usize,
    /// Bytes of the largest batch.
    pub(crate) max_batch: usize,
}

/// A batch on its way to the writer.
pub(crate) struct Queued {
    /// What to commit.
    pub(crate) batch: Batch,
    /// Its room; dropped once it is answered.
    pub(crate) permit: Permit,
    /// Where the answer goes.
    pub(crate) answer: Answer,
}

/// The queue. Shared by every submitter and the one writer.
pub(crate) struct Queue {
    limits: QueueLimits,
    door: Mutex<Door>,
    items: Mutex<Items>,
    filled: Condvar,
}

#[derive(Default)]
struct Items {
    queue: VecDeque<Queued>,
    closed: Option<String>,
    /// How many batches the sleeping writer waits for: the push that makes them so many notifies
    /// it. Zero while the writer is awake.
    awaited: usize,
    /// How many batches were taken last.
    taken: usize,
}

impl Queue {
    /// An empty, open queue.
    pub(crate) fn new(limits: QueueLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            door: Mutex::new(Door::new(limits.capacity)),
            items: Mutex::default(),
            filled: Condvar::new(),
        })
    }

    /// Waits at the door for room for a batch of `bytes` whose main stream is `stream`.
    pub(crate) fn reserve<'a>(
        self: &'a Arc<Self>,
        stream: &StreamKey,
        bytes: usize,
    ) -> Reserve<'a> {
        Reserve { queue: self, stream: stream.clone(), bytes, place: None }
    }

    /// Adds a batch at the end. Never blocks.
    ///
    /// A batch with more bytes than its permit is refused (`TooLarge`), as is any after `close`
    /// (`Poisoned`).
    pub(crate) fn push(&self, permit: Permit, batch: Batch) -> Ticket {
        let (answer, ticket) = Ticket::pair();
        let bytes: usize = batch.parts.iter().map(Part::bytes).sum();
        if bytes > permit.bytes {
            drop(answer.give(Err(AppendError::TooLarge { bytes, max: permit.bytes })));
            return ticket;
        }
        let mut items = held(&self.items);
        if let Some(why) = items.closed.clone() {
            drop(items);
            drop(answer.give(Err(AppendError::Poisoned(why))));
            return ticket;
        }
        items.queue.push_back(Queued { batch, permit, answer });
        let enough = items.awaited > 0 && items.queue.len() >= items.awaited;
        if enough {
            items.awaited = 0;
        }
        drop(items);
        if enough {
            self.filled.notify_one();
        }
        ticket
    }

    /// Moves batches into `into`, in order, as long as they have at most `max_bytes` together and
    /// are at most `max_batches`. The first always goes, whatever its size.
    ///
    /// `false` if there was none. Does not wait.
    pub(crate) fn take(
        &self,
        max_bytes: usize,
        max_batches: usize,
        into: &mut Vec<Queued>,
    ) -> bool {
        let mut items = held(&self.items);
        let (mut bytes, mut taken) = (0usize, 0);
        while let Some(front) = items.queue.front() {
            bytes = bytes.saturating_add(front.permit.bytes);
            if taken > 0 && (bytes > max_bytes || taken >= max_batches) {
                break;
            }
            into.extend(items.queue.pop_front());
            taken += 1;
        }
        items.taken = taken;
        taken > 0
    }

    /// Blocks the calling thread until there is something to take. `false` once the queue is
    /// closed and drained.
    ///
    /// The producers of a crowd come back as soon as they are answered: the writer waits until as
    /// many batches are there as it took last, or [`ENOUGH`], but never longer than [`GATHER`], and
    /// takes them together. Without a crowd it waits for nothing.
    pub(crate) fn wait(&self) -> bool {
        let mut items = held(&self.items);
        let crowd = items.taken.min(ENOUGH);
        if crowd >= CROWD {
            items.awaited = crowd;
            let more = |items: &mut Items| items.queue.len() < crowd && items.closed.is_none();
            let gathered = self.filled.wait_timeout_while(items, GATHER, more);
            items = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        while items.queue.is_empty() {
            if items.closed.is_some() {
                return false;
            }
            items.awaited = 1;
            items = self.filled.wait(items).unwrap_or_else(PoisonError::into_inner);
        }
        items.awaited = 0;
        true
    }

    /// Refuses every later push and everyone at the door with `why`. What is queued stays to be
    /// taken. A second call does nothing.
    pub(crate) fn close(&self, why: &str) {
        let mut items = held(&self.items);
        items.closed.get_or_insert_with(|| why.to_owned());
        drop(items);
        self.filled.notify_all();
        let waiting = held(&self.door).close(why);
        for waker in waiting {
            waker.wake();
        }
    }

    /// Gives the room of many permits back at once.
    pub(crate) fn release(&self, permits: impl IntoIterator<Item = Permit>) {
        let mut admitted = Vec::new();
        let mut door = held(&self.door);
        for mut permit in permits {
            permit.is_held = false;
            admitted.append(&mut door.release(&permit.stream, permit.bytes));
        }
        drop(door);
        for waker in admitted {
            waker.wake();
        }
    }
}

/// Room for one batch, given back when dropped.
pub struct Permit {
    queue: Arc<Queue>,
    stream: StreamKey,
    bytes: usize,
    is_held: bool,
}

impl Permit {
    /// How many bytes of records the batch may have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The stream it was reserved for.
    pub fn stream(&self) -> &StreamKey {
        &self.stream
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_held {
            let admitted = held(&self.queue.door).release(&self.stream, self.bytes);
            for waker in admitted {
                waker.wake();
            }
        }
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("stream", &self.stream)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Waits for a [`Permit`]. Dropping it gives up its place.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Reserve<'a> {
    queue: &'a Arc<Queue>,
    stream: StreamKey,
    bytes: usize,
    /// Where it waits; `None` before it asked and after it was answered.
    place: Option<door::Place>,
}

impl Future for Reserve<'_> {
    type Output = Result<Permit, ReserveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let max = self.queue.limits.max_batch;
        if self.bytes > max {
            return Poll::Ready(Err(ReserveError::TooLarge { bytes: self.bytes, max }));
        }
        let asked = {
            let mut door = held(&self.queue.door);
            match self.place {
                None => door.enter(&self.stream, self.bytes, cx.waker()),
                Some(place) => door.ask(&self.stream, place, cx.waker()),
            }
        };
        self.place = None;
        match asked {
            Ok(door::Answer::Admitted) => {
                let (queue, stream) = (Arc::clone(self.queue), self.stream.clone());
                Poll::Ready(Ok(Permit { queue, stream, bytes: self.bytes, is_held: true }))
            }
            Ok(door::Answer::Wait(place)) => {
                self.place = Some(place);
                Poll::Pending
            }
            Err(why) => Poll::Ready(Err(ReserveError::Poisoned(why))),
        }
    }
}

impl Drop for Reserve<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let admitted = held(&self.queue.door).leave(&self.stream, self.bytes, place);
        for waker in admitted {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Reserve<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserve")
            .field("stream", &self.stream)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
