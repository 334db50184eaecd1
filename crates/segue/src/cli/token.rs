//! `segue token`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::ensure;
use serde_json::json;

use super::Exit;
use crate::place::Place;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Replace it by a new one; the folder's server must not run
    #[arg(long)]
    rotate: bool,
    /// Print the file that holds it and not the token
    #[arg(long, conflicts_with = "json")]
    path: bool,
    /// Print both as a line of JSON
    #[arg(long)]
    json: bool,
    /// The data folder [default: `$XDG_DATA_HOME/segue`, else `~/.local/share/segue`]
    #[arg(long, env = "SEGUE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let place = args.data.map_or_else(Place::of_user, |data| Ok(Place::new(data)))?;
    place.create()?;
    let token = if args.rotate {
        // Neither a server in the background that starts now, nor one that runs.
        let lock = place.lock_start()?;
        let running = place.server();
        ensure!(
            running.is_none(),
            "a server that knows the old token serves {}: stop it first",
            place.path().display()
        );
        let token = place.new_admin_token()?;
        drop(lock);
        token
    } else {
        place.admin_token_or_new()?
    };
    let path = place.token_path();
    let line = if args.json {
        json!({ "token": token, "path": path.display().to_string() }).to_string()
    } else if args.path {
        path.display().to_string()
    } else {
        token
    };
    writeln!(io::stdout(), "{line}")?;
    Ok(Exit::Done)
}
