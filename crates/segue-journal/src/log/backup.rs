//! A copy of the journal while it is written to.
//!
//! The packer makes it, so that meanwhile nothing is packed, erased or unlinked: segments and the
//! cold store are of one time. Of a segment that is written only what is committed is copied, and
//! zeros follow, as in one that was made ahead. The writer goes on; where the hot tier is full it
//! grows.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::oneshot;

use super::{
    layout::{encode_format, segment_path},
    segment::Segment,
    store::Store,
};
use crate::{api::BackupError, disk::Disk};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// A copy that was asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) to: PathBuf,
    pub(crate) answer: oneshot::Sender<Result<u64, BackupError>>,
}

/// Makes the copies that were asked for. `false`: there were none.
pub(crate) fn step(store: &Store) -> bool {
    let Some(Asked { to, answer }) = store.packing.take_backup() else { return false };
    store.packing.copying.store(true, Ordering::Release);
    let made = make(store, &to);
    store.packing.copying.store(false, Ordering::Release);
    match &made {
        Ok(bytes) => tracing::info!(bytes, to = %to.display(), "a backup was made"),
        Err(error) => tracing::error!(%error, "a backup could not be made"),
    }
    let name = if made.is_ok() { "segue_backups_total" } else { "segue_backups_failed_total" };
    metrics::counter!(name).increment(1);
    // Who asked may have gone.
    drop(answer.send(made));
    true
}

/// Makes it under another name, which it loses when it is whole and durable. Gives its bytes.
fn make(store: &Store, to: &Path) -> Result<u64, BackupError> {
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    for path in [to, &part] {
        if path.exists() {
            return Err(BackupError::Exists(path.to_owned()));
        }
    }
    let made = copy(store, &part).and_then(|bytes| {
        let above = to.parent().unwrap_or(Path::new("/"));
        fs::rename(&part, to).and_then(|()| store.disk.sync_dir(above)).map_err(io_at(to))?;
        Ok(bytes)
    });
    if made.is_err() {
        // What is left of it has a name that says so.
        drop(fs::remove_dir_all(&part));
    }
    made
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_owned();
    move |error| BackupError::Io { path: path.clone(), what: error.to_string() }
}

fn copy(store: &Store, part: &Path) -> Result<u64, BackupError> {
    let named = |path: &Path, name: &str| part.join(path.file_name().unwrap_or(name.as_ref()));
    let (dir, cold) = (named(&store.dir, "journal"), named(store.cold.path(), "cold.db"));
    let disk = &*store.disk;
    disk.create_dir(&dir).map_err(io_at(&dir))?;
    let mut bytes = 0;
    for (segment, end) in segments(store) {
        let path = segment_path(&dir, segment.number);
        bytes += copy_segment(disk, &segment, end, &path).map_err(io_at(&path))?;
    }
    let format = dir.join("FORMAT");
    let write_format = || {
        let file = disk.create(&format)?;
        file.write_at(&encode_format(store.id), 0)?;
        file.sync()
    };
    write_format().map_err(io_at(&format))?;
    let copied = store.cold.copy(&cold).map_err(|error| BackupError::Cold(error.to_string()))?;
    for dir in [&dir, part] {
        disk.sync_dir(dir).map_err(io_at(dir))?;
    }
    Ok(bytes + copied)
}

/// All segments, oldest first, each with where its commits end if it is not sealed.
fn segments(store: &Store) -> Vec<(Arc<Segment>, Option<u64>)> {
    let table = store.table();
    let sealed = table.sealed.iter().map(|sealed| (Arc::clone(&sealed.segment), None));
    let unsealed = table.unsealed.iter().map(|open| (Arc::clone(&open.segment), Some(open.end)));
    sealed.chain(unsealed).collect()
}

fn copy_segment(
    disk: &dyn Disk,
    segment: &Segment,
    end: Option<u64>,
    path: &Path,
) -> io::Result<u64> {
    let size = segment.file.size()?;
    let end = end.unwrap_or(size);
    let file = disk.create(path)?;
    file.allocate(size)?;
    let (mut at, mut piece) = (0, vec![0; PIECE]);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let read = segment.file.read_at(&mut piece[..most], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&piece[..read], at)?;
        at += read as u64;
    }
    file.sync()?;
    Ok(end)
}
