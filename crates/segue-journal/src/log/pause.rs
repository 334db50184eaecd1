//! Not trying again at once what has just failed.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use segue_core::{Clock, Timestamp};

use crate::sync::held;

/// The first pause, in milliseconds. Each failure in a row doubles it.
const FIRST_MS: u64 = 1_000;
/// The longest.
const MOST_MS: u64 = 64_000;

/// A pause after each failure.
#[derive(Debug, Default)]
pub(crate) struct Pause(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Timestamp>,
    millis: u64,
}

impl Pause {
    /// It failed: begins a pause of a second, or of twice the last one if it `grows`.
    pub(crate) fn begin(&self, clock: &dyn Clock, grows: bool) {
        let mut state = self.state();
        let doubled = if grows { state.millis.saturating_mul(2) } else { 0 };
        state.millis = doubled.clamp(FIRST_MS, MOST_MS);
        state.since = Some(clock.now());
    }

    /// It went well, or may now: there is no pause any more.
    pub(crate) fn end(&self) {
        *self.state() = State::default();
    }

    /// How long it still lasts; `None`: there is none. A clock that was put back ends it.
    pub(crate) fn left(&self, clock: &dyn Clock) -> Option<Duration> {
        let State { since, millis } = *self.state();
        let passed = clock.now().as_millis().checked_sub(since?.as_millis())?;
        millis.checked_sub(passed).filter(|left| *left > 0).map(Duration::from_millis)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        held(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::ManualClock;

    #[test]
    fn a_pause_grows_to_its_bound_and_ends_with_success() {
        let (clock, pause) = (ManualClock::new(5_000), Pause::default());
        assert_eq!(pause.left(&clock), None);
        let lengths = (0..9).map(|_| {
            pause.begin(&clock, true);
            let left = pause.left(&clock).expect("a pause");
            clock.advance(u64::try_from(left.as_millis()).expect("small"));
            assert_eq!(pause.left(&clock), None);
            left.as_secs()
        });
        assert_eq!(lengths.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        pause.end();
        pause.begin(&clock, true);
        assert_eq!(pause.left(&clock), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_clock_that_is_put_back_does_not_make_it_longer() {
        let (clock, pause) = (ManualClock::new(5_000), Pause::default());
        pause.begin(&clock, false);
        clock.set(1);
        assert_eq!(pause.left(&clock), None);
    }
}
