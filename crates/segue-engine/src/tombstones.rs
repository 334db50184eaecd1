//! Stops that came before their run.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use segue_journal::StreamKey;
use tokio::time::Instant;

/// How long a stop waits for its run.
const LIFE: Duration = Duration::from_mins(1);
/// How many stops wait at most; a new one then takes the place of the oldest.
const MAX: usize = 1000;

/// The runs, by stream, that are stopped as soon as they exist.
#[derive(Default)]
pub(crate) struct Tombstones {
    /// Oldest first.
    by_age: VecDeque<(Instant, StreamKey)>,
    set: HashSet<StreamKey>,
}

impl Tombstones {
    /// Leaves one. A second stop of the same run adds nothing.
    pub(crate) fn leave(&mut self, run: StreamKey) {
        self.expire();
        if !self.set.insert(run.clone()) {
            return;
        }
        self.by_age.push_back((Instant::now() + LIFE, run));
        if self.by_age.len() > MAX
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            metrics::counter!("segue_pending_stops_evicted_total").increment(1);
            self.set.remove(&oldest);
        }
    }

    pub(crate) fn has(&mut self, run: &StreamKey) -> bool {
        self.expire();
        self.set.contains(run)
    }

    /// The run exists.
    pub(crate) fn take(&mut self, run: &StreamKey) {
        if self.set.remove(run) {
            self.by_age.retain(|(_, other)| other != run);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((_, run)) = self.by_age.pop_front_if(|(until, _)| *until <= now) {
            self.set.remove(&run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: usize) -> StreamKey {
        StreamKey::parse(&format!("default/r/run{n}")).expect("valid")
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_a_minute() {
        let mut stones = Tombstones::default();
        stones.leave(run(1));
        tokio::time::advance(Duration::from_millis(59_999)).await;
        stones.leave(run(1));
        assert!(stones.has(&run(1)) && !stones.has(&run(2)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!stones.has(&run(1)), "a second stop does not prolong the first");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_too_many() {
        let mut stones = Tombstones::default();
        for n in 0..=MAX {
            stones.leave(run(n));
        }
        assert!(!stones.has(&run(0)) && stones.has(&run(1)) && stones.has(&run(MAX)));
        stones.take(&run(5));
        assert!(!stones.has(&run(5)));
        assert_eq!((stones.by_age.len(), stones.set.len()), (MAX - 1, MAX - 1));
    }
}
