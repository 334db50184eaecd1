//! Sessions: made, changed, and written to by runs.

use segue_core::{EventRecord, SessionId, TenantId, lifecycle::Lifecycle};
use segue_journal::{
    AppendError as JournalError, Batch, Committed, Epoch, Part, ReadError, StreamKey,
};
use serde_json::{Value, json};

use crate::{
    append::AppendError,
    engine::Engine,
    query::{QueryError, SessionView},
};

/// A session to make.
#[derive(Clone, Debug, Default)]
pub struct CreateSession {
    /// Its id; chosen by the engine if there is none.
    pub id: Option<SessionId>,
    /// A title for people.
    pub title: Option<String>,
    /// The client's own data, an object; `{}` if there is none.
    pub metadata: Option<Value>,
}

/// A change to a session. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UpdateSession {
    /// Its title; `Some(None)` takes it away.
    pub title: Option<Option<String>>,
    /// The client's own data, replaced whole.
    pub metadata: Option<Value>,
}

/// Why a session was not made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A session of this id exists.
    #[error("the session exists already")]
    Exists,
    /// The tenant has no such session.
    #[error("there is no such session")]
    NotFound,
    /// The engine shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The journal did not take it.
    #[error(transparent)]
    Journal(#[from] AppendError),
    /// The views could not be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// How often a commit is tried again because somebody made the same stream meanwhile.
const RACES: usize = 8;

impl Engine {
    /// Makes a session.
    pub async fn create_session(
        &self,
        tenant: &TenantId,
        request: CreateSession,
    ) -> Result<SessionView, SessionError> {
        if !self.is_ready() {
            return Err(SessionError::ShuttingDown);
        }
        let id = request.id.unwrap_or_else(|| self.inner.ids.session());
        if self.inner.journal.info(&StreamKey::session(tenant, &id)).is_ok() {
            return Err(SessionError::Exists);
        }
        let metadata = request.metadata.unwrap_or_else(|| json!({}));
        let changed = Lifecycle::SessionChanged { title: request.title, metadata };
        self.commit_to_session(tenant, &id, &[changed], &[]).await.map_err(AppendError::from)?;
        self.session(tenant, &id).await?.ok_or(SessionError::NotFound)
    }

    /// Changes a session's title or metadata.
    pub async fn update_session(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        update: UpdateSession,
    ) -> Result<SessionView, SessionError> {
        let now = self.session(tenant, id).await?.ok_or(SessionError::NotFound)?;
        let changed = Lifecycle::SessionChanged {
            title: update.title.unwrap_or(now.title),
            metadata: update.metadata.unwrap_or(now.metadata),
        };
        self.commit_to_session(tenant, id, &[changed], &[]).await.map_err(AppendError::from)?;
        self.session(tenant, id).await?.ok_or(SessionError::NotFound)
    }

    /// Commits records to a session's stream, making it if need be, with other parts beside.
    pub(crate) async fn commit_to_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        records: &[Lifecycle],
        beside: &[Part],
    ) -> Result<Committed, JournalError> {
        let journal = &self.inner.journal;
        let stream = StreamKey::session(tenant, session);
        let mut result = Err(JournalError::NotFound(stream.clone()));
        for _ in 0..RACES {
            let mut parts = self.session_parts(tenant, session, records);
            parts.extend_from_slice(beside);
            let bytes = parts.iter().map(Part::bytes).sum();
            let permit = journal
                .reserve(&stream, bytes)
                .await
                .map_err(|error| JournalError::Poisoned(error.to_string()))?;
            result = journal.submit(permit, Batch { parts }).await;
            match &result {
                Err(JournalError::Exists(key))
                    if !beside.iter().any(|part| part.stream == *key) => {}
                Ok(_) | Err(_) => break,
            }
        }
        result
    }

    fn session_parts(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        records: &[Lifecycle],
    ) -> Vec<Part> {
        let encode = |record: &Lifecycle| EventRecord::encode(&record.to_event());
        let mut encoded: Vec<_> = records.iter().map(encode).collect();
        let stream = StreamKey::session(tenant, session);
        let exists =
            |key: &StreamKey| !matches!(self.inner.journal.info(key), Err(ReadError::NotFound(_)));
        if exists(&stream) {
            return vec![Part::append(stream, Epoch(0), encoded)];
        }
        if !matches!(records.first(), Some(Lifecycle::SessionChanged { .. })) {
            let plain = Lifecycle::SessionChanged { title: None, metadata: json!({}) };
            encoded.insert(0, encode(&plain));
        }
        let catalogue = StreamKey::catalogue(tenant);
        let created = vec![encode(&Lifecycle::SessionCreated { session_id: session.clone() })];
        let entry = if exists(&catalogue) {
            Part::append(catalogue, Epoch(0), created)
        } else {
            Part::create(catalogue, Epoch(0), created)
        };
        vec![entry, Part::create(stream, Epoch(0), encoded)]
    }
}
