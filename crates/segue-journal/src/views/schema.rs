//! What of a schema a change or a query may name.

use super::{Change, Column, ColumnKind, Row, Schema, Select, Table, Value, ViewError};

/// Tables that every store keeps for itself.
pub(super) const RESERVED: [&str; 2] = ["meta", "checkpoints"];
/// How the name ends of what a store keeps for a table's words.
pub(super) const WORDS: &str = "_words";

impl Schema {
    /// The table of that name.
    pub(super) fn table(&self, name: &str) -> Result<&'static Table, ViewError> {
        let found = self.tables.iter().find(|table| table.name == name);
        found.ok_or_else(|| ViewError::Schema(format!("table {name}")))
    }

    /// Refuses names that are not `[a-z_]+`, taken or double, tables without columns, and indexes
    /// over columns that do not exist.
    pub(super) fn check(&self) -> Result<(), ViewError> {
        let plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        for (index, table) in self.tables.iter().enumerate() {
            let double = self.tables[..index].iter().any(|other| other.name == table.name);
            let columns_are_plain = table.columns.iter().all(|column| plain(column.name));
            let sound = plain(table.name) && columns_are_plain && !table.columns.is_empty();
            let is_own = RESERVED.contains(&table.name) || table.name.ends_with(WORDS);
            if !sound || double || is_own {
                return Err(ViewError::Schema(format!("a usable table {}", table.name)));
            }
            for name in table.indexes.iter().copied().flatten() {
                table.column(name)?;
            }
        }
        Ok(())
    }

    /// Refuses a change that would not fit its table.
    pub(super) fn check_change(&self, change: &Change) -> Result<(), ViewError> {
        match change {
            Change::Put { table, row } => self.table(table)?.check_row(row),
            Change::Update { table, key, cells } => {
                let table = self.table(table)?;
                table.check_key(key)?;
                table.check_cells(cells)
            }
            Change::Index { table, key, .. } => {
                let table = self.table(table)?;
                table.check_searched()?;
                table.check_key(key)
            }
            Change::Delete { table, key } => self.table(table)?.check_key(key),
        }
    }

    /// Refuses a query over what does not exist.
    pub(super) fn check_select(&self, query: &Select) -> Result<&'static Table, ViewError> {
        let table = self.table(query.table)?;
        table.column(query.order_by)?;
        for (column, _, _) in &query.filter {
            table.column(column)?;
        }
        if !query.phrases.is_empty() {
            table.check_searched()?;
        }
        Ok(table)
    }
}

impl Table {
    /// The primary key.
    pub(super) fn key(&self) -> &'static Column {
        &self.columns[0]
    }

    /// The index of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize, ViewError> {
        let found = self.columns.iter().position(|column| column.name == name);
        found.ok_or_else(|| ViewError::Schema(format!("column {}.{name}", self.name)))
    }

    pub(super) fn check_key(&self, key: &Value) -> Result<(), ViewError> {
        if self.key().holds(key) && *key != Value::Null {
            return Ok(());
        }
        Err(ViewError::Schema(format!("{:?} as a key of {}", key, self.name)))
    }

    fn check_searched(&self) -> Result<(), ViewError> {
        if self.is_searched {
            return Ok(());
        }
        Err(ViewError::Schema(format!("words of {}", self.name)))
    }

    fn check_cells(&self, cells: &[(&'static str, Value)]) -> Result<(), ViewError> {
        for (index, (name, value)) in cells.iter().enumerate() {
            let at = self.column(name)?;
            let is_double = cells[..index].iter().any(|(other, _)| other == name);
            if at == 0 || is_double || !self.columns[at].holds(value) {
                let place = format!("{}.{name}", self.name);
                return Err(ViewError::Schema(format!("{value:?} as an update of {place}")));
            }
        }
        Ok(())
    }

    fn check_row(&self, row: &Row) -> Result<(), ViewError> {
        let Some(key) = row.first().filter(|_| row.len() == self.columns.len()) else {
            return Err(ViewError::Schema(format!("{} columns in {}", row.len(), self.name)));
        };
        self.check_key(key)?;
        let misfit = self.columns.iter().zip(row).find(|(column, value)| !column.holds(value));
        match misfit {
            Some((column, value)) => {
                let place = format!("{}.{}", self.name, column.name);
                Err(ViewError::Schema(format!("{value:?} in {place}")))
            }
            None => Ok(()),
        }
    }
}

impl Column {
    fn holds(&self, value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Int(_) => self.kind == ColumnKind::Int,
            Value::Text(_) => self.kind == ColumnKind::Text,
        }
    }
}
