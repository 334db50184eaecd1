//! Starting runs.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use segue_core::{
    AgentName, Event, EventRecord, Ingress, Limits, MessageId, Outcome, RunId, RunInput, RunStatus,
    SessionId, Source, TenantId, Timestamp, lifecycle::Lifecycle,
};
use segue_journal::{Epoch, Part, StreamKey};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    agents::InlineError,
    append::AppendError,
    engine::Engine,
    query::RunView,
    run::{Command, FIRST_EPOCH, Run, RunFacts, RunLog, owner::own},
    sessions::Target,
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
    /// Parameters for the source, an object.
    pub params: Value,
    /// The run's limits.
    pub limits: Limits,
    /// The client's own data, an object.
    pub metadata: Value,
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
            params: json!({}),
            limits: Limits::default(),
            metadata: json!({}),
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
    /// The session has an active run.
    #[error("the session has an active run, {0}")]
    Busy(RunId),
    /// The run's id was used before.
    #[error("the run id was used before")]
    RunExists,
    /// The input is larger than an event may be.
    #[error("the input makes an event of {bytes} bytes, at most {max} are allowed")]
    InputTooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        max: usize,
    },
    /// The engine shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The journal did not take it.
    #[error(transparent)]
    Journal(AppendError),
}

/// A start that is allowed, before it is durable.
struct Plan {
    facts: RunFacts,
    source: Arc<dyn Source>,
    input: Value,
    params: Value,
}

/// A run that is durable and has yet to be driven.
struct Begun {
    run: Arc<Run>,
    inbox: mpsc::Receiver<Command>,
    source: Arc<dyn Source>,
    input: RunInput,
}

impl Engine {
    /// Starts a run. When it returns, the run, its user's message and its session are durable.
    ///
    /// Dropping the future does not take the start back: once it began, the run is owned.
    pub async fn start(&self, tenant: &TenantId, request: StartRun) -> Result<RunView, StartError> {
        let plan = self.plan(tenant, request)?;
        let session = StreamKey::session(tenant, &plan.facts.session);
        let seat = self.take_seat(&session, &plan.facts.run).await;
        let seat = seat.map_err(|error| match error {
            SeatError::Busy(run) => StartError::Busy(run),
            SeatError::Closing => StartError::ShuttingDown,
        })?;
        let (answer, started) = oneshot::channel();
        let engine = self.clone();
        self.inner.spawner.spawn(async move { engine.run_to_end(plan, seat, answer).await });
        started.await.unwrap_or(Err(StartError::ShuttingDown))
    }

    /// Takes the session's seat. A run whose terminal is there already, so that the client may
    /// know it, has ended: its seat is waited for.
    async fn take_seat(&self, session: &StreamKey, run: &RunId) -> Result<Seat, SeatError> {
        loop {
            let freed = self.inner.supervisor.changed();
            match self.inner.supervisor.take_seat(session, run) {
                Err(SeatError::Busy(seated)) if self.has_ended(session, &seated) => freed.await,
                other => return other,
            }
        }
    }

    fn has_ended(&self, session: &StreamKey, run: &RunId) -> bool {
        let tenant = TenantId::parse(session.tenant()).ok();
        let stream = tenant.map(|tenant| StreamKey::run(&tenant, run));
        let info = stream.and_then(|stream| self.inner.journal.info(&stream).ok());
        info.is_some_and(|info| info.tail.closed)
    }

    fn plan(&self, tenant: &TenantId, request: StartRun) -> Result<Plan, StartError> {
        let StartRun { session, run, agent, source, input, params, limits, metadata } = request;
        let (agent, source) = self.resolve(agent, source)?;
        source.check(&params).map_err(|error| StartError::BadParams(error.message))?;
        let run = run.unwrap_or_else(|| self.inner.ids.run());
        let facts = RunFacts {
            tenant: tenant.clone(),
            message: MessageId::of_run(&run),
            run,
            session: session.unwrap_or_else(|| self.inner.ids.session()),
            agent,
            limits,
            metadata,
            created_at: self.inner.ids.clock.now(),
        };
        Ok(Plan { facts, source, input, params })
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

    async fn run_to_end(
        self,
        plan: Plan,
        seat: Seat,
        answer: oneshot::Sender<Result<RunView, StartError>>,
    ) {
        let begun = match self.begin(plan).await {
            Ok(begun) => begun,
            Err(error) => {
                drop(seat);
                // Whoever asked may have gone.
                return drop(answer.send(Err(error)));
            }
        };
        metrics::counter!("segue_runs_started_total").increment(1);
        let Begun { run, inbox, source, input } = begun;
        if self.inner.supervisor.is_closing() {
            run.stop_at_once();
        }
        drop(answer.send(Ok(RunView::of_alive(&run, segue_core::Seq::FIRST))));
        let owned = own(run.clone(), source, input, inbox, &self.inner.settings);
        if AssertUnwindSafe(owned).catch_unwind().await.is_err() {
            metrics::counter!("segue_owner_panics_total").increment(1);
            run.end_after_panic().await;
        }
        self.inner.supervisor.remove(&run.stream);
        drop(seat);
        let status = run.phase().status().as_str();
        metrics::counter!("segue_runs_ended_total", "status" => status).increment(1);
    }

    async fn begin(&self, plan: Plan) -> Result<Begun, StartError> {
        let Plan { facts, source, input, params } = plan;
        let started = started_event(&facts, &input);
        let max = self.inner.settings.event_bytes;
        if started.json().len() > max {
            return Err(StartError::InputTooLarge { bytes: started.json().len(), max });
        }
        let at = self.commit_start(&facts, &started, &input).await?;
        let facts = RunFacts { created_at: at, ..facts };
        let input = RunInput {
            run: facts.run.clone(),
            session: facts.session.clone(),
            agent: facts.agent.clone(),
            input,
            params,
        };
        let takes_appends = source.ingress() == Ingress::Append;
        let log = RunLog::new(&[started]);
        let journal = self.inner.journal.clone();
        let (run, inbox) = Run::new(facts, journal, takes_appends, max, log);
        self.inner.supervisor.insert(run.clone());
        Ok(Begun { run, inbox, source, input })
    }

    /// One batch: the session (and its entry in the catalogue, if it is new), the user's message,
    /// the run's creation, and the run's stream with its first event. Gives their time.
    async fn commit_start(
        &self,
        facts: &RunFacts,
        started: &Event,
        input: &Value,
    ) -> Result<Timestamp, StartError> {
        let mut records = Vec::with_capacity(2);
        if !input.is_null() {
            records.push(Lifecycle::MessageCreated {
                message_id: self.inner.ids.message(),
                run_id: facts.run.clone(),
                input: input.clone(),
            });
        }
        records.push(Lifecycle::RunCreated {
            run_id: facts.run.clone(),
            message_id: facts.message.clone(),
            agent: facts.agent.clone(),
            status: RunStatus::Running,
            metadata: facts.metadata.clone(),
        });
        let stream = StreamKey::run(&facts.tenant, &facts.run);
        let first = vec![EventRecord::encode(started)];
        let create = Part::create(stream, Epoch(FIRST_EPOCH), first);
        let (tenant, session) = (&facts.tenant, &facts.session);
        match self.commit_to_session(tenant, session, Target::Any, &records, &[create]).await {
            Ok(committed) => Ok(committed.parts.last().map_or(facts.created_at, |part| part.at)),
            Err(AppendError::RunExists) => Err(StartError::RunExists),
            Err(AppendError::EventTooLarge { bytes, max }) => {
                Err(StartError::InputTooLarge { bytes, max })
            }
            Err(error) => Err(StartError::Journal(error)),
        }
    }
}

fn started_event(facts: &RunFacts, input: &Value) -> Event {
    Event::build(&json!({
        "type": "run.started",
        "session_id": facts.session,
        "message_id": facts.message,
        "agent": facts.agent,
        "input": input,
        "facades": {"native": 1},
    }))
}

impl Run {
    /// The owner broke down; the run still gets its terminal.
    async fn end_after_panic(&self) {
        let outcome = Outcome::failed("internal", "the server broke down while it drove the run");
        self.end_as_is(outcome).await;
    }
}
