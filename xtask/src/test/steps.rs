//! The steps, in their order.

use std::{path::PathBuf, process::Command};

use super::{
    clients::{self, Client},
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

/// The files of the suite under Node, and whose they are; each client of the AI SDK's has tests of
/// its own in one file.
const NODE: [(&str, Option<Client>); 5] = [
    ("ai_sdk", None),
    ("eventsource", Some(Client::EventSource)),
    ("fetch", Some(Client::Fetch)),
    ("openai", Some(Client::OpenAiNode)),
    ("resume", Some(Client::Fetch)),
];

fn node(tally: &mut Tally) -> Result {
    tools::node_packages()?;
    tools::only_files("tests/e2e/node", ".test.mjs", &NODE.map(|(file, _)| file))?;
    let mut of_fetch = Tally::default();
    for (file, client) in NODE {
        let mut of_file = Tally::default();
        let tests = &mut node_tests(tools::E2E, &format!("node/{file}"));
        let text = counted(tests, Runner::Node, &mut of_file)?;
        *tally += of_file;
        match client {
            Some(Client::Fetch) => of_fetch += of_file,
            Some(client) => clients::note(client, of_file)?,
            None => {
                for major in 5..=7 {
                    let of_major = clients::of_prefix(&text, &format!("ai{major}:"));
                    clients::note(Client::AiSdk(major), of_major)?;
                }
            }
        }
    }
    clients::note(Client::Fetch, of_fetch)?;
    Ok(Done::Passed)
}

fn browser(tally: &mut Tally) -> Result {
    tools::node_packages()?;
    tools::chat_example()?;
    tools::system("chromium")?;
    of_client(&mut node_tests(tools::E2E, "browser/"), Runner::Node, Client::Chromium, tally)
}

fn typescript(tally: &mut Tally) -> Result {
    tools::typescript_client()?;
    let tests = &mut node_tests(tools::TYPESCRIPT_TESTS, "");
    of_client(tests, Runner::Node, Client::TypeScript, tally)
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
    tools::only_files("tests/e2e/python", ".py", &PYTHON_FILES)?;
    for (suite, client) in [
        (&["test_streams.py", "test_hammer.py"][..], Client::HttpxSse),
        (&["test_openai.py"], Client::OpenAiPython),
        (&["client"], Client::Python),
    ] {
        let mut tests =
            command(&python.to_string_lossy(), &["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
        let folder = repo::root().join(tools::E2E).join("python");
        tests.args(suite).current_dir(folder).env("SEGUE_BIN", binary());
        of_client(tests.env("PYTHONDONTWRITEBYTECODE", "1"), Runner::Pytest, client, tally)?;
    }
    Ok(Done::Passed)
}

/// What is in the folder of the Python suites.
const PYTHON_FILES: [&str; 6] =
    ["conftest", "model", "support", "test_hammer", "test_openai", "test_streams"];

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

/// The same of a client's tests, of which the guide is told.
fn of_client(tests: &mut Command, runner: Runner, client: Client, tally: &mut Tally) -> Result {
    let mut of_client = Tally::default();
    counted(tests, runner, &mut of_client)?;
    *tally += of_client;
    clients::note(client, of_client)?;
    Ok(Done::Passed)
}

/// Runs tests and adds them to `tally`; a run without a summary, or with tests left out, fails.
fn count(tests: &mut Command, runner: Runner, tally: &mut Tally) -> Result {
    counted(tests, runner, tally).map(|_| Done::Passed)
}

/// The same; gives what was printed.
fn counted(tests: &mut Command, runner: Runner, tally: &mut Tally) -> anyhow::Result<String> {
    let printed = read(tests)?;
    let counted = runner.count(&printed.text);
    *tally += counted.unwrap_or_default();
    printed.result?;
    anyhow::ensure!(counted.is_some(), "no summary of tests was printed");
    anyhow::ensure!(tally.failed == 0, "{} tests failed", tally.failed);
    anyhow::ensure!(tally.skipped == 0, "{} tests were left out", tally.skipped);
    Ok(printed.text)
}
