//! Views: tables that are folds of streams, and can be deleted and built again.
//!
//! A view store knows tables, rows and checkpoints, and not what they mean. Rows and the
//! checkpoints up to which they are folded commit in one transaction (P1).

#[cfg(feature = "test-util")]
pub mod conformance;
mod memory;
mod schema;
mod search;
mod sqlite;

use std::{future::Future, pin::Pin};

use segue_core::Seq;

use crate::{api::Position, stream::StreamKey};

pub use memory::MemoryViews;
pub use search::{Phrase, placed_words, words};
pub use sqlite::SqliteViews;

/// A table that a view is made of. The first column is the primary key.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name, `[a-z_]+`.
    pub name: &'static str,
    /// Its columns, the primary key first.
    pub columns: &'static [Column],
    /// Column lists that queries filter or order by.
    pub indexes: &'static [&'static [&'static str]],
    /// Whether its rows can be found by words that [`Change::Index`] gives them.
    pub is_searched: bool,
}

/// A column of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name, `[a-z_]+`.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds. Any column but the first may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A 64-bit integer.
    Int,
    /// UTF-8 text.
    Text,
}

/// The tables of a program, and the version of their layout and fold.
///
/// A store that holds another version is emptied when it is opened: views are rebuilt, not
/// migrated.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Raised whenever a table's layout or the fold that fills it changes.
    pub version: u32,
    /// The tables.
    pub tables: &'static [Table],
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
}

impl Value {
    /// How many bytes it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Int(_) => size_of::<i64>(),
            Self::Text(text) => text.len(),
        }
    }
}

/// Cells in the order of the table's columns.
pub type Row = Vec<Value>;

/// A change to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a row, replacing the one of the same key.
    Put {
        /// The table's name.
        table: &'static str,
        /// All of its cells.
        row: Row,
    },
    /// Writes some cells of a row, if there is one. The others stay as they are.
    Update {
        /// The table's name.
        table: &'static str,
        /// The primary key.
        key: Value,
        /// Columns but the first, each at most once, with what they hold from now on.
        cells: Vec<(&'static str, Value)>,
    },
    /// The words by which a row is found, if there is one, from now on. They stay when the row is
    /// put again, and go with it.
    Index {
        /// The table's name; it [is searched](Table::is_searched).
        table: &'static str,
        /// The primary key.
        key: Value,
        /// What is [split into words](words).
        text: String,
    },
    /// Removes a row, if there is one.
    Delete {
        /// The table's name.
        table: &'static str,
        /// The primary key.
        key: Value,
    },
}

/// "The rows are the fold of this stream up to and including `seq`".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The stream.
    pub stream: StreamKey,
    /// The last folded position.
    pub seq: Seq,
}

/// How a filter compares a column with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Equal.
    Eq,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// A query over one table. All filters hold; rows come in the order of `order_by`, ties in the
/// order of the primary key in the same direction.
#[derive(Clone, Debug)]
pub struct Select {
    /// The table's name.
    pub table: &'static str,
    /// Conditions, all of which hold.
    pub filter: Vec<(&'static str, Compare, Value)>,
    /// What the rows' words must have, all of it; of a table that is searched. Empty: any row.
    pub phrases: Vec<Phrase>,
    /// The column that orders the rows.
    pub order_by: &'static str,
    /// Greatest first.
    pub descending: bool,
    /// Starts after the row with this cell in `order_by` and this primary key.
    pub after: Option<(Value, Value)>,
    /// The most rows to give.
    pub limit: usize,
}

/// Why a view store gave or took nothing. The journal is untouched: a view can be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The query or change names a table or column that the schema does not have, or a row has
    /// the wrong number of cells.
    #[error("the view schema does not have {0}")]
    Schema(String),
    /// The store failed underneath.
    #[error("the view store failed: {0}")]
    Store(String),
    /// What is stored is damaged. It is discarded at the next open, and the views are built again.
    #[error("the view store is damaged: {0}")]
    Damaged(String),
}

/// The future of a write to a view store.
pub type Applied = Pin<Box<dyn Future<Output = Result<(), ViewError>> + Send>>;

/// Where views are kept. One conformance suite holds for all.
pub trait ViewStore: Send + Sync + 'static {
    /// Writes changes, checkpoints and the journal position up to which *everything* is folded,
    /// in one transaction, in call order. Runs on the store's own writer thread.
    ///
    /// Who builds on what an earlier call writes awaits that first: a call made before its failure
    /// was seen may be applied without it.
    fn apply(
        &self,
        changes: Vec<Change>,
        checkpoints: Vec<Checkpoint>,
        position: Position,
    ) -> Applied;

    /// The rows that match. Sees every `apply` that has completed.
    fn select(&self, query: &Select) -> Result<Vec<Row>, ViewError>;

    /// One row by its primary key.
    fn get(&self, table: &'static str, key: &Value) -> Result<Option<Row>, ViewError>;

    /// The last folded position of a stream; zero if none.
    fn checkpoint(&self, stream: &StreamKey) -> Result<Seq, ViewError>;

    /// The position up to which everything is folded.
    fn position(&self) -> Result<Position, ViewError>;

    /// Empties every table, checkpoint and the position.
    fn clear(&self) -> Applied;
}
