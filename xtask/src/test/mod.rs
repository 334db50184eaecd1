//! `cargo xtask test`: everything that must pass, in order, to the first step that fails.
//!
//! What a step needs and the machine lacks is installed from the package registries, or the step
//! fails and names it; none is left out without a word.

mod clients;
mod command;
mod steps;
mod tally;
mod tools;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use self::{
    steps::{STEPS, Step},
    tally::Tally,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these steps; all of them when none is named.
    steps: Vec<String>,
    /// Print the names of the steps and end.
    #[arg(long)]
    list: bool,
}

/// Runs the steps. The last line printed is `N passed, M failed`: the tests of all steps; a failed
/// step that has no tests counts as one. An error is one of the command line; a failed step is told
/// in the summary and by the exit code, so that nothing is printed behind the last line.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        for step in STEPS {
            println!("{}: {}", step.name, step.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&args.steps)?;
    let mut summary = Summary::default();
    for step in chosen {
        println!("\n==> {}: {}", step.name, step.what);
        let start = Instant::now();
        let mut tally = Tally::default();
        let result = (step.run)(&mut tally);
        summary.add(step, start.elapsed(), tally, result);
        if summary.failure.is_some() {
            break;
        }
    }
    summary.print();
    Ok(if summary.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(names: &[String]) -> anyhow::Result<Vec<&'static Step>> {
    if names.is_empty() {
        return Ok(STEPS.iter().collect());
    }
    let find = |name: &String| {
        let known = STEPS.iter().find(|step| step.name == name);
        known.with_context(|| format!("no step is named `{name}`, see --list"))
    };
    names.iter().map(find).collect()
}

#[derive(Default)]
struct Summary {
    lines: Vec<String>,
    total: Tally,
    failure: Option<anyhow::Error>,
}

impl Summary {
    fn add(
        &mut self,
        step: &Step,
        took: Duration,
        mut tally: Tally,
        result: anyhow::Result<steps::Done>,
    ) {
        let verdict = match result {
            Ok(steps::Done::Passed) => "ok".to_owned(),
            Ok(steps::Done::NotHere(why)) => format!("not run: {why}"),
            Err(error) => {
                tally.failed = tally.failed.max(1);
                self.failure = Some(error.context(format!("step `{}` failed", step.name)));
                "FAILED".to_owned()
            }
        };
        let seconds = took.as_secs_f64();
        self.lines.push(format!("{:<12} {seconds:>7.1} s  {tally:<24} {verdict}", step.name));
        self.total += tally;
    }

    fn print(&self) {
        println!("\n==> summary");
        self.lines.iter().for_each(|line| println!("{line}"));
        if let Some(error) = &self.failure {
            println!("{error:#}");
        }
        println!("{} passed, {} failed", self.total.passed, self.total.failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_and_a_wrong_name_is_told() {
        assert_eq!(choose(&[]).expect("all").len(), STEPS.len());
        let one = choose(&["tidy".to_owned()]).expect("known");
        assert_eq!(one.len(), 1);
        let error = choose(&["tide".to_owned()]).err().expect("unknown");
        assert_eq!(error.to_string(), "no step is named `tide`, see --list");
    }

    #[test]
    fn a_failed_step_without_tests_counts_as_one() {
        let mut summary = Summary::default();
        let failed = Err(anyhow::anyhow!("no"));
        summary.add(&STEPS[0], Duration::ZERO, Tally::default(), failed);
        assert_eq!(summary.total.failed, 1);
        let tally = Tally { passed: 3, failed: 2, skipped: 0 };
        summary.add(&STEPS[0], Duration::ZERO, tally, Err(anyhow::anyhow!("no")));
        assert_eq!((summary.total.passed, summary.total.failed), (3, 3));
        assert!(summary.failure.is_some());
    }
}
