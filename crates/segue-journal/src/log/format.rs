//! The file `FORMAT`: whose journal it is, and of which version.

use std::{io, path::Path};

use super::{
    OpenError,
    layout::{BadHead, FORMAT_BYTES, JournalId, decode_format, encode_format, segment_number},
};
use crate::disk::Disk;

/// Reads `FORMAT`; makes it if the journal is new. Names of unfinished files are removed.
pub(crate) fn open_format(disk: &dyn Disk, dir: &Path) -> Result<JournalId, OpenError> {
    let io = |error| OpenError::io(dir, error);
    let names = disk.list(dir).map_err(io)?;
    for name in names.iter().filter(|name| is_unfinished(name)) {
        disk.remove(&dir.join(name)).map_err(io)?;
    }
    if names.iter().any(|name| name == "FORMAT") {
        return read_format(disk, dir);
    }
    if names.iter().any(|name| segment_number(name).is_some()) {
        return Err(OpenError::unreadable(&dir.join("FORMAT"), "it is absent beside segments"));
    }
    create_format(disk, dir).map_err(io)
}

fn is_unfinished(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "tmp")
}

/// Reads the journal's id.
pub(crate) fn read_format(disk: &dyn Disk, dir: &Path) -> Result<JournalId, OpenError> {
    let path = dir.join("FORMAT");
    let read = || {
        let mut bytes = [0; FORMAT_BYTES];
        let n = disk.open(&path)?.read_at(&mut bytes, 0)?;
        io::Result::Ok((bytes, n))
    };
    let (bytes, n) = read().map_err(|error| OpenError::io(&path, error))?;
    decode_format(&bytes[..n]).map_err(|bad| bad_head(&path, &bad))
}

/// Why a file whose head is not as it should be is not opened.
pub(crate) fn bad_head(path: &Path, bad: &BadHead) -> OpenError {
    match *bad {
        BadHead::Newer(found) => OpenError::Newer { path: path.to_owned(), found },
        BadHead::Foreign(what) | BadHead::Unreadable(what) => OpenError::unreadable(path, what),
    }
}

fn create_format(disk: &dyn Disk, dir: &Path) -> io::Result<JournalId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let (tmp, path) = (dir.join("FORMAT.tmp"), dir.join("FORMAT"));
    let file = disk.create(&tmp)?;
    file.write_at(&encode_format(JournalId(id)), 0)?;
    file.sync()?;
    disk.rename(&tmp, &path)?;
    disk.sync_dir(dir)?;
    Ok(JournalId(id))
}
