//! What every `SQLite` file of ours has in common.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

/// How long a statement waits for another process, such as a person's shell.
const BUSY: Duration = Duration::from_secs(5);

/// Statements that a connection keeps prepared.
const PREPARED: usize = 64;

/// Creates the file if need be, and in any case keeps others from reading it. The files beside
/// it get the same mode.
///
/// One that exists is not opened: closing it would let go of every lock that a connection of this
/// process has on it.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    match fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600).open(path).map(drop)
        }
        done => done,
    }
}

/// A connection is used by one thread at a time, which is why it needs no lock of its own.
pub(crate) fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    Ok(connection)
}
