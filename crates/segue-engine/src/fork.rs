//! Copies of a session's conversation, to go on from there another way.

use bytes::Bytes;
use segue_core::{MessageId, SessionId, TenantId, fold::Message, lifecycle::Lifecycle};
use segue_journal::StreamKey;
use serde_json::{Value, json};

use crate::{
    append::AppendError,
    engine::Engine,
    messages::MessageQuery,
    query::{MAX_LIMIT, SessionView},
    sessions::{SessionError, Target},
};

/// What a fork is to be.
#[derive(Clone, Debug, Default)]
pub struct ForkSession {
    /// The last message that it has; the last one there is if none is named.
    pub at: Option<MessageId>,
    /// Its id; chosen by the engine if there is none.
    pub id: Option<SessionId>,
    /// A title for people; that of the session if there is none.
    pub title: Option<String>,
    /// The client's own data, an object; that of the session if there is none.
    pub metadata: Option<Value>,
}

impl Engine {
    /// Makes a session of the messages of another one, up to and including one of them, in their
    /// order and with ids of their own: those that are whole and that none took the place of. Runs
    /// and their events stay where they are. Its metadata say in `forked_from` where it comes from.
    pub async fn fork_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        request: ForkSession,
    ) -> Result<SessionView, SessionError> {
        if !self.is_ready() {
            return Err(SessionError::ShuttingDown);
        }
        let from = self.session(tenant, session).await?.ok_or(SessionError::NotFound)?;
        let id = request.id.unwrap_or_else(|| self.inner.ids.session());
        if self.inner.supervisor.is_gone(&StreamKey::session(tenant, &id)) {
            return Err(AppendError::Retry.into());
        }
        let messages = self.messages_up_to(tenant, session, request.at.as_ref()).await?;
        let mut metadata = request.metadata.unwrap_or(from.metadata);
        if let Value::Object(fields) = &mut metadata {
            let at = messages.last().map(|message| &message.id);
            let place = json!({"session_id": session, "message_id": at});
            fields.insert("forked_from".to_owned(), place);
        }
        let title = Some(request.title.or(from.title));
        let changed = Lifecycle::SessionChanged { title, metadata: Some(metadata) };
        let copy = |message: Message| self.copy_of(message, &id);
        let copies = messages.into_iter().map(copy);
        let records: Vec<Bytes> =
            [changed].into_iter().chain(copies).map(|record| record.encode()).collect();
        let stream = StreamKey::session(tenant, &id);
        match self.commit_encoded(tenant, &id, Target::New, &records, &[]).await {
            Err(AppendError::Retry) if self.inner.journal.info(&stream).is_ok() => {
                return Err(SessionError::Exists);
            }
            other => other?,
        };
        self.session(tenant, &id).await?.ok_or(SessionError::NotFound)
    }

    /// The record of a message that is like another one and that no run makes.
    fn copy_of(&self, message: Message, session: &SessionId) -> Lifecycle {
        let message = Box::new(Message {
            id: self.inner.ids.message(),
            session_id: Some(session.clone()),
            run_id: None,
            ..message
        });
        Lifecycle::MessageCreated { message, replaces: None }
    }

    async fn messages_up_to(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        last: Option<&MessageId>,
    ) -> Result<Vec<Message>, SessionError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let session = Some(session.clone());
            let query =
                MessageQuery { session, after, limit: MAX_LIMIT, ..MessageQuery::default() };
            let page = self.messages(tenant, query).await?;
            for message in page.data {
                let is_last = last == Some(&message.id);
                if message.status.is_terminal() {
                    found.push(message);
                } else if is_last {
                    return Err(SessionError::NotWhole(message.id));
                }
                if is_last {
                    return Ok(found);
                }
            }
            after = page.next;
            if after.is_none() {
                return match last {
                    Some(last) => Err(SessionError::NoMessage(last.clone())),
                    None => Ok(found),
                };
            }
        }
    }
}
