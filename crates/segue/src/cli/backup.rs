//! `segue backup`.

use std::path::{PathBuf, absolute};

use super::{Exit, ServerArgs, say};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to make, on the server's machine
    to: PathBuf,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client().await?;
    let to = absolute(&args.to)?;
    let bytes = client.backup(&to).await?;
    say(&format!("{bytes} bytes are in {}: serve them with --data", to.display()));
    Ok(Exit::Done)
}
