//! How long a client is willing to wait.

use std::time::Duration;

use crate::error::{Code, Problem};

/// The longest wait that is granted; longer ones are cut to it.
pub(crate) const MAX: Duration = Duration::from_mins(1);

/// Reads seconds, whole or decimal.
pub(crate) fn parse(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse().map_err(|_| refusal())?;
    of_seconds(seconds)
}

/// Takes seconds, whole or decimal.
pub(crate) fn of_seconds(seconds: f64) -> Result<Duration, Problem> {
    if seconds > MAX.as_secs_f64() {
        return Ok(MAX);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| refusal())
}

fn refusal() -> Problem {
    Problem::new(Code::BadQuery, "`wait` is a number of seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_within_bounds() {
        let check = |text| parse(text).ok();
        assert_eq!(check("0"), Some(Duration::ZERO));
        assert_eq!(check("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(check("1e9"), Some(MAX));
        assert_eq!(check("inf"), Some(MAX));
        for bad in ["", "-1", "nan", "x", "1s", "-inf"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }
}
