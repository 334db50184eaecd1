//! How long things took.

use hdrhistogram::Histogram;

/// Durations in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        // Up to an hour.
        Self(Histogram::new_with_max(3_600_000_000_000, 3).expect("these bounds are supported"))
    }

    pub(super) fn add(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of all stays below, in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub(super) fn us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }
}

/// `count` in so many nanoseconds, per second.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn per_second(count: u64, nanos: u64) -> f64 {
    count as f64 * 1e9 / nanos.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_and_merged() {
        let (mut some, mut others) = (Times::new(), Times::new());
        (1..=50).for_each(|us| some.add(us * 1_000));
        (51..=100).for_each(|us| others.add(us * 1_000));
        some.merge(&others);
        assert_eq!(some.count(), 100);
        assert!((some.us(0.5) - 50.0).abs() < 0.1, "{}", some.us(0.5));
        assert!((some.us(0.99) - 99.0).abs() < 0.2, "{}", some.us(0.99));
        assert!((per_second(500, 1_000_000) - 500_000.0).abs() < 1.0);
    }
}
