//! `replay`: attaching to 100,000 events.

use anyhow::ensure;

use super::{
    event::Follower,
    ingest::fill,
    table::{Goal, Sample},
    target::{Bench, Side, Target, appended},
};
use crate::live::stamp;

/// Events of the run.
const EVENTS: u64 = 100_000;
/// How often a client attaches in a round.
const ATTACHES: usize = 5;

/// Milliseconds of one attach.
struct Took {
    first: f64,
    all: f64,
}

pub(super) async fn round(bench: &Bench) -> anyhow::Result<Vec<Sample>> {
    let ours = bench.start(Side::Ours).await?;
    let peer = bench.start(Side::Peer).await?;
    for target in [&ours, &peer] {
        target.create(&mut target.live.connect().await?, "r").await?;
        fill(target, "r", EVENTS).await?;
    }
    let [running, other] = [attaches(&ours).await?, attaches(&peer).await?];
    let end = ours.append("r", br#"{"type":"run.finished"}"#);
    appended(&ours.live.connect().await?.call(&end).await?)?;
    let finished = attaches(&ours).await?;
    let beside =
        |what, ours, other, bar| Sample::beside(what, "ms", ours, other, Goal::Report).at_most(bar);
    Ok(vec![
        beside("running run, first event", running.first, other.first, 1.5),
        beside("running run, all events", running.all, other.all, 100.0),
        beside("finished run, first event", finished.first, other.first, 1.5),
        beside("finished run, all events", finished.all, other.all, 100.0),
    ])
}

/// The medians of several.
async fn attaches(target: &Target) -> anyhow::Result<Took> {
    let mut took = Vec::new();
    for _ in 0..ATTACHES {
        took.push(attach(target).await?);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[ATTACHES / 2]
    };
    Ok(Took {
        first: median(took.iter().map(|took| took.first).collect()),
        all: median(took.iter().map(|took| took.all).collect()),
    })
}

async fn attach(target: &Target) -> anyhow::Result<Took> {
    let mut conn = target.live.connect().await?;
    let request = target.attach("r");
    let begin = stamp();
    let head = conn.begin(&request).await?;
    ensure!(head.status == 200, "the attach was answered {}", head.status);
    let (mut buffer, mut follower, mut first) = (Vec::new(), Follower::default(), None);
    while follower.count() < EVENTS {
        ensure!(conn.from.more(&mut buffer).await?, "the stream ended at {}", follower.count());
        follower.take(&mut buffer, |_| ())?;
        if follower.count() > 0 && first.is_none() {
            first = Some(millis(begin));
        }
    }
    let all = millis(begin);
    Ok(Took { first: first.unwrap_or(all), all })
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn millis(since: u64) -> f64 {
    (stamp() - since) as f64 / 1e6
}
