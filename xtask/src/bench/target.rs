//! The two sides of a comparison: this server, and the crate `durable-streams` in wal mode.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::event;
use crate::{
    live::{Answer, Conn, Live, Serve, http::request, server::pinned},
    repo::root,
};

/// The core of the server.
const SERVER_CORE: usize = 0;
/// The core of the load.
pub(super) const LOAD_CORE: usize = 1;

/// Where things are.
pub(super) struct Bench {
    ours: PathBuf,
    peer: PathBuf,
    scratch: TempDir,
    seconds: u64,
}

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This server, events durable on disk.
    Ours,
    /// The peer, in wal mode: durable on disk as well.
    Peer,
}

/// A running server with an empty data folder of its own.
pub(super) struct Target {
    side: Side,
    pub(super) live: Live,
    // After the server, which uses it.
    folder: TempDir,
}

impl Bench {
    pub(super) fn new(ours: PathBuf, seconds: u64) -> anyhow::Result<Self> {
        let peer = root().join(".tools/bin/durable-streams-server");
        let scratch = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
        Ok(Self { ours, peer, scratch, seconds })
    }

    /// A folder for what is measured.
    pub(super) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// How long a throughput is watched.
    pub(super) fn span(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    pub(super) async fn start(&self, side: Side) -> anyhow::Result<Target> {
        let folder = TempDir::new_in(self.scratch.path())?;
        let live = match side {
            Side::Ours => self.serve(&folder.path().join("data")).start().await?,
            Side::Peer => self.start_peer(folder.path()).await?,
        };
        Ok(Target { side, live, folder })
    }

    /// How this server is started on a data folder.
    pub(super) fn serve(&self, data: &Path) -> Serve {
        Serve { core: Some(SERVER_CORE), ..Serve::new(&self.ours, data) }
    }

    async fn start_peer(&self, folder: &Path) -> anyhow::Result<Live> {
        ensure!(
            self.peer.is_file(),
            "the peer is not there; get it with\n  \
             cargo install durable-streams --version 0.1.5 --locked --root .tools"
        );
        // Free a moment ago. Should another take it, the peer does not start and says so.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = pinned(&self.peer, Some(SERVER_CORE))
            .args(["--durability", "wal", "--port", &address.port().to_string(), "--data-dir"])
            .arg(folder.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the peer")?;
        Live::foreign(child, address).await
    }
}

impl Side {
    /// Both, ours first in every other round.
    pub(super) fn alternating(round: usize) -> [Self; 2] {
        if round.is_multiple_of(2) { [Self::Ours, Self::Peer] } else { [Self::Peer, Self::Ours] }
    }
}

impl Target {
    /// A server of ours that was started by other means; `folder` goes with it.
    pub(super) fn ours(live: Live, folder: TempDir) -> Self {
        Self { side: Side::Ours, live, folder }
    }

    /// The server, and its folder, which must outlive it.
    pub(super) fn apart(self) -> (Live, TempDir) {
        (self.live, self.folder)
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Makes a stream: a push run in a session of its own, or a stream of the peer.
    pub(super) async fn create(&self, conn: &mut Conn, name: &str) -> anyhow::Result<()> {
        let json_type = ("content-type", "application/json");
        let (request, status) = match self.side {
            Side::Ours => {
                let body = json!({"agent": "push", "run_id": name}).to_string();
                let path = format!("/v1/sessions/{name}/runs");
                (request("POST", &path, &[json_type], body.as_bytes()), 202)
            }
            Side::Peer => (request("PUT", &self.path(name), &[json_type], b""), 201),
        };
        let answer = conn.call(&request).await?;
        ensure!(answer.status() == status, "{name}: {} {}", answer.status(), answer.text());
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        match self.side {
            Side::Ours => format!("/v1/runs/{name}/events"),
            Side::Peer => format!("/v1/stream/{name}"),
        }
    }

    /// An append of this body.
    pub(super) fn append(&self, name: &str, body: &[u8]) -> Vec<u8> {
        request("POST", &self.path(name), &[("content-type", "application/json")], body)
    }

    /// An append of one event, whose bytes are the last [`event::BYTES`] of the request.
    pub(super) fn append_one(&self, name: &str) -> Vec<u8> {
        self.append(name, &[b' '; event::BYTES])
    }

    /// An attach from the first event on.
    pub(super) fn attach(&self, name: &str) -> Vec<u8> {
        let path = match self.side {
            Side::Ours => self.path(name),
            Side::Peer => format!("{}?offset=-1&live=sse", self.path(name)),
        };
        request("GET", &path, &[("accept", "text/event-stream")], b"")
    }
}

/// The answer to an append must be positive.
pub(super) fn appended(answer: &Answer) -> anyhow::Result<()> {
    let done = matches!(answer.status(), 200 | 204);
    ensure!(done, "an append was answered {} {}", answer.status(), answer.text());
    Ok(())
}
