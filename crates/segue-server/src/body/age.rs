//! The longest life of a stream, after which it ends cleanly and its client comes back with its
//! cursor: behind a balancer, to another server.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// When a stream is old. It has no timer: who drives the stream looks, at the latest with the next
/// heartbeat.
pub(crate) struct Age {
    end: Option<Instant>,
}

impl Age {
    /// An age of at most `max`, and of at least nine tenths of it, so that clients who came
    /// together do not come back together. Zero is for ever.
    pub(crate) fn new(max: Duration) -> Self {
        static STREAMS: AtomicU32 = AtomicU32::new(0);
        // Multiples of the golden ratio spread evenly over the range, however many there are.
        let place = STREAMS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        let early = f64::from(place) / f64::from(u32::MAX) / 10.0;
        Self { end: (!max.is_zero()).then(|| Instant::now() + max.mul_f64(1.0 - early)) }
    }

    /// Whether the stream has to end now. Counts it.
    pub(crate) fn is_over(&self) -> bool {
        let over = self.end.is_some_and(|end| end <= Instant::now());
        if over {
            metrics::counter!("segue_streams_handed_over_total").increment(1);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn streams_end_one_after_another_within_a_tenth() {
        let ages: Vec<_> = (0..100).map(|_| Age::new(MAX)).collect();
        let over = || ages.iter().filter(|age| age.is_over()).count();
        tokio::time::advance(Duration::from_millis(53_999)).await;
        assert_eq!(over(), 0);
        tokio::time::advance(MAX / 20).await;
        assert!((35..=65).contains(&over()), "{} of 100 at half of the range", over());
        tokio::time::advance(MAX / 20 + Duration::from_millis(2)).await;
        assert_eq!(over(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_for_ever() {
        let age = Age::new(Duration::ZERO);
        tokio::time::advance(MAX * 10_000).await;
        assert!(!age.is_over());
    }
}
