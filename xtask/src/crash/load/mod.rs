//! The clients of one run: who starts it, its producer, its readers.

mod batches;
mod lines;
mod reader;

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use futures_util::future::join_all;
use serde_json::json;

pub(super) use batches::{ack, append};
pub(super) use lines::{head, lines, total};
pub(super) use reader::{Form, read_on};

use super::{
    ledger::{Ledger, Said, Seen},
    plan::{Plan, Work},
    site::{Fault, Site, expect},
    trigger::Trigger,
};
use crate::live::Answer;

/// The name of every producer.
pub(super) const PRODUCER: &str = "crash";

/// A plan and what became of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) plan: Plan,
    pub(super) ledger: Ledger,
    pub(super) seen: Vec<Seen>,
}

/// Carries a plan out until it is done or the server is gone.
pub(super) async fn carry_out(
    plan: Plan,
    site: Site,
    mark: String,
    trigger: Arc<Trigger>,
) -> anyhow::Result<Report> {
    let mut ledger = Ledger::default();
    let started = start(&plan, &site, &mark, &mut ledger).await;
    if !settle(started, &trigger)? {
        return Ok(Report { plan, ledger, seen: Vec::new() });
    }
    let readers = (0..plan.readers).map(|index| reader::read(&plan, &site, index));
    let (produced, read) =
        tokio::join!(produce(&plan, &site, &mut ledger, &trigger), join_all(readers));
    settle(produced, &trigger)?;
    let mut seen = Vec::new();
    for (saw, end) in read {
        settle(end, &trigger)?;
        seen.push(saw);
    }
    Ok(Report { plan, ledger, seen })
}

/// Whether an actor did all it wanted. A broken connection is one more end after the kill.
fn settle(end: Result<(), Fault>, trigger: &Trigger) -> anyhow::Result<bool> {
    match end {
        Ok(()) => Ok(true),
        Err(Fault::Gone(_)) if trigger.fired() => Ok(false),
        Err(Fault::Gone(error)) => {
            Err(anyhow::Error::new(error).context("a connection broke before the kill"))
        }
        Err(Fault::Wrong(error)) => Err(error),
    }
}

async fn start(plan: &Plan, site: &Site, mark: &str, ledger: &mut Ledger) -> Result<(), Fault> {
    ledger.started = Said::Sent;
    let answer = send_start(plan, site, mark).await?;
    expect(answer, 202, &format!("start of {}", plan.run))?;
    ledger.started = Said::Acked;
    Ok(())
}

/// The request that starts a run; the same however often it is sent. In a shared session it has
/// a key.
pub(super) async fn send_start(plan: &Plan, site: &Site, mark: &str) -> std::io::Result<Answer> {
    let path = format!("/v1/sessions/{}/runs", plan.session);
    let key = [("idempotency-key", plan.run.as_str())];
    let headers: &[_] = if plan.work.is_lined() { &key } else { &[] };
    site.post_with(&path, &plan.start(mark), headers).await
}

async fn produce(
    plan: &Plan,
    site: &Site,
    ledger: &mut Ledger,
    trigger: &Trigger,
) -> Result<(), Fault> {
    match &plan.work {
        Work::Batches(push) => batches::produce(plan, push, site, ledger, trigger).await,
        Work::Lines(push) => lines::produce(plan, push, site, ledger, trigger).await,
        Work::Demo { .. } | Work::Lined { .. } | Work::Doomed { .. } | Work::Process { .. } => {
            stop(plan, site, ledger).await
        }
    }
}

async fn stop(plan: &Plan, site: &Site, ledger: &mut Ledger) -> Result<(), Fault> {
    let Some(after) = plan.stop_after else { return Ok(()) };
    tokio::time::sleep(Duration::from_millis(after)).await;
    ledger.stopped = Said::Sent;
    let answer = site.post(&format!("/v1/runs/{}/stop", plan.run), &json!({"wait": 20})).await?;
    let answer = expect(answer, 200, &format!("stop of {}", plan.run))?.json();
    if answer["status"] == "stopped" {
        ledger.stopped = Said::Acked;
    }
    Ok(())
}

/// The random choices of one client of a run.
fn choices(plan: &Plan, client: u64) -> Rng {
    Rng::with_seed(plan.seed ^ client.wrapping_mul(0xd1b5_4a32_d192_ed03))
}
