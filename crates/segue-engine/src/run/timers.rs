//! When a run was last heard of, and which of its clocks runs out next.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use segue_core::Limits;
use tokio::time::Instant;

/// Signs of life of a run, written by appends and read by the owner's timers.
pub(crate) struct Activity {
    /// What the marks count from.
    started: Instant,
    /// Milliseconds after `started` of the beginning of its work; before, the time it was queued.
    begun: AtomicU64,
    /// How long it had been at work in a process before this one.
    before: Duration,
    /// Milliseconds after `started` of the last event or sign of progress.
    event: AtomicU64,
    /// Milliseconds after `started` of the last thing that renews a lease.
    sign: AtomicU64,
    /// How many producers hold their control inbox open: each keeps the lease.
    controls: AtomicUsize,
}

/// A clock that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    WallClock,
    Idle,
    Lease,
}

impl Activity {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            begun: AtomicU64::new(0),
            before: Duration::ZERO,
            event: AtomicU64::new(0),
            sign: AtomicU64::new(0),
            controls: AtomicUsize::new(0),
        }
    }

    /// Of a run that had been at work for so long before this process.
    pub(crate) fn go_on(before: Duration) -> Self {
        Self { before, ..Self::start() }
    }

    /// Its source begins now: all clocks do.
    pub(crate) fn begin(&self) {
        self.event();
        self.begun.store(self.now_millis(), Ordering::Relaxed);
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// An event was appended, or the source said that it is at work.
    pub(crate) fn event(&self) {
        let now = self.now_millis();
        self.event.store(now, Ordering::Relaxed);
        self.sign.store(now, Ordering::Relaxed);
    }

    /// The producer showed that it lives.
    pub(crate) fn renew_lease(&self) {
        self.sign.store(self.now_millis(), Ordering::Relaxed);
    }

    pub(crate) fn control_opened(&self) {
        self.controls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn control_closed(&self) {
        self.controls.fetch_sub(1, Ordering::Relaxed);
        self.renew_lease();
    }

    /// The clock that runs out first, and when.
    pub(crate) fn next(&self, limits: &Limits, leased: bool) -> Option<(Instant, Expired)> {
        // A limit beyond what a clock can hold is none.
        let after = |mark: &AtomicU64, limit: Duration| {
            let since = Duration::from_millis(mark.load(Ordering::Relaxed));
            self.started.checked_add(since)?.checked_add(limit)
        };
        let named = |expired| move |at| (at, expired);
        if self.controls.load(Ordering::Relaxed) > 0 {
            self.renew_lease();
        }
        let wall = limits.wall_clock().map(|limit| limit.saturating_sub(self.before));
        let wall = wall.and_then(|limit| after(&self.begun, limit));
        let wall = wall.map(named(Expired::WallClock));
        let idle = limits.idle().and_then(|limit| after(&self.event, limit));
        let idle = idle.map(named(Expired::Idle));
        let lease = limits.lease().filter(|_| leased).and_then(|limit| after(&self.sign, limit));
        let lease = lease.map(named(Expired::Lease));
        [wall, idle, lease].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { wall_clock_s: 100, idle_s: 10, bytes: 0, events: 0, lease_s: 5 };

    fn next(activity: &Activity, leased: bool) -> (u64, Expired) {
        let (at, expired) = activity.next(&LIMITS, leased).expect("a clock runs");
        ((at - activity.started).as_secs(), expired)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_run_out_is_named() {
        let activity = Activity::start();
        assert_eq!(next(&activity, true), (5, Expired::Lease));
        assert_eq!(next(&activity, false), (10, Expired::Idle));
        tokio::time::advance(Duration::from_secs(95)).await;
        activity.event();
        assert_eq!(next(&activity, true), (100, Expired::WallClock));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_control_keeps_the_lease() {
        let activity = Activity::start();
        activity.control_opened();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(next(&activity, true), (10, Expired::Idle));
        activity.control_closed();
        activity.event();
        assert_eq!(next(&activity, true), (12, Expired::Lease));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_beyond_all_clocks_is_none() {
        let most = u64::MAX;
        let limits = Limits { wall_clock_s: most, idle_s: most, lease_s: most, ..LIMITS };
        assert_eq!(Activity::start().next(&limits, true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clocks_begin_with_the_work() {
        let activity = Activity::start();
        tokio::time::advance(Duration::from_secs(50)).await;
        activity.begin();
        assert_eq!(next(&activity, true), (55, Expired::Lease));
        let limits = Limits { idle_s: 0, ..LIMITS };
        assert_eq!(
            activity.next(&limits, false).map(|(at, _)| at - activity.started),
            Some(Duration::from_secs(150))
        );
        let resumed = Activity::go_on(Duration::from_secs(40));
        assert_eq!(
            resumed.next(&limits, false).map(|(at, _)| at - resumed.started),
            Some(Duration::from_mins(1))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_clock() {
        let limits = Limits { wall_clock_s: 0, idle_s: 0, lease_s: 0, ..LIMITS };
        assert_eq!(Activity::start().next(&limits, true), None);
    }
}
