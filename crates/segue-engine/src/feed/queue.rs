//! What waits for one subscriber. Pure: who holds the lock tells it the time.
//!
//! Values stand in the queue, which has room for `capacity` of them, and then in the line, where a
//! value that must be delivered waits for room. What is lost is counted at the place where it would
//! have stood: in front of the value after it, or behind the last one.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use tokio::{sync::Notify, time::Instant};

use super::Heard;

/// The values of one subscriber.
pub(super) struct Queue<T> {
    capacity: usize,
    values: VecDeque<Standing<T>>,
    /// Empty while there is room. As long as the queue can be, so that memory is bounded.
    line: VecDeque<Waiting<T>>,
    /// Lost behind all that stands here.
    lost: u64,
    /// Who reads.
    reader: Option<Waker>,
}

struct Standing<T> {
    /// Lost in front of it.
    lost: u64,
    value: T,
}

struct Waiting<T> {
    standing: Standing<T>,
    until: Instant,
    slip: Arc<Slip>,
}

/// What a publisher knows of the subscribers that have no room: how many there still are, and how
/// many have missed the value.
#[derive(Default)]
pub(super) struct Slip {
    open: AtomicUsize,
    missed: AtomicUsize,
    settled: Notify,
}

impl Slip {
    /// How many subscribers have missed the value so far.
    pub(super) fn missed(&self) -> usize {
        self.missed.load(Ordering::Acquire)
    }

    /// Waits until no subscriber is waited for. Only one may wait.
    pub(super) async fn settled(&self) {
        while self.open.load(Ordering::Acquire) > 0 {
            self.settled.notified().await;
        }
    }

    fn opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    fn closed(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settled.notify_one();
        }
    }

    fn miss(&self) {
        self.missed.fetch_add(1, Ordering::AcqRel);
    }
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            values: VecDeque::new(),
            line: VecDeque::new(),
            lost: 0,
            reader: None,
        }
    }

    /// A value that may be lost. Whether it has a place.
    pub(super) fn offer(&mut self, value: T) -> bool {
        if self.has_room() {
            let standing = self.standing(value);
            self.values.push_back(standing);
            return true;
        }
        self.lost += 1;
        false
    }

    /// A value that waits for room until then. Whether it has a place or waits for one.
    pub(super) fn insist(&mut self, value: T, until: Instant, slip: &Arc<Slip>) -> bool {
        if self.has_room() {
            return self.offer(value);
        }
        if self.line.len() >= self.capacity {
            self.lost += 1;
            slip.miss();
            return false;
        }
        slip.opened();
        let standing = self.standing(value);
        self.line.push_back(Waiting { standing, until, slip: Arc::clone(slip) });
        true
    }

    /// The next one, in order.
    pub(super) fn take(&mut self) -> Option<Heard<T>> {
        let lost = match self.values.front_mut() {
            Some(first) => &mut first.lost,
            None => &mut self.lost,
        };
        if *lost > 0 {
            return Some(Heard::Lost(std::mem::take(lost)));
        }
        let first = self.values.pop_front()?;
        if let Some(next) = self.line.pop_front() {
            self.values.push_back(next.standing);
            next.slip.closed();
        }
        Some(Heard::Value(first.value))
    }

    /// Gives up on values that have waited until now. Gives how many.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        if self.line.is_empty() {
            return 0;
        }
        let before = self.line.len();
        let mut lost = 0;
        for mut waiting in std::mem::take(&mut self.line) {
            if waiting.until > now {
                waiting.standing.lost += std::mem::take(&mut lost);
                self.line.push_back(waiting);
            } else {
                lost += waiting.standing.lost + 1;
                waiting.slip.miss();
                waiting.slip.closed();
            }
        }
        self.lost += lost;
        (before - self.line.len()) as u64
    }

    /// The same, looking at the time only if something waits.
    pub(super) fn expire_now(&mut self) -> u64 {
        if self.line.is_empty() { 0 } else { self.expire(Instant::now()) }
    }

    /// Nothing waits any more: all that stood in line has a place.
    pub(super) fn admit_all(&mut self) {
        for waiting in self.line.drain(..) {
            self.values.push_back(waiting.standing);
            waiting.slip.closed();
        }
    }

    /// Nobody will read it.
    pub(super) fn leave(&mut self) {
        for waiting in self.line.drain(..) {
            waiting.slip.closed();
        }
    }

    /// Wakes this one when there is something.
    pub(super) fn wait(&mut self, reader: &Waker) {
        match &mut self.reader {
            Some(waiting) => waiting.clone_from(reader),
            None => self.reader = Some(reader.clone()),
        }
    }

    /// Who is to be woken, once no lock is held.
    pub(super) fn waiting_reader(&mut self) -> Option<Waker> {
        self.reader.take()
    }

    /// A value that comes later never overtakes one that waits.
    fn has_room(&self) -> bool {
        self.line.is_empty() && self.values.len() < self.capacity
    }

    fn standing(&mut self, value: T) -> Standing<T> {
        Standing { lost: std::mem::take(&mut self.lost), value }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn all<T>(queue: &mut Queue<T>) -> Vec<Heard<T>> {
        std::iter::from_fn(|| queue.take()).collect()
    }

    #[test]
    fn losses_are_told_where_they_happened() {
        let mut queue = Queue::new(2);
        assert!(queue.offer(1) && queue.offer(2));
        assert!(!queue.offer(3) && !queue.offer(4));
        assert_eq!(queue.take(), Some(Heard::Value(1)));
        assert!(queue.offer(5) && !queue.offer(6));
        let rest = [Heard::Value(2), Heard::Lost(2), Heard::Value(5), Heard::Lost(1)];
        assert_eq!(all(&mut queue), rest);
    }

    #[test]
    fn what_waits_is_not_overtaken() {
        let (mut queue, slip) = (Queue::new(1), Arc::new(Slip::default()));
        let now = Instant::now();
        assert!(queue.offer(1) && queue.insist(2, now + Duration::from_secs(1), &slip));
        assert!(!queue.offer(3));
        assert_eq!(queue.take(), Some(Heard::Value(1)));
        assert_eq!(slip.open.load(Ordering::Relaxed), 0);
        assert_eq!(all(&mut queue), [Heard::Value(2), Heard::Lost(1)]);
    }

    #[test]
    fn what_has_waited_too_long_is_lost_in_its_place() {
        let (mut queue, slip) = (Queue::new(2), Arc::new(Slip::default()));
        let now = Instant::now();
        assert!(queue.offer(1) && queue.offer(2) && queue.insist(3, now, &slip));
        assert!(queue.insist(4, now + Duration::from_secs(1), &slip));
        assert!(!queue.insist(5, now, &slip), "the line is full");
        assert_eq!(queue.expire(now), 1);
        assert_eq!((slip.missed(), slip.open.load(Ordering::Relaxed)), (2, 1));
        let heard = [1, 2].map(Heard::Value).into_iter();
        let heard: Vec<_> =
            heard.chain([Heard::Lost(1), Heard::Value(4), Heard::Lost(1)]).collect();
        assert_eq!(all(&mut queue), heard);
    }

    /// What is done to a queue.
    #[derive(Clone, Debug)]
    enum Act {
        Offer,
        Insist(u64),
        Take,
        Later(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            Just(Act::Offer),
            (0..5u64).prop_map(Act::Insist),
            Just(Act::Take),
            (0..4u64).prop_map(Act::Later),
        ]
    }

    proptest! {
        #[test]
        fn values_and_losses_together_are_all_that_came_in_order(
            capacity in 1..4usize,
            acts in proptest::collection::vec(act(), 0..60),
        ) {
            let (mut queue, slip) = (Queue::new(capacity), Arc::new(Slip::default()));
            let (mut now, mut next, mut heard) = (Instant::now(), 0u64, Vec::new());
            for act in acts {
                match act {
                    Act::Offer => {
                        queue.offer(next);
                        next += 1;
                    }
                    Act::Insist(wait) => {
                        queue.insist(next, now + Duration::from_millis(wait), &slip);
                        next += 1;
                    }
                    Act::Take => heard.extend(queue.take()),
                    Act::Later(wait) => {
                        now += Duration::from_millis(wait);
                        queue.expire(now);
                    }
                }
                prop_assert!(queue.values.len() + queue.line.len() <= 2 * capacity);
            }
            queue.admit_all();
            heard.extend(all(&mut queue));
            let mut at = 0;
            for heard in heard {
                match heard {
                    Heard::Value(value) => {
                        prop_assert_eq!(value, at);
                        at += 1;
                    }
                    Heard::Lost(lost) => at += lost,
                }
            }
            prop_assert_eq!(at, next);
            prop_assert_eq!(slip.open.load(Ordering::Relaxed), 0);
        }
    }
}
