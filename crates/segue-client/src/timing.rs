//! The waits of a client, all in one place.

use std::{fmt, sync::Arc, time::Duration};

/// Turns the planned delay before an attempt into the one that is waited.
#[derive(Clone)]
pub struct Jitter(Arc<dyn Fn(Duration) -> Duration + Send + Sync>);

impl Jitter {
    /// Asks `spread` before each attempt. It decides alone: no bound is applied afterwards.
    pub fn new(spread: impl Fn(Duration) -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(spread))
    }

    pub(crate) fn spread(&self, delay: Duration) -> Duration {
        (self.0)(delay)
    }
}

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter(..)")
    }
}

/// How long a client waits for what.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The delay before the first attempt after a loss.
    pub first_delay: Duration,
    /// The longest delay between two attempts, unless the server's `retry:` hint is longer.
    pub max_delay: Duration,
    /// Spreads the attempts of many clients; none means none.
    pub jitter: Option<Jitter>,
    /// How long attempts may fail in a row before the last error is given; none means for ever.
    pub give_up_after: Option<Duration>,
    /// An attached stream without a byte for this long is lost. Heartbeats come every 5 s.
    pub idle: Duration,
    /// A quiet producer shows life this often: a third of the lease.
    pub renew: Duration,
    /// A producer whose lines are not acknowledged for this long takes its connection for lost.
    pub ack: Duration,
    /// The longest a plain call may take.
    pub call: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(10),
            jitter: None,
            give_up_after: None,
            idle: Duration::from_secs(15),
            renew: Duration::from_secs(20),
            ack: Duration::from_secs(30),
            call: Duration::from_mins(1),
        }
    }
}
