//! Views in memory: gone with the process, rebuilt from the journal like any other.

use std::{
    collections::{BTreeMap, HashMap},
    future::ready,
    sync::{Mutex, MutexGuard, PoisonError},
};

use segue_core::Seq;

use super::{
    Applied, Change, Checkpoint, Compare, Row, Schema, Select, Value, ViewError, ViewStore, words,
};
use crate::{api::Position, stream::StreamKey};

/// A view store without files.
pub struct MemoryViews {
    schema: Schema,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: HashMap<&'static str, BTreeMap<Value, Row>>,
    /// The words of rows, by table and key.
    words: BTreeMap<(&'static str, Value), Vec<String>>,
    checkpoints: HashMap<StreamKey, Seq>,
    position: Position,
}

impl MemoryViews {
    /// An empty store. Fails with `Schema` if the schema cannot be used.
    pub fn new(schema: Schema) -> Result<Self, ViewError> {
        schema.check()?;
        Ok(Self { schema, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ViewStore for MemoryViews {
    fn apply(
        &self,
        changes: Vec<Change>,
        checkpoints: Vec<Checkpoint>,
        position: Position,
    ) -> Applied {
        if let Err(error) = changes.iter().try_for_each(|change| self.schema.check_change(change)) {
            return Box::pin(ready(Err(error)));
        }
        let mut state = self.lock();
        for change in changes {
            state.change(&self.schema, change);
        }
        state.checkpoints.extend(checkpoints.into_iter().map(|at| (at.stream, at.seq)));
        state.position = position;
        Box::pin(ready(Ok(())))
    }

    fn select(&self, query: &Select) -> Result<Vec<Row>, ViewError> {
        let table = self.schema.check_select(query)?;
        let order = table.column(query.order_by)?;
        let mut filters = Vec::with_capacity(query.filter.len());
        for (column, compare, value) in &query.filter {
            filters.push((table.column(column)?, *compare, value));
        }
        let place = |row: &Row| (row[order].clone(), row[0].clone());
        let state = self.lock();
        let rows = state.tables.get(query.table).into_iter().flat_map(BTreeMap::values);
        let matches = |row: &&Row| {
            let passes = filters.iter().all(|(at, compare, value)| compare.holds(&row[*at], value));
            let after = query.after.as_ref().is_none_or(|after| {
                if query.descending { place(row) < *after } else { place(row) > *after }
            });
            let words = || state.words.get(&(table.name, row[0].clone()));
            let found = query.phrases.is_empty()
                || words().is_some_and(|words| query.phrases.iter().all(|one| one.is_in(words)));
            passes && after && found
        };
        let mut rows: Vec<Row> = rows.filter(matches).cloned().collect();
        rows.sort_by_cached_key(place);
        if query.descending {
            rows.reverse();
        }
        rows.truncate(query.limit);
        Ok(rows)
    }

    fn get(&self, table: &'static str, key: &Value) -> Result<Option<Row>, ViewError> {
        self.schema.table(table)?;
        Ok(self.lock().tables.get(table).and_then(|rows| rows.get(key)).cloned())
    }

    fn checkpoint(&self, stream: &StreamKey) -> Result<Seq, ViewError> {
        Ok(self.lock().checkpoints.get(stream).copied().unwrap_or_default())
    }

    fn position(&self) -> Result<Position, ViewError> {
        Ok(self.lock().position)
    }

    fn clear(&self) -> Applied {
        *self.lock() = State::default();
        Box::pin(ready(Ok(())))
    }
}

impl State {
    fn change(&mut self, schema: &Schema, change: Change) {
        match change {
            Change::Update { table, key, cells } => {
                let row = self.tables.entry(table).or_default().get_mut(&key);
                let Some((row, table)) = row.zip(schema.table(table).ok()) else { return };
                for (column, value) in cells {
                    if let Ok(at) = table.column(column) {
                        row[at] = value;
                    }
                }
            }
            Change::Put { table, row } => {
                self.tables.entry(table).or_default().insert(row[0].clone(), row);
            }
            Change::Index { table, key, text } => {
                if self.tables.entry(table).or_default().contains_key(&key) {
                    self.words.insert((table, key), words(&text));
                }
            }
            Change::Delete { table, key } => {
                self.tables.entry(table).or_default().remove(&key);
                self.words.remove(&(table, key));
            }
        }
    }
}

impl Compare {
    /// As in SQL nothing is less or greater than null; but null equals null.
    fn holds(self, cell: &Value, value: &Value) -> bool {
        if self == Compare::Eq {
            return cell == value;
        }
        if *cell == Value::Null || *value == Value::Null {
            return false;
        }
        match self {
            Compare::Eq => cell == value,
            Compare::Lt => cell < value,
            Compare::Le => cell <= value,
            Compare::Gt => cell > value,
            Compare::Ge => cell >= value,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::views::conformance::{SCHEMA, ViewFixture};

    struct InMemory(Arc<MemoryViews>);

    impl ViewFixture for InMemory {
        fn store(&self) -> Arc<dyn ViewStore> {
            self.0.clone()
        }

        fn reopen(&mut self) {}
    }

    fn fixture() -> InMemory {
        InMemory(Arc::new(MemoryViews::new(SCHEMA).expect("a usable schema")))
    }

    crate::view_conformance!(fixture());
}
