//! `ingest`: as many events into one stream as one connection can bring.
//!
//! Ours takes one NDJSON body that stays open. The peer has no such body, so that it gets JSON
//! arrays of 500 events, the next when one is acknowledged.

use anyhow::Context;
use memchr::memmem;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{
    event::Event,
    table::{Goal, Sample},
    target::{Bench, Side, Target, appended},
    times::per_second,
};
use crate::live::{
    Conn,
    http::{Answers, LAST_CHUNK, chunk, request},
    stamp,
};

/// Events of a round.
const EVENTS: u64 = 100_000;
/// Events of an array for the peer.
const ARRAY: u64 = 500;
/// Bytes of a chunk of our body.
const CHUNK: usize = 64 << 10;

pub(super) async fn round(bench: &Bench, round: usize) -> anyhow::Result<Vec<Sample>> {
    let (mut ours, mut peer) = (0.0, 0.0);
    for side in Side::alternating(round) {
        let target = bench.start(side).await?;
        let mut conn = target.live.connect().await?;
        target.create(&mut conn, "warm").await?;
        fill(&target, "warm", EVENTS / 10).await?;
        target.create(&mut conn, "r").await?;
        let rate = per_second(EVENTS, fill(&target, "r", EVENTS).await?);
        match side {
            Side::Ours => ours = rate,
            Side::Peer => peer = rate,
        }
        target.live.kill().await?;
    }
    Ok(vec![Sample::beside("events", "/s", ours, peer, Goal::Report).at_least(500_000.0)])
}

/// Brings so many events into a stream. Gives the nanoseconds until all were acknowledged.
pub(super) async fn fill(target: &Target, name: &str, events: u64) -> anyhow::Result<u64> {
    let conn = target.live.connect().await?;
    match target.side() {
        Side::Ours => lines(conn, name, events).await,
        Side::Peer => arrays(conn, target, name, events).await,
    }
}

async fn lines(conn: Conn, name: &str, events: u64) -> anyhow::Result<u64> {
    let mut event = Event::new();
    let mut text = Vec::new();
    for index in 0..events {
        text.extend_from_slice(event.set(index, stamp()));
        text.push(b'\n');
    }
    let mut body: Vec<u8> = text.chunks(CHUNK).flat_map(chunk).collect();
    body.extend_from_slice(LAST_CHUNK);
    let path = format!("/v1/runs/{name}/events");
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("transfer-encoding", "chunked"),
        ("producer-id", "bench"),
        ("producer-epoch", "1"),
        ("producer-seq", "0"),
    ];
    let head = request("POST", &path, &headers, b"");
    let Conn { mut to, mut from } = conn;
    let begin = stamp();
    let sent = async {
        to.write_all(&head).await?;
        to.write_all(&body).await
    };
    let (sent, acked) = tokio::join!(sent, acknowledged(&mut from, events));
    sent?;
    Ok(acked? - begin)
}

/// The time when all lines were acknowledged.
async fn acknowledged(from: &mut Answers, events: u64) -> anyhow::Result<u64> {
    let head = from.head().await?;
    anyhow::ensure!(head.status == 200, "the lines were answered {}", head.status);
    let mut text = Vec::new();
    loop {
        let more = from.more(&mut text).await?;
        let now = stamp();
        while let Some(end) = memmem::find(&text, b"\n") {
            let line: Value = serde_json::from_slice(&text[..end])?;
            text.drain(..=end);
            let acked = line["acked_seq"].as_u64().with_context(|| line.to_string())?;
            if acked + 1 == events {
                return Ok(now);
            }
        }
        anyhow::ensure!(more, "not all lines were acknowledged");
    }
}

async fn arrays(mut conn: Conn, target: &Target, name: &str, events: u64) -> anyhow::Result<u64> {
    let mut event = Event::new();
    let begin = stamp();
    for first in (0..events).step_by(usize::try_from(ARRAY)?) {
        let mut body = Vec::from(b"[");
        for index in first..events.min(first + ARRAY) {
            body.extend_from_slice(event.set(index, stamp()));
            body.push(b',');
        }
        body.pop();
        body.push(b']');
        appended(&conn.call(&target.append(name, &body)).await?)?;
    }
    Ok(stamp() - begin)
}
