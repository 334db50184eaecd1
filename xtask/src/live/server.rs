//! A server as a child process.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::Conn;

/// How long a server may take until it answers, recovery included.
const READY: Duration = Duration::from_secs(30);
/// How long a server may take to end after it was asked to.
const GOODBYE: Duration = Duration::from_mins(1);

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Serve {
    /// The `segue` binary.
    pub(crate) binary: PathBuf,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// The durability level, `disk` by default.
    pub(crate) durability: &'static str,
    /// The core it may use; all of them if absent.
    pub(crate) core: Option<usize>,
    /// Settings of its environment.
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

/// A running server. Killed when dropped.
pub(crate) struct Live {
    child: Child,
    pid: Pid,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The token of the admin scope; empty if the server has none.
    pub(crate) token: String,
}

/// What a server says of itself in its data folder.
#[derive(Deserialize)]
struct ServerFile {
    address: SocketAddr,
    pid: i32,
}

impl Serve {
    pub(crate) fn new(binary: &Path, data: &Path) -> Self {
        let (binary, data) = (binary.to_owned(), data.to_owned());
        Self { binary, data, durability: "disk", core: None, settings: &[] }
    }

    /// Starts the server and does not wait for it. What it says goes to `<data>.log`.
    pub(crate) fn spawn(&self) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = pinned(&self.binary, self.core);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--durability", self.durability, "--data"])
            .arg(&self.data)
            .envs(self.settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))
    }

    /// Starts the server and waits until it listens.
    pub(crate) async fn start(&self) -> anyhow::Result<Live> {
        self.ready(self.spawn()?).await
    }

    /// Waits until a server that was started listens.
    pub(crate) async fn ready(&self, mut child: Child) -> anyhow::Result<Live> {
        let pid = pid_of(&child)?;
        let deadline = Instant::now() + READY;
        loop {
            if let Some(file) =
                self.server_file().filter(|file| file.pid == pid.as_raw_nonzero().get())
            {
                let token = fs::read_to_string(self.data.join("admin.token")).unwrap_or_default();
                let token = token.trim().to_owned();
                return Ok(Live { child, pid, address: file.address, token });
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the server ended with {status} instead of serving, see {}",
                    self.log().display()
                );
            }
            if Instant::now() > deadline {
                bail!("the server is not ready after {READY:?}, see {}", self.log().display());
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Where the server's words go.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn server_file(&self) -> Option<ServerFile> {
        serde_json::from_slice(&fs::read(self.data.join("server.json")).ok()?).ok()
    }
}

impl Live {
    /// A server of another kind, which listens at `address` at some point.
    pub(crate) async fn foreign(mut child: Child, address: SocketAddr) -> anyhow::Result<Self> {
        let deadline = Instant::now() + READY;
        while Conn::open(address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the server at {address} ended with {status}");
            }
            if Instant::now() > deadline {
                bail!("nothing listens at {address} after {READY:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { pid: pid_of(&child)?, child, address, token: String::new() })
    }

    /// A new connection to it.
    pub(crate) async fn connect(&self) -> anyhow::Result<Conn> {
        Conn::open(self.address)
            .await
            .with_context(|| format!("cannot connect to {}", self.address))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it at once and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the server")
    }

    /// Waits until it is gone after it was killed by its [`Live::pid`].
    pub(crate) async fn killed(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await?;
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        anyhow::ensure!(killed, "the server ended by itself with {status}");
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        kill_process(self.pid, Signal::TERM)?;
        let status = tokio::time::timeout(GOODBYE, self.child.wait());
        let status = status.await.context("the server does not end after SIGTERM")??;
        anyhow::ensure!(status.success(), "the server ended with {status} after SIGTERM");
        Ok(())
    }

    /// Bytes of memory it holds (resident set).
    pub(crate) fn rss(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let text = fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib << 10)
    }
}

/// A command that may use one core only, if one is given. Killed when dropped.
pub(crate) fn pinned(program: &Path, core: Option<usize>) -> Command {
    let mut command = match core {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
    };
    command.kill_on_drop(true);
    command
}

fn pid_of(child: &Child) -> anyhow::Result<Pid> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    pid.context("the server is gone")
}
