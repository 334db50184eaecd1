//! `cargo xtask crash`: the real binary under load, killed and restarted.
//!
//! ```text
//!  plan (seeded) -> producers, readers, processes against the server
//!                     |  what each of them knows: its ledger, the frames it saw
//!  kill -9 at the nth acknowledged event
//!                     |
//!  restart (now and then killed again while it recovers)
//!                     v
//!  check every ledger and every reader against what the journal says now
//! ```
//! The choices follow from the seed; how far each side got at the kill is the system's business,
//! so a violation keeps the data folder.

mod cycle;
mod deletion;
mod ledger;
mod load;
mod plan;
mod site;
mod trigger;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::runtime::Builder;

use crate::live;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often the server is killed.
    #[arg(long, default_value_t = 50)]
    cycles: u32,
    /// Seed of all random choices; printed, random when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the data folder also when nothing is wrong.
    #[arg(long)]
    keep: bool,
    /// The `segue` binary to kill; built with optimisations when absent.
    #[arg(long)]
    binary: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    println!("crash: seed {seed}, {} cycles", args.cycles);
    let binary = args.binary.clone().map_or_else(live::build_release, Ok)?;
    let folder = tempfile::Builder::new().prefix("segue-crash-").tempdir()?.keep();
    let done = drive(args.cycles, seed, &binary, &folder);
    if done.is_ok() && !args.keep {
        std::fs::remove_dir_all(&folder).context("cannot remove the data folder")?;
    } else {
        println!("crash: the data folder is {}", folder.display());
    }
    done.with_context(|| format!("seed {seed}"))
}

fn drive(cycles: u32, seed: u64, binary: &Path, folder: &Path) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut crash = cycle::Crash::begin(binary, folder, seed).await?;
        for number in 1..=cycles {
            let summary = crash.cycle(number).await.with_context(|| format!("cycle {number}"))?;
            println!("cycle {number:3}: {summary}");
        }
        let total = crash.end().await.context("at the end")?;
        println!("crash: seed {seed}, {cycles} kills, {total}: nothing lost, doubled or reordered");
        Ok(())
    })
}
