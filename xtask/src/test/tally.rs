//! Counting tests from what a test runner prints.

use std::{fmt, ops::AddAssign};

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self { passed: 0, failed: 0, skipped: 0 } => String::new(),
            Self { passed, failed, .. } => format!("{passed} passed, {failed} failed"),
        };
        f.pad(&text)
    }
}

/// Who prints.
#[derive(Clone, Copy, Debug)]
pub(super) enum Runner {
    /// `Summary [ 0.035s] 12 tests run: 11 passed (1 slow), 1 failed, 0 skipped`
    Nextest,
    /// `test result: ok. 5 passed; 0 failed; 0 ignored; ...`, once for each binary.
    Libtest,
    /// `# pass 5`, `# fail 0` and so on, each on its line.
    Node,
    /// `5 passed, 1 failed in 0.12s`, perhaps between `=`.
    Pytest,
}

impl Runner {
    /// The numbers in `text`; nothing if the runner's summary is not there.
    pub(super) fn count(self, text: &str) -> Option<Tally> {
        let summaries: Vec<&str> = text.lines().filter_map(|line| self.summary(line)).collect();
        let mut tally = Tally::default();
        for (number, word) in summaries.iter().flat_map(|line| self.pairs(line)) {
            match word {
                "pass" | "passed" => tally.passed += number,
                "fail" | "failed" | "timed" | "cancelled" | "error" | "errors" => {
                    tally.failed += number;
                }
                "skipped" | "ignored" | "todo" | "deselected" => tally.skipped += number,
                _ => {}
            }
        }
        (!summaries.is_empty()).then_some(tally)
    }

    /// The part of a line that has the numbers, if it is a summary.
    fn summary(self, line: &str) -> Option<&str> {
        match self {
            Self::Nextest => line.trim_start().strip_prefix("Summary [")?.split_once("run:"),
            Self::Libtest => line.strip_prefix("test result: ")?.split_once('.'),
            Self::Node => return line.strip_prefix("# ").filter(|text| !text.contains(':')),
            Self::Pytest => {
                let (numbers, time) = line.rsplit_once(" in ")?;
                let is_time = time.starts_with(|first: char| first.is_ascii_digit());
                let is_count = numbers.contains("passed") || numbers.contains("failed");
                return (is_time && is_count).then_some(numbers);
            }
        }
        .map(|(_, numbers)| numbers)
    }

    /// Each number with the word it counts: before the word, with node behind it.
    fn pairs(self, line: &str) -> Vec<(u64, &str)> {
        let words: Vec<&str> =
            line.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let pair = |two: &[&'_ str]| match self {
            Self::Node => two[1].parse().ok(),
            Self::Nextest | Self::Libtest | Self::Pytest => two[0].parse().ok(),
        };
        let word = usize::from(!matches!(self, Self::Node));
        words.windows(2).filter_map(|two| Some((pair(two)?, two[word]))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runner: Runner, text: &str, (passed, failed, skipped): (u64, u64, u64)) {
        assert_eq!(runner.count(text), Some(Tally { passed, failed, skipped }), "{text}");
    }

    #[test]
    fn each_runner_is_read() {
        let nextest = "   Summary [   0.035s] 13 tests run: 10 passed (1 slow, 2 leaky), 1 failed, \
            2 timed out, 4 skipped";
        check(Runner::Nextest, nextest, (10, 3, 4));
        check(Runner::Nextest, "     Summary [   0.1s] 1 test run: 1 passed, 0 skipped", (1, 0, 0));
        let libtest = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        check(Runner::Libtest, libtest, (7, 1, 1));
        let node = "# Subtest: a 7 pass\n# tests 6\n# suites 0\n# pass 4\n# fail 1\n# cancelled 1\n\
            # skipped 0\n# todo 0\n# duration_ms 12.5";
        check(Runner::Node, node, (4, 2, 0));
        check(Runner::Pytest, "==== 1 failed, 5 passed, 1 error in 0.12s ====", (5, 2, 0));
        check(Runner::Pytest, "5 passed in 63.10s (0:01:03)", (5, 0, 0));
    }

    #[test]
    fn no_summary_is_not_a_count_of_nothing() {
        for runner in [Runner::Nextest, Runner::Libtest, Runner::Node, Runner::Pytest] {
            assert_eq!(runner.count("error: could not compile\n"), None, "{runner:?}");
        }
    }

    #[test]
    fn a_step_without_tests_shows_none() {
        assert_eq!(format!("{:<3}|", Tally::default()), "   |");
        let tally = Tally { passed: 2, failed: 0, skipped: 0 };
        assert_eq!(tally.to_string(), "2 passed, 0 failed");
    }
}
