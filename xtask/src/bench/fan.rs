//! `e2e`, `fan-N` and `ingest-under-fan`: subscribers beside a producer.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    appends::{Produced, closed_loop},
    event::{BYTES, Event, Follower},
    table::{Goal, Sample},
    target::{Bench, Side, Target, appended},
    times::{Times, per_second},
};
use crate::live::{Conn, stamp};

/// How long subscribers may need for the rest once the producer is done.
const CATCH_UP: Duration = Duration::from_mins(1);

/// What subscribers have in common.
struct Seen {
    events: AtomicU64,
    /// When the last event came.
    last: AtomicU64,
    times: Mutex<Times>,
}

/// What came of a fan-out.
struct Fanned {
    produced: Produced,
    /// Events per second, over all subscribers.
    rate: f64,
    times: Times,
}

pub(super) async fn fan(bench: &Bench, round: usize, count: u64) -> anyhow::Result<Vec<Sample>> {
    let [mut ours, mut peer] = [const { None }; 2];
    for side in Side::alternating(round) {
        let target = bench.start(side).await?;
        let fanned = fan_out(&target, count, Pace::Closed(bench.span())).await?;
        match side {
            Side::Ours => ours = Some(fanned),
            Side::Peer => peer = Some(fanned),
        }
        target.live.kill().await?;
    }
    let (Some(ours), Some(peer)) = (ours, peer) else { return Ok(Vec::new()) };
    let appends = (ours.produced.rate(), peer.produced.rate());
    let mut samples = vec![
        Sample::beside("delivered", "/s", ours.rate, peer.rate, Goal::Report),
        Sample::beside("appends beside it", "/s", appends.0, appends.1, Goal::Report),
    ];
    samples.extend(latencies(&ours.times, &peer.times, Goal::Report));
    Ok(samples)
}

pub(super) async fn e2e(bench: &Bench, round: usize) -> anyhow::Result<Vec<Sample>> {
    let [mut ours, mut peer] = [const { None }; 2];
    for side in Side::alternating(round) {
        let target = bench.start(side).await?;
        let events = bench.span().as_secs() * 100;
        let fanned = fan_out(&target, 1, Pace::Every(Duration::from_millis(10), events)).await?;
        match side {
            Side::Ours => ours = Some(fanned.times),
            Side::Peer => peer = Some(fanned.times),
        }
        target.live.kill().await?;
    }
    let (Some(ours), Some(peer)) = (ours, peer) else { return Ok(Vec::new()) };
    Ok(latencies(&ours, &peer, Goal::RatioAtMost(1.0)))
}

fn latencies(ours: &Times, peer: &Times, goal: Goal) -> Vec<Sample> {
    let us = |what, share, goal| Sample::beside(what, "us", ours.us(share), peer.us(share), goal);
    vec![us("send to receipt, p50", 0.5, goal), us("send to receipt, p99", 0.99, goal)]
}

pub(super) async fn ingest_under(
    bench: &Bench,
    round: usize,
    count: u64,
) -> anyhow::Result<Vec<Sample>> {
    let (mut with, mut without) = (0.0, 0.0);
    let readers = if round.is_multiple_of(2) { [0, count] } else { [count, 0] };
    for readers in readers {
        let target = bench.start(Side::Ours).await?;
        let fanned = fan_out(&target, readers, Pace::Closed(bench.span())).await?;
        *(if readers == 0 { &mut without } else { &mut with }) = fanned.produced.rate();
        target.live.kill().await?;
    }
    let what = "appends with 1,000 readers, other: with none";
    Ok(vec![Sample::beside(what, "/s", with, without, Goal::RatioAtLeast(0.5))])
}

/// How the producer goes.
#[derive(Clone, Copy)]
enum Pace {
    /// The next event when one is acknowledged, for so long.
    Closed(Duration),
    /// One event every so often, so many.
    Every(Duration, u64),
}

/// Attaches subscribers, then produces, then waits until each has every event.
async fn fan_out(target: &Target, count: u64, pace: Pace) -> anyhow::Result<Fanned> {
    let mut conn = target.live.connect().await?;
    target.create(&mut conn, "fan").await?;
    let (events, last) = (AtomicU64::new(0), AtomicU64::new(0));
    let seen = Arc::new(Seen { events, last, times: Mutex::new(Times::new()) });
    let mut readers = attach(target, count, &seen).await?;
    let begin = stamp();
    // On a thread of its own, so that it waits for the server only and not for the subscribers.
    let (address, request) = (target.live.address, target.append_one("fan"));
    let produced = tokio::task::spawn_blocking(move || produce(address, request, pace)).await??;
    let all = produced.times.count() * count;
    let deadline = Instant::now() + CATCH_UP;
    while seen.events.load(Ordering::Relaxed) < all {
        if let Some(ended) = readers.try_join_next() {
            ended??;
        }
        ensure!(Instant::now() < deadline, "subscribers have {:?} of {all} events", seen.events);
        sleep(Duration::from_millis(1)).await;
    }
    let nanos = seen.last.load(Ordering::Relaxed).saturating_sub(begin);
    let times = seen.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Fanned { produced, rate: per_second(all, nanos), times })
}

async fn attach(
    target: &Target,
    count: u64,
    seen: &Arc<Seen>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let request = target.attach("fan");
    let mut readers = JoinSet::new();
    for _ in 0..count {
        let mut conn = target.live.connect().await?;
        let head = conn.begin(&request).await?;
        ensure!(head.status == 200, "the attach was answered {}", head.status);
        readers.spawn(subscribe(conn, Arc::clone(seen)));
    }
    Ok(readers)
}

/// Reads for as long as the subscriber lives.
async fn subscribe(mut conn: Conn, seen: Arc<Seen>) -> anyhow::Result<()> {
    let (mut buffer, mut follower) = (Vec::new(), Follower::default());
    while conn.from.more(&mut buffer).await? {
        let (before, now) = (follower.count(), stamp());
        {
            let mut times = seen.times.lock().unwrap_or_else(PoisonError::into_inner);
            follower.take(&mut buffer, |sent| times.add(now.saturating_sub(sent)))?;
        }
        seen.last.store(now, Ordering::Relaxed);
        seen.events.fetch_add(follower.count() - before, Ordering::Relaxed);
    }
    anyhow::bail!("the stream ended after {} events", follower.count())
}

fn produce(address: SocketAddr, request: Vec<u8>, pace: Pace) -> anyhow::Result<Produced> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut conn = Conn::open(address).await.context("the producer's connection")?;
        match pace {
            Pace::Closed(span) => {
                closed_loop(&mut conn, request, u64::MAX, Some(Instant::now() + span)).await
            }
            Pace::Every(gap, events) => paced(&mut conn, request, gap, events).await,
        }
    })
}

async fn paced(
    conn: &mut Conn,
    mut request: Vec<u8>,
    gap: Duration,
    events: u64,
) -> anyhow::Result<Produced> {
    let (mut event, mut times, begin) = (Event::new(), Times::new(), stamp());
    let mut ticks = interval(gap);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let at = request.len() - BYTES;
    for index in 0..events {
        ticks.tick().await;
        let sent = stamp();
        request[at..].copy_from_slice(event.set(index, sent));
        appended(&conn.call(&request).await?)?;
        times.add(stamp() - sent);
    }
    Ok(Produced { times, nanos: stamp() - begin })
}
