//! The file's tables, and what it says of itself.

use std::{fs::File, path::Path};

use rusqlite::{Connection, Transaction};

use super::{ColdError, Packed};
use crate::disk::parent;

/// The version that this program writes, and the newest it reads.
pub(super) const VERSION: i64 = 1;

/// Pages of the write-ahead log after which a commit moves them into the file.
const WAL_PAGES: u32 = 1_000;

/// Bytes to which the write-ahead log is cut back once it was moved.
const WAL_BYTES: u32 = 16 << 20;

/// Memory of the packer's connection, in KiB: what a segment's streams touch in the catalogue.
const CACHE_KIB: i32 = 16 << 10;

/// As `docs/format.md` has it.
const TABLES: &str = "
CREATE TABLE meta (
  version INTEGER NOT NULL, journal BLOB NOT NULL,
  segment INTEGER NOT NULL, commit_number INTEGER NOT NULL) STRICT;
CREATE TABLE stream (
  tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
  incarnation INTEGER NOT NULL, epoch INTEGER NOT NULL,
  available_from INTEGER NOT NULL, next INTEGER NOT NULL, closed INTEGER NOT NULL,
  changed INTEGER NOT NULL, cold_until INTEGER NOT NULL,
  producer_count INTEGER NOT NULL, producers BLOB NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (tenant, kind, id)) WITHOUT ROWID, STRICT;
CREATE INDEX stream_changed ON stream (kind, changed);
CREATE INDEX stream_open ON stream (tenant, kind, id) WHERE kind = 'r' AND closed = 0;
CREATE TABLE chunk (
  tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
  incarnation INTEGER NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL,
  codec INTEGER NOT NULL, raw_bytes INTEGER NOT NULL, crc INTEGER NOT NULL,
  body BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX chunk_key ON chunk (tenant, kind, id, incarnation, first_seq);
CREATE TABLE erase (
  tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
  incarnation INTEGER NOT NULL, before INTEGER NOT NULL,
  PRIMARY KEY (tenant, kind, id, incarnation)) WITHOUT ROWID, STRICT;
";

/// Makes a connection the packer's, and a file without tables ours.
pub(super) fn open(
    connection: &mut Connection,
    path: &Path,
    journal: [u8; 16],
) -> Result<(), ColdError> {
    // Before the first table, or it has no effect.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A segment is removed once its records are here.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
        let transaction = connection.transaction()?;
        create(&transaction, journal)?;
        transaction.commit()?;
        if let Some(folder) = parent(path) {
            File::open(folder)?.sync_all()?;
        }
    }
    check(connection, journal)
}

fn create(transaction: &Transaction<'_>, journal: [u8; 16]) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    let meta = "INSERT INTO meta VALUES (?1, ?2, 0, 0)";
    transaction.execute(meta, (VERSION, &journal[..])).map(drop)
}

/// Refuses a file that is not this journal's, or that a later version wrote.
pub(super) fn check(connection: &Connection, journal: [u8; 16]) -> Result<(), ColdError> {
    let version = connection.query_row("SELECT version FROM meta", [], |row| row.get(0))?;
    if version > VERSION {
        return Err(ColdError::Newer(version));
    }
    let owner: Vec<u8> = connection.query_row("SELECT journal FROM meta", [], |row| row.get(0))?;
    if owner != journal {
        return Err(ColdError::Foreign);
    }
    Ok(())
}

/// How far the log is packed.
pub(super) fn packed(connection: &Connection) -> rusqlite::Result<Packed> {
    let mut statement = connection.prepare_cached("SELECT segment, commit_number FROM meta")?;
    statement.query_row([], |row| {
        let number = |at| row.get(at).map(i64::cast_unsigned);
        Ok(Packed { segment: number(0)?, commit: number(1)? })
    })
}

/// See [`Cold::faults`](super::Cold::faults).
pub(super) fn faults(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
    let found = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let mut faults: Vec<String> = found.into_iter().filter(|found| found != "ok").collect();
    let strays = "SELECT count(*) FROM chunk \
         LEFT JOIN stream USING (tenant, kind, id, incarnation) \
         LEFT JOIN erase USING (tenant, kind, id, incarnation) \
         WHERE stream.next IS NULL AND erase.before IS NULL";
    let strays: i64 = connection.query_row(strays, [], |row| row.get(0))?;
    if strays > 0 {
        faults.push(format!("{strays} chunks belong to no stream"));
    }
    Ok(faults)
}
