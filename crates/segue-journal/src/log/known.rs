//! What a commit's streams are known to be before it.

use std::{
    collections::hash_map::Entry as Slot,
    sync::{Arc, RwLockReadGuard},
};

use super::{
    find::find,
    store::Store,
    table::{Table, Version},
};
use crate::{
    api::{AppendError, Batch},
    queue::Queued,
    state::{Base, StreamState},
    stream::{KeyMap, StreamKey},
};

/// The streams of one commit that are not in memory, as indexes and the catalogue have them, and
/// those that may leave it before the commit is published.
#[derive(Debug, Default)]
pub(super) struct Loaded(KeyMap<Result<Version, String>>);

/// The streams a commit is staged on.
pub(super) struct Known<'a> {
    pub(super) table: &'a Table,
    pub(super) loaded: &'a Loaded,
}

impl Base for Known<'_> {
    fn stream(&self, key: &StreamKey) -> Option<&StreamState> {
        match self.table.hot(key) {
            Some(hot) => hot.state(),
            None => self.loaded.0.get(key)?.as_ref().ok()?.state.as_ref(),
        }
    }
}

impl Loaded {
    /// Reads the streams that are not in memory, and holds the table such that none of those that
    /// are leaves it. Sealing may take them out once that is let go: what the commit then goes on
    /// from is kept here.
    pub(super) fn load<'a>(
        &mut self,
        store: &'a Store,
        taken: &[Queued],
    ) -> RwLockReadGuard<'a, Table> {
        loop {
            let table = store.table();
            let missing = self.missing(&table, taken);
            if missing.is_empty() {
                self.keep(&table, taken);
                return table;
            }
            let sealed = Arc::clone(&table.sealed);
            drop(table);
            for key in missing {
                if let Slot::Vacant(slot) = self.0.entry(key) {
                    let found = find(&sealed, &store.cold, slot.key());
                    slot.insert(found.map_err(|error| error.to_string()));
                }
            }
        }
    }

    fn missing(&self, table: &Table, taken: &[Queued]) -> Vec<StreamKey> {
        let parts = taken.iter().flat_map(|queued| &queued.batch.parts).map(|part| &part.stream);
        let absent = |key: &&StreamKey| table.hot(key).is_none() && !self.0.contains_key(*key);
        parts.filter(absent).cloned().collect()
    }

    fn keep(&mut self, table: &Table, taken: &[Queued]) {
        for part in taken.iter().flat_map(|queued| &queued.batch.parts) {
            if let Some(version) = table.releasable(&part.stream) {
                self.0.entry(part.stream.clone()).or_insert_with(|| Ok(version.clone()));
            }
        }
    }

    /// A batch on a stream whose state cannot be read is refused: it cannot be checked.
    pub(super) fn check(&self, batch: &Batch) -> Result<(), AppendError> {
        if self.0.is_empty() {
            return Ok(());
        }
        for part in &batch.parts {
            if let Some(Err(error)) = self.0.get(&part.stream) {
                tracing::error!(stream = %part.stream, error, "a stream's state cannot be read");
                return Err(AppendError::Unreadable(part.stream.clone()));
            }
        }
        Ok(())
    }

    /// The version of a stream, to be taken into memory.
    pub(super) fn take(&mut self, key: &StreamKey) -> Version {
        self.0.remove(key).and_then(Result::ok).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
