//! What is kept of ended runs, and how the others go.
//!
//! The oldest go first, by the time of their end, and each whole: one batch trims all of its events
//! but the terminal and puts what they made, the fold of all of them, into its session's stream
//! (P2). So nothing of the conversation is lost, whoever has an older cursor is told and gets the
//! message, and a stream still ends with its terminal. Runs that are read at the moment wait.

use std::time::Duration;

use segue_core::{
    EventRecord, Fold, RunId, Seq, Snapshot, TenantId, Timestamp,
    lifecycle::{final_fold, message_final},
};
use segue_journal::{
    AppendError as JournalError, Batch, Epoch, Journal, Op, Part, ReadError, ReadLimit, StreamInfo,
    StreamKey,
    views::{Compare, Select, Value as Cell, ViewError},
};
use tokio::{sync::Notify, time::sleep};

use crate::{
    attach::RunStream,
    engine::Engine,
    projection::{RUNS, rows},
    run::FIRST_EPOCH,
    snapshot::{fold_whole, snapshot_of},
};

/// How much of ended runs is kept. Runs that have not ended and those that are read at the moment
/// are always kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retain {
    /// How long after their end; for ever without.
    pub age: Option<Duration>,
    /// How many; 0 is no limit.
    pub runs: u64,
    /// How many bytes of events' JSON; 0 is no limit.
    pub bytes: u64,
}

/// The task's bell.
#[derive(Default)]
pub(crate) struct Retention {
    wake: Notify,
}

/// How often is looked, beside whenever a run has ended.
const TICK: Duration = Duration::from_secs(10);
/// How many runs are looked up at once.
const ROWS_AT_ONCE: usize = 64;

/// What became of a run that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trimmed {
    Now,
    /// It was erased meanwhile.
    Before,
    /// Somebody reads it.
    Not,
}

/// Why a run stays for now.
#[derive(Debug, thiserror::Error)]
enum TrimError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the message cannot be written: {0}")]
    Message(#[from] serde_json::Error),
    #[error("the fold broke down")]
    Fold,
}

impl Retain {
    fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// Whether a run that ended at this time is to go, when so many runs and bytes are kept.
    fn is_due(&self, ended_at: Timestamp, now: Timestamp, kept: rows::Kept) -> bool {
        let age = Duration::from_millis(now.as_millis().saturating_sub(ended_at.as_millis()));
        self.age.is_some_and(|most| age >= most)
            || (self.runs != 0 && kept.runs > self.runs)
            || (self.bytes != 0 && kept.bytes > self.bytes)
    }
}

impl Retention {
    /// A run has ended, or the engine goes down.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

impl Engine {
    /// Starts the task, if anything ever goes.
    pub(crate) fn start_retention(&self) {
        if self.inner.settings.retain.is_on() {
            self.inner.spawner.spawn(self.clone().retain());
        }
    }

    async fn retain(self) {
        while !self.inner.supervisor.is_closing() {
            if let Err(error) = self.trim_due(&TenantId::local()).await {
                metrics::counter!("segue_retention_failures_total").increment(1);
                tracing::warn!(%error, "retention could not ask the views");
            }
            tokio::select! {
                () = self.inner.retention.wake.notified() => {}
                () = sleep(TICK) => {}
            }
        }
    }

    /// Trims what is due now, oldest first.
    async fn trim_due(&self, tenant: &TenantId) -> Result<(), ViewError> {
        let retain = self.inner.settings.retain;
        let mut after = None;
        loop {
            self.views_caught_up().await?;
            let rows = self.inner.views.select(&oldest(tenant, after.take()))?;
            // Asked last: a deletion between both leaves too many rows, and not too large a sum.
            let mut kept = rows::kept(&*self.inner.views, tenant)?;
            for row in &rows {
                let Some((run, ended_at)) = rows::stored_run_of(row)
                    .and_then(|run| run.view.ended_at.map(|ended_at| (run, ended_at)))
                else {
                    continue;
                };
                if !retain.is_due(ended_at, self.inner.ids.clock.now(), kept)
                    || self.inner.supervisor.is_closing()
                {
                    return Ok(());
                }
                if self.trim(tenant, &run).await != Trimmed::Not {
                    kept = kept.without(run.bytes);
                }
            }
            match rows.last() {
                Some(last) if rows.len() == ROWS_AT_ONCE => after = rows::place_by_end(last),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Trims a run, if nobody reads it and it can be.
    async fn trim(&self, tenant: &TenantId, run: &rows::StoredRun) -> Trimmed {
        let (id, session) = (&run.view.id, StreamKey::session(tenant, &run.view.session_id));
        match self.try_trim(tenant, id, &session).await {
            Ok(trimmed) => {
                let is_now = trimmed == Trimmed::Now;
                metrics::counter!("segue_runs_trimmed_total").increment(u64::from(is_now));
                trimmed
            }
            Err(error) => {
                metrics::counter!("segue_retention_failures_total").increment(1);
                tracing::warn!(run = %id, %error, "a run could not be trimmed");
                Trimmed::Not
            }
        }
    }

    async fn try_trim(
        &self,
        tenant: &TenantId,
        run: &RunId,
        session: &StreamKey,
    ) -> Result<Trimmed, TrimError> {
        let stream = StreamKey::run(tenant, run);
        if let Some(trimmed) = self.stays(&stream) {
            return Ok(trimmed);
        }
        if self.inner.attached.claim(&stream).is_none() {
            return Ok(Trimmed::Not);
        }
        let Some(info) = self.whole(&stream)? else { return Ok(Trimmed::Before) };
        let message = self.final_message(run, &stream).await?;
        // Somebody may have come while it was folded; from here on nobody comes.
        let Some(_claim) = self.inner.attached.claim(&stream) else { return Ok(Trimmed::Not) };
        if let Some(trimmed) = self.stays(&stream) {
            return Ok(trimmed);
        }
        let op = Op::Trim { before: info.tail.next.prev() };
        let bytes = message.len();
        let parts = vec![
            Part::append(session.clone(), Epoch(0), vec![message]),
            Part { stream: stream.clone(), op, epoch: Epoch(FIRST_EPOCH + 1) },
        ];
        let journal = &self.inner.journal;
        let permit = journal.reserve(session, bytes).await;
        let permit = permit.map_err(|error| JournalError::Poisoned(error.to_string()))?;
        journal.submit(permit, Batch { parts }).await?;
        Ok(Trimmed::Now)
    }

    /// What is being deleted goes anyway, and nothing else has to go for it.
    fn stays(&self, stream: &StreamKey) -> Option<Trimmed> {
        self.inner.supervisor.is_gone(stream).then_some(Trimmed::Before)
    }

    /// What is known of a run that has ended and was not trimmed; the views may be behind.
    fn whole(&self, stream: &StreamKey) -> Result<Option<StreamInfo>, ReadError> {
        let info = match self.inner.journal.info(stream) {
            Err(ReadError::NotFound(_)) => return Ok(None),
            info => info?,
        };
        let is_whole = info.available_from < info.tail.next.prev();
        Ok(Some(info).filter(|info| info.tail.closed && is_whole))
    }

    /// The record of what the run made. Of one that is too large for a record, its snapshot.
    async fn final_message(
        &self,
        run: &RunId,
        stream: &StreamKey,
    ) -> Result<bytes::Bytes, TrimError> {
        let (journal, run, stream) = (self.inner.journal.clone(), run.clone(), stream.clone());
        let max = self.inner.settings.event_bytes;
        let made = tokio::task::spawn_blocking(move || {
            let fold = fold_whole(&*journal, &run, &stream)?;
            let message = message_final(&run, &fold)?;
            if message.len() <= max {
                return Ok(message);
            }
            let Snapshot { json, .. } = snapshot_of(&fold);
            let cut: Fold = serde_json::from_slice(&json)?;
            Ok(message_final(&run, &cut)?)
        });
        made.await.unwrap_or(Err(TrimError::Fold))
    }
}

impl RunStream {
    /// The fold of a trimmed run, which its session keeps. `None` if it is not trimmed so, or if that
    /// cannot be read any more: then what is left is what is shown.
    pub(crate) async fn final_fold(&self) -> Result<Option<Fold>, ReadError> {
        let engine = &self.engine.inner;
        let caught_up = self.engine.views_caught_up().await;
        let tenant = TenantId::parse(self.stream.tenant()).ok();
        let row = caught_up.and_then(|()| {
            let key = tenant.as_ref().map(|tenant| rows::key(tenant, self.run.as_str()));
            key.map_or(Ok(None), |key| engine.views.get(RUNS, &Cell::Text(key)))
        });
        let row = row.map_err(|error| ReadError::Io(error.to_string()))?;
        let stored = row.as_ref().and_then(rows::stored_run_of);
        let (Some(tenant), Some((seq, session))) =
            (tenant, stored.and_then(|run| Some((run.final_seq?, run.view.session_id))))
        else {
            return Ok(None);
        };
        final_fold_at(&*self.journal, &StreamKey::session(&tenant, &session), seq)
    }
}

/// The fold in a session's record of a trimmed run; `None` if it is not readable any more.
pub(crate) fn final_fold_at(
    journal: &dyn Journal,
    session: &StreamKey,
    seq: Seq,
) -> Result<Option<Fold>, ReadError> {
    let one = ReadLimit { records: 1, ..ReadLimit::default() };
    let record = journal.read(session, seq, one)?.records.into_iter().next();
    let event = record.and_then(|record| EventRecord::decode(record.bytes).ok());
    let fold = event.and_then(|event| final_fold(&event));
    if fold.is_none() {
        metrics::counter!("segue_final_messages_unreadable_total").increment(1);
    }
    Ok(fold)
}

/// The ended runs that are not trimmed.
fn oldest(tenant: &TenantId, after: Option<(Cell, Cell)>) -> Select {
    Select {
        table: RUNS,
        filter: vec![
            ("tenant", Compare::Eq, Cell::Text(tenant.to_string())),
            ("final_seq", Compare::Eq, Cell::Null),
            ("ended_at", Compare::Ge, Cell::Int(0)),
        ],
        phrases: Vec::new(),
        order_by: "ended_at",
        descending: false,
        after,
        limit: ROWS_AT_ONCE,
    }
}
