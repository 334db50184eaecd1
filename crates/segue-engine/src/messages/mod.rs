//! What clients see of messages, and what they do to them.

mod change;
mod history;
mod pieces;
mod search;

use segue_core::{
    MessageId, SessionId, TenantId,
    fold::{Message, Role},
};
use segue_journal::views::{Compare, Select, Value as Cell};

use crate::{
    engine::Engine,
    projection::{
        MESSAGES,
        message::{StoredMessage, page_after},
        rows,
    },
    query::{List, QueryError, page_size},
};

pub use change::{CreateMessage, MessageError};
pub use search::{SearchHit, SearchQuery};

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
        let first = row.as_ref().and_then(StoredMessage::of);
        let first = first.filter(|stored| stored.continues.is_none());
        Ok(self.as_they_are(tenant, first.into_iter().collect()).await?.pop())
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
        Ok(List { data: self.as_they_are(tenant, stored).await?, next })
    }
}

fn select(tenant: &TenantId, query: MessageQuery, limit: usize) -> Result<Select, QueryError> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let mut filter = vec![
        ("tenant", Compare::Eq, text(tenant.as_str())),
        ("continues", Compare::Eq, Cell::Null),
    ];
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
        phrases: Vec::new(),
        order_by,
        descending: query.newest_first,
        after: after.transpose()?,
        limit,
    })
}
