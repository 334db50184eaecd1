//! `segue sessions`.

use std::io;

use segue_client::Session;

use super::{Exit, ServerArgs, table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The most sessions to list; 0 lists all
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print each session as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client().await?;
    let most = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut sessions: Vec<Session> = Vec::new();
    let mut after = None;
    loop {
        let page = client.sessions(after.as_deref()).await?;
        sessions.extend(page.data.into_iter().take(most - sessions.len()));
        after = page.next;
        if after.is_none() || sessions.len() == most {
            break;
        }
    }
    let head = ["SESSION", "STATUS", "RUNNING", "CLIENTS", "UPDATED", "TITLE"];
    table::print(&mut io::stdout().lock(), &sessions, args.json, head, |session| {
        [
            session.id.to_string(),
            session.status.clone(),
            session.active_runs.len().to_string(),
            session.clients.to_string(),
            session.updated_at.to_string(),
            session.title.clone().unwrap_or_default(),
        ]
    })?;
    Ok(Exit::Done)
}
