//! The data folder as the command line sees it: who serves it, where, and the admin token.
//!
//! | file | mode | content |
//! | --- | --- | --- |
//! | `server.json` | 0600 | `{"address", "pid"}` of the server that serves the folder; stale after a crash |
//! | `server.lock` | 0600 | empty; held (`flock`) by whoever starts a background server |
//! | `server.log` | 0600 | what the last background servers said |
//! | `admin.token` | 0600 | 256 random bits in hex, made by the first start |

use std::{
    env,
    fmt::Write as _,
    fs,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::{
        fd::{OwnedFd, RawFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::{
    fs::{FlockOperation, flock},
    io::{Errno, fcntl_dupfd_cloexec},
    process::{Pid, test_kill_process},
};
use serde::{Deserialize, Serialize};

/// Above what a server with few connections has open.
const HIGH_FD: RawFd = 512;

/// A data folder. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

/// Who serves a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    pub(crate) address: SocketAddr,
    pub(crate) pid: i32,
}

impl Place {
    pub(crate) fn new(data: PathBuf) -> Self {
        Self(data)
    }

    /// The folder of this user: `$XDG_DATA_HOME/segue`, or `~/.local/share/segue`.
    pub(crate) fn of_user() -> anyhow::Result<Self> {
        let var = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = var("XDG_DATA_HOME").or_else(|| Some(var("HOME")?.join(".local/share")));
        let base = base.context("no data folder: give --data, or set SEGUE_DATA or HOME")?;
        Ok(Self(base.join("segue")))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether a server ever kept data here.
    pub(crate) fn has_data(&self) -> bool {
        self.0.join("journal").is_dir()
    }

    /// Makes the folder, for its owner only, if it is not there.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.with_context(|| format!("cannot create the data folder {}", self.0.display()))
    }

    /// Who serves the folder by its own account: the process is there, which does not mean that
    /// it answers.
    pub(crate) fn server(&self) -> Option<ServerFile> {
        let server = self.last_server()?;
        test_kill_process(Pid::from_raw(server.pid)?).ok()?;
        Some(server)
    }

    /// Who serves the folder, or served it until a crash.
    pub(crate) fn last_server(&self) -> Option<ServerFile> {
        serde_json::from_slice(&fs::read(self.0.join("server.json")).ok()?).ok()
    }

    /// Says that this process serves the folder at `address`.
    pub(crate) fn set_server(&self, address: SocketAddr) -> anyhow::Result<()> {
        let server = ServerFile { address, pid: rustix::process::getpid().as_raw_nonzero().get() };
        self.replace("server.json", &serde_json::to_vec(&server)?).context("server.json")
    }

    /// Says that nobody does, unless another process has said so of itself since.
    pub(crate) fn clear_server(&self) {
        let own = rustix::process::getpid();
        if self.server().is_some_and(|server| Pid::from_raw(server.pid) == Some(own)) {
            // What stays behind names a dead process, which every reader checks.
            fs::remove_file(self.0.join("server.json")).ok();
        }
    }

    /// The token of the admin scope, if a server ever ran here.
    pub(crate) fn admin_token(&self) -> Option<String> {
        let text = fs::read_to_string(self.0.join("admin.token")).ok()?;
        Some(text.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// The token of the admin scope, made if there is none.
    pub(crate) fn admin_token_or_new(&self) -> anyhow::Result<String> {
        if let Some(token) = self.admin_token() {
            return Ok(token);
        }
        self.new_admin_token()
    }

    /// Makes a token in place of the one there is.
    pub(crate) fn new_admin_token(&self) -> anyhow::Result<String> {
        let token = random_hex::<32>()?;
        self.replace("admin.token", format!("{token}\n").as_bytes()).context("admin.token")?;
        Ok(token)
    }

    /// Where the token is.
    pub(crate) fn token_path(&self) -> PathBuf {
        self.0.join("admin.token")
    }

    /// Waits to be the only one who starts a server for the folder; until the file is dropped.
    pub(crate) fn lock_start(&self) -> anyhow::Result<File> {
        let file = private().open(self.0.join("server.lock")).context("server.lock")?;
        flock(&file, FlockOperation::LockExclusive).context("server.lock")?;
        Ok(file)
    }

    /// The same lock for a server that wants to stop, unless somebody else has it. Its holder
    /// keeps it to its end, and those who start wait for that.
    ///
    /// When a process ends, its files are closed in the order of their numbers. This one gets a
    /// high number, so that the journal's own lock is free before a starter goes on.
    pub(crate) fn try_lock_start(&self) -> anyhow::Result<Option<OwnedFd>> {
        let file = private().open(self.0.join("server.lock")).context("server.lock")?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).context("server.lock"),
            Ok(()) => Ok(Some(fcntl_dupfd_cloexec(&file, HIGH_FD).unwrap_or_else(|_| file.into()))),
        }
    }

    /// The log of background servers, to append to.
    pub(crate) fn server_log(&self) -> anyhow::Result<File> {
        private().append(true).open(self.log_path()).context("server.log")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.0.join("server.log")
    }

    /// Replaces a file as a whole: readers see the old one or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.0.join(format!(".{name}.new"));
        // A left-over of a crash may have any mode.
        fs::remove_file(&new).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut file = private().create_new(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(new, self.0.join(name))
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

/// `N` random bytes in hex.
pub(crate) fn random_hex<const N: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no randomness")?;
    let mut hex = String::with_capacity(2 * N);
    for byte in bytes {
        // Writing to memory that grows does not fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
    }
    Ok(hex)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path().join("a/b"));
        place.create().unwrap();
        (dir, place)
    }

    fn mode(place: &Place, name: &str) -> u32 {
        fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn i22_everything_here_is_private() {
        let (_dir, place) = place();
        place.set_server("127.0.0.1:1".parse().unwrap()).unwrap();
        place.admin_token_or_new().unwrap();
        drop((place.lock_start().unwrap(), place.server_log().unwrap()));
        for name in ["server.json", "server.lock", "server.log", "admin.token"] {
            assert_eq!(mode(&place, name), 0o600, "{name}");
        }
        assert_eq!(mode(&place, ""), 0o700);
    }

    #[test]
    fn a_token_is_made_once() {
        let (_dir, place) = place();
        assert_eq!(place.admin_token(), None);
        let token = place.admin_token_or_new().unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(place.admin_token_or_new().unwrap(), token);
        assert_eq!(place.admin_token(), Some(token));
    }

    #[test]
    fn only_a_living_process_serves() {
        let (_dir, place) = place();
        assert_eq!(place.server(), None);
        let address = "127.0.0.1:4321".parse().unwrap();
        place.set_server(address).unwrap();
        assert_eq!(place.server().unwrap().address, address);
        place.clear_server();
        assert_eq!(place.server(), None);
        // No process has a number this high.
        let stale = format!(r#"{{"address":"127.0.0.1:1","pid":{}}}"#, i32::MAX);
        fs::write(place.path().join("server.json"), stale).unwrap();
        assert_eq!(place.server(), None);
        assert_eq!(place.last_server().unwrap().address.port(), 1);
    }

    #[test]
    fn a_server_that_wants_to_stop_takes_the_lock_or_goes_on() {
        let (_dir, place) = place();
        let starter = place.lock_start().unwrap();
        assert!(place.try_lock_start().unwrap().is_none());
        drop(starter);
        let server = place.try_lock_start().unwrap();
        assert!(server.is_some() && place.try_lock_start().unwrap().is_none());
    }

    #[test]
    fn starters_wait_for_each_other() {
        let (_dir, place) = place();
        let held = place.lock_start().unwrap();
        let other = File::open(place.path().join("server.lock")).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(held);
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}
