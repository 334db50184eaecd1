//! What a lost connection means: a wait, or the end of trying.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    attach::Reconnecting,
    backoff::Backoff,
    error::ClientError,
    metrics,
    timing::{Jitter, Timing},
};

/// Back-off, jitter and the deadline of one long-lived connection.
#[derive(Debug)]
pub(crate) struct Retry {
    backoff: Backoff,
    jitter: Option<Jitter>,
    give_up_after: Option<Duration>,
    failing_since: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(timing: &Timing) -> Self {
        Self {
            backoff: Backoff::new(timing.first_delay, timing.max_delay),
            jitter: timing.jitter.clone(),
            give_up_after: timing.give_up_after,
            failing_since: None,
        }
    }

    /// Something came.
    pub(crate) fn succeed(&mut self) {
        self.backoff.succeed();
        self.failing_since = None;
    }

    /// The server's wish for the delay before a reconnect.
    pub(crate) fn hint(&mut self, at_least: Duration) {
        self.backoff.hint(at_least);
    }

    /// The connection was lost by `error`: the wait before the next attempt, or the error back
    /// if there is none.
    pub(crate) fn fail(&mut self, error: ClientError) -> Result<Reconnecting, ClientError> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let patient = self.give_up_after.is_none_or(|limit| since.elapsed() < limit);
        if !error.is_passing() || !patient {
            return Err(error);
        }
        ::metrics::counter!(metrics::RECONNECTS).increment(1);
        let delay = self.backoff.fail();
        let delay = self.jitter.as_ref().map_or(delay, |jitter| jitter.spread(delay));
        Ok(Reconnecting { attempt: self.backoff.attempt(), delay, why: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TransportError;

    fn cut() -> ClientError {
        TransportError::Cut.into()
    }

    #[tokio::test(start_paused = true)]
    async fn p08_it_tries_for_ever_unless_told_otherwise() {
        let mut retry = Retry::new(&Timing::default());
        for attempt in 1..100 {
            let reconnecting = retry.fail(cut()).expect("passing");
            assert_eq!(reconnecting.attempt, attempt);
            tokio::time::advance(Duration::from_hours(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_counts_failures_in_a_row() {
        let give_up_after = Some(Duration::from_secs(10));
        let mut retry = Retry::new(&Timing { give_up_after, ..Timing::default() });
        for _ in 0..3 {
            retry.fail(cut()).expect("the first of a row");
            tokio::time::advance(Duration::from_secs(9)).await;
            retry.fail(cut()).expect("within the deadline");
            retry.succeed();
        }
        retry.fail(cut()).expect("the first of a row");
        tokio::time::advance(Duration::from_secs(10)).await;
        retry.fail(cut()).expect_err("past the deadline");
    }

    #[tokio::test]
    async fn jitter_decides_the_delay() {
        let jitter = Some(Jitter::new(|delay| delay * 3));
        let mut retry = Retry::new(&Timing { jitter, ..Timing::default() });
        assert_eq!(retry.fail(cut()).expect("passing").delay, Duration::from_millis(750));
    }
}
