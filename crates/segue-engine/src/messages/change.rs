//! Messages that no run makes, and the deletion of any.

use segue_core::{
    MessageId, RunId, SessionId, TenantId,
    fold::{Message, MessageStatus, said::Said},
    lifecycle::Lifecycle,
};
use segue_journal::{
    StreamKey,
    views::{Compare, Select, Value as Cell},
};

use crate::{
    append::AppendError,
    engine::Engine,
    projection::{MESSAGES, message::StoredMessage},
    query::{MAX_LIMIT, QueryError},
    sessions::Target,
    stop::StopRequest,
};

/// A message to make.
#[derive(Clone, Debug)]
pub struct CreateMessage {
    /// Who says what, with the id that the client has chosen for it.
    pub said: Said,
    /// It tells in short what stands before it.
    pub is_summary: bool,
    /// A message of the session: it and those after it are superseded.
    pub replaces: Option<MessageId>,
}

/// Why a message was not made or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The tenant has a message of this id.
    #[error("the message id was used before")]
    Exists,
    /// The tenant has no such message.
    #[error("there is no such message")]
    NotFound,
    /// The tenant has no such run.
    #[error("there is no such run")]
    NoRun,
    /// The run takes its time to stop.
    #[error("the run has not ended yet")]
    StillRuns,
    /// The session has no such message that could be replaced.
    #[error("the session has no message {0} to replace")]
    NothingToReplace(MessageId),
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

impl Engine {
    /// Makes a message at the end of a session, which is made if it does not exist.
    pub async fn create_message(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        request: CreateMessage,
    ) -> Result<Message, MessageError> {
        self.create_message_as(tenant, session, request, MessageStatus::Complete).await
    }

    /// The same of one that is not whole yet, or has ended in another way.
    pub(crate) async fn create_message_as(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        request: CreateMessage,
        status: MessageStatus,
    ) -> Result<Message, MessageError> {
        if !self.is_ready() {
            return Err(MessageError::ShuttingDown);
        }
        if self.inner.supervisor.is_gone(&StreamKey::session(tenant, session)) {
            // It is free again in a moment.
            return Err(AppendError::Retry.into());
        }
        let CreateMessage { said, is_summary, replaces } = request;
        let id = said.id.clone().unwrap_or_else(|| self.inner.ids.message());
        if self.message(tenant, &id).await?.is_some() {
            return Err(MessageError::Exists);
        }
        if let Some(first) = &replaces
            && !self.can_replace(tenant, session, first).await?
        {
            return Err(MessageError::NothingToReplace(first.clone()));
        }
        let message = Message::said(id.clone(), session.clone(), said, self.inner.ids.clock.now());
        let message = Box::new(Message { is_summary, status, ..message });
        let created = [Lifecycle::MessageCreated { message, replaces }];
        let committed = self.commit_to_session(tenant, session, Target::Any, &created, &[]).await?;
        let seq = committed.parts.last().map(|part| part.last_seq);
        let made = self.message(tenant, &id).await?.ok_or(MessageError::NotFound)?;
        // Somebody else's is there if two had the same id at the same time.
        if Some(made.version) == seq { Ok(made) } else { Err(MessageError::Exists) }
    }

    /// Deletes a message. What its run still says is in the run, and in no message any more.
    pub async fn delete_message(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> Result<(), MessageError> {
        let message = self.message(tenant, id).await?.ok_or(MessageError::NotFound)?;
        let session = message.session_id.ok_or(MessageError::NotFound)?;
        if self.inner.supervisor.is_gone(&StreamKey::session(tenant, &session)) {
            return Err(MessageError::NotFound);
        }
        let deleted = Lifecycle::MessageDeleted { message_id: id.clone() };
        match self.commit_to_session(tenant, &session, Target::Known, &[deleted], &[]).await {
            Err(AppendError::NotFound) => Err(MessageError::NotFound),
            other => Ok(other.map(drop)?),
        }
    }

    /// Takes a run back: stops it if it has not ended, and deletes the messages that it and its input
    /// have made, of a message that it continued only its own end. Gives their ids. The run and its
    /// events stay.
    pub async fn roll_back(
        &self,
        tenant: &TenantId,
        run: &RunId,
    ) -> Result<Vec<MessageId>, MessageError> {
        let view = self.run(tenant, run).await?.ok_or(MessageError::NoRun)?;
        if view.ended_at.is_none() {
            let wait = Some(self.inner.settings.stop_wait);
            // Whatever it came to, the run tells.
            let stop = StopRequest { wait, ..StopRequest::by_user() };
            self.stop_run(tenant, run, stop).await.ok();
            let now = self.run(tenant, run).await?.ok_or(MessageError::NoRun)?;
            if now.ended_at.is_none() {
                return Err(MessageError::StillRuns);
            }
        }
        let ids = self.messages_of(tenant, &view.session_id, run)?;
        let deleted = |id: &MessageId| Lifecycle::MessageDeleted { message_id: id.clone() };
        let records: Vec<_> = ids.iter().map(deleted).collect();
        if records.is_empty() {
            return Ok(ids);
        }
        let session = &view.session_id;
        match self.commit_to_session(tenant, session, Target::Known, &records, &[]).await {
            Err(AppendError::NotFound) => Err(MessageError::NoRun),
            other => Ok(other.map(|_| ids)?),
        }
    }

    /// The ids of the rows that a run and its input have made.
    fn messages_of(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        run: &RunId,
    ) -> Result<Vec<MessageId>, QueryError> {
        let text = |text: &str| Cell::Text(text.to_owned());
        let rows = self.inner.views.select(&Select {
            table: MESSAGES,
            filter: vec![
                ("tenant", Compare::Eq, text(tenant.as_str())),
                ("session_id", Compare::Eq, text(session.as_str())),
                ("run_id", Compare::Eq, text(run.as_str())),
            ],
            phrases: Vec::new(),
            order_by: "place",
            descending: false,
            after: None,
            limit: MAX_LIMIT,
        })?;
        let stored = rows.iter().filter_map(StoredMessage::of);
        Ok(stored.map(|stored| stored.message.id).collect())
    }

    /// Whether the session has this message as part of its conversation.
    pub(crate) async fn can_replace(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        id: &MessageId,
    ) -> Result<bool, QueryError> {
        let found = self.message(tenant, id).await?;
        Ok(found.is_some_and(|message| {
            message.session_id.as_ref() == Some(session) && message.superseded_by.is_none()
        }))
    }
}
