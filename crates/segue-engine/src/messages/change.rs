//! Messages that no run makes, and the deletion of any.

use segue_core::{
    MessageId, SessionId, TenantId,
    fold::{Message, said::Said},
    lifecycle::Lifecycle,
};
use segue_journal::StreamKey;

use crate::{append::AppendError, engine::Engine, query::QueryError, sessions::Target};

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
        let message = Box::new(Message { is_summary, ..message });
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
