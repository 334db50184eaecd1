//! A producer of JSON appends, one in flight; now and then an answer is not waited for and the
//! append sent again.

use anyhow::ensure;
use fastrand::Rng;
use serde_json::Value;

use super::{PRODUCER, choices};
use crate::{
    crash::{
        ledger::{Ack, Claim, Ledger},
        plan::{Plan, Push, item, terminal},
        site::{Fault, Site, expect},
        trigger::Trigger,
    },
    live::{Answer, Conn, http::request},
};

/// The most items of an append.
const MOST: u64 = 5;

pub(super) async fn produce(
    plan: &Plan,
    push: &Push,
    site: &Site,
    ledger: &mut Ledger,
    trigger: &Trigger,
) -> Result<(), Fault> {
    let mut rng = choices(plan, u64::MAX);
    let mut conn = site.connect().await?;
    while let Some(claim) = next(push, ledger, &mut rng) {
        let request = append(plan, &claim);
        ledger.sending(&claim);
        let impatient = rng.u8(..20) == 0;
        if impatient {
            leave_early(conn, &request, &mut rng).await?;
            conn = site.connect().await?;
        }
        let answer = expect(conn.call(&request).await?, 200, &format!("append to {}", plan.run))?;
        let ack = ack(plan, claim, &answer)?;
        ensure_fresh(&answer, impatient)?;
        trigger.count(ledger.accept(ack));
    }
    Ok(())
}

fn next(push: &Push, ledger: &Ledger, rng: &mut Rng) -> Option<Claim> {
    let begin = ledger.sent;
    let end = push.items.min(begin + rng.u64(1..=MOST));
    // The terminal goes with the last items or alone.
    let ends = push.ends && end == push.items && (begin == end || rng.bool());
    let producer_seq = ledger.acks.len() as u64;
    let over = ledger.acks.last().is_some_and(|ack| ack.claim.ends);
    let claim = Claim { producer_seq, items: begin..end, ends };
    (!over && (begin < end || ends)).then_some(claim)
}

/// The request of an append; the same bytes however often it is sent.
pub(in crate::crash) fn append(plan: &Plan, claim: &Claim) -> Vec<u8> {
    let mut events: Vec<Value> = claim.items.clone().map(|n| item(plan.seed, n)).collect();
    events.extend(claim.ends.then(terminal));
    let body = Value::Array(events).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("producer-id", PRODUCER),
        ("producer-epoch", "1"),
        ("producer-seq", &claim.producer_seq.to_string()),
    ];
    request("POST", &format!("/v1/runs/{}/events", plan.run), &headers, body.as_bytes())
}

/// Sends an append, or a beginning of it, and hangs up.
async fn leave_early(mut conn: Conn, request: &[u8], rng: &mut Rng) -> Result<(), Fault> {
    use tokio::io::AsyncWriteExt;
    let much = if rng.bool() { request.len() } else { rng.usize(..request.len()) };
    conn.to.write_all(&request[..much]).await?;
    Ok(())
}

/// What a positive answer says.
pub(in crate::crash) fn ack(plan: &Plan, claim: Claim, answer: &Answer) -> anyhow::Result<Ack> {
    let json = answer.json();
    let seq = |name: &str| json[name].as_u64();
    let (Some(first_seq), Some(last_seq)) = (seq("first_seq"), seq("last_seq")) else {
        anyhow::bail!("append to {}: the answer has no range: {}", plan.run, answer.text());
    };
    let count = claim.items.end - claim.items.start + u64::from(claim.ends);
    ensure!(
        first_seq >= 1 && last_seq + 1 >= first_seq + count,
        "append to {}: {count} events cannot be {first_seq}..={last_seq}",
        plan.run
    );
    Ok(Ack { claim, first_seq, last_seq })
}

fn ensure_fresh(answer: &Answer, sent_before: bool) -> anyhow::Result<()> {
    let duplicate = answer.json()["duplicate"] == true;
    ensure!(!duplicate || sent_before, "a first append is called a duplicate: {}", answer.text());
    Ok(())
}
