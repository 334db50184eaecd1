//! The operating system's disk.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::{Errno, retry_on_intr},
};

use super::{Disk, DiskFile, DiskLock, parent};

/// How much is written at once where `fallocate` is not supported.
const ZEROS: usize = 1 << 20;

/// The operating system's files: 0600 in folders of 0700.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut levels: Vec<&Path> = dir.ancestors().filter(|level| !is_empty(level)).collect();
        while let Some(level) = levels.pop() {
            if !level.is_dir() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(level)?;
                self.sync_dir(parent(level).unwrap_or(level))?;
            }
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        let file = options().create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = options().create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(options().open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        // A name that is not UTF-8 is none of ours.
        let mut names: Vec<String> = names.into_iter().flat_map(OsString::into_string).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let stat = fstatvfs(File::open(dir)?)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl DiskFile for RealFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let from = self.size()?;
        if from >= len {
            return Ok(());
        }
        match retry_on_intr(|| fallocate(&self.0, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&self.0, from, len),
            done => Ok(done?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

fn write_zeros(file: &File, mut from: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    while from < len {
        let n = usize::try_from(len - from).unwrap_or(ZEROS).min(ZEROS);
        file.write_all_at(&zeros[..n], from)?;
        from += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_fallocate_give_the_same_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = options().create(true).truncate(false).open(dir.path().join("a")).expect("open");
        write_zeros(&file, 0, 3 * ZEROS as u64 / 2).expect("zeros");
        let by_zeros = fs::read(dir.path().join("a")).expect("read");
        let file = RealDisk.create(&dir.path().join("b")).expect("create");
        file.allocate(3 * ZEROS as u64 / 2).expect("allocate");
        assert_eq!(by_zeros, fs::read(dir.path().join("b")).expect("read"));
    }

    #[test]
    fn a_bare_name_is_in_the_folder_that_is_worked_in() {
        assert_eq!(parent(Path::new("data")), Some(Path::new(".")));
        assert_eq!(parent(Path::new("a/data")), Some(Path::new("a")));
        assert_eq!(parent(Path::new("/")), None);
    }

    #[test]
    fn allocate_keeps_what_is_there_and_never_shrinks() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = RealDisk.create(&dir.path().join("a")).expect("create");
        file.write_at(b"abc", 0).expect("write");
        file.allocate(8).expect("allocate");
        file.allocate(4).expect("allocate");
        assert_eq!(fs::read(dir.path().join("a")).expect("read"), b"abc\0\0\0\0\0");
        let mut into = [1; 16];
        assert_eq!(file.read_at(&mut into, 1).expect("read"), 7);
        assert_eq!(&into[..3], b"bc\0");
    }

    #[test]
    fn i22_files_and_folders_are_the_owners_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let inner = dir.path().join("x/y");
        RealDisk.create_dir(&inner).expect("create_dir");
        RealDisk.create(&inner.join("f")).expect("create");
        let lock = RealDisk.lock(&inner.join("l")).expect("lock");
        assert!(lock.is_some());
        for (name, mode) in [("", 0o700), ("f", 0o600), ("l", 0o600)] {
            let meta = fs::metadata(inner.join(name)).expect("metadata");
            assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
        }
    }

    #[test]
    fn a_lock_has_one_holder_and_is_free_again_after_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("l");
        let first = RealDisk.lock(&path).expect("lock");
        assert!(first.is_some());
        assert!(RealDisk.lock(&path).expect("lock").is_none());
        drop(first);
        assert!(RealDisk.lock(&path).expect("lock").is_some());
    }

    #[test]
    fn list_is_in_order() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["b", "a", "c"] {
            RealDisk.create(&dir.path().join(name)).expect("create");
        }
        RealDisk.rename(&dir.path().join("a"), &dir.path().join("d")).expect("rename");
        RealDisk.remove(&dir.path().join("b")).expect("remove");
        assert_eq!(RealDisk.list(dir.path()).expect("list"), ["c", "d"]);
        assert!(RealDisk.free(dir.path()).expect("free") > 0);
        RealDisk.sync_dir(dir.path()).expect("sync_dir");
    }
}
