//! The steps, in their order.

use std::{path::PathBuf, process::Command};

use super::{
    command::{cargo, command, exists, read, run},
    tally::{Runner, Tally},
    tools,
};
use crate::{conformance, repo, tidy};

/// One thing that must pass.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) run: fn(&mut Tally) -> anyhow::Result<Done>,
}

/// How a step ended that did not fail.
pub(super) enum Done {
    Passed,
    /// It runs only where its tool is installed.
    NotHere(&'static str),
}

type Result = anyhow::Result<Done>;

const fn step(
    name: &'static str,
    what: &'static str,
    run: fn(&mut Tally) -> anyhow::Result<Done>,
) -> Step {
    Step { name, what, run }
}

pub(super) const STEPS: &[Step] = &[
    step("fmt", "rustfmt agrees", |_| passed(run(&mut cargo(&["fmt", "--all", "--check"])))),
    step("tidy", "the repository's own rules", |_| passed(tidy::run())),
    step("conformance", "each required case has a test", |_| passed(conformance::run())),
    step("clippy", "no lint fires", |_| passed(run(&mut clippy()))),
    step("doc", "the documentation builds", |_| passed(run(&mut doc()))),
    step("rust", "unit and integration tests", rust_tests),
    step("model", "interleavings of the doorbell, by loom", model),
    step("doctest", "examples in the documentation", doc_tests),
    step("release", "the release binary builds", |_| passed(run(&mut release()))),
    step("node", "the server under JavaScript clients", node),
    step("typescript", "the TypeScript client, as its package installs it", typescript),
    step("python", "the server under Python clients, ours as its package installs it", python),
    step("browser", "the pages in Chromium", browser),
    step("crash", "killed and restarted under load", |_| passed(run(&mut crash()))),
    step("deny", "licences, bans and sources of dependencies", deny),
];

fn passed(result: anyhow::Result<()>) -> Result {
    result.map(|()| Done::Passed)
}

fn clippy() -> Command {
    cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn doc() -> Command {
    let mut command = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn release() -> Command {
    cargo(&["build", "--locked", "--release", "--package", "segue"])
}

fn crash() -> Command {
    cargo(&["run", "--locked", "--quiet", "--package", "xtask", "--", "crash", "--cycles", "50"])
}

fn rust_tests(tally: &mut Tally) -> Result {
    tools::system("curl")?;
    if exists(&mut cargo(&["nextest", "--version"])) {
        let mut tests = cargo(&["nextest", "run", "--locked", "--workspace", "--no-fail-fast"]);
        return count(&mut tests, Runner::Nextest, tally);
    }
    let mut tests = cargo(&["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast"]);
    count(&mut tests, Runner::Libtest, tally)
}

/// In a target folder of its own, since the flag is one of every crate.
fn model(tally: &mut Tally) -> Result {
    let folder = target().join("loom");
    let mut tests = cargo(&["test", "--locked", "--package", "segue-journal", "--lib"]);
    tests.arg("--target-dir").arg(folder).args(["--", "doorbell::model"]);
    tests.env("RUSTFLAGS", "--cfg loom");
    count(&mut tests, Runner::Libtest, tally)
}

fn doc_tests(tally: &mut Tally) -> Result {
    let mut tests = cargo(&["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    count(&mut tests, Runner::Libtest, tally)
}

fn node(tally: &mut Tally) -> Result {
    tools::node_packages()?;
    count(&mut node_tests(tools::E2E, "node/"), Runner::Node, tally)
}

fn browser(tally: &mut Tally) -> Result {
    tools::node_packages()?;
    tools::chat_example()?;
    tools::system("chromium")?;
    count(&mut node_tests(tools::E2E, "browser/"), Runner::Node, tally)
}

fn typescript(tally: &mut Tally) -> Result {
    tools::typescript_client()?;
    count(&mut node_tests(tools::TYPESCRIPT_TESTS, ""), Runner::Node, tally)
}

/// The test files below `folder` whose paths begin with `suite`.
fn node_tests(folder: &str, suite: &str) -> Command {
    let folder = repo::root().join(folder);
    let files = format!("{suite}*.test.mjs");
    let arguments =
        ["--test", "--test-reporter=tap", "--test-timeout=240000", "--test-concurrency=1"];
    let mut tests = command("sh", &["-c", &format!("exec node {} {files}", arguments.join(" "))]);
    tests.current_dir(folder).env("SEGUE_BIN", binary());
    tests
}

fn python(tally: &mut Tally) -> Result {
    let python = tools::python()?;
    tools::python_client(&python)?;
    let folder = repo::root().join(tools::E2E).join("python");
    let mut tests =
        command(&python.to_string_lossy(), &["-m", "pytest", "-q", "-p", "no:cacheprovider", "."]);
    tests.current_dir(folder).env("SEGUE_BIN", binary()).env("PYTHONDONTWRITEBYTECODE", "1");
    count(&mut tests, Runner::Pytest, tally)
}

fn binary() -> PathBuf {
    target().join("release/segue")
}

fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| repo::root().join("target"))
}

fn deny(_: &mut Tally) -> Result {
    if !exists(&mut cargo(&["deny", "--version"])) {
        return Ok(Done::NotHere("cargo-deny is not installed"));
    }
    passed(run(&mut cargo(&["deny", "check", "licenses", "bans", "sources"])))
}

/// Runs tests and adds them to `tally`; a run without a summary, or with tests left out, fails.
fn count(tests: &mut Command, runner: Runner, tally: &mut Tally) -> Result {
    let printed = read(tests)?;
    let counted = runner.count(&printed.text);
    *tally += counted.unwrap_or_default();
    printed.result?;
    anyhow::ensure!(counted.is_some(), "no summary of tests was printed");
    anyhow::ensure!(tally.failed == 0, "{} tests failed", tally.failed);
    anyhow::ensure!(tally.skipped == 0, "{} tests were left out", tally.skipped);
    Ok(Done::Passed)
}
