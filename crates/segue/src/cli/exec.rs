//! `segue exec`.

use std::env;

use anyhow::{Context, ensure};
use segue_client::StartRun;
use segue_core::SessionId;
use serde_json::{Map, Value, json};

use super::{
    Exit, ServerArgs, follow,
    look::{ShowArgs, TextForm},
    printer::Printer,
    say,
};
use crate::place::random_hex;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The session the run belongs to [default: a new one]
    #[arg(long)]
    session: Option<SessionId>,
    /// A variable for the command, `NAME=VALUE`, or `NAME` for the value it has here
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let start = StartRun::of_source(source(&args)?);
    let client = args.server.client_or_new().await?;
    let session = args.session.map_or_else(new_session, Ok)?;
    let run = client.start(&session, &start).await?;
    say(&format!("run {}", run.id));
    let attachment = client.attach(run.id.clone(), None);
    follow::to_the_end(
        attachment,
        &run.id,
        &mut Printer::of_process(args.show.look(TextForm::Plain)),
    )
    .await
}

/// The command in this folder, with the search path it was found by here.
fn source(args: &Args) -> anyhow::Result<Value> {
    let cwd = env::current_dir().context("the working folder cannot be read")?;
    let cwd = cwd.to_str().context("the working folder's name is not UTF-8")?;
    let mut env = Map::new();
    if let Ok(path) = env::var("PATH") {
        env.insert("PATH".to_owned(), path.into());
    }
    for variable in &args.env {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (variable.as_str(), env::var(variable).context(variable.clone())?),
        };
        ensure!(!name.is_empty(), "--env {variable}: a variable has a name");
        env.insert(name.to_owned(), value.into());
    }
    Ok(json!({ "kind": "process", "command": args.command, "cwd": cwd, "env": env }))
}

pub(super) fn new_session() -> anyhow::Result<SessionId> {
    Ok(SessionId::parse(&format!("ses_{}", random_hex::<8>()?))?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn source_of(line: &[&str]) -> anyhow::Result<Value> {
        source(&Line::try_parse_from(line)?.args)
    }

    #[test]
    fn a_command_runs_here_with_what_it_is_given() {
        let source = source_of(&["exec", "--env", "A=b=c", "--", "make", "-j"]).unwrap();
        assert_eq!(source["command"], json!(["make", "-j"]));
        assert_eq!(source["env"]["A"], "b=c");
        assert_eq!(source["env"]["PATH"], env::var("PATH").unwrap());
        assert_eq!(source["cwd"], env::current_dir().unwrap().to_str().unwrap());
    }

    #[test]
    fn a_variable_that_is_not_there_is_an_error() {
        assert!(source_of(&["exec", "--env", "SEGUE_NOT_SET_ANYWHERE", "x"]).is_err());
        assert!(source_of(&["exec", "--env", "=x", "x"]).is_err());
    }
}
