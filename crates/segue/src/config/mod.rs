//! Configuration: `segue.toml` < environment < flags, resolved once.
//!
//! Every key of the file but the tables of agents has a variable of its own: `SEGUE_` and the
//! key in upper case, such as `SEGUE_HEARTBEAT_S`. Lists are separated by commas there.

mod agents;
mod error;
mod file;
mod nearest;
mod resolve;
mod upstream;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use segue_core::AgentName;
use segue_engine::Retain;

pub(crate) use self::{
    agents::{AgentConfig, SourceConfig},
    error::ConfigError,
    nearest::nearest,
    resolve::{Flags, ProcessEnv, Setting, load},
};

#[cfg(test)]
pub(crate) use self::error::Origin;

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When it is on the disk.
    Disk,
    /// When the system has it: survives a killed process, not a power cut.
    Os,
    /// At once; nothing survives the process.
    Memory,
}

/// All settings of a server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) data: PathBuf,
    pub(crate) durability: Durability,
    /// How long an event stream is idle before a heartbeat.
    pub(crate) heartbeat: Duration,
    /// The longest life of an event stream; zero is for ever.
    pub(crate) stream_age: Duration,
    /// How long a client may take no byte before it is cut.
    pub(crate) write_deadline: Duration,
    /// How long a shutdown may take.
    pub(crate) shutdown: Duration,
    /// A server in the background stops when nothing ran and nobody was connected for as long;
    /// zero is never.
    pub(crate) background_idle: Duration,
    /// Names besides the loopback ones that a request's `Host` may have.
    pub(crate) allowed_hosts: Vec<String>,
    /// How long an ended run is replayed where a protocol resumes without a cursor.
    pub(crate) replay_grace: Duration,
    /// The path of the AI SDK's routes.
    pub(crate) ai_sdk_prefix: String,
    /// The path of `OpenAI`'s routes.
    pub(crate) openai_prefix: String,
    /// Origins besides our own that a browser's request may come from.
    pub(crate) allowed_origins: Vec<String>,
    /// The agent of a start that names none.
    pub(crate) default_agent: Option<AgentName>,
    pub(crate) agents: Vec<AgentConfig>,
    /// The size of a journal segment, in bytes.
    pub(crate) segment_bytes: u64,
    /// Segments that are kept before the oldest is packed, in bytes.
    pub(crate) hot_bytes: u64,
    /// What the runs of a session may store together, in bytes; zero is no limit.
    pub(crate) session_bytes: u64,
    /// What is kept of ended runs.
    pub(crate) retain: Retain,
    /// The budget of the cache of ready frames, in bytes.
    pub(crate) cache_bytes: usize,
    /// The same, key by key, as they can be shown.
    pub(crate) settings: Vec<Setting>,
}
