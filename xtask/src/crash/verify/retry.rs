//! What a producer hears that sends its appends again after the restart.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Journal;
use crate::{
    crash::{
        ledger::{Ack, Claim, Ledger, Said},
        load::{ack, append, head, lines, send_start, total},
        plan::{Plan, Push, Work},
        site::Site,
    },
    live::{
        Answer,
        http::{LAST_CHUNK, chunk},
    },
};

/// Sends the last acknowledged append and the one without an answer once more.
pub(super) async fn check(
    site: &Site,
    plan: &Plan,
    ledger: &Ledger,
    journal: &Journal,
) -> anyhow::Result<()> {
    match &plan.work {
        Work::Batches(_) => {
            let committed = match &ledger.pending {
                Some(claim) => unanswered(site, plan, claim, journal).await?,
                None => false,
            };
            match ledger.acks.last() {
                Some(known) => acknowledged(site, plan, known, !committed).await,
                None => Ok(()),
            }
        }
        Work::Lines(push) => lines_again(site, plan, push, ledger, journal).await,
        Work::Lined { .. } => started_again(site, plan).await,
        Work::Demo { .. } | Work::Doomed { .. } | Work::Process { .. } => Ok(()),
    }
}

/// A start that is sent again finds its run, whether it was answered before or not.
async fn started_again(site: &Site, plan: &Plan) -> anyhow::Result<()> {
    let answer = send_start(plan, site, "").await?;
    let said = || format!("{}: started again: {} {}", plan.run, answer.status(), answer.text());
    ensure!(answer.status() == 200 && answer.json()["id"] == *plan.run, said());
    Ok(())
}

/// It is answered as it was the first time. The range is remembered of the newest append only.
async fn acknowledged(site: &Site, plan: &Plan, known: &Ack, newest: bool) -> anyhow::Result<()> {
    let answer = send(site, plan, &known.claim).await?;
    let said = || format!("{}: again {known:?}: {} {}", plan.run, answer.status(), answer.text());
    ensure!(answer.status() == 200 && answer.json()["duplicate"] == true, said());
    ensure!(!newest || ack(plan, known.claim.clone(), &answer)? == *known, said());
    Ok(())
}

/// It had committed and is answered so, or it had not and the run has ended without it. Gives
/// which.
async fn unanswered(
    site: &Site,
    plan: &Plan,
    claim: &Claim,
    journal: &Journal,
) -> anyhow::Result<bool> {
    let first = claim.items.clone().next();
    let committed = match first {
        Some(first) => journal.seq_of(first).is_some(),
        None => journal.status() == "finished",
    };
    let answer = send(site, plan, claim).await?;
    let said = || format!("{}: {claim:?}: {} {}", plan.run, answer.status(), answer.text());
    if !committed {
        ensure!(answer.status() == 409 && answer.json()["code"] == "run_ended", said());
        return Ok(false);
    }
    ensure!(answer.status() == 200 && answer.json()["duplicate"] == true, said());
    super::check_ack(plan, &ack(plan, claim.clone(), &answer)?, journal).with_context(said)?;
    Ok(true)
}

async fn send(site: &Site, plan: &Plan, claim: &Claim) -> anyhow::Result<Answer> {
    Ok(site.connect().await?.call(&append(plan, claim)).await?)
}

/// The lines behind the last answer: those that had committed are acknowledged, then the run has
/// ended.
async fn lines_again(
    site: &Site,
    plan: &Plan,
    push: &Push,
    ledger: &Ledger,
    journal: &Journal,
) -> anyhow::Result<()> {
    let first = ledger.acked.saturating_sub(1);
    let finished = u64::from(journal.status() == "finished");
    let there = journal.items().count() as u64 + finished;
    let all = if ledger.ended == Said::No { ledger.sent } else { total(push) };
    if first >= all {
        return Ok(());
    }
    let mut body = head(plan, first);
    body.extend(chunk(&lines(plan, push, first..all)));
    body.extend(LAST_CHUNK);
    let answer = site.connect().await?.call(&body).await?;
    let said = || {
        let (status, text) = (answer.status(), answer.text());
        format!("{}: lines {first}..{all}, {there} are there: {status} {text}", plan.run)
    };
    let told: Vec<Value> = answer.text().lines().flat_map(serde_json::from_str).collect();
    let acked = told.iter().rev().find_map(|line| line["acked_seq"].as_u64());
    let Some(refusal) = told.iter().find(|line| line["error"].is_object()) else {
        ensure!(there == all && acked == all.checked_sub(1), said());
        return Ok(());
    };
    ensure!(refusal["error"]["code"] == "run_ended" && there < all, said());
    ensure!(refusal["line"] == there - first + 1, said());
    ensure!(acked.is_none_or(|acked| acked < there), said());
    Ok(())
}
