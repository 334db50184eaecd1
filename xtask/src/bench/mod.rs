//! `cargo xtask bench`: figures and the bars they are held against.
//!
//! Every figure is taken beside the thing it is compared to, in alternating rounds of one run;
//! medians count. The server has one core and the load the other. A round in which the disk alone
//! is slow is taken again.

mod appends;
mod coalesce;
mod decode;
mod disk;
mod engine;
mod event;
mod fan;
mod ingest;
mod memory;
mod replay;
mod start;
mod table;
mod target;
mod times;

use std::{path::PathBuf, process::Command};

use anyhow::{Context, bail, ensure};
use tokio::runtime::Builder;

use crate::live;
use table::{Row, Sample, Table};
use target::Bench;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The benchmark; all of them when absent or `all`.
    name: Option<String>,
    /// How often both sides are measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The `segue` binary; built with optimisations when absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Seconds of load behind each throughput.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// How often a round may be taken again because of the disk.
const MORE_ROUNDS: usize = 3;
/// The median of a raw append and sync, in microseconds, above which a round does not count.
const SLOW_DISK_US: f64 = 1_000.0;

/// What can be measured, in the order of `all`.
const NAMES: [&str; 15] = [
    "decode",
    "fold",
    "coalesce",
    "engine",
    "packing",
    "append-1",
    "append-1000",
    "ingest",
    "replay",
    "e2e",
    "fan-100",
    "fan-1000",
    "ingest-under-fan",
    "memory",
    "start",
];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let wanted = args.name.as_deref().filter(|name| *name != "all");
    if let Some(name) = wanted {
        ensure!(NAMES.contains(&name), "no benchmark {name:?}, there are {NAMES:?} and all");
    }
    if cfg!(debug_assertions) {
        return again_with_optimisations();
    }
    let binary = args.binary.clone().map_or_else(live::build_release, Ok)?;
    let bench = Bench::new(binary, args.seconds)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    println!("{}", table::conditions()?);
    let mut table = Table::default();
    for name in NAMES.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name)) {
        let measured = runtime.block_on(measure(&bench, name, args.rounds));
        for row in measured.with_context(|| format!("benchmark {name}"))? {
            table.push(row);
        }
    }
    println!("{table}");
    Ok(())
}

/// Load from a slow program would be what is measured.
fn again_with_optimisations() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .current_dir(crate::repo::root())
        .status()?;
    ensure!(status.success(), "the benchmark ended with {status}");
    Ok(())
}

async fn measure(bench: &Bench, name: &str, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let mut samples: Vec<Sample> = Vec::new();
    let (mut taken, mut again) = (0, 0);
    while taken < rounds {
        let disk = disk::sync_p50_us(bench.scratch())?;
        let round = round(bench, name, taken).await?;
        if disk > SLOW_DISK_US && again < MORE_ROUNDS {
            again += 1;
            eprintln!("{name}: the disk takes {disk:.0} us, the round does not count");
            continue;
        }
        taken += 1;
        eprintln!("{name}: round {taken} of {rounds}, the disk takes {disk:.0} us");
        for sample in &round {
            eprintln!("{name}:   {sample}");
        }
        samples.extend(round);
        samples.push(Sample::alone("raw append and sync, p50", "us", disk));
    }
    Ok(table::rows(name, &samples))
}

async fn round(bench: &Bench, name: &str, number: usize) -> anyhow::Result<Vec<Sample>> {
    let in_process = ["decode", "fold", "coalesce", "engine", "packing"].contains(&name);
    live::pin((!in_process).then_some(target::LOAD_CORE))?;
    match name {
        "decode" => decode::round(),
        "fold" => coalesce::fold(),
        "coalesce" => coalesce::round(bench).await,
        "engine" => engine::round(bench, number).await,
        "packing" => engine::packing(bench, number).await,
        "append-1" => appends::one(bench, number).await,
        "append-1000" => appends::thousand(bench, number).await,
        "ingest" => ingest::round(bench, number).await,
        "replay" => replay::round(bench).await,
        "e2e" => fan::e2e(bench, number).await,
        "fan-100" => fan::fan(bench, number, 100).await,
        "fan-1000" => fan::fan(bench, number, 1_000).await,
        "ingest-under-fan" => fan::ingest_under(bench, number, 1_000).await,
        "memory" => memory::round(bench).await,
        "start" => start::round(bench, number).await,
        _ => bail!("no benchmark {name:?}"),
    }
}
