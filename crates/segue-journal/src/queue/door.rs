//! Who may come in next.
//!
//! Rules, for a batch of `n` bytes of a stream that holds `s` while all hold `t`:
//! - the stream's share: `s == 0 || s + n <= capacity / 8`;
//! - the whole: `t == 0 || t + n <= capacity`;
//! - first come, first served within a stream;
//! - among the streams whose first waiter passes its own share, the one that came first goes
//!   first, and nobody overtakes it: a large batch waits for room, never for luck. A waiter that
//!   its own stream's share holds back is not in that line, so it holds up nobody else.
//!
//! Every step costs O(log waiters).

use std::{collections::BTreeMap, mem, task::Waker};

use crate::stream::{KeyMap, StreamKey};

/// What a batch weighs beside its records, so that empty batches are bounded as well.
pub(super) const BATCH_OVERHEAD: usize = 256;

/// A place in the line, ascending in order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

pub(super) enum Answer {
    Admitted,
    Wait(Place),
}

pub(super) struct Door {
    capacity: usize,
    share: usize,
    held: usize,
    streams: KeyMap<Share>,
    /// The first waiter of each stream that passes its own share, in order of arrival. Every one
    /// of them waits for room in the whole.
    line: BTreeMap<Place, StreamKey>,
    next_place: u64,
    closed: Option<String>,
}

#[derive(Default)]
struct Share {
    held: usize,
    waiting: BTreeMap<Place, Waiter>,
    /// Let in, but not yet told: their room is already counted as held.
    admitted: Vec<Place>,
}

struct Waiter {
    weight: usize,
    waker: Waker,
}

impl Door {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            share: capacity / 8,
            held: 0,
            streams: KeyMap::default(),
            line: BTreeMap::new(),
            next_place: 0,
            closed: None,
        }
    }

    /// Asks for room, or for a place in the line.
    pub(super) fn enter(
        &mut self,
        stream: &StreamKey,
        bytes: usize,
        waker: &Waker,
    ) -> Result<Answer, String> {
        if let Some(why) = &self.closed {
            return Err(why.clone());
        }
        let weight = bytes.saturating_add(BATCH_OVERHEAD);
        let fits = self.line.is_empty() && fits(self.held, weight, self.capacity);
        let share = self.streams.entry(stream.clone()).or_default();
        let passes = share.waiting.is_empty() && fits_share(share, weight, self.share);
        if fits && passes {
            share.held += weight;
            self.held += weight;
            return Ok(Answer::Admitted);
        }
        metrics::counter!("segue_journal_queue_waits_total").increment(1);
        let place = Place(self.next_place);
        self.next_place += 1;
        share.waiting.insert(place, Waiter { weight, waker: waker.clone() });
        if passes {
            self.line.insert(place, stream.clone());
        }
        Ok(Answer::Wait(place))
    }

    /// Asks again from a place in the line.
    pub(super) fn ask(
        &mut self,
        stream: &StreamKey,
        place: Place,
        waker: &Waker,
    ) -> Result<Answer, String> {
        let share = self.streams.entry(stream.clone()).or_default();
        if let Some(index) = share.admitted.iter().position(|admitted| *admitted == place) {
            share.admitted.swap_remove(index);
            return Ok(Answer::Admitted);
        }
        if let Some(waiter) = share.waiting.get_mut(&place) {
            waiter.waker.clone_from(waker);
            return Ok(Answer::Wait(place));
        }
        self.drop_idle(stream);
        Err(self.closed.clone().unwrap_or_default())
    }

    /// Gives up a place in the line, or the room it was already given. Returns who is to be woken.
    pub(super) fn leave(&mut self, stream: &StreamKey, bytes: usize, place: Place) -> Vec<Waker> {
        let Some(share) = self.streams.get_mut(stream) else { return Vec::new() };
        if let Some(index) = share.admitted.iter().position(|admitted| *admitted == place) {
            share.admitted.swap_remove(index);
            return self.release(stream, bytes);
        }
        share.waiting.remove(&place);
        self.line.remove(&place);
        self.line_up(stream);
        self.drop_idle(stream);
        self.admit()
    }

    /// Takes room back. Returns who is to be woken.
    pub(super) fn release(&mut self, stream: &StreamKey, bytes: usize) -> Vec<Waker> {
        let weight = bytes.saturating_add(BATCH_OVERHEAD);
        self.held -= weight;
        if let Some(share) = self.streams.get_mut(stream) {
            share.held -= weight;
        }
        self.line_up(stream);
        self.drop_idle(stream);
        self.admit()
    }

    /// Refuses everyone who waits and who comes. Returns who is to be woken.
    pub(super) fn close(&mut self, why: &str) -> Vec<Waker> {
        self.closed.get_or_insert_with(|| why.to_owned());
        self.line.clear();
        let waiting = self.streams.values_mut().flat_map(|share| mem::take(&mut share.waiting));
        waiting.map(|(_, waiter)| waiter.waker).collect()
    }

    /// Puts the stream's first waiter into the line if its share allows.
    fn line_up(&mut self, stream: &StreamKey) {
        let Some(share) = self.streams.get(stream) else { return };
        let Some((place, waiter)) = share.waiting.first_key_value() else { return };
        if fits_share(share, waiter.weight, self.share) {
            self.line.insert(*place, stream.clone());
        }
    }

    /// Lets in from the head of the line as long as there is room.
    fn admit(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some((&place, stream)) = self.line.first_key_value() {
            let Some(share) = self.streams.get_mut(stream) else { break };
            let Some(waiter) = share.waiting.get(&place) else { break };
            if !fits(self.held, waiter.weight, self.capacity) {
                break;
            }
            self.held += waiter.weight;
            share.held += waiter.weight;
            share.admitted.push(place);
            woken.extend(share.waiting.remove(&place).map(|waiter| waiter.waker));
            if let Some(stream) = self.line.remove(&place) {
                self.line_up(&stream);
            }
        }
        woken
    }

    /// Forgets a stream that neither holds nor waits.
    fn drop_idle(&mut self, stream: &StreamKey) {
        let idle = |share: &Share| share.held == 0 && share.waiting.is_empty();
        if self.streams.get(stream).is_some_and(idle) {
            self.streams.remove(stream);
        }
    }
}

fn fits(held: usize, weight: usize, most: usize) -> bool {
    held == 0 || held.saturating_add(weight) <= most
}

fn fits_share(share: &Share, weight: usize, most: usize) -> bool {
    fits(share.held, weight, most)
}

#[cfg(test)]
impl Door {
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0 && self.streams.is_empty() && self.line.is_empty()
    }
}
