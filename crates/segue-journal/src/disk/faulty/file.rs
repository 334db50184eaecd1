//! An open file, and what becomes of its bytes.

use std::{fmt, io};

use super::{super::DiskFile, Change, Failure, FaultyDisk, State, full, put};

/// An open file of the disk.
pub(super) struct FaultyFile {
    pub(super) disk: FaultyDisk,
    pub(super) id: usize,
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyFile({})", self.id)
    }
}

pub(super) fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("a file in memory has a length that fits")
}

impl FaultyFile {
    fn resize(&self, state: &mut State, len: usize) -> io::Result<()> {
        state.step()?;
        let old = state.files[self.id].live.len();
        let fits = state.grow(self.id, len);
        if fits < len {
            state.give_back(fits.saturating_sub(old));
            return Err(full());
        }
        state.give_back(old.saturating_sub(len));
        let inode = &mut state.files[self.id];
        inode.live.resize(len, 0);
        inode.pending.push(Change::Len(len));
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let live = &state.files[self.id].live;
        let at = to_usize(at).min(live.len());
        let n = into.len().min(live.len() - at);
        into[..n].copy_from_slice(&live[at..at + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let at = to_usize(at);
        let crashed = state.step().err();
        let failed = state.take_failure(|failure| matches!(failure, Failure::Write(_)));
        let fits = state.grow(self.id, at + bytes.len()).saturating_sub(at).min(bytes.len());
        let n = if crashed.is_some() || failed.is_some() { fits / 2 } else { fits };
        let inode = &mut state.files[self.id];
        put(&mut inode.live, at, &bytes[..n]);
        inode.pending.push(Change::Write(at, bytes[..n].to_vec()));
        match (crashed, failed) {
            (Some(crashed), _) => Err(crashed),
            (None, Some(Failure::Write(kind))) => Err(kind.into()),
            _ if n < bytes.len() => Err(full()),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step()?;
        let failed = state.take_failure(|failure| matches!(failure, Failure::Sync(0, _)));
        for failure in &mut state.failing {
            if let Failure::Sync(before, _) = failure {
                *before -= 1;
            }
        }
        let inode = &mut state.files[self.id];
        let pending = std::mem::take(&mut inode.pending);
        if let Some(Failure::Sync(_, kind)) = failed {
            return Err(kind.into());
        }
        for change in pending {
            match change {
                Change::Write(at, bytes) => put(&mut inode.durable, at, &bytes),
                Change::Len(len) => inode.durable.resize(len, 0),
            }
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let len = to_usize(len);
        if state.files[self.id].live.len() >= len {
            return Ok(());
        }
        self.resize(&mut state, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        self.resize(&mut state, to_usize(len))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.id].live.len() as u64)
    }
}
