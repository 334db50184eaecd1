//! The seam under the log: what it needs of a disk, and nothing more.
//!
//! [`RealDisk`] is the operating system's. `CountingDisk` and `FaultyDisk` (feature `test-util`)
//! count what is done and break it at a chosen step.

use std::{any::Any, fmt, io, path::Path, sync::Arc};

mod real;

#[cfg(any(test, feature = "test-util"))]
mod counting;
#[cfg(any(test, feature = "test-util"))]
mod faulty;

pub use real::RealDisk;

#[cfg(any(test, feature = "test-util"))]
pub use counting::{CountingDisk, Counts};
#[cfg(any(test, feature = "test-util"))]
pub use faulty::{FaultyDisk, Survival};

/// Files and folders. Every call blocks the thread that makes it.
///
/// A write or an allocation that finds no room says so by its kind (see [`is_full`]); every other
/// error of a write, and every error of a sync, means that the disk can no longer be trusted.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a folder (0700) and those above it, each durably; an existing one is narrowed to 0700.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the file if it is absent and takes its exclusive lock, held until the answer is
    /// dropped. `None` when another holder has it.
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>>;

    /// Makes a new, empty file (0600), replacing one of the same name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a folder, in order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Gives a file another name in the same folder. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Who holds it open can still read it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The bytes a write may still take, of the disk that holds `dir`.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// A held lock; let go when dropped.
pub type DiskLock = Box<dyn Any + Send + Sync>;

/// An open file. Reads and writes are positional, so that threads share it without a cursor.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Reads up to `into.len()` bytes at `at`; fewer only at the file's end.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `at`. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes what was written (and the length) durable.
    fn sync(&self) -> io::Result<()>;

    /// Grows the file to `len` bytes of zeros with room on the disk for all of them.
    /// Never shrinks it.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts or grows the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The file's length.
    fn size(&self) -> io::Result<u64>;
}

/// A failed sync, told such that it is never [`is_full`]: whatever the disk gives as the reason,
/// what was to become durable cannot be trusted any more.
pub(crate) fn untrusted(error: io::Error) -> io::Error {
    io::Error::other(error)
}

/// The folder that holds a file or folder: `.` for a bare name, `None` for a root.
pub(crate) fn parent(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// The disk or the quota is full, and nothing else is wrong. Said of writes and allocations; a
/// sync that fails is never that harmless.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
