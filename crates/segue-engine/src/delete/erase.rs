//! What was begun is done: the runs are stopped, and nothing stays but tombstones.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use segue_core::{RunId, Seq, StopReason, TenantId, lifecycle::Lifecycle};
use segue_journal::{AppendError as JournalError, Epoch, Op, Part, ReadError, StreamKey};

use super::{Doomed, encode};
use crate::{
    engine::Engine,
    known::digest_of,
    run::{Command, Run, StopCommand},
};

/// How many runs one batch erases.
const AT_ONCE: usize = 128;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The tombstone of a run.
pub(super) fn tombstone(tenant: &TenantId, run: &RunId) -> StreamKey {
    StreamKey::erased(tenant, &digest_of(run.as_str()))
}

/// Whether a run of this id was erased.
pub(crate) fn is_erased(engine: &Engine, tenant: &TenantId, run: &RunId) -> bool {
    exists(engine, &super::tombstone(tenant, run))
}

fn exists(engine: &Engine, stream: &StreamKey) -> bool {
    !matches!(engine.inner.journal.info(stream), Err(ReadError::NotFound(_)))
}

/// Whoever may have written to a stream, it goes.
fn removal(stream: StreamKey) -> Part {
    Part { stream, op: Op::Delete, epoch: Epoch(u64::MAX) }
}

impl Engine {
    /// Stops and erases. Ends early only when the engine goes down or its journal is gone: the next
    /// start goes on.
    pub(crate) async fn erase(self, doomed: Doomed) {
        let session = doomed.session_stream();
        let runs = self.inner.supervisor.alive_in(&doomed.tenant, &session);
        join_all(runs.iter().map(stop)).await;
        self.inner.supervisor.left(&session).await;
        for runs in doomed.runs.chunks(AT_ONCE) {
            if !self.until_done(|| self.erase_runs(&doomed, runs)).await {
                return;
            }
        }
        if self.until_done(|| self.finish(&doomed)).await {
            if !doomed.is_import {
                metrics::counter!("segue_sessions_erased_total").increment(1);
            }
            self.inner.supervisor.show(&doomed.streams());
        }
    }

    /// Tries until it succeeds. False: it never will in this process.
    async fn until_done<F>(&self, step: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<(), JournalError>>,
    {
        let mut retry = FIRST_RETRY;
        loop {
            let error = match step().await {
                Ok(()) => return true,
                Err(JournalError::Poisoned(_)) => return false,
                Err(error) => error,
            };
            if self.inner.supervisor.is_closing() {
                return false;
            }
            metrics::counter!("segue_deletion_retries_total").increment(1);
            tracing::warn!(%error, "a deleted session could not be erased, trying again");
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Erases those that are not erased yet, each in one step with its tombstone.
    /// Ids that nobody has seen need none.
    async fn erase_runs(&self, doomed: &Doomed, runs: &[RunId]) -> Result<(), JournalError> {
        let tenant = &doomed.tenant;
        let (mut parts, mut main) = (Vec::with_capacity(2 * runs.len()), None);
        for run in runs {
            let stream = StreamKey::run(tenant, run);
            let info = self.inner.journal.info(&stream);
            if matches!(info, Err(ReadError::NotFound(_))) {
                continue;
            }
            if let Ok(info) = info {
                self.inner.snapshots.forget(info.incarnation);
            }
            main = Some(stream.clone());
            parts.push(removal(stream));
            let stone = tombstone(tenant, run);
            if !doomed.is_import && !exists(self, &stone) {
                parts.push(closed(stone));
            }
        }
        match main {
            Some(main) => self.commit(&main, parts).await,
            None => Ok(()),
        }
    }

    /// The session goes, and with it the last trace of the deletion.
    async fn finish(&self, doomed: &Doomed) -> Result<(), JournalError> {
        let session_id = doomed.session.clone();
        let deletions = StreamKey::deletions(&doomed.tenant);
        let done = encode(&[Lifecycle::DeletionDone { session_id: session_id.clone() }]);
        let erased = encode(&[Lifecycle::SessionErased { session_id }]);
        let mut parts = vec![Part::append(deletions.clone(), Epoch(0), done)];
        if !doomed.is_import {
            parts.push(Part::append(StreamKey::catalogue(&doomed.tenant), Epoch(0), erased));
        }
        let session = doomed.session_stream();
        // That of an import is made by what ends it, so it is somebody else's if there is one.
        if !doomed.is_import && exists(self, &session) {
            parts.push(removal(session.clone()));
        }
        let mut pending = self.inner.deletions.0.lock().await;
        self.commit(&session, parts).await?;
        self.done(&deletions, &mut pending).await;
        Ok(())
    }

    /// One is done.
    pub(super) async fn done(&self, deletions: &StreamKey, pending: &mut usize) {
        *pending = pending.saturating_sub(1);
        if *pending == 0 {
            self.forget_done(deletions).await;
        }
    }

    /// No start has to read what is done. Called while nothing is begun.
    pub(super) async fn forget_done(&self, deletions: &StreamKey) {
        let Ok(info) = self.inner.journal.info(deletions) else { return };
        let op = Op::Trim { before: info.tail.next };
        let trim = Part { stream: deletions.clone(), op, epoch: Epoch(0) };
        if info.available_from < info.tail.next
            && let Err(error) = self.commit(deletions, vec![trim]).await
        {
            // It is tried again after the next deletion and at the next start.
            tracing::warn!(%error, "deletions that are done could not be trimmed");
        }
    }
}

/// A stream that says by being there what it says.
fn closed(stream: StreamKey) -> Part {
    let op = Op::Append {
        records: Vec::new(),
        create: true,
        close: true,
        expect: Some(Seq::FIRST),
        producer: None,
    };
    Part { stream, op, epoch: Epoch(0) }
}

async fn stop(run: &Arc<Run>) {
    // A run without an owner has ended.
    drop(run.command(Command::Stop(StopCommand::new(StopReason::Deleted))).await);
}
