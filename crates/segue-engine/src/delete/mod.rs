//! Deleting sessions, so that it is whole whatever happens on the way.
//!
//! ```text
//! 1  hide      nobody sees the session and its runs any more, or begins one in it
//! 2  begin     one batch: the deletion with its runs, the catalogue's and the session's record
//! 3  stop      its runs that are alive, reason `deleted`; their clients get that terminal
//! 4  erase     run by run, each with its tombstone; then the session, in the catalogue's last record
//! ```
//! It is answered after 2, which no crash takes back: a start hides and erases what was begun and
//! not done. Until the end all of it is unknown to everybody; afterwards the session's id is free,
//! and those of its runs never are.

mod erase;
mod pending;

use segue_core::{RunId, SessionId, TenantId, lifecycle::Lifecycle};
use segue_journal::{
    AppendError as JournalError, Batch, Epoch, Part, ReadError, StreamKey, StreamKind,
    views::ViewError,
};
use tokio::sync::Mutex;

use crate::{
    append::AppendError,
    engine::Engine,
    query::{MAX_LIMIT, QueryError, RunQuery},
};
pub(crate) use erase::is_erased;
use erase::tombstone;
pub(crate) use pending::resume;

/// Deletions that were begun and are not done. Begins and ends are one after the other, so that the
/// last to end knows that nothing of the stream is needed any more.
#[derive(Default)]
pub(crate) struct Deletions(Mutex<usize>);

/// Why a session was not deleted. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// The tenant has no such session, or it is being deleted already.
    #[error("there is no such session")]
    NotFound,
    /// The engine shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The journal did not take it.
    #[error(transparent)]
    Journal(#[from] AppendError),
    /// The views could not be asked for the session's runs.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// A session to erase, with all of its runs.
#[derive(Clone)]
pub(crate) struct Doomed {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) runs: Vec<RunId>,
    /// It is an import that has not come to its end: nobody has seen it, and its ids stay free.
    is_import: bool,
}

/// How many runs a record of a deletion names at most.
const RUNS_A_RECORD: usize = 1000;
/// How often a commit is tried again because somebody made the same stream meanwhile.
const RACES: usize = 8;

impl Doomed {
    pub(crate) fn import(tenant: TenantId, session: SessionId, runs: Vec<RunId>) -> Self {
        Self { tenant, session, runs, is_import: true }
    }

    pub(crate) fn session_stream(&self) -> StreamKey {
        StreamKey::session(&self.tenant, &self.session)
    }

    /// Everything that is hidden, the session first.
    pub(crate) fn streams(&self) -> Vec<StreamKey> {
        let runs = self.runs.iter().map(|run| StreamKey::run(&self.tenant, run));
        std::iter::once(self.session_stream()).chain(runs).collect()
    }

    /// The records that a restart goes on from.
    fn begun(&self) -> Vec<Lifecycle> {
        let begun = |runs: &[RunId]| {
            let (session_id, runs) = (self.session.clone(), runs.to_vec());
            if self.is_import {
                Lifecycle::ImportBegun { session_id, runs }
            } else {
                Lifecycle::DeletionBegun { session_id, runs }
            }
        };
        let chunks = self.runs.chunks(RUNS_A_RECORD).map(begun);
        if self.runs.is_empty() { vec![begun(&[])] } else { chunks.collect() }
    }
}

impl Engine {
    /// Deletes a session with its runs, those that are alive included. When it returns nobody sees
    /// any of it any more, for ever; what is stored of it goes soon after, over restarts if need be.
    ///
    /// Dropping the future does not take it back once it has begun.
    pub async fn delete_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
    ) -> Result<(), DeleteError> {
        if !self.is_ready() {
            return Err(DeleteError::ShuttingDown);
        }
        let stream = StreamKey::session(tenant, session);
        let exists = self.inner.journal.info(&stream).is_ok();
        if !exists || !self.inner.supervisor.hide([&stream]) {
            return Err(DeleteError::NotFound);
        }
        let (engine, tenant, session) = (self.clone(), tenant.clone(), session.clone());
        let (answer, begun) = tokio::sync::oneshot::channel();
        self.inner.spawner.spawn(async move {
            match engine.begin_deletion(tenant, session).await {
                Ok(doomed) => {
                    metrics::counter!("segue_sessions_deleted_total").increment(1);
                    // Who asked may have gone.
                    answer.send(Ok(())).unwrap_or_default();
                    engine.erase(doomed).await;
                }
                Err(error) => {
                    engine.inner.supervisor.show([&stream]);
                    answer.send(Err(error)).unwrap_or_default();
                }
            }
        });
        begun.await.unwrap_or(Err(DeleteError::ShuttingDown))
    }

    /// Makes it durable. The session is hidden; an error leaves its runs as they were.
    async fn begin_deletion(
        &self,
        tenant: TenantId,
        session: SessionId,
    ) -> Result<Doomed, DeleteError> {
        let stream = StreamKey::session(&tenant, &session);
        // Of those who came before it was hidden the creation is awaited, so that none is missed.
        self.inner.supervisor.settled(&stream).await;
        let runs = self.every_run(&tenant, &session).await?;
        let doomed = Doomed { tenant, session, runs, is_import: false };
        let streams = doomed.streams();
        self.inner.supervisor.hide(&streams);
        let begun = self.commit_deletion(&doomed).await;
        if begun.is_err() {
            self.inner.supervisor.show(&streams);
        }
        begun.map(|()| doomed)
    }

    async fn every_run(
        &self,
        tenant: &TenantId,
        session: &SessionId,
    ) -> Result<Vec<RunId>, DeleteError> {
        let (mut runs, mut after) = (Vec::new(), None);
        loop {
            let session = Some(session.clone());
            let query = RunQuery { session, after, limit: MAX_LIMIT, ..RunQuery::default() };
            let page = self.runs(tenant, query).await.map_err(|error| match error {
                QueryError::View(error) => error,
                QueryError::BadCursor | QueryError::NoWords => {
                    ViewError::Store("a page cannot be gone on from".into())
                }
            })?;
            runs.extend(page.data.into_iter().map(|run| run.id));
            after = page.next;
            if after.is_none() {
                return Ok(runs);
            }
        }
    }

    async fn commit_deletion(&self, doomed: &Doomed) -> Result<(), DeleteError> {
        let session_id = doomed.session.clone();
        let deleted = encode(&[Lifecycle::SessionDeleted { session_id }]);
        let begun = encode(&doomed.begun());
        let mut pending = self.inner.deletions.0.lock().await;
        for _ in 0..RACES {
            let parts = vec![
                self.to_shared(StreamKey::deletions(&doomed.tenant), begun.clone()),
                self.to_shared(StreamKey::catalogue(&doomed.tenant), deleted.clone()),
                Part::append(doomed.session_stream(), Epoch(0), deleted.clone()),
            ];
            match self.commit(&doomed.session_stream(), parts).await {
                Err(JournalError::Exists(key)) if key.kind() == StreamKind::Catalogue => {}
                Err(error) => return Err(AppendError::from(error).into()),
                Ok(()) => {
                    *pending += 1;
                    return Ok(());
                }
            }
        }
        Err(AppendError::Retry.into())
    }

    /// Says durably that an import is under way.
    pub(crate) async fn begin_import(&self, doomed: &Doomed) -> Result<(), AppendError> {
        let mut pending = self.inner.deletions.0.lock().await;
        let stream = StreamKey::deletions(&doomed.tenant);
        let parts = vec![self.to_shared(stream, encode(&doomed.begun()))];
        self.commit(&doomed.session_stream(), parts).await.map_err(AppendError::from)?;
        *pending += 1;
        Ok(())
    }

    /// The import is there, with these parts.
    pub(crate) async fn finish_import(
        &self,
        doomed: &Doomed,
        parts: Vec<Part>,
    ) -> Result<(), JournalError> {
        let session_id = doomed.session.clone();
        let done = encode(&[Lifecycle::DeletionDone { session_id: session_id.clone() }]);
        let created = encode(&[Lifecycle::SessionCreated { session_id }]);
        let deletions = StreamKey::deletions(&doomed.tenant);
        let mut pending = self.inner.deletions.0.lock().await;
        for _ in 0..RACES {
            let done = Part::append(deletions.clone(), Epoch(0), done.clone());
            let entry = self.to_shared(StreamKey::catalogue(&doomed.tenant), created.clone());
            let parts = parts.iter().cloned().chain([done, entry]).collect();
            match self.commit(&doomed.session_stream(), parts).await {
                Err(JournalError::Exists(key)) if key.kind() == StreamKind::Catalogue => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.done(&deletions, &mut pending).await;
                    return Ok(());
                }
            }
        }
        Err(JournalError::Exists(deletions))
    }

    /// An append to a stream that is made when it is needed first.
    fn to_shared(&self, stream: StreamKey, records: Vec<bytes::Bytes>) -> Part {
        match self.inner.journal.info(&stream) {
            Err(ReadError::NotFound(_)) => Part::create(stream, Epoch(0), records),
            _ => Part::append(stream, Epoch(0), records),
        }
    }

    pub(crate) async fn commit(
        &self,
        main: &StreamKey,
        parts: Vec<Part>,
    ) -> Result<(), JournalError> {
        let journal = &self.inner.journal;
        let bytes = parts.iter().map(Part::bytes).sum();
        let permit = journal.reserve(main, bytes).await;
        let permit = permit.map_err(|error| JournalError::Poisoned(error.to_string()))?;
        journal.submit(permit, Batch { parts }).await.map(drop)
    }
}

fn encode(records: &[Lifecycle]) -> Vec<bytes::Bytes> {
    records.iter().map(Lifecycle::encode).collect()
}
