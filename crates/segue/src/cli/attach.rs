//! `segue attach`.

use anyhow::Context;
use segue_client::{Agent, Client, ClientError, Run};
use segue_core::{Cursor, RunId};

use super::{
    Exit, ServerArgs, follow,
    look::{ShowArgs, TextForm},
    parse_cursor,
    printer::Printer,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run
    run: RunId,
    /// Begin after this cursor, `RUN:SEQ`, instead of at the run's first event
    #[arg(long, value_name = "CURSOR", value_parser = parse_cursor)]
    after: Option<Cursor>,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client().await?;
    // Asked first, since an attachment tries for ever.
    let run = client.run(&args.run).await.with_context(|| format!("run {}", args.run))?;
    let form = form_of(&client, &run).await?;
    let attachment = client.attach(args.run.clone(), args.after);
    follow::to_the_end(attachment, &args.run, &mut Printer::of_process(args.show.look(form))).await
}

/// What a command printed is shown as it is; what a model says is Markdown.
pub(super) async fn form_of(client: &Client, run: &Run) -> Result<TextForm, ClientError> {
    const PROCESS: &str = "process";
    if run.agent == PROCESS {
        return Ok(TextForm::Plain);
    }
    let agents = client.agents().await?.data;
    let of_process = |agent: &Agent| agent.name.as_str() == run.agent && agent.kind == PROCESS;
    Ok(if agents.iter().any(of_process) { TextForm::Plain } else { TextForm::Markdown })
}
