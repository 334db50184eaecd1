//! One kill after the other, on the same data.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use fastrand::Rng;
use tokio::{process::Command, task::JoinSet, time::sleep};

use super::{
    deletion::Doomed,
    load::{Report, carry_out},
    plan::{Plan, doomed, plans},
    site::Site,
    trigger::Trigger,
    verify::{self, Digest},
};
use crate::live::{Live, Serve};

/// The kill comes after so long at the latest, if too few events are acknowledged until then.
const LATEST: Duration = Duration::from_secs(2);
/// How many runs of earlier cycles are looked at again in each.
const OLD_RUNS: usize = 8;
/// Every how many cycles `segue check` reads the whole journal.
const CHECK_EVERY: u32 = 5;

/// Segments that fill in a few cycles and are packed at once, and few runs that are kept whole, so
/// that kills fall into packing and trimming.
const SMALL: &[(&str, &str)] =
    &[("SEGUE_SEGMENT_MIB", "1"), ("SEGUE_HOT_MIB", "0"), ("SEGUE_RETAIN_RUNS", "40")];

/// The harness between two kills: a server with nothing running.
pub(super) struct Crash {
    serve: Serve,
    binary: PathBuf,
    rng: Rng,
    /// An argument that only the processes of this harness have.
    mark: String,
    live: Live,
    runs: Vec<Digest>,
    /// What the next cycle deletes.
    doomed: Doomed,
    /// How many sessions were deleted.
    deleted: u32,
    /// Bytes of the server's log that were looked at.
    logged: usize,
}

/// What a cycle did.
pub(super) struct Summary {
    runs: usize,
    acked: u64,
    sent: u64,
    frames: usize,
    returns: u32,
    kills: u32,
    statuses: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, acked, sent, frames, returns, kills, statuses } = self;
        write!(f, "{runs} runs ({statuses}), {acked} of {sent} items acknowledged, ")?;
        write!(f, "{frames} frames seen, {returns} returns, {kills} kills")
    }
}

impl Crash {
    pub(super) async fn begin(binary: &Path, folder: &Path, seed: u64) -> anyhow::Result<Self> {
        let serve = Serve { settings: SMALL, ..Serve::new(binary, &folder.join("data")) };
        let live = serve.start().await?;
        // A fraction of a second that no other `sleep` of this machine sleeps.
        let mark = format!("86400.{:05}{:09}", std::process::id() % 100_000, seed % 1_000_000_000);
        let rng = Rng::with_seed(seed);
        let (binary, runs, doomed) = (binary.to_owned(), Vec::new(), Doomed::default());
        Ok(Self { serve, binary, rng, mark, live, runs, doomed, deleted: 0, logged: 0 })
    }

    pub(super) async fn cycle(&mut self, number: u32) -> anyhow::Result<Summary> {
        let mut rng = self.rng.fork();
        let plans = plans(number, &mut rng);
        let (reports, deleted) = self.load_and_kill(plans, &mut rng).await?;
        if number.is_multiple_of(CHECK_EVERY) {
            check_folder(&self.binary, &self.serve.data).await?;
        }
        let kills = 1 + self.restart(&mut rng).await?;
        let is_some = !deleted.runs.is_empty();
        let left = deleted.check(&Site::of(&self.live)).await?;
        self.deleted += u32::from(is_some && left.is_empty());
        self.runs.extend(left);
        self.verify(number, reports, kills, &mut rng).await
    }

    /// Runs the plans until the kill.
    async fn load_and_kill(
        &mut self,
        plans: Vec<Plan>,
        rng: &mut Rng,
    ) -> anyhow::Result<(Vec<Report>, Doomed)> {
        let total: u64 = plans.iter().map(|plan| plan.work.items()).sum();
        let events = i64::try_from(rng.u64(1..=total))?;
        let trigger = Arc::new(Trigger::new(self.live.pid(), events));
        let site = Site::of(&self.live);
        let mut clients = JoinSet::new();
        for plan in plans {
            let (mark, trigger) = (self.mark.clone(), Arc::clone(&trigger));
            clients.spawn(carry_out(plan, site.clone(), mark, trigger));
        }
        let mut deletions = JoinSet::new();
        let doomed = std::mem::take(&mut self.doomed);
        deletions.spawn(doomed.delete(site, rng.u64(..40), Arc::clone(&trigger)));
        tokio::select! {
            () = trigger.wait() => {}
            () = sleep(LATEST) => trigger.fire(),
        }
        self.live.killed().await?;
        let mut reports = Vec::new();
        while let Some(report) = clients.join_next().await {
            reports.push(report??);
        }
        reports.sort_by(|a, b| a.plan.run.cmp(&b.plan.run));
        let deleted = deletions.join_next().await.context("the deletion was lost")??;
        let deleted = deleted?;
        Ok((reports, deleted))
    }

    /// Starts the server on what the kill left, now and then killing it again before it is
    /// ready. Gives how often.
    async fn restart(&mut self, rng: &mut Rng) -> anyhow::Result<u32> {
        let mut kills = 0;
        while kills < 3 && rng.u8(..4) == 0 {
            let mut child = self.serve.spawn()?;
            sleep(Duration::from_micros(rng.u64(..40_000))).await;
            child.kill().await?;
            kills += 1;
        }
        self.live = self.serve.start().await?;
        Ok(kills)
    }

    async fn verify(
        &mut self,
        number: u32,
        reports: Vec<Report>,
        kills: u32,
        rng: &mut Rng,
    ) -> anyhow::Result<Summary> {
        let site = Site::of(&self.live);
        verify::none_left(&self.mark).await?;
        for _ in 0..OLD_RUNS.min(self.runs.len()) {
            self.runs[rng.usize(..self.runs.len())].check(&site).await?;
        }
        let mut summary = Summary::of(&reports, kills);
        self.doomed = Doomed { session: doomed(number), ..Doomed::default() };
        for report in reports {
            let is_doomed = report.plan.session == self.doomed.session;
            if let Some(digest) = verify::check(&site, report).await? {
                summary.statuses.push_str(&digest.status[..1]);
                let runs = if is_doomed { &mut self.doomed.runs } else { &mut self.runs };
                runs.push(digest);
            }
        }
        self.check_log()?;
        Ok(summary)
    }

    /// A kill leaves nothing that the server calls an error.
    fn check_log(&mut self) -> anyhow::Result<()> {
        let log = fs::read_to_string(self.serve.log())?;
        let error = log[self.logged..].lines().find(|line| line.contains(" ERROR "));
        ensure!(error.is_none(), "the server logged {}", error.unwrap_or_default());
        self.logged = log.len();
        Ok(())
    }

    /// Looks at everything once more, before and after an orderly end.
    pub(super) async fn end(self) -> anyhow::Result<String> {
        let Self { serve, binary, mut runs, live, doomed, deleted, .. } = self;
        runs.extend(doomed.runs);
        check_all(&Site::of(&live), &runs).await?;
        live.stop().await?;
        check_folder(&binary, &serve.data).await?;
        let packed = std::fs::metadata(serve.data.join("cold.db")).map_or(0, |file| file.len());
        let live = serve.start().await?;
        let trimmed = check_all(&Site::of(&live), &runs).await?;
        live.stop().await?;
        let events: u64 = runs.iter().map(|run| run.events).sum();
        Ok(format!(
            "{} runs with {events} events, {trimmed} of them trimmed, {deleted} sessions deleted, {packed} bytes packed",
            runs.len()
        ))
    }
}

impl Summary {
    fn of(reports: &[Report], kills: u32) -> Self {
        let seen = || reports.iter().flat_map(|report| &report.seen);
        Self {
            runs: reports.len(),
            acked: reports.iter().map(|report| report.ledger.acked).sum(),
            sent: reports.iter().map(|report| report.ledger.sent).sum(),
            frames: seen().map(|seen| seen.frames.len()).sum(),
            returns: seen().map(|seen| seen.returns).sum(),
            kills,
            statuses: String::new(),
        }
    }
}

/// Every run is as it was and listed once, and no other is. Gives how many are trimmed.
async fn check_all(site: &Site, runs: &[Digest]) -> anyhow::Result<usize> {
    let mut trimmed = 0;
    for run in runs {
        trimmed += usize::from(run.check(site).await?);
    }
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/runs?limit=100{after}");
        let page = site.get(&path, "application/json").await?.json();
        let data = page["data"].as_array().with_context(|| format!("{path}: {page}"))?;
        listed.extend(data.iter().map(|run| (run["id"].to_string(), run["status"].to_string())));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    listed.sort();
    let quoted = |run: &Digest| (format!("{:?}", run.run), format!("{:?}", run.status));
    let mut known: Vec<_> = runs.iter().map(quoted).collect();
    known.sort();
    ensure!(listed == known, "the list of runs has {listed:?}, known are {known:?}");
    Ok(trimmed)
}

/// `segue check` finds nothing wrong with a folder that nobody serves.
async fn check_folder(binary: &Path, data: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(binary);
    let output = command.args(["check", "--data"]).arg(data).output().await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "segue check ended with {}: {said}", output.status);
    Ok(())
}
