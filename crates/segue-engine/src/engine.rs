//! The engine: everything below a server, as one handle.

use std::{path::PathBuf, sync::Arc, time::Duration};

use segue_core::{AgentName, Clock, ModelOptions, Timestamp, limits};
use segue_journal::{
    BackupError, Journal, ReadError,
    views::{ViewError, ViewStore},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    agents::{AgentView, Agents},
    attached::Attached,
    delete::{self, Deletions},
    ids::{Entropy, Ids},
    projection::Projection,
    recovery,
    retention::{Retain, Retention},
    shutdown::ShutdownReport,
    snapshot::Snapshots,
    spawner::Spawner,
    store::Stores,
    supervisor::Supervisor,
};

/// Owns runs. Cheap to clone; the last clone's drop does not stop anything: call
/// [`Engine::shutdown`].
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) views: Arc<dyn ViewStore>,
    pub(crate) agents: Agents,
    pub(crate) ids: Ids,
    pub(crate) settings: Settings,
    pub(crate) spawner: Spawner,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) projection: Projection,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) attached: Arc<Attached>,
    pub(crate) deletions: Deletions,
    pub(crate) retention: Retention,
    pub(crate) stores: Stores,
    /// What the shutdown left, once it is over.
    pub(crate) down: OnceCell<ShutdownReport>,
}

/// What an engine is made of.
pub struct EngineOptions {
    /// Where streams are kept.
    pub journal: Arc<dyn Journal>,
    /// Where views are kept; opened with [`crate::SCHEMA`].
    pub views: Arc<dyn ViewStore>,
    /// Who can be asked to run.
    pub agents: Agents,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The randomness of ids.
    pub entropy: Entropy,
    /// Numbers.
    pub settings: Settings,
}

/// The numbers of an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most bytes of JSON an event may have.
    pub event_bytes: usize,
    /// How long a source or a push producer may still write after a stop was accepted.
    pub grace: Duration,
    /// The longest a stop waits for the end of its run.
    pub stop_wait: Duration,
    /// The most bytes of events that the runs of a session may store together; 0 is no limit.
    pub session_bytes: u64,
    /// What is kept of ended runs.
    pub retain: Retain,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            event_bytes: limits::EVENT_BYTES,
            grace: Duration::from_secs(10),
            stop_wait: Duration::from_secs(30),
            session_bytes: limits::SESSION_BYTES,
            retain: Retain::default(),
        }
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal could not be read.
    #[error("recovery could not read the journal: {0}")]
    Read(#[from] ReadError),
    /// The journal did not take what recovery wrote.
    #[error("recovery could not write to the journal: {0}")]
    Write(#[from] segue_journal::AppendError),
    /// The view store failed.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl Engine {
    /// Starts an engine: recovers the runs that a process before left open, then is ready. The
    /// views are brought up to date beside; queries wait for them. Must be called in a tokio runtime, which runs its tasks.
    pub async fn open(options: EngineOptions) -> Result<Self, OpenError> {
        let EngineOptions { journal, views, agents, clock, entropy, settings } = options;
        let spawner = Spawner::current();
        let projection = Projection::start(journal.clone(), views.clone(), &spawner)?;
        let inner = Inner {
            journal,
            views,
            agents,
            ids: Ids { clock, entropy },
            settings,
            spawner,
            supervisor: Arc::default(),
            projection,
            snapshots: Arc::default(),
            attached: Arc::default(),
            deletions: Deletions::default(),
            retention: Retention::default(),
            stores: Stores::default(),
            down: OnceCell::new(),
        };
        let engine = Self { inner: Arc::new(inner) };
        if let Err(error) = engine.begin_again().await {
            engine.inner.projection.stop();
            return Err(error);
        }
        engine.start_retention();
        Ok(engine)
    }

    /// Ends or goes on with what a process before this one left.
    async fn begin_again(&self) -> Result<(), OpenError> {
        let deletions = delete::resume(self).await?;
        recovery::recover(self).await?;
        for deletion in deletions {
            deletion.go_on(self);
        }
        Ok(())
    }

    /// The agents as clients see them.
    pub fn agents(&self) -> Vec<AgentView> {
        self.inner.agents.views()
    }

    /// Copies everything that is acknowledged into a new folder, while the engine goes on. Gives its
    /// bytes.
    pub async fn backup(&self, to: PathBuf) -> Result<u64, BackupError> {
        self.inner.journal.backup(to).await
    }

    /// The parameters of a start of an agent, or of the default one, that ask for these options; an
    /// empty object where it takes none. Fails with a message for a person where it cannot do what
    /// is asked.
    pub fn params(
        &self,
        agent: Option<&AgentName>,
        options: &ModelOptions,
    ) -> Result<Value, String> {
        let agents = &self.inner.agents;
        let source = agent.or_else(|| agents.default_agent()).and_then(|agent| agents.find(agent));
        match source.map(|source| source.params(options)).transpose()? {
            Some(Value::Object(fields)) => Ok(Value::Object(fields)),
            Some(_) | None => Ok(json!({})),
        }
    }

    /// The numbers this engine runs with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// How many runs are alive: running, waiting, or being started.
    pub fn active_runs(&self) -> usize {
        self.inner.supervisor.seats()
    }

    /// Refuses new work from here on if no run is alive, in one step; tells whether it does. A
    /// start is refused after it or keeps the engine open.
    pub fn close_if_idle(&self) -> bool {
        self.inner.supervisor.close_if_empty()
    }

    /// The time on the engine's clock, by which what it stores is dated.
    pub fn now(&self) -> Timestamp {
        self.inner.ids.clock.now()
    }

    /// Whether it takes new work.
    pub fn is_ready(&self) -> bool {
        !self.inner.supervisor.is_closing()
    }
}
