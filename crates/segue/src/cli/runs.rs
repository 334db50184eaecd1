//! `segue runs`.

use std::io::{self, Write};

use segue_client::{Run, RunFilter};
use segue_core::{RunStatus, SessionId};

use super::{Exit, ServerArgs, table};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only runs in this status
    #[arg(long, value_parser = parse_status)]
    status: Option<RunStatus>,
    /// Only runs of this session
    #[arg(long)]
    session: Option<SessionId>,
    /// The most runs to list; 0 lists all
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print each run as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client().await?;
    let mut filter =
        RunFilter { status: args.status, session: args.session, ..RunFilter::default() };
    let most = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut runs: Vec<Run> = Vec::new();
    loop {
        let page = client.runs(&filter).await?;
        runs.extend(page.data.into_iter().take(most - runs.len()));
        filter.after = page.next;
        if filter.after.is_none() || runs.len() == most {
            break;
        }
    }
    print(&mut io::stdout().lock(), &runs, args.json)?;
    Ok(Exit::Done)
}

fn print(out: &mut impl Write, runs: &[Run], json: bool) -> io::Result<()> {
    let head = ["RUN", "STATUS", "AGENT", "SESSION", "EVENTS", "CREATED"];
    table::print(out, runs, json, head, |run| {
        let reason = run.reason.as_ref().or(run.cause.as_ref());
        let status = run.status.as_str();
        [
            run.id.to_string(),
            reason.map_or_else(|| status.to_owned(), |reason| format!("{status} ({reason})")),
            run.agent.clone(),
            run.session_id.to_string(),
            run.last_seq.to_string(),
            run.created_at.to_string(),
        ]
    })
}

fn parse_status(text: &str) -> Result<RunStatus, String> {
    RunStatus::parse(text)
        .ok_or_else(|| format!("it is one of {}", RunStatus::ALL.map(RunStatus::as_str).join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn runs() -> Vec<Run> {
        let run = |fields: serde_json::Value| serde_json::from_value(fields).unwrap();
        vec![
            run(json!({"id": "run_1", "session_id": "s", "agent": "demo", "status": "stopped",
                "reason": "user", "last_seq": 12, "created_at": "2026-11-20T12:00:00.000Z"})),
            run(json!({"id": "r", "session_id": "longer", "agent": "push", "status": "running",
                "last_seq": 3, "created_at": "2026-11-20T11:00:00.000Z"})),
        ]
    }

    fn printed(json: bool) -> String {
        let mut out = Vec::new();
        print(&mut out, &runs(), json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_lines_up() {
        assert_eq!(
            printed(false),
            "RUN    STATUS          AGENT  SESSION  EVENTS  CREATED\n\
             run_1  stopped (user)  demo   s            12  2026-11-20T12:00:00.000Z\n\
             r      running         push   longer        3  2026-11-20T11:00:00.000Z\n"
        );
    }

    #[test]
    fn json_is_one_run_a_line() {
        let back: Vec<Run> =
            printed(true).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, runs());
    }
}
