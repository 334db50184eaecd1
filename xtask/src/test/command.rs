//! Running other programs: what they print is shown as it comes and kept, to be counted.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    process::{Command, Stdio},
    thread,
};

use anyhow::Context as _;

use crate::repo;

/// A command that works from the repository's root, or from `folder` below it.
pub(super) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(repo::root()).stdin(Stdio::null());
    command
}

/// The cargo that runs us.
pub(super) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&cargo, arguments)
}

/// Whether the program is there and answers `--version`.
pub(super) fn exists(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs it; an error unless it ends well.
pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = shown(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("start `{line}`"))?;
    anyhow::ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

/// What a command printed, both ways together, and whether it ended well.
pub(super) struct Printed {
    pub(super) text: String,
    pub(super) result: anyhow::Result<()>,
}

/// Runs it, shows what it prints and keeps that; an error if it cannot be started.
pub(super) fn read(command: &mut Command) -> anyhow::Result<Printed> {
    let line = shown(command);
    println!("$ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{line}`"))?;
    let errors = child.stderr.take().map(|from| thread::spawn(|| tee(from, std::io::stderr())));
    let mut text = child.stdout.take().map(|from| tee(from, std::io::stdout())).unwrap_or_default();
    text.push_str(&errors.and_then(|thread| thread.join().ok()).unwrap_or_default());
    let status = child.wait()?;
    let failed = || anyhow::anyhow!("`{line}` ended with {status}");
    Ok(Printed { text, result: status.success().then_some(()).ok_or_else(failed) })
}

fn tee(from: impl Read, mut to: impl Write) -> String {
    let mut kept = String::new();
    let mut line = Vec::new();
    let mut from = BufReader::new(from);
    while from.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        // What cannot be shown is still counted.
        to.write_all(&line).and_then(|()| to.flush()).unwrap_or_default();
        kept.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    kept
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_are_kept_and_the_end_is_told() {
        let mut ends_badly = command("sh", &["-c", "echo out; echo err >&2; exit 3"]);
        let printed = read(&mut ends_badly).expect("starts");
        assert_eq!(printed.text, "out\nerr\n");
        let error = printed.result.expect_err("exit 3").to_string();
        assert!(error.ends_with("ended with exit status: 3"), "{error}");
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let error = read(&mut command("no-such-program", &["x"])).err().expect("missing");
        assert_eq!(error.to_string(), "start `no-such-program x`");
        assert!(!exists(&mut command("no-such-program", &[])));
    }
}
