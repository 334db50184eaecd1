//! Sessions: made, changed, and written to by runs.

use bytes::Bytes;
use segue_core::{MessageId, SessionId, TenantId, lifecycle::Lifecycle};
use segue_journal::{
    AppendError as JournalError, Batch, Committed, Epoch, Part, ReadError, StreamKey, StreamKind,
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
    /// The session's conversation does not have the message.
    #[error("the session has no message {0}")]
    NoMessage(MessageId),
    /// Only whole messages are copied.
    #[error("the message {0} is not whole yet")]
    NotWhole(MessageId),
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

/// What is known of the session that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// It must not exist and is made.
    New,
    /// It must exist.
    Known,
    /// It is made if it does not exist.
    Any,
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
        if self.inner.supervisor.is_gone(&StreamKey::session(tenant, &id)) {
            // It is free again in a moment.
            return Err(AppendError::Retry.into());
        }
        let metadata = request.metadata.or_else(|| Some(json!({})));
        let changed = Lifecycle::SessionChanged { title: Some(request.title), metadata };
        let stream = StreamKey::session(tenant, &id);
        match self.commit_to_session(tenant, &id, Target::New, &[changed], &[]).await {
            Err(AppendError::Retry) if self.inner.journal.info(&stream).is_ok() => {
                return Err(SessionError::Exists);
            }
            other => other?,
        };
        self.session(tenant, &id).await?.ok_or(SessionError::NotFound)
    }

    /// Changes a session's title or metadata.
    pub async fn update_session(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        update: UpdateSession,
    ) -> Result<SessionView, SessionError> {
        if self.inner.supervisor.is_gone(&StreamKey::session(tenant, id)) {
            return Err(SessionError::NotFound);
        }
        let UpdateSession { title, metadata } = update;
        let changed = Lifecycle::SessionChanged { title, metadata };
        match self.commit_to_session(tenant, id, Target::Known, &[changed], &[]).await {
            Err(AppendError::NotFound) => return Err(SessionError::NotFound),
            other => other?,
        };
        self.session(tenant, id).await?.ok_or(SessionError::NotFound)
    }

    /// Commits records to a session's stream with other parts beside. `Retry` if a stream that is
    /// to be made exists.
    pub(crate) async fn commit_to_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        target: Target,
        records: &[Lifecycle],
        beside: &[Part],
    ) -> Result<Committed, AppendError> {
        let records: Vec<Bytes> = records.iter().map(Lifecycle::encode).collect();
        let max = self.inner.settings.event_bytes;
        if let Some(bytes) = records.iter().map(Bytes::len).find(|bytes| *bytes > max) {
            return Err(AppendError::EventTooLarge { bytes, max });
        }
        self.commit_encoded(tenant, session, target, &records, beside).await
    }

    /// The same of records that the server has made and that may be of any size.
    pub(crate) async fn commit_encoded(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        target: Target,
        records: &[Bytes],
        beside: &[Part],
    ) -> Result<Committed, AppendError> {
        let journal = &self.inner.journal;
        let stream = StreamKey::session(tenant, session);
        for _ in 0..RACES {
            let mut parts = self.session_parts(tenant, session, target, records);
            parts.extend_from_slice(beside);
            let bytes = parts.iter().map(Part::bytes).sum();
            let permit = journal.reserve(&stream, bytes).await?;
            match journal.submit(permit, Batch { parts }).await {
                // Somebody made the catalogue or the session meanwhile.
                Err(JournalError::Exists(key)) if is_shared(&key, &stream, target) => {}
                other => return Ok(other?),
            }
        }
        Err(AppendError::Retry)
    }

    fn session_parts(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        target: Target,
        records: &[Bytes],
    ) -> Vec<Part> {
        let encode = Lifecycle::encode;
        let mut encoded = records.to_vec();
        let stream = StreamKey::session(tenant, session);
        let exists =
            |key: &StreamKey| !matches!(self.inner.journal.info(key), Err(ReadError::NotFound(_)));
        let appends = match target {
            Target::Known => true,
            Target::New => false,
            Target::Any => exists(&stream),
        };
        if appends {
            return vec![Part::append(stream, Epoch(0), encoded)];
        }
        if target == Target::Any {
            let plain = Lifecycle::SessionChanged { title: Some(None), metadata: Some(json!({})) };
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

/// Whether a stream that exists already is one that others may make at the same time.
fn is_shared(key: &StreamKey, session: &StreamKey, target: Target) -> bool {
    match key.kind() {
        StreamKind::Catalogue => true,
        StreamKind::Session => key == session && target == Target::Any,
        StreamKind::Run | StreamKind::Erased | StreamKind::Raw => false,
    }
}
