//! What clients see of messages.

use segue_core::{
    MessageId, SessionId, TenantId,
    fold::{Message, Role},
};
use segue_journal::{
    StreamKey,
    views::{Compare, Select, Value as Cell, ViewError},
};

use crate::{
    engine::Engine,
    projection::{
        MESSAGES,
        message::{StoredMessage, page_after},
        rows,
    },
    query::{List, QueryError, page_size},
};

/// Which messages to list.
///
/// Those of a session come in its order; those of all sessions in the order of their making, as
/// the clock told it.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of who has this role.
    pub role: Option<Role>,
    /// Also those that others took the place of.
    pub superseded: bool,
    /// The last one first.
    pub newest_first: bool,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// The most to give; 0 means [`crate::DEFAULT_LIMIT`].
    pub limit: usize,
}

impl Engine {
    /// A message, as it is after every acknowledged write. `None` if the tenant has no such
    /// message.
    pub async fn message(
        &self,
        tenant: &TenantId,
        id: &MessageId,
    ) -> Result<Option<Message>, QueryError> {
        self.views_caught_up().await?;
        let key = Cell::Text(rows::key(tenant, id.as_str()));
        let row = self.inner.views.get(MESSAGES, &key)?;
        let stored = row.as_ref().and_then(StoredMessage::of);
        Ok(self.with_what_runs_say(tenant, stored.into_iter().collect()).await?.pop())
    }

    /// Messages, as they are after every acknowledged write.
    pub async fn messages(
        &self,
        tenant: &TenantId,
        query: MessageQuery,
    ) -> Result<List<Message>, QueryError> {
        self.views_caught_up().await?;
        let limit = page_size(query.limit);
        let by_place = query.session.is_some();
        let select = select(tenant, query, limit + 1)?;
        let mut found = self.inner.views.select(&select)?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).and_then(|row| page_after(row, by_place));
        let stored = found.iter().filter_map(StoredMessage::of).collect();
        Ok(List { data: self.with_what_runs_say(tenant, stored).await?, next })
    }

    /// A row without an end may be behind: what its run has said by now is laid over it.
    async fn with_what_runs_say(
        &self,
        tenant: &TenantId,
        stored: Vec<StoredMessage>,
    ) -> Result<Vec<Message>, ViewError> {
        let mut messages: Vec<Message> = stored.into_iter().map(|stored| stored.message).collect();
        let mut open: Vec<&mut Message> =
            messages.iter_mut().filter(|message| !message.status.is_terminal()).collect();
        open.retain(|message| message.run_id.is_some() && message.role == Role::Assistant);
        if open.is_empty() {
            return Ok(messages);
        }
        let runs = open.iter().filter_map(|message| message.run_id.as_ref());
        let runs = runs.map(|run| StreamKey::run(tenant, run)).collect();
        for (message, said) in open.into_iter().zip(self.says_now(runs).await?) {
            if let Some(said) = said {
                let stored = std::mem::replace(message, said);
                message.session_id = stored.session_id;
                message.superseded_by = stored.superseded_by;
                message.is_summary = stored.is_summary;
            }
        }
        Ok(messages)
    }
}

fn select(tenant: &TenantId, query: MessageQuery, limit: usize) -> Result<Select, QueryError> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let mut filter = vec![("tenant", Compare::Eq, text(tenant.as_str()))];
    let order_by = if query.session.is_some() { "place" } else { "created_at" };
    filter.extend(query.session.map(|id| ("session_id", Compare::Eq, text(id.as_str()))));
    filter.extend(query.role.map(|role| ("role", Compare::Eq, text(role.as_str()))));
    if !query.superseded {
        filter.push(("superseded_by", Compare::Eq, Cell::Null));
    }
    let after = query.after.map(|text| rows::parse_page(&text).ok_or(QueryError::BadCursor));
    Ok(Select {
        table: MESSAGES,
        filter,
        order_by,
        descending: query.newest_first,
        after: after.transpose()?,
        limit,
    })
}
