//! When a server in the background has nothing to do any more.
//!
//! It must not end under the hands of somebody who has found it. Whoever wants a server holds
//! `server.lock` while looking for one, and keeps the connection on which it answered; so the
//! server ends only with that lock in its own hands, no connection open, and the engine closed to
//! new runs in the same step in which it had none. It keeps the lock until its process is gone:
//! who waited for it finds no server, and starts one.

use std::{os::fd::OwnedFd, time::Duration};

use segue_engine::Engine;
use segue_server::Activity;
use tokio::time::{Instant, sleep};

use crate::place::Place;

/// The longest between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// What makes a server end by itself.
#[derive(Clone, Debug)]
pub(crate) struct Idle {
    pub(crate) after: Duration,
    pub(crate) place: Place,
}

/// Completes when the server may end; the engine then takes no new work. Never without an `idle`.
pub(crate) async fn stop(idle: Option<Idle>, engine: &Engine, activity: &Activity) -> OwnedFd {
    let Some(Idle { after, place }) = idle else { return std::future::pending().await };
    let see = || Look {
        busy: engine.active_runs() > 0 || activity.open() > 0,
        accepted: activity.accepted(),
    };
    let take = || match place.try_lock_start() {
        Ok(lock) => lock.filter(|_| activity.open() == 0 && engine.close_if_idle()),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "idle, but the server cannot end");
            None
        }
    };
    let lock = when_quiet(after, see, take).await;
    tracing::info!(after_s = after.as_secs(), "nothing to do, shutting down");
    lock
}

/// What is seen at a moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    busy: bool,
    /// Connections so far: some may have come and gone between two looks.
    accepted: u64,
}

/// Completes with what `take` gives once nothing was seen for `after`. If it gives nothing,
/// somebody is about to come, and the time begins anew.
async fn when_quiet<T>(
    after: Duration,
    look: impl Fn() -> Look,
    take: impl Fn() -> Option<T>,
) -> T {
    let (mut since, mut accepted) = (Instant::now(), look().accepted);
    loop {
        sleep(LOOK.min(after / 4)).await;
        let seen = look();
        if seen.busy || std::mem::replace(&mut accepted, seen.accepted) != seen.accepted {
            since = Instant::now();
        } else if since.elapsed() >= after {
            match take() {
                Some(taken) => return taken,
                None => since = Instant::now(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    /// How many seconds it takes when this is seen at each second.
    async fn ends(look: impl Fn(u64) -> Look, take: impl Fn(u64) -> bool) -> u64 {
        let start = Instant::now();
        let second = || start.elapsed().as_secs();
        when_quiet(AFTER, || look(second()), || take(second()).then_some(())).await;
        second()
    }

    const QUIET: Look = Look { busy: false, accepted: 0 };

    #[tokio::test(start_paused = true)]
    async fn n07_it_ends_after_a_time_in_which_nothing_was_seen() {
        assert_eq!(ends(|_| QUIET, |_| true).await, 10);
        let busy = |at| Look { busy: at == 7, accepted: 0 };
        assert_eq!(ends(busy, |_| true).await, 17);
    }

    #[tokio::test(start_paused = true)]
    async fn n07_who_came_and_went_between_two_looks_was_seen() {
        let came = |at| Look { busy: false, accepted: u64::from(at > 4) };
        assert_eq!(ends(came, |_| true).await, 15);
    }

    #[tokio::test(start_paused = true)]
    async fn n07_it_goes_on_when_somebody_is_about_to_come() {
        let tries = Cell::new(0);
        let take = |_| tries.replace(tries.get() + 1) == 1;
        assert_eq!(ends(|_| QUIET, take).await, 20);
    }
}
