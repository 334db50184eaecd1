//! `memory`: what a subscriber, a running run and a finished run hold, by the resident set.

use anyhow::ensure;
use tempfile::TempDir;
use tokio::time::{Duration, sleep};

use super::{
    event::{BYTES, Event},
    ingest::fill,
    table::{Goal, Sample},
    target::{Bench, Side, Target, appended},
};
use crate::live::{Conn, Live, http::request, stamp};

/// Subscribers, and runs.
const COUNT: u32 = 2_000;
/// Finished runs on disk.
const FINISHED: u32 = 5_000;
/// Events of a run that fills more than one segment.
const LONG: u64 = 600_000;

pub(super) async fn round(bench: &Bench) -> anyhow::Result<Vec<Sample>> {
    let ours = subscribers(&bench.start(Side::Ours).await?).await?;
    let peer = subscribers(&bench.start(Side::Peer).await?).await?;
    let running = running(&bench.start(Side::Ours).await?).await?;
    let finished = finished(bench).await?;
    Ok(vec![
        Sample::beside("per subscriber", "KiB", ours, peer, Goal::Report),
        Sample::alone("per running run", "KiB", running),
        Sample::alone("per finished run, after a restart", "KiB", finished).at_most(0.1),
    ])
}

/// What `COUNT` subscribers hold that follow one run and have got some events.
async fn subscribers(target: &Target) -> anyhow::Result<f64> {
    let mut conn = target.live.connect().await?;
    target.create(&mut conn, "m").await?;
    let mut append = target.append_one("m");
    let mut idle = vec![attached(target).await?];
    for index in 0..5 {
        append_event(&mut conn, &mut append, index).await?;
    }
    let before = settled(&target.live).await?;
    for _ in 0..COUNT {
        idle.push(attached(target).await?);
    }
    for index in 5..20 {
        append_event(&mut conn, &mut append, index).await?;
    }
    let after = settled(&target.live).await?;
    drop(idle);
    Ok(kib_each(before, after, COUNT))
}

async fn attached(target: &Target) -> anyhow::Result<Conn> {
    let mut conn = target.live.connect().await?;
    let head = conn.begin(&target.attach("m")).await?;
    ensure!(head.status == 200, "the attach was answered {}", head.status);
    Ok(conn)
}

async fn append_event(conn: &mut Conn, request: &mut [u8], index: u64) -> anyhow::Result<()> {
    let at = request.len() - BYTES;
    request[at..].copy_from_slice(Event::new().set(index, stamp()));
    appended(&conn.call(request).await?)
}

/// What `COUNT` push runs hold, each with one event.
async fn running(target: &Target) -> anyhow::Result<f64> {
    let mut conn = target.live.connect().await?;
    one_run(target, &mut conn, "first", false).await?;
    let before = settled(&target.live).await?;
    for index in 0..COUNT {
        one_run(target, &mut conn, &format!("m{index}"), false).await?;
    }
    Ok(kib_each(before, settled(&target.live).await?, COUNT))
}

async fn one_run(target: &Target, conn: &mut Conn, name: &str, ends: bool) -> anyhow::Result<()> {
    target.create(conn, name).await?;
    append_event(conn, &mut target.append_one(name), 0).await?;
    if ends {
        let end = target.append(name, br#"{"type":"run.finished"}"#);
        appended(&conn.call(&end).await?)?;
    }
    Ok(())
}

/// What finished runs hold in a server that was started on them.
async fn finished(bench: &Bench) -> anyhow::Result<f64> {
    let before = restarted(bench, 0).await?;
    let after = restarted(bench, FINISHED).await?;
    Ok(kib_each(before, after, FINISHED))
}

/// The memory of a server that was started on so many finished runs, with a long one behind them:
/// what the newest segment holds is kept at hand, whatever it is.
async fn restarted(bench: &Bench, runs: u32) -> anyhow::Result<u64> {
    let folder = TempDir::new_in(bench.scratch())?;
    let serve = bench.serve(&folder.path().join("data"));
    let target = Target::ours(serve.start().await?, folder);
    let mut conn = target.live.connect().await?;
    one_run(&target, &mut conn, "first", true).await?;
    for index in 0..runs {
        one_run(&target, &mut conn, &format!("m{index}"), true).await?;
    }
    target.create(&mut conn, "long").await?;
    fill(&target, "long", LONG).await?;
    let (live, folder) = target.apart();
    live.stop().await?;
    let live = serve.start().await?;
    let held = asked(&live).await?;
    live.stop().await?;
    drop(folder);
    Ok(held)
}

/// The memory of a server that was asked for a run.
async fn asked(live: &Live) -> anyhow::Result<u64> {
    let answer = live.connect().await?.call(&request("GET", "/v1/runs/first", &[], b"")).await?;
    ensure!(answer.status() == 200, "the first run: {} {}", answer.status(), answer.text());
    settled(live).await
}

/// The memory once it no longer moves.
async fn settled(live: &Live) -> anyhow::Result<u64> {
    let mut last = live.rss()?;
    for _ in 0..20 {
        sleep(Duration::from_millis(100)).await;
        let now = live.rss()?;
        if now.abs_diff(last) < 64 << 10 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn kib_each(before: u64, after: u64, count: u32) -> f64 {
    after.saturating_sub(before) as f64 / 1024.0 / f64::from(count)
}
