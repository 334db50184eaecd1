//! Automation of the repository: `cargo xtask test` is the one test command.
//!
//! Each subcommand is a module. All of them work on the repository they were built in, whatever
//! folder they are called from.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for a terminal")]

mod bench;
mod conformance;
mod crash;
mod live;
mod repo;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Automation of the Segue repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that must pass.
    Test(test::Args),
    /// Check the repository's own rules.
    Tidy,
    /// Compare the list of conformance cases with the tests that name them.
    Conformance,
    /// Kill the real server at random points and check what is left.
    Crash(crash::Args),
    /// Measure, and compare with the bars.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Test(args) => test::run(&args),
        Command::Tidy => done(tidy::run()),
        Command::Conformance => done(conformance::run()),
        Command::Crash(args) => done(crash::run(&args)),
        Command::Bench(args) => done(bench::run(&args)),
    };
    code.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
