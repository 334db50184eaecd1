//! Sessions that are deleted while the server is killed.

use std::{sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    ledger::Said,
    site::{Fault, Site, expect},
    trigger::Trigger,
    verify::Digest,
};

/// How long the rest of a deletion may take after a start.
const SOON: Duration = Duration::from_secs(20);

/// A session whose runs have ended, to be deleted in the next cycle.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    pub(super) session: String,
    pub(super) runs: Vec<Digest>,
    pub(super) deleted: Said,
}

impl Doomed {
    /// Deletes it after so many milliseconds, if the server lives as long.
    pub(super) async fn delete(
        mut self,
        site: Site,
        after: u64,
        trigger: Arc<Trigger>,
    ) -> anyhow::Result<Self> {
        sleep(Duration::from_millis(after)).await;
        if self.runs.is_empty() {
            return Ok(self);
        }
        self.deleted = Said::Sent;
        let answer = site.delete(&format!("/v1/sessions/{}", self.session)).await;
        let answered = answer.map_err(Fault::from);
        match answered
            .and_then(|answer| expect(answer, 204, &format!("deletion of {}", self.session)))
        {
            Ok(_) => self.deleted = Said::Acked,
            Err(Fault::Gone(_)) if trigger.fired() => {}
            Err(Fault::Gone(error)) => bail!("a deletion broke off before the kill: {error}"),
            Err(Fault::Wrong(error)) => return Err(error),
        }
        Ok(self)
    }

    /// An acknowledged deletion stands; one that was not is whole or did not happen. Gives the runs
    /// that are still there.
    pub(super) async fn check(self, site: &Site) -> anyhow::Result<Vec<Digest>> {
        let Some(first) = self.runs.first() else { return Ok(self.runs) };
        let is_gone = is_unknown(site, &first.run).await?;
        ensure!(
            is_gone || self.deleted != Said::Acked,
            "{}: its deletion was undone",
            self.session
        );
        ensure!(!is_gone || self.deleted != Said::No, "{}: is gone", self.session);
        for run in &self.runs {
            if is_gone {
                let what = format!("{}: deleted in part, {} is there", self.session, run.run);
                ensure!(is_unknown(site, &run.run).await?, what);
                never_again(site, &run.run).await?;
            } else {
                run.check(site).await?;
            }
        }
        Ok(if is_gone { Vec::new() } else { self.runs })
    }
}

async fn is_unknown(site: &Site, run: &str) -> anyhow::Result<bool> {
    let resource = site.get(&format!("/v1/runs/{run}"), "application/json").await?;
    let events = site.get(&format!("/v1/runs/{run}/events?live=false"), "application/json").await?;
    let both = (resource.status() == 404, events.status() == 404);
    ensure!(both.0 == both.1, "{run}: {} and {}", resource.status(), events.status());
    Ok(both.0)
}

/// Soon the id is refused for ever, and until then nobody gets it.
async fn never_again(site: &Site, run: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let body = json!({"agent": "demo", "run_id": run});
        let answer = site.post("/v1/sessions/again/runs", &body).await?;
        match answer.status() {
            409 if answer.json()["code"] == "run_exists" => return Ok(()),
            503 => {}
            other => bail!("{run}: it was started again: {other} {}", answer.text()),
        }
        ensure!(Instant::now() < deadline, "{run}: it is still not erased");
        sleep(Duration::from_millis(5)).await;
    }
}
