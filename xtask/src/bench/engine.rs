//! `engine` and `packing`: the journal in process, beside a log that has nothing but group commit,
//! and beside itself while it packs.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use segue_core::{Event as CoreEvent, EventRecord};
use segue_engine::SystemClock;
use segue_journal::{Batch, Epoch, Journal, Log, LogOptions, Part, StreamKey};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::Instant};

use super::{
    appends::Produced,
    disk::RawLog,
    event::Event,
    table::{Goal, Sample},
    target::{Bench, Side},
    times::Times,
};
use crate::live::stamp;

/// Runs, each with one record under way.
const RUNS: usize = 1_000;
/// Bytes of the file of the raw log; it begins again at its end.
const RAW_BYTES: u64 = 2 << 30;
/// Bytes of a hot tier that no benchmark fills.
const NEVER_PACKS: u64 = 1 << 40;
/// Bytes of a hot tier that is full as soon as a segment is sealed behind another.
const ALWAYS_PACKS: u64 = 64 << 20;

pub(super) async fn round(bench: &Bench, round: usize) -> anyhow::Result<Vec<Sample>> {
    let [mut journal, mut raw] = [const { None }; 2];
    for side in Side::alternating(round) {
        let folder = TempDir::new_in(bench.scratch())?;
        match side {
            Side::Ours => journal = Some(through_journal(folder, NEVER_PACKS, bench.span()).await?),
            Side::Peer => raw = Some(through_raw_log(folder, bench.span()).await?),
        }
    }
    let (Some(journal), Some(raw)) = (journal, raw) else { return Ok(Vec::new()) };
    let us = |what, share| {
        Sample::beside(what, "us", journal.times.us(share), raw.times.us(share), Goal::Report)
    };
    let spread = |produced: &Produced| produced.times.us(0.99) / produced.times.us(0.5);
    Ok(vec![
        Sample::beside("records", "/s", journal.rate(), raw.rate(), Goal::RatioAtLeast(0.6)),
        us("acknowledged, p50", 0.5),
        us("acknowledged, p99", 0.99),
        Sample::beside("p99 / p50", "x", spread(&journal), spread(&raw), Goal::Report).at_most(5.0),
    ])
}

/// Both sides are ours: one packs from the first sealed segment on, the other never.
pub(super) async fn packing(bench: &Bench, round: usize) -> anyhow::Result<Vec<Sample>> {
    let [mut packs, mut never] = [const { None }; 2];
    for side in Side::alternating(round) {
        let folder = TempDir::new_in(bench.scratch())?;
        let (produced, hot) = match side {
            Side::Ours => (&mut packs, ALWAYS_PACKS),
            Side::Peer => (&mut never, NEVER_PACKS),
        };
        *produced = Some(through_journal(folder, hot, bench.span()).await?);
    }
    let (Some(packs), Some(never)) = (packs, never) else { return Ok(Vec::new()) };
    let us = |what, share, goal| {
        Sample::beside(what, "us", packs.times.us(share), never.times.us(share), goal)
    };
    Ok(vec![
        Sample::beside("records", "/s", packs.rate(), never.rate(), Goal::Report),
        us("acknowledged, p50", 0.5, Goal::Report),
        us("acknowledged, p99", 0.99, Goal::RatioAtMost(2.0)),
    ])
}

/// What a run appends: the event of the other benchmarks in its stored form.
fn record() -> anyhow::Result<Bytes> {
    let event = Bytes::copy_from_slice(Event::new().set(1, stamp()));
    Ok(EventRecord::encode(&CoreEvent::from_producer(&event, event.len())?))
}

async fn through_journal(
    folder: TempDir,
    hot_bytes: u64,
    span: Duration,
) -> anyhow::Result<Produced> {
    let fatal = Arc::new(|why: &str| eprintln!("the journal failed: {why}"));
    let options = LogOptions::new(folder.path().join("data"), Arc::new(SystemClock), fatal);
    let log = Log::open(LogOptions { hot_bytes, ..options })?;
    let mut streams = Vec::new();
    for index in 0..RUNS {
        let key = StreamKey::parse(&format!("default/r/r{index}")).context("a key")?;
        append(&log, Part::create(key.clone(), Epoch(1), Vec::new())).await?;
        streams.push(key);
    }
    let record = record()?;
    let done = closed_loops(span, |index| {
        let (log, key, record) = (Arc::clone(&log), streams[index].clone(), record.clone());
        move || {
            let (log, part) =
                (Arc::clone(&log), Part::append(key.clone(), Epoch(1), vec![record.clone()]));
            async move { append(&log, part).await }
        }
    });
    let done = done.await?;
    log.close();
    Ok(done)
}

async fn append(log: &Log, part: Part) -> anyhow::Result<()> {
    let permit = log.reserve(&part.stream, part.bytes()).await?;
    log.submit(permit, Batch { parts: vec![part] }).await?;
    Ok(())
}

async fn through_raw_log(folder: TempDir, span: Duration) -> anyhow::Result<Produced> {
    let log = Arc::new(RawLog::open(folder.path(), RAW_BYTES, 2 * RUNS)?);
    let record = record()?;
    let done = closed_loops(span, |_| {
        let (log, record) = (Arc::clone(&log), record.clone());
        move || {
            let (log, record) = (Arc::clone(&log), record.clone());
            async move { log.append(record).await }
        }
    });
    let done = done.await?;
    Arc::into_inner(log).context("the raw log is still in use")?.close()?;
    Ok(done)
}

/// `RUNS` loops, each of which appends again when its last append is durable.
async fn closed_loops<Step, Done>(
    span: Duration,
    mut run: impl FnMut(usize) -> Step,
) -> anyhow::Result<Produced>
where
    Step: FnMut() -> Done + Send + 'static,
    Done: Future<Output = anyhow::Result<()>> + Send,
{
    let begin = stamp();
    let until = Instant::now() + span;
    let mut loops = JoinSet::new();
    for index in 0..RUNS {
        let mut step = run(index);
        loops.spawn(async move {
            let mut times = Times::new();
            while Instant::now() < until {
                let sent = stamp();
                step().await?;
                times.add(stamp() - sent);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Times::new();
    while let Some(done) = loops.join_next().await {
        times.merge(&done??);
    }
    Ok(Produced { times, nanos: stamp() - begin })
}
