//! What must hold after a restart, for one run.

mod journal;
mod retry;
mod survivors;

use anyhow::{Context, bail, ensure};

pub(super) use journal::{Digest, Journal};
pub(super) use survivors::none_left;

use super::{
    ledger::{Ack, Ledger, Said, Seen},
    load::{Form, Report, read_on},
    plan::{Plan, Work, item},
    site::{Fault, Site},
};

/// Checks a run against all that its clients know. Gives what has to stay so, or `None` if the
/// run does not exist and need not.
pub(super) async fn check(site: &Site, report: Report) -> anyhow::Result<Option<Digest>> {
    let Report { plan, ledger, seen } = report;
    let Some(journal) = Journal::read(site, &plan.run).await? else {
        ensure!(ledger.started != Said::Acked, "{}: its start was acknowledged", plan.run);
        return Ok(None);
    };
    check_journal(&plan, &ledger, &journal).with_context(|| ledger.brief())?;
    for (index, seen) in seen.into_iter().enumerate() {
        check_reader(site, &journal, seen, index).await?;
    }
    retry::check(site, &plan, &ledger, &journal).await?;
    journal.check_unchanged(site).await?;
    Ok(Some(journal.digest()))
}

fn check_journal(plan: &Plan, ledger: &Ledger, journal: &Journal) -> anyhow::Result<()> {
    journal.check_shape()?;
    check_end(plan, ledger, journal)?;
    if plan.work.is_push() {
        check_items(plan, ledger, journal)?;
        for ack in &ledger.acks {
            check_ack(plan, ack, journal)?;
        }
    }
    Ok(())
}

/// The terminal is one that what was said allows.
fn check_end(plan: &Plan, ledger: &Ledger, journal: &Journal) -> anyhow::Result<()> {
    let status = journal.status();
    let allowed: &[&str] = match (&plan.work, ledger.ended, ledger.stopped) {
        (_, _, Said::Acked) => &["stopped"],
        (_, Said::Acked, _) => &["finished"],
        (_, Said::Sent, _) => &["finished", "interrupted"],
        (Work::Batches(_) | Work::Lines(_), Said::No, _)
        | (Work::Process { lines: None }, _, Said::No) => &["interrupted"],
        (Work::Process { lines: None }, _, Said::Sent) => &["stopped", "interrupted"],
        // Another run of the session may replace it.
        (Work::Lined { .. }, _, Said::No) | (_, _, Said::Sent) => {
            &["finished", "interrupted", "stopped"]
        }
        (_, _, Said::No) => &["finished", "interrupted"],
    };
    ensure!(allowed.contains(&status), "{}: is {status}, not {allowed:?}", plan.run);
    let reason = &journal.last()["reason"];
    let by_client = ledger.stopped != Said::No && reason == "user";
    let by_other = plan.work.is_lined() && reason == "replaced";
    ensure!(status != "stopped" || by_client || by_other, "{}: reason {reason}", plan.run);
    let cause = &journal.last()["cause"];
    ensure!(status != "interrupted" || cause == "restart", "{}: cause {cause}", plan.run);
    Ok(())
}

/// The items of the producer are there from the first on, in order, each once and unchanged, and
/// no acknowledged one is missing.
fn check_items(plan: &Plan, ledger: &Ledger, journal: &Journal) -> anyhow::Result<()> {
    for (expected, (n, event)) in journal.items().enumerate() {
        let expected = expected as u64;
        ensure!(n == expected, "{}: item {n} stands where {expected} should", plan.run);
        ensure!(n < ledger.sent, "{}: item {n} was never sent", plan.run);
        let sent = item(plan.seed, n);
        let same = ["type", "part", "text"].iter().all(|field| event[field] == sent[field]);
        ensure!(same, "{}: item {n} is {event}, sent was {sent}", plan.run);
    }
    let there = journal.items().count() as u64;
    let acked = ledger.acked;
    ensure!(there >= acked, "{}: {acked} items acknowledged, {there} there", plan.run);
    Ok(())
}

/// The items of an append stand where its answer says.
fn check_ack(plan: &Plan, ack: &Ack, journal: &Journal) -> anyhow::Result<()> {
    let Ack { claim, first_seq, last_seq } = ack;
    let (Some(first), Some(last)) = (claim.items.clone().next(), claim.items.clone().next_back())
    else {
        ensure!(*last_seq == journal.last_seq(), "{}: {ack:?} is not the end", plan.run);
        return Ok(());
    };
    let (first, last) = (journal.seq_of(first), journal.seq_of(last));
    let end = if claim.ends { Some(journal.last_seq()) } else { last };
    // Lines that were sent before are answered with the range of the newest of them.
    let exact = matches!(plan.work, Work::Batches(_));
    ensure!(!exact || first >= Some(*first_seq), "{}: {ack:?}, its first is {first:?}", plan.run);
    let fine = if exact { end == Some(*last_seq) } else { end.is_some_and(|end| end <= *last_seq) };
    ensure!(fine, "{}: {ack:?}, its last is {end:?}", plan.run);
    Ok(())
}

/// What a reader saw before the kill and what it gets on its return are the journal.
async fn check_reader(
    site: &Site,
    journal: &Journal,
    mut seen: Seen,
    index: usize,
) -> anyhow::Result<()> {
    let (run, before) = (journal.run(), seen.last());
    let form = [Form::SseHeader, Form::SseAfter, Form::Ndjson][index % 3];
    match read_on(run, site, form, &mut seen).await {
        Ok(()) => {}
        Err(Fault::Wrong(error)) => return Err(error),
        Err(Fault::Gone(error)) => bail!("{run}: the stream broke on return to {before}: {error}"),
    }
    let saw = seen.frames.iter().map(|(_, data)| data);
    for (saw, is) in saw.zip(journal.lines()) {
        ensure!(saw == is, "{run}: a reader, back at {before}, saw {saw}, the journal has {is}");
    }
    let (saw, is) = (seen.last(), journal.last_seq());
    ensure!(saw == is, "{run}: a reader, back at {before}, saw {saw} of {is} events");
    Ok(())
}
