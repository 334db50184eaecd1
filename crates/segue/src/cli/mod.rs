//! The command line: what can be asked, and what the exit code says.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done; of `exec` and `attach`: the run finished |
//! | 1 | an error; of `exec` and `attach`: the run failed |
//! | 2 | the command line or the configuration cannot be used |
//! | 3 | the run was stopped |
//! | 4 | the run was interrupted |
//! | 130 | Ctrl-C: of `exec` and `attach`, detached while the run goes on |

mod attach;
mod background;
mod backup;
mod chat;
mod check;
mod completions;
mod config;
mod exec;
mod export;
mod follow;
mod keys;
mod look;
mod messages;
mod printer;
mod push;
mod render;
mod runs;
mod serve;
mod server;
mod sessions;
mod stop;
mod table;
mod token;
mod words;

use std::{
    future::Future,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use segue_client::ClientError;
use segue_core::{Cursor, CursorError, RunStatus};

use self::server::ServerArgs;
use crate::config::ConfigError;

/// Agent and chat streams that outlive their clients.
#[derive(Debug, Parser)]
#[command(name = "segue", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server; the same as no command at all
    Serve(serve::Args),
    /// Run a command as a detached run and show it live
    Exec(exec::Args),
    /// Talk to an agent: type, watch the answer, leave, come back
    Chat(chat::Args),
    /// Show a run from its beginning, or from a cursor, to its end
    Attach(attach::Args),
    /// Push lines of JSON from standard input into a run, each exactly once
    Push(push::Args),
    /// List runs, the newest first
    Runs(runs::Args),
    /// List sessions, the newest first
    Sessions(sessions::Args),
    /// List the messages of a session, or find messages
    Messages(messages::Args),
    /// Write a session with its runs as NDJSON
    Export(export::ExportArgs),
    /// Bring in a session that was exported, whole or not at all
    Import(export::ImportArgs),
    /// Copy everything into a new folder, while the server goes on
    Backup(backup::Args),
    /// Stop a run
    Stop(stop::Args),
    /// Verify the journal of a data folder that no server uses
    Check(check::Args),
    /// Show the settings in force and where each came from
    Config(config::Args),
    /// Show the token of a data folder's admin scope, made if there is none
    Token(token::Args),
    /// Print what makes a shell complete this command line
    Completions(completions::Args),
}

impl Command {
    /// Whom a client's command talks to.
    fn server(&self) -> Option<&ServerArgs> {
        match self {
            Self::Exec(args) => Some(&args.server),
            Self::Chat(args) => Some(&args.server),
            Self::Attach(args) => Some(&args.server),
            Self::Push(args) => Some(&args.server),
            Self::Runs(args) => Some(&args.server),
            Self::Sessions(args) => Some(&args.server),
            Self::Messages(args) => Some(&args.server),
            Self::Export(args) => Some(&args.server),
            Self::Import(args) => Some(&args.server),
            Self::Backup(args) => Some(&args.server),
            Self::Stop(args) => Some(&args.server),
            Self::Serve(_)
            | Self::Check(_)
            | Self::Config(_)
            | Self::Token(_)
            | Self::Completions(_) => None,
        }
    }

    fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Serve(args) => serve::run(args),
            Self::Exec(args) => block_on(exec::run(args)),
            Self::Chat(args) => block_on(chat::run(args)),
            Self::Attach(args) => block_on(attach::run(args)),
            Self::Push(args) => block_on(push::run(args)),
            Self::Runs(args) => block_on(runs::run(args)),
            Self::Sessions(args) => block_on(sessions::run(args)),
            Self::Messages(args) => block_on(messages::run(args)),
            Self::Export(args) => block_on(export::export(args)),
            Self::Import(args) => block_on(export::import(args)),
            Self::Backup(args) => block_on(backup::run(args)),
            Self::Stop(args) => block_on(stop::run(args)),
            Self::Check(args) => check::run(&args),
            Self::Config(args) => config::run(args),
            Self::Token(args) => token::run(args),
            Self::Completions(args) => completions::run(&args),
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done,
    Failed,
    Unusable,
    Stopped,
    Interrupted,
    /// By Ctrl-C.
    Left,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Unusable => 2,
            Self::Stopped => 3,
            Self::Interrupted => 4,
            Self::Left => 130,
        }
    }

    /// What the end of a run means to the one who followed it.
    fn of_run(status: RunStatus) -> Self {
        match status {
            RunStatus::Stopped => Self::Stopped,
            RunStatus::Failed => Self::Failed,
            RunStatus::Interrupted => Self::Interrupted,
            RunStatus::Finished | RunStatus::Queued | RunStatus::Running | RunStatus::Stopping => {
                Self::Done
            }
        }
    }
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Serve(cli.serve));
    let server = command.server().cloned();
    let exit = command.run().unwrap_or_else(|error| explain(&error, server.as_ref()));
    ExitCode::from(exit.code())
}

/// Runs a client's command. What is still blocked when it is done, as a read of a terminal is,
/// is left behind.
fn block_on(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

fn explain(error: &anyhow::Error, server: Option<&ServerArgs>) -> Exit {
    if is_broken_pipe(error) {
        // Whoever read the output has had enough.
        return Exit::Done;
    }
    say(&format!("segue: {}", words::of(error, server)));
    let unusable = matches!(error.downcast_ref(), Some(ClientError::Unusable(_)));
    if unusable || error.is::<ConfigError>() { Exit::Unusable } else { Exit::Failed }
}

/// Of our own outputs only: a connection's broken pipe is part of the client's own error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A line for the person at the terminal. Nothing depends on whether it can be written.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

fn parse_cursor(text: &str) -> Result<Cursor, CursorError> {
    Cursor::parse(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve_with_its_flags() {
        for line in ["segue --listen 127.0.0.1:0 --data /d", "segue serve --listen 127.0.0.1:0"] {
            let cli = parse(line).unwrap();
            let Command::Serve(args) = cli.command.unwrap_or(Command::Serve(cli.serve)) else {
                panic!("{line}")
            };
            assert_eq!(args.settings.listen.as_deref(), Some("127.0.0.1:0"));
        }
    }

    #[test]
    fn a_command_to_run_keeps_its_own_flags() {
        for line in
            ["segue exec --session s -- ls -l --data x", "segue exec --session s ls -l --data x"]
        {
            let Some(Command::Exec(args)) = parse(line).unwrap().command else { panic!("{line}") };
            assert_eq!(args.command, ["ls", "-l", "--data", "x"]);
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for line in [
            "segue nonsense",
            "segue exec",
            "segue attach",
            "segue attach a/b",
            "segue attach r --after r",
            "segue push --run ..",
            "segue push --producer a:b",
            "segue runs --status busy",
            "segue stop",
            "segue --listen x runs",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_end_of_a_run_has_its_own_code() {
        let codes = [
            (RunStatus::Finished, 0),
            (RunStatus::Failed, 1),
            (RunStatus::Stopped, 3),
            (RunStatus::Interrupted, 4),
        ];
        for (status, code) in codes {
            assert_eq!(Exit::of_run(status).code(), code);
        }
    }

    #[test]
    fn a_broken_pipe_is_found_under_its_context() {
        let pipe = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&pipe.context("printing")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
