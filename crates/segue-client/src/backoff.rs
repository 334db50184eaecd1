//! When to try again.

use std::time::Duration;

/// The longest `retry:` hint that is honoured.
const MAX_HINT: Duration = Duration::from_mins(1);

/// Delays that double from the first to the longest, and start over after a success.
///
/// Pure: it neither waits nor reads a clock.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    hint: Duration,
    attempt: u32,
}

impl Backoff {
    /// Delays from `first` to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first.min(max), hint: Duration::ZERO, attempt: 0 }
    }

    /// The delay before the next attempt, which is one more in a row.
    pub fn fail(&mut self) -> Duration {
        let delay = self.next.max(self.hint);
        self.next = self.next.saturating_mul(2).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// Starts over, because something came.
    pub fn succeed(&mut self) {
        self.next = self.first.min(self.max);
        self.attempt = 0;
    }

    /// Takes the server's wish as the lower bound of every delay from now on, at most a minute.
    pub fn hint(&mut self, at_least: Duration) {
        self.hint = at_least.min(MAX_HINT);
    }

    /// How many attempts in a row have failed.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn default() -> Backoff {
        Backoff::new(Duration::from_millis(250), Duration::from_secs(10))
    }

    fn millis(backoff: &mut Backoff, n: usize) -> Vec<u128> {
        (0..n).map(|_| backoff.fail().as_millis()).collect()
    }

    #[test]
    fn p08_delays_double_from_250_ms_to_10_s() {
        let delays = millis(&mut default(), 8);
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    }

    #[test]
    fn p08_a_success_starts_over() {
        let mut backoff = default();
        millis(&mut backoff, 5);
        assert_eq!(backoff.attempt(), 5);
        backoff.succeed();
        assert_eq!((backoff.attempt(), millis(&mut backoff, 2)), (0, vec![250, 500]));
    }

    #[test]
    fn p08_the_servers_hint_is_the_lower_bound() {
        let mut backoff = default();
        backoff.hint(Duration::from_millis(800));
        assert_eq!(millis(&mut backoff, 4), [800, 800, 1000, 2000]);
        backoff.succeed();
        assert_eq!(millis(&mut backoff, 1), [800], "a hint outlives a success");
        backoff.hint(Duration::from_secs(20));
        assert_eq!(millis(&mut backoff, 1), [20_000]);
        backoff.hint(Duration::from_hours(1));
        assert_eq!(millis(&mut backoff, 1), [60_000]);
    }

    proptest! {
        #[test]
        fn delays_never_leave_their_bounds(moves: Vec<(u8, u16)>, first in 1u64..5000, max in 1u64..20_000) {
            let (first, max) = (Duration::from_millis(first), Duration::from_millis(max));
            let mut backoff = Backoff::new(first, max);
            let mut hint = Duration::ZERO;
            for (kind, n) in moves {
                match kind % 4 {
                    0 => backoff.succeed(),
                    1 => {
                        hint = Duration::from_millis(n.into()).min(MAX_HINT);
                        backoff.hint(hint);
                    }
                    _ => {
                        let delay = backoff.fail();
                        prop_assert!(delay >= hint && delay >= first.min(max));
                        prop_assert!(delay <= max.max(hint));
                    }
                }
            }
        }
    }
}
