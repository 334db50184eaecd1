//! What a session's records do to the rows of its messages.
//!
//! Rows of messages that a run makes are written from two sides: a session's records make them,
//! take them away and supersede them, a run's events change what is in them. So of a row that is
//! there only the cells concerned are written, never what was read before.

use std::collections::BTreeMap;

use segue_core::{MessageId, Seq, SessionId, TenantId, fold::Message};
use segue_journal::views::{Change, Compare, Row, Select, Value as Cell, ViewError, ViewStore};

use super::{
    message::{MESSAGES, StoredMessage, index, place_of},
    rows::key,
};

/// How many rows of a session are looked up at once.
const ROWS_AT_ONCE: usize = 256;

/// Changes to rows of messages, over those of the store.
pub(super) struct Edits<'a> {
    views: &'a dyn ViewStore,
    by_key: BTreeMap<String, Edit>,
}

enum Edit {
    Put(Box<StoredMessage>),
    /// The row that is there is superseded by this message.
    Supersede(MessageId),
    Delete,
}

/// The session whose messages are meant.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) session: &'a SessionId,
}

impl Within<'_> {
    fn has(self, message: &Message) -> bool {
        message.session_id.as_ref() == Some(self.session)
    }
}

impl<'a> Edits<'a> {
    pub(super) fn new(views: &'a dyn ViewStore) -> Self {
        Self { views, by_key: BTreeMap::new() }
    }

    /// What is to be written, whose keys and rows are of one tenant each.
    pub(super) fn finish(self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, edit) in self.by_key {
            let (tenant, key) = (tenant_of(&key), Cell::Text(key));
            match edit {
                Edit::Put(stored) => {
                    let words = (!stored.is_of_run()).then(|| index(key, &stored.message));
                    changes.push(Change::Put { table: MESSAGES, row: stored.row(&tenant) });
                    changes.extend(words);
                }
                Edit::Supersede(by) => {
                    let cells = vec![("superseded_by", Cell::Text(by.to_string()))];
                    changes.push(Change::Update { table: MESSAGES, key, cells });
                }
                Edit::Delete => changes.push(Change::Delete { table: MESSAGES, key }),
            }
        }
        changes
    }

    /// The message is there from the record at `seq` on, or is a later piece of the message
    /// `continues`. An id that is taken makes nothing, and what there is no more does not go on.
    pub(super) fn create(
        &mut self,
        within: Within<'_>,
        message: Message,
        seq: Seq,
        continues: Option<&MessageId>,
    ) -> Result<(), ViewError> {
        let first = continues.map(|first| self.get(within.tenant, first)).transpose()?.flatten();
        if continues.is_some() && !first.is_some_and(|first| within.has(&first.message)) {
            return Ok(());
        }
        if self.get(within.tenant, &message.id)?.is_some() {
            metrics::counter!("segue_projection_unknown_records_total").increment(1);
            return Ok(());
        }
        let continues = continues.cloned();
        self.put(within, StoredMessage { message, place: seq, fold: None, continues });
        Ok(())
    }

    /// What a message is now.
    pub(super) fn update(
        &mut self,
        within: Within<'_>,
        message: Message,
        seq: Seq,
    ) -> Result<(), ViewError> {
        let Some(before) = self.get(within.tenant, &message.id)? else { return Ok(()) };
        if before.is_of_run() || !within.has(&before.message) {
            return Ok(());
        }
        let Message { created_at, superseded_by, .. } = before.message;
        let message = Message { version: seq, created_at, superseded_by, ..message };
        self.put(within, StoredMessage { message, ..before });
        Ok(())
    }

    /// The message goes.
    pub(super) fn delete(&mut self, within: Within<'_>, id: &MessageId) -> Result<(), ViewError> {
        let stored = self.get(within.tenant, id)?;
        if !stored.is_some_and(|stored| within.has(&stored.message)) {
            return Ok(());
        }
        for edit in self.by_key.values_mut() {
            if matches!(edit, Edit::Put(stored) if stored.continues.as_ref() == Some(id)) {
                *edit = Edit::Delete;
            }
        }
        let first = key(within.tenant, id.as_str());
        let pieces = vec![("continues", Compare::Eq, Cell::Text(first.clone()))];
        self.each_row(within, pieces, |edits, key, _| {
            edits.by_key.insert(key, Edit::Delete);
        })?;
        self.by_key.insert(first, Edit::Delete);
        Ok(())
    }

    /// All messages of a session go.
    pub(super) fn erase(&mut self, within: Within<'_>) -> Result<(), ViewError> {
        for edit in self.by_key.values_mut() {
            if matches!(edit, Edit::Put(stored) if within.has(&stored.message)) {
                *edit = Edit::Delete;
            }
        }
        self.each_row(within, Vec::new(), |edits, key, _| {
            edits.by_key.insert(key, Edit::Delete);
        })
    }

    /// A message and those after it, as far as they stand before `until` and are not superseded.
    pub(super) fn supersede(
        &mut self,
        within: Within<'_>,
        first: Option<&MessageId>,
        until: Seq,
        by: &MessageId,
    ) -> Result<(), ViewError> {
        let first = first.map(|first| self.get(within.tenant, first)).transpose()?.flatten();
        let Some(first) = first else { return Ok(()) };
        if !within.has(&first.message) {
            return Ok(());
        }
        let from = first.place;
        for edit in self.by_key.values_mut() {
            if let Edit::Put(stored) = edit
                && within.has(&stored.message)
                && (from..until).contains(&stored.place)
            {
                stored.message.superseded_by.get_or_insert_with(|| by.clone());
            }
        }
        let filter = vec![
            ("place", Compare::Ge, super::rows::count(from.0)),
            ("place", Compare::Lt, super::rows::count(until.0)),
            ("superseded_by", Compare::Eq, Cell::Null),
        ];
        self.each_row(within, filter, |edits, key, _| {
            edits.by_key.entry(key).or_insert_with(|| Edit::Supersede(by.clone()));
        })
    }

    /// Calls with the key of each row of the store that is of the session.
    fn each_row(
        &mut self,
        within: Within<'_>,
        filter: Vec<(&'static str, Compare, Cell)>,
        mut each: impl FnMut(&mut Self, String, &Row),
    ) -> Result<(), ViewError> {
        let text = |text: &str| Cell::Text(text.to_owned());
        let mut query = Select {
            table: MESSAGES,
            filter: vec![
                ("tenant", Compare::Eq, text(within.tenant.as_str())),
                ("session_id", Compare::Eq, text(within.session.as_str())),
            ],
            phrases: Vec::new(),
            order_by: "place",
            descending: false,
            after: None,
            limit: ROWS_AT_ONCE,
        };
        query.filter.extend(filter);
        loop {
            let rows = self.views.select(&query)?;
            for row in &rows {
                if let Some(Cell::Text(key)) = row.first() {
                    each(self, key.clone(), row);
                }
            }
            match rows.last() {
                Some(last) if rows.len() == ROWS_AT_ONCE => query.after = place_of(last),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// The message as it is by now.
    fn get(&self, tenant: &TenantId, id: &MessageId) -> Result<Option<StoredMessage>, ViewError> {
        let key = key(tenant, id.as_str());
        let by = match self.by_key.get(&key) {
            Some(Edit::Put(stored)) => return Ok(Some((**stored).clone())),
            Some(Edit::Delete) => return Ok(None),
            Some(Edit::Supersede(by)) => Some(by.clone()),
            None => None,
        };
        let row = self.views.get(MESSAGES, &Cell::Text(key))?;
        let mut stored = row.as_ref().and_then(StoredMessage::of);
        if let Some((stored, by)) = stored.as_mut().zip(by) {
            stored.message.superseded_by = Some(by);
        }
        Ok(stored)
    }

    fn put(&mut self, within: Within<'_>, mut stored: StoredMessage) {
        stored.message.session_id = Some(within.session.clone());
        let key = key(within.tenant, stored.message.id.as_str());
        self.by_key.insert(key, Edit::Put(Box::new(stored)));
    }
}

/// The tenant that a key begins with.
fn tenant_of(key: &str) -> TenantId {
    let tenant = key.split_once('/').and_then(|(tenant, _)| TenantId::parse(tenant).ok());
    tenant.expect("a key begins with its tenant")
}
