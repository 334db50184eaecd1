//! The cold store: what was packed out of segments, in the `SQLite` file `cold.db`.
//!
//! It is the bottom layer of the log, like one more sealed segment behind the oldest: it has each
//! stream as it was at the end of the last packed segment, and every record before that which is
//! still readable, in compressed chunks. What a newer layer says of a stream wins. See
//! `docs/format.md`.
//!
//! It knows streams, chunks and numbers. What a chunk's records are is the log's.

mod catalogue;
mod chunk;
mod erase;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::{
    sqlite::{connect, make_private},
    sync::held,
};

pub(crate) use catalogue::Row;
pub(crate) use chunk::{Chunk, Chunker};
pub(crate) use erase::Erasure;

/// Idle read connections that are kept.
const IDLE_READERS: usize = 8;

/// Pages given back to the file system with one step: 4 MiB.
const VACUUM_PAGES: u32 = 1_024;

/// Why the cold store gave or took nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ColdError {
    /// Written by a later version of the program.
    #[error("cold.db has format {0}, this program reads up to {known}", known = schema::VERSION)]
    Newer(i64),
    /// It is another journal's.
    #[error("cold.db is another journal's")]
    Foreign,
    /// A row of it does not match its checksum.
    #[error("cold.db is damaged: {0}")]
    Damaged(String),
    /// The file could not be made.
    #[error("cold.db cannot be made: {0}")]
    Io(#[from] io::Error),
    /// `SQLite` refused.
    #[error("cold.db: {0}")]
    Sql(#[from] rusqlite::Error),
}

impl ColdError {
    /// What is wrong, to be told beside the file's name.
    fn what(self) -> String {
        match self {
            Self::Damaged(what) => what,
            error => error.to_string(),
        }
    }

    /// There was no room for it.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Sql(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Io(error) => crate::disk::is_full(error),
            Self::Newer(_) | Self::Foreign | Self::Damaged(_) => false,
        }
    }

    /// The bytes are not what was written, as opposed to: they could not be read now.
    pub(crate) fn is_damage(&self) -> bool {
        let damage = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        match self {
            Self::Sql(error) => {
                error.sqlite_error_code().is_some_and(|code| damage.contains(&code))
            }
            Self::Damaged(_) => true,
            Self::Newer(_) | Self::Foreign | Self::Io(_) => false,
        }
    }

    /// A sync failed, so that nobody knows what of it is durable.
    pub(crate) fn is_untrusted(&self) -> bool {
        let Self::Sql(rusqlite::Error::SqliteFailure(error, _)) = self else { return false };
        let syncs = [rusqlite::ffi::SQLITE_IOERR_FSYNC, rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC];
        syncs.contains(&error.extended_code)
    }
}

/// How far the log is packed. Everything up to here is in the cold store and nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The last packed segment; zero if there is none.
    pub(crate) segment: u64,
    /// Its last commit.
    pub(crate) commit: u64,
}

/// The cold store of a journal. The file is made when something is packed for the first time.
#[derive(Debug)]
pub(crate) struct Cold {
    path: PathBuf,
    journal: [u8; 16],
    /// There is a file, and it can be read.
    exists: AtomicBool,
    packed: Mutex<Packed>,
    readers: Mutex<Vec<Connection>>,
    /// Of the packer.
    writer: Mutex<Option<Connection>>,
}

impl Cold {
    /// Opens the file at `path`, if it is there. Fails if it is not this journal's, of a later
    /// version, or not readable at all.
    pub(crate) fn open(path: &Path, journal: [u8; 16]) -> Result<Self, ColdError> {
        let cold = Self {
            path: path.to_owned(),
            journal,
            exists: AtomicBool::new(false),
            packed: Mutex::default(),
            readers: Mutex::default(),
            writer: Mutex::default(),
        };
        if path.exists() {
            cold.connect_writer(&mut held(&cold.writer))?;
        }
        Ok(cold)
    }

    /// How far the log is packed.
    pub(crate) fn packed(&self) -> Packed {
        *held(&self.packed)
    }

    /// Runs a query on a connection of its own, which then waits for the next one. `None` if
    /// nothing was ever packed.
    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, ColdError>,
    ) -> Result<Option<T>, ColdError> {
        if !self.exists.load(Ordering::Acquire) {
            return Ok(None);
        }
        let idle = held(&self.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        };
        let result = query(&connection)?;
        let mut idle = held(&self.readers);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
        Ok(Some(result))
    }

    /// Does `work` in one transaction, which is durable when this returns. Makes the file if need
    /// be.
    pub(crate) fn write<T, E: From<ColdError>>(
        &self,
        work: impl FnOnce(&Changes<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = held(&self.writer);
        let connection = self.connect_writer(&mut writer)?;
        let changes = Changes::begin(connection)?;
        let result = work(&changes)?;
        *held(&self.packed) = changes.commit()?;
        Ok(result)
    }

    fn connect_writer<'a>(
        &self,
        writer: &'a mut Option<Connection>,
    ) -> Result<&'a mut Connection, ColdError> {
        let connection = match writer.take() {
            Some(connection) => connection,
            None => self.open_writer()?,
        };
        Ok(writer.insert(connection))
    }

    fn open_writer(&self) -> Result<Connection, ColdError> {
        make_private(&self.path)?;
        let mut connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::open(&mut connection, &self.path, self.journal)?;
        *held(&self.packed) = schema::packed(&connection)?;
        self.exists.store(true, Ordering::Release);
        Ok(connection)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies what there is into a new file, durably, and gives its bytes. Zero: nothing was ever
    /// packed.
    pub(crate) fn copy(&self, to: &Path) -> Result<u64, ColdError> {
        let writer = held(&self.writer);
        let Some(connection) = writer.as_ref() else { return Ok(0) };
        make_private(to)?;
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        let file = std::fs::File::open(to)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }

    /// Copies everything into the main file and syncs it: after it nothing depends on a log whose
    /// sync may have failed in an earlier process. `false`: somebody reads the file just now.
    pub(crate) fn settle(&self) -> Result<bool, ColdError> {
        let writer = held(&self.writer);
        let Some(connection) = writer.as_ref() else { return Ok(true) };
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = connection.query_row(checkpoint, [], |row| row.get(0))?;
        Ok(busy == 0)
    }

    /// Lets the file have so many pages at most: a full disk.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        let writer = held(&self.writer);
        let connection = writer.as_ref().expect("something was packed");
        let limit = format!("PRAGMA max_page_count = {pages}");
        connection.query_row(&limit, [], |_| Ok(())).expect("a limit");
    }

    /// What `SQLite` finds wrong with the file, and chunks that belong to no stream and are not to
    /// be erased either.
    pub(crate) fn faults(&self) -> Result<Vec<String>, ColdError> {
        Ok(self.read(|connection| Ok(schema::faults(connection)?))?.unwrap_or_default())
    }

    /// Gives some of the file's free pages back, if they are more than a quarter of it. `false`:
    /// there was nothing to do.
    pub(crate) fn vacuum(&self) -> Result<bool, ColdError> {
        let writer = held(&self.writer);
        let Some(connection) = writer.as_ref() else { return Ok(false) };
        let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
        let (free, all): (i64, i64) = (number("freelist_count")?, number("page_count")?);
        if free <= all / 4 {
            return Ok(false);
        }
        let mut statement =
            connection.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(true)
    }
}

/// A transaction on the cold store. The operations are beside what they change.
pub(crate) struct Changes<'a> {
    transaction: Transaction<'a>,
}

impl<'a> Changes<'a> {
    fn begin(connection: &'a mut Connection) -> Result<Self, ColdError> {
        let behavior = TransactionBehavior::Immediate;
        Ok(Self { transaction: connection.transaction_with_behavior(behavior)? })
    }

    /// Gives how far the log is packed now.
    fn commit(self) -> Result<Packed, ColdError> {
        let packed = self.packed()?;
        self.transaction.commit()?;
        Ok(packed)
    }

    /// How far the log is packed, as this transaction sees it.
    pub(crate) fn packed(&self) -> Result<Packed, ColdError> {
        Ok(schema::packed(&self.transaction)?)
    }

    /// Says that a segment is packed, whole.
    pub(crate) fn set_packed(&self, packed: Packed) -> Result<(), ColdError> {
        let sql = "UPDATE meta SET segment = ?1, commit_number = ?2";
        let numbers = [packed.segment.cast_signed(), packed.commit.cast_signed()];
        self.transaction.execute(sql, numbers)?;
        Ok(())
    }
}
