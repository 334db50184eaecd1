//! `segue export` and `segue import`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use bytes::Bytes;
use futures_util::{Stream, stream};
use segue_client::Export;
use segue_core::SessionId;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, stdin},
};

use super::{Exit, ServerArgs, say};

/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The session
    session: SessionId,
    /// Write to this file, which is there only when the export is whole [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// What `segue export` wrote [default: standard input]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn export(args: ExportArgs) -> anyhow::Result<Exit> {
    let client = args.server.client().await?;
    let mut export = client.export(&args.session).await?;
    match &args.output {
        Some(path) => to_file(&mut export, path).await?,
        None => {
            let mut out = io::stdout().lock();
            while let Some(bytes) = export.next().await? {
                out.write_all(&bytes)?;
            }
            out.flush()?;
        }
    }
    Ok(Exit::Done)
}

/// Into a file beside the one that is wanted, which takes its place at the end.
async fn to_file(export: &mut Export, path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = File::create(&part).await.with_context(|| format!("{shown} cannot be made"))?;
    while let Some(bytes) = export.next().await? {
        file.write_all(&bytes).await?;
    }
    file.sync_all().await?;
    tokio::fs::rename(&part, path).await.with_context(|| format!("{shown} cannot be written"))
}

pub(super) async fn import(args: ImportArgs) -> anyhow::Result<Exit> {
    let client = args.server.client_or_new().await?;
    let session = match &args.file {
        Some(path) => {
            let shown = path.display();
            let file = File::open(path).await.with_context(|| format!("{shown} cannot be read"))?;
            client.import(pieces(file)).await?
        }
        None => client.import(pieces(stdin())).await?,
    };
    say(&format!("imported the session {}", session.id));
    Ok(Exit::Done)
}

fn pieces<R: AsyncRead + Unpin + Send>(from: R) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(from, async |mut from| {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut from).take(PIECE as u64).read_to_end(&mut piece).await?;
        Ok((read > 0).then(|| (Bytes::from(piece), from)))
    })
}
