//! `segue attach`.

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
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client()?;
    let attachment = client.attach(args.run.clone(), args.after);
    follow::to_the_end(
        attachment,
        &args.run,
        &mut Printer::of_process(args.show.look(TextForm::Markdown)),
    )
    .await
}
