//! Runs detached from their clients.
//!
//! An [`Engine`] owns runs: it starts a source, journals what it gives, ends the run with exactly
//! one terminal event, and recovers the runs of a process that died. Clients attach to the
//! journal with a [`Reader`] and have no power over a run by their presence. This crate knows no
//! HTTP, no `SQLite` and no concrete source.

mod agents;
mod append;
mod attach;
mod attached;
mod clock;
mod control;
mod delete;
mod engine;
mod feed;
mod fork;
mod ids;
mod known;
mod launch;
mod line;
mod messages;
mod projection;
mod query;
mod reader;
mod recovery;
mod retention;
mod run;
mod sessions;
mod shutdown;
mod snapshot;
mod spawner;
mod start;
mod stop;
mod store;
mod supervisor;
mod tombstones;
mod transfer;

pub use agents::{AgentView, Agents, BuildSource, Inline, InlineError};
pub use append::{AppendError, Appended, Pending};
pub use attach::RunStream;
pub use clock::SystemClock;
pub use control::{ControlInbox, ControlItem, ControlKind};
pub use delete::DeleteError;
pub use engine::{Engine, EngineOptions, OpenError, Settings};
pub use feed::{Feed, FeedCounts, FeedOptions, Heard, Subscription};
pub use fork::ForkSession;
pub use ids::Entropy;
pub use known::StartKey;
pub use messages::{CreateMessage, MessageError, MessageQuery, SearchHit, SearchQuery};
pub use projection::{SCHEMA, rebuild};
pub use query::{
    DEFAULT_LIMIT, List, MAX_LIMIT, QueryError, RunQuery, RunView, SessionQuery, SessionView,
};
pub use reader::{Facade, Fill, Frames, Place, Reader};
pub use retention::Retain;
pub use sessions::{CreateSession, SessionError, UpdateSession};
pub use shutdown::ShutdownReport;
pub use start::{StartError, StartRun, Started};
pub use stop::{StopError, StopRequest, Stopped};
pub use store::{MessageEvent, MessageStore, StoreCounts, StoreError, StoreOptions};
pub use transfer::{Export, ImportError};
