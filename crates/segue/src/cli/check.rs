//! `segue check`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use serde_json::json;

use super::{Exit, say};
use crate::{place::Place, wiring};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data folder [default: `$XDG_DATA_HOME/segue`, else `~/.local/share/segue`]
    #[arg(long, env = "SEGUE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print each finding as a line of JSON
    #[arg(long)]
    json: bool,
    /// Also rebuild the views from the journal
    #[arg(long)]
    rebuild: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let place = args.data.clone().map_or_else(Place::of_user, |data| Ok(Place::new(data)))?;
    let findings = wiring::check(place.path(), args.rebuild)?;
    for finding in &findings {
        if args.json {
            writeln!(io::stdout(), "{}", json!({ "finding": finding }))?;
        } else {
            say(finding);
        }
    }
    if findings.is_empty() {
        say(&format!("{} is sound", place.path().display()));
        return Ok(Exit::Done);
    }
    Ok(Exit::Failed)
}
