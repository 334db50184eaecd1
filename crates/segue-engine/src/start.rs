//! Starting runs.

use std::sync::Arc;

use segue_core::{
    AgentName, Ingress, Limits, MessageId, OnRestart, Policy, RunId, SessionId, Source, TenantId,
    fold::{
        Message,
        said::{Said, SaidError, said},
    },
    lifecycle::StartMark,
};
use segue_journal::{
    StreamKey,
    views::{Value as Cell, ViewError},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    agents::InlineError,
    append::AppendError,
    engine::Engine,
    known::StartKey,
    launch::Plan,
    projection::{SESSIONS, rows},
    query::{QueryError, RunView},
    run::{Phase, Restart, RunFacts},
    supervisor::{Seat, SeatError},
};

/// A request to start a run.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// The session; made if it does not exist. A new one gets an id if there is none.
    pub session: Option<SessionId>,
    /// The run's id, unique in the tenant; chosen by the engine if there is none.
    pub run: Option<RunId>,
    /// The agent; the default one if there is neither agent nor source.
    pub agent: Option<AgentName>,
    /// A source described in the request, instead of an agent. The caller was allowed to.
    pub source: Option<Value>,
    /// What the user says: a string, a list of parts or a list of messages; null for nothing.
    pub input: Value,
    /// A message of the session: it and those after it are superseded by the first one that this
    /// start makes.
    pub replaces: Option<MessageId>,
    /// A run of the session that has ended: what the new one says is the end of its message.
    pub continues: Option<RunId>,
    /// Parameters for the source, an object.
    pub params: Value,
    /// What happens if the session has active runs.
    pub policy: Policy,
    /// The run's limits.
    pub limits: Limits,
    /// What a restart does with the run, where it does not interrupt it. Needs an agent, and
    /// [`OnRestart::Await`] one that takes appends.
    pub on_restart: Option<OnRestart>,
    /// The client's own data, an object.
    pub metadata: Value,
    /// Makes the start safe to send again. Without a session of its own it means nothing.
    pub key: Option<StartKey>,
}

/// A run that was started, by this request or by the same one before.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// The run.
    pub run: RunView,
    /// This request started it.
    pub is_new: bool,
}

impl StartRun {
    /// A start of this agent with nothing else said.
    pub fn of(agent: AgentName) -> Self {
        Self {
            session: None,
            run: None,
            agent: Some(agent),
            source: None,
            input: Value::Null,
            replaces: None,
            continues: None,
            params: json!({}),
            policy: Policy::Reject,
            limits: Limits::default(),
            on_restart: None,
            metadata: json!({}),
            key: None,
        }
    }
}

/// Why a run was not started. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is no agent of this name.
    #[error("there is no agent {0:?}")]
    UnknownAgent(AgentName),
    /// No agent was named and there is no default.
    #[error("name an agent, there is no default one")]
    NoAgent,
    /// Both an agent and a source were given.
    #[error("give either an agent or a source")]
    AgentAndSource,
    /// The source of the request is not one.
    #[error(transparent)]
    BadSource(#[from] InlineError),
    /// The source does not take these parameters.
    #[error("{0}")]
    BadParams(String),
    /// The input is none.
    #[error(transparent)]
    BadInput(#[from] SaidError),
    /// A message cannot both be taken the place of and go on.
    #[error("give either `replaces` or `continue`")]
    ReplacesAndContinues,
    /// The session's conversation does not have the message.
    #[error("the session has no message {0} to replace")]
    NothingToReplace(MessageId),
    /// The session's conversation does not have the run's message.
    #[error("the session has no message of a run {0} to continue")]
    NothingToContinue(RunId),
    /// The session has an active run.
    #[error("the session has an active run, {0}")]
    Busy(RunId),
    /// The run's id was used before.
    #[error("the run id was used before")]
    RunExists,
    /// The key or the run's id was used for this run by another request.
    #[error("another request has started the run {0} with this key or id")]
    Different(RunId),
    /// Only a configured agent can be found again after a restart.
    #[error("`on_restart` needs an agent, not a source in the request")]
    RestartNeedsAgent,
    /// Only a producer outside outlives the server.
    #[error("only runs that take events from outside can await their producer after a restart")]
    AwaitNeedsPush,
    /// The input is larger than an event may be.
    #[error("the input makes an event of {bytes} bytes, at most {max} are allowed")]
    InputTooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        max: usize,
    },
    /// The session's runs store as much as they may together.
    #[error("the session has {bytes} bytes of events, at most {max} are allowed")]
    SessionFull {
        /// What its ended runs store.
        bytes: u64,
        /// The cap.
        max: u64,
    },
    /// The engine shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The journal did not take it.
    #[error(transparent)]
    Journal(AppendError),
    /// The views could not be asked whether the request was made before.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl From<QueryError> for StartError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::View(error) => Self::View(error),
            QueryError::BadCursor | QueryError::NoWords => {
                Self::View(ViewError::Store(error.to_string()))
            }
        }
    }
}

impl Engine {
    /// Starts a run, or gives the one that the same request started before. When it returns, the
    /// run, its user's message and its session are durable; the run may have to wait for its turn.
    ///
    /// Dropping the future does not take the start back: once it began, the run is owned.
    pub async fn start(&self, tenant: &TenantId, request: StartRun) -> Result<Started, StartError> {
        let mark = request.mark();
        let run = request.run.clone().unwrap_or_else(|| self.inner.ids.run());
        let session = request.session.clone().unwrap_or_else(|| self.inner.ids.session());
        let stream = StreamKey::session(tenant, &session);
        let key = mark.key.as_ref().map(|key| format!("{stream}/{key}"));
        let names = self.claim(&StreamKey::run(tenant, &run), key).await;
        if let Some(run) = self.known(tenant, &request, &mark).await? {
            metrics::counter!("segue_starts_repeated_total").increment(1);
            return Ok(Started { run, is_new: false });
        }
        let message = self.message_of(tenant, &session, &request).await?;
        let plan = self.plan(tenant, request, run, session, mark)?.with_message(message);
        let seat = self.take_seat(&stream, &plan.facts.run, plan.policy).await?;
        let (answer, started) = oneshot::channel();
        let engine = self.clone();
        self.inner.spawner.spawn(async move { engine.launch(plan, seat, names, answer).await });
        let run = started.await.unwrap_or(Err(StartError::ShuttingDown))?;
        Ok(Started { run, is_new: true })
    }

    /// Waits until a run is not queued any more: started, ended, or left to the next start of the
    /// engine. `None` if it is not alive.
    pub async fn until_started(&self, tenant: &TenantId, run: &RunId) -> Option<RunView> {
        let mut phase = self.inner.supervisor.find(&StreamKey::run(tenant, run))?.watch();
        // An error: the run is gone without an end, left to the next start.
        drop(phase.wait_for(|phase| *phase != Phase::Queued).await);
        self.run(tenant, run).await.ok().flatten()
    }

    /// Takes a place in the session's line. Runs whose terminals are there already, so that the
    /// client may know them, have ended: their places are waited for.
    async fn take_seat(
        &self,
        session: &StreamKey,
        run: &RunId,
        policy: Policy,
    ) -> Result<Seat, StartError> {
        loop {
            let changed = self.inner.supervisor.changed();
            if !self.have_all_ended(session) {
                match self.inner.supervisor.take_seat(session, run, policy) {
                    Ok(seat) => return Ok(seat),
                    Err(SeatError::Busy(first)) => {
                        return Err(StartError::Busy(self.oldest_open(session).unwrap_or(first)));
                    }
                    Err(SeatError::Closing) => return Err(StartError::ShuttingDown),
                    // Its id is free again in a moment.
                    Err(SeatError::Gone) => return Err(StartError::Journal(AppendError::Retry)),
                    Err(SeatError::Later) => {}
                }
            }
            changed.await;
        }
    }

    /// Whether the session has a line of which every run has ended.
    fn have_all_ended(&self, session: &StreamKey) -> bool {
        let line = self.inner.supervisor.active(session);
        !line.is_empty() && line.iter().all(|run| self.has_ended(session, run))
    }

    /// The first run in the session's line whose terminal nobody can have seen.
    fn oldest_open(&self, session: &StreamKey) -> Option<RunId> {
        let line = self.inner.supervisor.active(session);
        line.into_iter().find(|run| !self.has_ended(session, run))
    }

    fn has_ended(&self, session: &StreamKey, run: &RunId) -> bool {
        let Ok(tenant) = TenantId::parse(session.tenant()) else { return false };
        let info = self.inner.journal.info(&StreamKey::run(&tenant, run));
        info.is_ok_and(|info| info.tail.closed)
    }

    /// The message that goes on, if one does. Checks that the session has what is to be replaced or
    /// continued.
    async fn message_of(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        request: &StartRun,
    ) -> Result<Option<MessageId>, StartError> {
        match (&request.replaces, &request.continues) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(StartError::ReplacesAndContinues),
            (Some(message), None) => {
                let can = self.can_replace(tenant, session, message).await?;
                if can { Ok(None) } else { Err(StartError::NothingToReplace(message.clone())) }
            }
            (None, Some(before)) => {
                let nothing = || StartError::NothingToContinue(before.clone());
                let before = self.run(tenant, before).await?.ok_or_else(nothing)?;
                if before.session_id != *session {
                    return Err(nothing());
                }
                if before.ended_at.is_none() {
                    return Err(StartError::Busy(before.id));
                }
                let can = self.can_replace(tenant, session, &before.message_id).await?;
                if can { Ok(Some(before.message_id)) } else { Err(nothing()) }
            }
        }
    }

    fn plan(
        &self,
        tenant: &TenantId,
        request: StartRun,
        run: RunId,
        session: SessionId,
        mark: StartMark,
    ) -> Result<Plan, StartError> {
        let limits = self.within_session(tenant, &session, request.limits.clone())?;
        let StartRun { agent, source, input, params, policy, metadata, .. } = request;
        let (supersedes, continues) = (request.replaces, request.continues);
        let on_restart = request.on_restart;
        let is_inline = source.is_some();
        let (agent, source) = self.resolve(agent, source)?;
        if on_restart.is_some() && is_inline {
            return Err(StartError::RestartNeedsAgent);
        }
        if on_restart == Some(OnRestart::Await) && source.ingress() != Ingress::Append {
            return Err(StartError::AwaitNeedsPush);
        }
        source.check(&params).map_err(|error| StartError::BadParams(error.message))?;
        let restart = on_restart.map(|how| Restart {
            how,
            policy,
            params: params.clone(),
            limits: limits.clone(),
            metadata: metadata.clone(),
        });
        let facts = RunFacts {
            tenant: tenant.clone(),
            message: MessageId::of_run(&run),
            continues,
            run,
            session,
            agent,
            limits,
            restart,
            metadata,
            created_at: self.inner.ids.clock.now(),
        };
        let said = self.said(&facts, &input)?;
        Ok(Plan { facts, source, input, said, supersedes, params, policy, mark })
    }

    /// The messages that a run's input is.
    fn said(&self, facts: &RunFacts, input: &Value) -> Result<Vec<Message>, StartError> {
        let message = |said: Said| {
            let id = said.id.clone().unwrap_or_else(|| self.inner.ids.message());
            let message = Message::said(id, facts.session.clone(), said, facts.created_at);
            Message { run_id: Some(facts.run.clone()), ..message }
        };
        Ok(said(input)?.into_iter().map(message).collect())
    }

    /// A run's limits where its session has only so much room left. What its other active runs are
    /// still to store is not known, so that together they may go over by as much.
    fn within_session(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        limits: Limits,
    ) -> Result<Limits, StartError> {
        let max = self.inner.settings.session_bytes;
        if max == 0 {
            return Ok(limits);
        }
        let key = Cell::Text(rows::key(tenant, session.as_str()));
        let row = self.inner.views.get(SESSIONS, &key)?;
        let bytes = row.as_ref().and_then(rows::stored_session_of).map_or(0, |stored| stored.bytes);
        let left = max.saturating_sub(bytes);
        match (left, limits.bytes) {
            (0, _) => Err(StartError::SessionFull { bytes, max }),
            (_, 0) => Ok(Limits { bytes: left, ..limits }),
            (_, asked) => Ok(Limits { bytes: asked.min(left), ..limits }),
        }
    }

    fn resolve(
        &self,
        agent: Option<AgentName>,
        source: Option<Value>,
    ) -> Result<(AgentName, Arc<dyn Source>), StartError> {
        let agents = &self.inner.agents;
        let name = match (agent, source) {
            (Some(_), Some(_)) => return Err(StartError::AgentAndSource),
            (None, Some(spec)) => return Ok(agents.build(&spec)?),
            (Some(name), None) => name,
            (None, None) => agents.default_agent().cloned().ok_or(StartError::NoAgent)?,
        };
        match agents.find(&name) {
            Some(source) => Ok((name, source)),
            None => Err(StartError::UnknownAgent(name)),
        }
    }
}
