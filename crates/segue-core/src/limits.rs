//! Limits of a run. Every one is a setting; zero means none.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The default cap on one event, in bytes of its JSON.
pub const EVENT_BYTES: usize = 16 << 20;
/// The default cap on one request body, in bytes.
pub const BODY_BYTES: usize = 64 << 20;
/// The default cap on what a run stores, in bytes of its events' JSON.
pub const RUN_BYTES: u64 = 1 << 30;
/// The default cap on what the runs of a session store together, in bytes of events' JSON.
pub const SESSION_BYTES: u64 = 8 << 30;
/// The default cap on a child's standard error, in bytes a run.
pub const STDERR_BYTES: u64 = 1 << 20;
/// The default lease of a push run, in seconds.
pub const LEASE_SECONDS: u64 = 60;

/// The limits of one run, as a start may set them. Zero means no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest a run may take, in seconds. Exceeded: `run.stopped`, reason `wall_clock`.
    pub wall_clock_s: u64,
    /// The longest a run may be silent, in seconds. Exceeded: `run.stopped`, reason `idle`.
    pub idle_s: u64,
    /// The most bytes of events a run may store. Exceeded: `run.stopped`, reason `limit`.
    pub bytes: u64,
    /// The most events a run may store. Exceeded: `run.stopped`, reason `limit`.
    pub events: u64,
    /// How long a push run lives without a sign of life, in seconds.
    pub lease_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wall_clock_s: 0, idle_s: 0, bytes: RUN_BYTES, events: 0, lease_s: LEASE_SECONDS }
    }
}

impl Limits {
    /// The wall-clock limit, if there is one.
    pub fn wall_clock(&self) -> Option<Duration> {
        seconds(self.wall_clock_s)
    }

    /// The idle limit, if there is one.
    pub fn idle(&self) -> Option<Duration> {
        seconds(self.idle_s)
    }

    /// The lease of a push run, if there is one.
    pub fn lease(&self) -> Option<Duration> {
        seconds(self.lease_s)
    }

    /// Whether a run that stores `bytes` and `events` is past a limit.
    pub fn exceeded(&self, bytes: u64, events: u64) -> bool {
        (self.bytes != 0 && bytes > self.bytes) || (self.events != 0 && events > self.events)
    }
}

fn seconds(n: u64) -> Option<Duration> {
    (n != 0).then(|| Duration::from_secs(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_none() {
        let limits = Limits { wall_clock_s: 0, idle_s: 3, bytes: 0, events: 2, lease_s: 0 };
        assert_eq!((limits.wall_clock(), limits.lease()), (None, None));
        assert_eq!(limits.idle(), Some(Duration::from_secs(3)));
        assert!(!limits.exceeded(u64::MAX, 2));
        assert!(limits.exceeded(0, 3));
    }
}
