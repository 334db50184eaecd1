//! `start`: how long a server takes until it listens, over many finished runs and after a kill in
//! the middle of many running ones, beside one over an empty folder.

use std::path::Path;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::{
    sync::OnceCell,
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

use super::{
    table::Sample,
    target::{Bench, Side, Target},
};
use crate::live::{Serve, http::request};

/// Finished runs on disk, ten events each.
const FINISHED: usize = 100_000;
/// Runs that run when the server is killed.
const RUNNING: usize = 1_000;
/// Connections that make runs.
const MAKERS: usize = 32;
/// Events of a finished run, its start and end among them.
const EVENTS: usize = 10;

/// The folder with the finished runs is made once.
static MADE: OnceCell<TempDir> = OnceCell::const_new();

pub(super) async fn round(bench: &Bench, number: usize) -> anyhow::Result<Vec<Sample>> {
    let made = MADE.get_or_try_init(|| with_finished(bench)).await?;
    let (mut full, mut empty) = (0.0, 0.0);
    for side in Side::alternating(number) {
        match side {
            Side::Ours => full = over(&bench.serve(&made.path().join("data"))).await?,
            Side::Peer => empty = over_nothing(bench).await?,
        }
    }
    let killed = after_a_kill(bench).await?;
    Ok(vec![
        Sample::beside("100,000 finished runs, other: none", "ms", full, empty, at_most(250.0)),
        Sample::beside(
            "killed with 1,000 running, other: none",
            "ms",
            killed,
            empty,
            at_most(250.0),
        ),
    ])
}

fn at_most(ms: f64) -> super::table::Goal {
    super::table::Goal::AtMost(ms)
}

/// Starts it, and ends it in order. Gives the milliseconds until it listened.
async fn over(serve: &Serve) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let live = serve.start().await?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    live.stop().await?;
    Ok(took)
}

async fn over_nothing(bench: &Bench) -> anyhow::Result<f64> {
    let folder = TempDir::new_in(bench.scratch())?;
    over(&bench.serve(&folder.path().join("data"))).await
}

async fn after_a_kill(bench: &Bench) -> anyhow::Result<f64> {
    let folder = TempDir::new_in(bench.scratch())?;
    let serve = bench.serve(&folder.path().join("data"));
    let target = Target::ours(serve.start().await?, folder);
    make(&target, RUNNING, false).await?;
    let (live, folder) = target.apart();
    live.kill().await?;
    let took = over(&serve).await;
    drop(folder);
    took
}

/// A folder with many finished runs, its server ended in order after everything was packed.
async fn with_finished(bench: &Bench) -> anyhow::Result<TempDir> {
    let folder = TempDir::new_in(bench.scratch())?;
    let data = folder.path().join("data");
    let serve = Serve { settings: &[("SEGUE_HOT_MIB", "64")], ..bench.serve(&data) };
    let target = Target::ours(serve.start().await?, folder);
    make(&target, FINISHED, true).await?;
    let (live, folder) = target.apart();
    packed(&data).await?;
    live.stop().await?;
    Ok(folder)
}

/// Waits until the packer has nothing to do: the size of its file stays.
async fn packed(data: &Path) -> anyhow::Result<()> {
    let size = || std::fs::metadata(data.join("cold.db")).map(|file| file.len());
    let mut before = None;
    while before != Some(size()?) {
        before = Some(size()?);
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Makes runs over many connections; each has its events in one append.
async fn make(target: &Target, runs: usize, ends: bool) -> anyhow::Result<()> {
    let mut makers = JoinSet::new();
    for maker in 0..MAKERS {
        let mut conn = target.live.connect().await?;
        makers.spawn(async move {
            for run in (maker..runs).step_by(MAKERS) {
                let name = format!("f{run}");
                let body = format!(r#"{{"agent":"push","run_id":"{name}"}}"#);
                let path = format!("/v1/sessions/s{}/runs", if ends { run % 1_000 } else { run });
                let json = [("content-type", "application/json")];
                let policy = body.replace('}', r#","policy":"parallel"}"#);
                let answer = conn.call(&request("POST", &path, &json, policy.as_bytes())).await?;
                ensure!(answer.status() == 202, "{name}: {} {}", answer.status(), answer.text());
                let text = r#"{"type":"text.delta","part":"p","text":"some words of an answer "}"#;
                let mut events = vec![text; EVENTS - 4];
                events.extend(ends.then_some(r#"{"type":"run.finished"}"#));
                let body = format!("[{}]", events.join(","));
                let path = format!("/v1/runs/{name}/events");
                let answer = conn.call(&request("POST", &path, &json, body.as_bytes())).await?;
                ensure!(answer.status() == 200, "{name}: {} {}", answer.status(), answer.text());
            }
            Ok(())
        });
    }
    while let Some(made) = makers.join_next().await {
        made.context("a maker broke down")??;
    }
    Ok(())
}
