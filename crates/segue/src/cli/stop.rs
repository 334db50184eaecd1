//! `segue stop`.

use std::{
    io::{self, Write},
    time::Duration,
};

use segue_client::Wait;
use segue_core::RunId;

use super::{Exit, ServerArgs, say};

/// The longest that a server lets a stop wait.
const WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run
    run: RunId,
    /// Wait until it has ended, at most 30 s
    #[arg(long)]
    wait: bool,
    /// Print the answer as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client().await?;
    let wait = if args.wait { Wait::AtMost(WAIT) } else { Wait::No };
    let answer = client.stop(&args.run, wait).await?;
    if answer.status == "pending" {
        anyhow::bail!(
            "there is no run {}; if it is started within a minute, it is stopped",
            args.run
        );
    }
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string(&answer)?)?;
        return Ok(Exit::Done);
    }
    say(&format!("{} is {}", args.run, answer.status));
    Ok(Exit::Done)
}
