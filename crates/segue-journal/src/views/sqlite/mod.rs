//! Views in an `SQLite` file.
//!
//! The file can be deleted at any time while no process uses it, and is filled again from the
//! journal. So one that cannot be used, or holds another version, is deleted and begun anew. The
//! whole of it is not verified at open: damage is found where it is met, and the file is then
//! deleted, for the next open. It
//! is for people too: real tables and columns, to be asked with `sqlite3`.

mod sql;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, ToSql, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};
use segue_core::Seq;

use super::{Applied, Change, Checkpoint, Row, Schema, Select, Value, ViewError, ViewStore};
use crate::{
    api::Position,
    sqlite::{connect, make_private},
    stream::StreamKey,
};

use writer::{Work, Writer};

/// Pages of the write-ahead log after which the writer moves them into the file.
const WAL_PAGES: u32 = 1_000;

/// Bytes to which the write-ahead log is cut back once it was moved.
const WAL_BYTES: u32 = 16 << 20;

/// Idle read connections that are kept.
const IDLE_READERS: usize = 8;

/// A view store in a file.
pub struct SqliteViews {
    path: PathBuf,
    schema: Schema,
    readers: Mutex<Vec<Connection>>,
    writer: Writer,
}

impl SqliteViews {
    /// Opens the store in the file at `path`, which is created if need be.
    ///
    /// A file that holds another version of the schema or cannot be used is deleted first. Fails
    /// with `Schema` if the schema cannot be used, with `Store` if no file can be made.
    pub fn open(path: &Path, schema: Schema) -> Result<Self, ViewError> {
        schema.check()?;
        let writer = match open_existing(path, &schema) {
            Ok(Some(connection)) => connection,
            Ok(None) => create(path, &schema)?,
            Err(Unusable::Busy(error)) => return Err(error),
            Err(Unusable::Broken(why)) => {
                tracing::warn!(path = %path.display(), %why, "the views are emptied, to be rebuilt");
                metrics::counter!("segue_views_discarded_total").increment(1);
                create(path, &schema)?
            }
        };
        Ok(Self {
            path: path.to_owned(),
            schema,
            readers: Mutex::default(),
            writer: Writer::spawn(writer, path, &schema)?,
        })
    }

    /// Runs a query on a connection of its own, which then waits for the next one.
    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ViewError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        };
        let result = query(&connection).map_err(|error| told(&self.path, error))?;
        let mut idle = self.idle();
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
        Ok(result)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ViewStore for SqliteViews {
    fn apply(
        &self,
        changes: Vec<Change>,
        checkpoints: Vec<Checkpoint>,
        position: Position,
    ) -> Applied {
        match changes.iter().try_for_each(|change| self.schema.check_change(change)) {
            Ok(()) => self.writer.submit(Work::Apply { changes, checkpoints, position }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn select(&self, query: &Select) -> Result<Vec<Row>, ViewError> {
        let table = self.schema.check_select(query)?;
        let (sql, values) = sql::select(table, query);
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_map(params_from_iter(values.iter()), row)?.collect()
        })
    }

    fn get(&self, table: &'static str, key: &Value) -> Result<Option<Row>, ViewError> {
        let sql = sql::get(self.schema.table(table)?);
        self.read(|connection| connection.prepare_cached(&sql)?.query_row([key], row).optional())
    }

    fn checkpoint(&self, stream: &StreamKey) -> Result<Seq, ViewError> {
        let sql = "SELECT seq FROM checkpoints WHERE stream = ?1";
        let seq = self.read(|connection| number(connection, sql, stream.as_str()))?;
        Ok(Seq(seq.unwrap_or(0).cast_unsigned()))
    }

    fn position(&self) -> Result<Position, ViewError> {
        let position = self.read(|connection| number(connection, META, "position"))?;
        Ok(Position(position.unwrap_or(0).cast_unsigned()))
    }

    fn clear(&self) -> Applied {
        self.writer.submit(Work::Clear)
    }
}

const META: &str = "SELECT value FROM meta WHERE key = ?1";

fn number(connection: &Connection, sql: &str, key: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()
}

/// Why a file cannot be used.
enum Unusable {
    /// Another process holds it, which will pass.
    Busy(ViewError),
    /// It is not what it should be.
    Broken(String),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(error.into()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// The connection to a file that can go on being used, or `None` if there is none.
fn open_existing(path: &Path, schema: &Schema) -> Result<Option<Connection>, Unusable> {
    if !path.exists() {
        return Ok(None);
    }
    make_private(path)?;
    let connection = writable(path)?;
    let version = number(&connection, META, "schema_version")?;
    if version != Some(i64::from(schema.version)) {
        let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let wanted = schema.version;
        return Err(Unusable::Broken(format!("version {found} is there, {wanted} is wanted")));
    }
    for table in schema.tables {
        // Only looks at the layout: fails if a table or column is missing.
        connection.prepare(&sql::get(table))?;
    }
    Ok(Some(connection))
}

/// Makes a new, empty store in place of whatever is there.
fn create(path: &Path, schema: &Schema) -> Result<Connection, ViewError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    make_private(path)?;
    let mut connection = writable(path)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(&sql::create(schema))?;
    let meta = "INSERT INTO meta VALUES ('schema_version', ?1), ('position', 0)";
    transaction.execute(meta, [schema.version])?;
    transaction.commit()?;
    Ok(connection)
}

fn writable(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    Ok(connection)
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let columns = row.as_ref().column_count();
    (0..columns).map(|index| value(row.get_ref(index)?)).collect()
}

fn value(cell: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match cell {
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Text(_) => Value::Text(cell.as_str()?.to_owned()),
    })
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

impl From<rusqlite::Error> for ViewError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Store(error.to_string()),
        }
    }
}

/// An error as callers get it. A file that turns out to be damaged loses its name, so that the next
/// open begins anew; who has it open goes on with what can still be read.
fn told(path: &Path, error: impl Into<ViewError>) -> ViewError {
    let error = error.into();
    if matches!(error, ViewError::Damaged(_)) && fs::remove_file(path).is_ok() {
        tracing::error!(path = %path.display(), %error, "the views are rebuilt at the next start");
        metrics::counter!("segue_views_discarded_total").increment(1);
    }
    error
}

impl From<io::Error> for ViewError {
    fn from(error: io::Error) -> Self {
        Self::Store(error.to_string())
    }
}
