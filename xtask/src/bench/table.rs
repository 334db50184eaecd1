//! What was measured, as a table in Markdown.

use std::{fmt, fs, process::Command};

use anyhow::Context;

/// What a figure has to reach.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// None, it is told as it is.
    Report,
    /// Ours divided by the other is at least this.
    RatioAtLeast(f64),
    /// Ours divided by the other is at most this.
    RatioAtMost(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// Ours is at least this.
    AtLeast(f64),
}

/// One figure of one round.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    what: &'static str,
    unit: &'static str,
    ours: f64,
    other: Option<f64>,
    goal: Goal,
}

impl Sample {
    pub(super) fn beside(
        what: &'static str,
        unit: &'static str,
        ours: f64,
        other: f64,
        goal: Goal,
    ) -> Self {
        Self { what, unit, ours, other: Some(other), goal }
    }

    pub(super) fn alone(what: &'static str, unit: &'static str, value: f64) -> Self {
        Self { what, unit, ours: value, other: None, goal: Goal::Report }
    }

    pub(super) fn at_least(mut self, least: f64) -> Self {
        self.goal = Goal::AtLeast(least);
        self
    }

    pub(super) fn at_most(mut self, most: f64) -> Self {
        self.goal = Goal::AtMost(most);
        self
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, ours, other, .. } = self;
        write!(f, "{what}: {} {unit}", Figure(*ours))?;
        other.map_or(Ok(()), |other| write!(f, ", other {}", Figure(other)))
    }
}

/// One figure over all rounds.
#[derive(Clone, Debug)]
pub(super) struct Row {
    name: String,
    what: String,
    ours: f64,
    other: Option<f64>,
    ratio: Option<f64>,
    goal: Goal,
}

/// The medians of the samples of a benchmark, in the order the figures first came.
pub(super) fn rows(name: &str, samples: &[Sample]) -> Vec<Row> {
    let mut seen: Vec<&str> = Vec::new();
    let mut rows = Vec::new();
    for sample in samples {
        if seen.contains(&sample.what) {
            continue;
        }
        seen.push(sample.what);
        let all = || samples.iter().filter(|other| other.what == sample.what);
        let others: Option<Vec<f64>> = all().map(|sample| sample.other).collect();
        let ratios: Option<Vec<f64>> =
            all().map(|sample| sample.other.map(|other| sample.ours / other)).collect();
        rows.push(Row {
            name: name.to_owned(),
            what: format!("{}, {}", sample.what, sample.unit),
            ours: median(all().map(|sample| sample.ours).collect()),
            other: others.map(median),
            ratio: ratios.map(median),
            goal: sample.goal,
        });
    }
    rows
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

impl Row {
    fn goal(&self) -> (String, &'static str) {
        let met = |value: Option<f64>, fine: fn(f64, f64) -> bool, bar: f64| match value {
            Some(value) if fine(value, bar) => "yes",
            _ => "**no**",
        };
        match self.goal {
            Goal::Report => (String::new(), ""),
            Goal::RatioAtLeast(bar) => (format!(">= {bar}x"), met(self.ratio, |v, b| v >= b, bar)),
            Goal::RatioAtMost(bar) => (format!("<= {bar}x"), met(self.ratio, |v, b| v <= b, bar)),
            Goal::AtMost(bar) => (format!("<= {bar}"), met(Some(self.ours), |v, b| v <= b, bar)),
            Goal::AtLeast(bar) => (format!(">= {bar}"), met(Some(self.ours), |v, b| v >= b, bar)),
        }
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    pub(super) fn push(&mut self, row: Row) {
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| benchmark | figure | ours | other | ratio | goal | met |")?;
        writeln!(f, "| --- | --- | ---: | ---: | ---: | --- | --- |")?;
        for row in &self.0 {
            let (goal, met) = row.goal();
            let other = row.other.map_or_else(String::new, |other| Figure(other).to_string());
            let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let (name, what, ours) = (&row.name, &row.what, Figure(row.ours));
            writeln!(f, "| {name} | {what} | {ours} | {other} | {ratio} | {goal} | {met} |")?;
        }
        Ok(())
    }
}

/// A number with as many digits as it deserves.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            ..10.0 => write!(f, "{:.2}", self.0),
            10.0..100.0 => write!(f, "{:.1}", self.0),
            _ => write!(f, "{:.0}", self.0),
        }
    }
}

/// What the figures were taken on, as a list in Markdown.
pub(super) fn conditions() -> anyhow::Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let cores = std::thread::available_parallelism()?;
    let disk = say("df", &["--output=source,fstype", &std::env::temp_dir().to_string_lossy()])?;
    let disk = disk.lines().last().unwrap_or_default().to_owned();
    Ok(format!(
        "- date: {}\n- kernel: {}\n- processor: {} cores,{}\n- disk: {disk}\n- compiler: {}\n\
         - other: crate durable-streams 0.1.5, `--durability wal`; for `engine` a raw log\n",
        say("date", &["+%Y-%m-%d"])?,
        say("uname", &["-sr"])?,
        cores,
        model.trim_start().trim_start_matches(':'),
        say("rustc", &["--version"])?,
    ))
}

fn say(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_goals_make_a_table() {
        let round =
            |ours, other| Sample::beside("rate", "/s", ours, other, Goal::RatioAtLeast(1.0));
        let samples = [round(10.0, 5.0), round(30.0, 60.0), round(20.0, 10.0)];
        let mut table = Table::default();
        let rest = Sample::alone("rest", "ms", 5.0).at_most(4.0);
        for row in rows("x", &samples).into_iter().chain(rows("x", &[rest])) {
            table.push(row);
        }
        let text = table.to_string();
        assert!(text.contains("| x | rate, /s | 20.0 | 10.0 | 2.00 | >= 1x | yes |"), "{text}");
        assert!(text.contains("| x | rest, ms | 5.00 |  |  | <= 4 | **no** |"), "{text}");
    }
}
