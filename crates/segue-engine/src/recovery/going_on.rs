//! Runs that a restart does not interrupt.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use segue_core::{EventKind, EventRecord, Ingress, OnRestart, Policy, Seq, Source, Timestamp};
use segue_journal::{ReadLimit, StreamKey};

use super::First;
use crate::{
    engine::Engine,
    launch::{Alive, Job, run_input},
    run::{Activity, Restart, Run, RunLog},
};

/// A run of a process before this one that goes on.
pub(super) struct GoingOn {
    first: First,
    restart: Restart,
    source: Arc<dyn Source>,
    log: RunLog,
    /// When its source began; none if it is queued.
    started_at: Option<Timestamp>,
}

impl GoingOn {
    /// The run, if its start asked for it and everything that it needs is still there.
    pub(super) fn of(engine: &Engine, stream: &StreamKey, first: &First) -> Option<Self> {
        let restart = first.facts.restart.clone()?;
        let started_at = started_at(engine, stream)?;
        let source = engine.inner.agents.find(&first.facts.agent)?;
        let wanted = match restart.how {
            OnRestart::Start => started_at.is_none() && source.check(&restart.params).is_ok(),
            OnRestart::Await => started_at.is_some() && source.ingress() == Ingress::Append,
        };
        if !wanted {
            return None;
        }
        let log = RunLog::load(&*engine.inner.journal, stream).ok()?;
        if log.stopped().is_some() {
            return None;
        }
        Some(Self { first: first.clone(), restart, source, log, started_at })
    }

    /// How long its source had been at work, as far as the clocks of both processes agree.
    fn worked(&self, now: Timestamp) -> Duration {
        let since = self.started_at.map_or(now, |at| at.min(now));
        Duration::from_millis(now.as_millis().saturating_sub(since.as_millis()))
    }

    fn alive(self, engine: &Engine) -> Alive {
        let inner = &engine.inner;
        let worked = self.worked(inner.ids.clock.now());
        let Self { first: First { facts, input, turn }, restart, source, log, started_at } = self;
        let session = StreamKey::session(&facts.tenant, &facts.session);
        // Who is at work has its place; who is queued waits for all before it.
        let policy = if started_at.is_some() { Policy::Parallel } else { Policy::Queue };
        let turn = turn.unwrap_or_default();
        let seat = inner.supervisor.take_seat_again(&session, &facts.run, turn, policy);
        let input = run_input(&facts, input, restart.params);
        let takes_appends = source.ingress() == Ingress::Append;
        let (run, inbox) = Run::new(
            facts,
            inner.journal.clone(),
            takes_appends,
            inner.settings.event_bytes,
            log,
            Activity::go_on(worked),
            started_at,
        );
        let stops = inner.supervisor.insert(&run, &seat, None);
        let replaces = restart.policy == Policy::Replace;
        Alive { run, seat, job: Job { inbox, source, input, replaces, stops } }
    }
}

/// When the run's source began: `Some(None)` if it did not, `None` if that cannot be read. A
/// run's `run.started` is its first event, or its second if it was queued.
#[expect(clippy::option_option, reason = "unknown and not begun are two things")]
fn started_at(engine: &Engine, stream: &StreamKey) -> Option<Option<Timestamp>> {
    let two = ReadLimit { records: 2, ..ReadLimit::default() };
    let page = engine.inner.journal.read(stream, Seq::FIRST, two).ok()?;
    for record in page.records {
        if EventRecord::decode(record.bytes).ok()?.kind() == EventKind::RunStarted {
            return Some(Some(record.at));
        }
    }
    Some(None)
}

/// Takes their places in the order of their turns, those at work first, and drives them.
pub(super) fn go_on(engine: &Engine, mut runs: Vec<GoingOn>) {
    runs.sort_by_key(|run| {
        (Reverse(run.started_at.is_some()), run.first.turn, run.first.facts.created_at)
    });
    metrics::counter!("segue_resumed_runs_total").increment(runs.len() as u64);
    let alive: Vec<Alive> = runs.into_iter().map(|run| run.alive(engine)).collect();
    for alive in alive {
        engine.inner.spawner.spawn(engine.clone().see_through(alive));
    }
}
