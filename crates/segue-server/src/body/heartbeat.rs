//! A sign of life after a while of silence.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Beats once each `period` of silence. A zero period never beats.
///
/// The timer is not touched by traffic: that only moves the mark `quiet_since`, and a timer that
/// fires early goes to sleep again for the rest.
pub(crate) struct Heartbeat {
    period: Duration,
    quiet_since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Heartbeat {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, quiet_since: Instant::now(), timer: None }
    }

    /// Something else was sent.
    pub(crate) fn delay(&mut self) {
        self.quiet_since = Instant::now();
    }

    /// Ready when it is time for a beat.
    pub(crate) fn poll_beat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.period.is_zero() {
            return Poll::Pending;
        }
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.period)));
            ready!(timer.as_mut().poll(cx));
            let due = self.quiet_since + self.period;
            let now = Instant::now();
            if due <= now {
                self.quiet_since = now;
                timer.as_mut().reset(now + self.period);
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn p01_beats_after_each_period_of_silence() {
        let mut heartbeat = Heartbeat::new(PERIOD);
        let begin = Instant::now();
        for n in 1..=3 {
            poll_fn(|cx| heartbeat.poll_beat(cx)).await;
            assert!(Instant::now() >= begin + PERIOD * n);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn p01_traffic_delays_the_beat() {
        let mut heartbeat = Heartbeat::new(PERIOD);
        let begin = Instant::now();
        let early = tokio::time::timeout(PERIOD / 5 * 4, poll_fn(|cx| heartbeat.poll_beat(cx)));
        assert!(early.await.is_err());
        heartbeat.delay();
        poll_fn(|cx| heartbeat.poll_beat(cx)).await;
        assert!(Instant::now() >= begin + PERIOD / 5 * 9);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_never_beats() {
        let mut heartbeat = Heartbeat::new(Duration::ZERO);
        let beat = tokio::time::timeout(PERIOD * 100, poll_fn(|cx| heartbeat.poll_beat(cx)));
        assert!(beat.await.is_err());
    }
}
