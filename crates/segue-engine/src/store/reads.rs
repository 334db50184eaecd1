//! What is stored, as the store's callers read it.

use segue_core::{
    MessageId, SessionId,
    fold::{Message, Role},
};

use super::{MessageStore, Shared, StoreError};
use crate::{
    messages::MessageQuery,
    query::{MAX_LIMIT, QueryError},
};

impl MessageStore {
    /// A message as it is stored; what is not written of it yet is not in it. `None` if there is no
    /// such message.
    pub async fn get(&self, id: &MessageId) -> Result<Option<Message>, StoreError> {
        Ok(self.shared().stored(id).await?)
    }

    /// A session's messages in its order, without those that others took the place of. What is
    /// unwritten of the session is written first.
    pub async fn list(&self, session: &SessionId) -> Result<Vec<Message>, StoreError> {
        self.shared().flush_session(session).await?;
        self.shared().all(MessageQuery { session: Some(session.clone()), ..query() }).await
    }

    /// What users said in a session, the last one first. What is unwritten of the session is written
    /// first.
    pub async fn list_user(&self, session: &SessionId) -> Result<Vec<Message>, StoreError> {
        self.shared().flush_session(session).await?;
        let session = Some(session.clone());
        self.shared().all(MessageQuery { session, ..by_users() }).await
    }

    /// What users said in any session, the last one first. What is unwritten of that is written
    /// first.
    pub async fn list_all_user(&self) -> Result<Vec<Message>, StoreError> {
        let patience = self.shared().patience;
        self.shared().flush_where(patience, |message| message.role == Role::User).await?;
        self.shared().all(by_users()).await
    }

    /// The last answer in a session. What is unwritten of the session is written first.
    pub async fn last_assistant(&self, session: &SessionId) -> Result<Option<Message>, StoreError> {
        self.shared().flush_session(session).await?;
        let (session, role) = (Some(session.clone()), Some(Role::Assistant));
        let query = MessageQuery { session, role, newest_first: true, limit: 1, ..query() };
        let shared = self.shared();
        let page = shared.engine.messages(&shared.tenant, query).await?;
        Ok(page.data.into_iter().next())
    }
}

fn query() -> MessageQuery {
    MessageQuery { limit: MAX_LIMIT, ..MessageQuery::default() }
}

fn by_users() -> MessageQuery {
    MessageQuery { role: Some(Role::User), newest_first: true, ..query() }
}

impl Shared {
    pub(super) async fn stored(&self, id: &MessageId) -> Result<Option<Message>, QueryError> {
        self.engine.message(&self.tenant, id).await
    }

    async fn flush_session(&self, session: &SessionId) -> Result<(), StoreError> {
        let is_of = |message: &Message| message.session_id.as_ref() == Some(session);
        self.flush_where(self.patience, is_of).await
    }

    /// All pages.
    async fn all(&self, query: MessageQuery) -> Result<Vec<Message>, StoreError> {
        let (mut messages, mut after) = (Vec::new(), None);
        loop {
            let query = MessageQuery { after, ..query.clone() };
            let page = self.engine.messages(&self.tenant, query).await?;
            messages.extend(page.data);
            after = page.next;
            if after.is_none() {
                return Ok(messages);
            }
        }
    }
}
