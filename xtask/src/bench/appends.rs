//! `append-1` and `append-1000`: one event per request, the next when it is acknowledged.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use super::{
    event::{BYTES, Event},
    table::{Goal, Sample},
    target::{Bench, Side, Target, appended},
    times::{Times, per_second},
};
use crate::live::{Conn, stamp};

/// What a producer did.
pub(super) struct Produced {
    pub(super) times: Times,
    pub(super) nanos: u64,
}

impl Produced {
    pub(super) fn rate(&self) -> f64 {
        per_second(self.times.count(), self.nanos)
    }
}

pub(super) async fn one(bench: &Bench, round: usize) -> anyhow::Result<Vec<Sample>> {
    let [mut ours, mut peer] = [const { None }; 2];
    for side in Side::alternating(round) {
        let target = bench.start(side).await?;
        let done = one_stream(&target, 4_000).await?;
        match side {
            Side::Ours => ours = Some(done),
            Side::Peer => peer = Some(done),
        }
        target.live.kill().await?;
    }
    Ok(compare(ours.as_ref(), peer.as_ref()))
}

async fn one_stream(target: &Target, events: u64) -> anyhow::Result<Produced> {
    let mut conn = target.live.connect().await?;
    target.create(&mut conn, "one").await?;
    closed_loop(&mut conn, target.append_one("one"), events / 10, None).await?;
    closed_loop(&mut conn, target.append_one("one"), events, None).await
}

pub(super) async fn thousand(bench: &Bench, round: usize) -> anyhow::Result<Vec<Sample>> {
    let [mut ours, mut peer] = [const { None }; 2];
    for side in Side::alternating(round) {
        let target = bench.start(side).await?;
        let done = many_streams(&target, 1_000, bench.span()).await?;
        match side {
            Side::Ours => ours = Some(done),
            Side::Peer => peer = Some(done),
        }
        target.live.kill().await?;
    }
    Ok(compare(ours.as_ref(), peer.as_ref()))
}

async fn many_streams(target: &Target, count: u64, span: Duration) -> anyhow::Result<Produced> {
    let mut conns = Vec::new();
    for index in 0..count {
        let mut conn = target.live.connect().await?;
        target.create(&mut conn, &format!("r{index}")).await?;
        conns.push(conn);
    }
    let begin = stamp();
    let until = Instant::now() + span;
    let mut producers = JoinSet::new();
    for (index, mut conn) in conns.into_iter().enumerate() {
        let request = target.append_one(&format!("r{index}"));
        producers
            .spawn(async move { closed_loop(&mut conn, request, u64::MAX, Some(until)).await });
    }
    let mut times = Times::new();
    while let Some(done) = producers.join_next().await {
        times.merge(&done??.times);
    }
    Ok(Produced { times, nanos: stamp() - begin })
}

/// Appends one event after the other, so many or until then.
pub(super) async fn closed_loop(
    conn: &mut Conn,
    mut request: Vec<u8>,
    events: u64,
    until: Option<Instant>,
) -> anyhow::Result<Produced> {
    let mut event = Event::new();
    let mut times = Times::new();
    let at = request.len() - BYTES;
    let begin = stamp();
    let mut sent = begin;
    for index in 0..events {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        request[at..].copy_from_slice(event.set(index, sent));
        appended(&conn.call(&request).await?)?;
        let now = stamp();
        times.add(now - sent);
        sent = now;
    }
    Ok(Produced { times, nanos: sent - begin })
}

fn compare(ours: Option<&Produced>, peer: Option<&Produced>) -> Vec<Sample> {
    let (Some(ours), Some(peer)) = (ours, peer) else { return Vec::new() };
    let us = |what, share| {
        let (ours, peer) = (ours.times.us(share), peer.times.us(share));
        Sample::beside(what, "us", ours, peer, Goal::Report)
    };
    vec![
        Sample::beside("appends", "/s", ours.rate(), peer.rate(), Goal::RatioAtLeast(1.0)),
        us("acknowledged, p50", 0.5),
        us("acknowledged, p99", 0.99),
    ]
}
