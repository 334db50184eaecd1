//! From a start that is allowed to the end of its run.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use segue_core::{
    Event, EventRecord, Ingress, MessageId, Outcome, Policy, RunInput, RunStatus, Seq, Source,
    Timestamp,
    fold::Message,
    lifecycle::{Ending, Lifecycle, StartMark},
};
use segue_journal::{Epoch, Part, StreamKey};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    append::AppendError,
    engine::Engine,
    query::RunView,
    recovery::First,
    run::{
        Activity, Command, FIRST_EPOCH, Phase, Run, RunFacts, RunLog, StopCommand, Turn,
        owner::own, terminal_parts,
    },
    sessions::Target,
    start::StartError,
    supervisor::{Names, Seat},
};

/// A start that is allowed, before it is durable.
pub(crate) struct Plan {
    pub(crate) facts: RunFacts,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) input: Value,
    /// The messages that the input is.
    pub(crate) said: Vec<Message>,
    /// The first message that is superseded.
    pub(crate) supersedes: Option<MessageId>,
    pub(crate) params: Value,
    pub(crate) policy: Policy,
    pub(crate) mark: StartMark,
}

impl Plan {
    /// It makes the end of this message instead of one of its own.
    pub(crate) fn with_message(mut self, message: Option<MessageId>) -> Self {
        self.facts.message = message.unwrap_or(self.facts.message);
        self
    }
}

/// A run that is durable, with its place in the session's line.
pub(crate) struct Alive {
    pub(crate) run: Arc<Run>,
    pub(crate) seat: Seat,
    pub(crate) job: Job,
}

/// What is to be done for a run.
pub(crate) struct Job {
    pub(crate) inbox: mpsc::Receiver<Command>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) input: RunInput,
    /// It stops the runs before it.
    pub(crate) replaces: bool,
    /// Stops that came before the run.
    pub(crate) stops: Vec<StopCommand>,
}

/// What a start became.
enum Begun {
    Alive(Alive),
    /// It was stopped before: created and ended at once.
    Stopped(RunView),
}

impl Engine {
    /// Makes the run durable, answers, and drives it to its end.
    pub(crate) async fn launch(
        self,
        plan: Plan,
        seat: Seat,
        names: Names,
        answer: oneshot::Sender<Result<RunView, StartError>>,
    ) {
        // Whoever asked may have gone, in every case.
        let alive = match self.begin(plan, seat, names).await {
            Ok(Begun::Alive(alive)) => alive,
            Ok(Begun::Stopped(view)) => return drop(answer.send(Ok(view))),
            Err(error) => return drop(answer.send(Err(error))),
        };
        if self.inner.supervisor.is_closing() {
            alive.run.stop_at_once();
        }
        drop(answer.send(Ok(RunView::of_alive(&alive.run, Seq::FIRST))));
        self.see_through(alive).await;
    }

    /// Drives a run to its end and gives its place back, whatever happens on the way.
    pub(crate) async fn see_through(self, alive: Alive) {
        let Alive { run, mut seat, job } = alive;
        let driven = self.drive(&run, &mut seat, job);
        if AssertUnwindSafe(driven).catch_unwind().await.is_err() {
            metrics::counter!("segue_owner_panics_total").increment(1);
            run.end_after_panic().await;
        }
        self.inner.supervisor.remove(&run.stream);
        drop(seat);
        self.inner.retention.wake();
        count_end(run.phase().status());
    }

    async fn begin(&self, plan: Plan, seat: Seat, names: Names) -> Result<Begun, StartError> {
        let (facts, input) = (&plan.facts, &plan.input);
        let event = if seat.waits() {
            queued_event(facts, input, seat.turn())
        } else {
            with_restart(started_fields(facts, input), facts)
        };
        let max = self.inner.settings.event_bytes;
        if event.json().len() > max {
            return Err(StartError::InputTooLarge { bytes: event.json().len(), max });
        }
        if let Some(outcome) = names.stopped() {
            return self.begin_stopped(plan, &seat, names, &outcome).await;
        }
        let first = Part::create(
            StreamKey::run(&plan.facts.tenant, &plan.facts.run),
            Epoch(FIRST_EPOCH),
            vec![EventRecord::encode(&event)],
        );
        let status = if seat.waits() { RunStatus::Queued } else { RunStatus::Running };
        let at = self.commit_start(&plan, status, &[first]).await?;
        metrics::counter!("segue_runs_started_total").increment(1);
        let Plan { facts, source, input, params, policy, .. } = plan;
        let facts = RunFacts { created_at: at, ..facts };
        let input = run_input(&facts, input, params);
        let takes_appends = source.ingress() == Ingress::Append;
        let (log, started_at) = (RunLog::new(&[event]), (!seat.waits()).then_some(at));
        let journal = self.inner.journal.clone();
        let activity = Activity::start();
        let (run, inbox) = Run::new(facts, journal, takes_appends, max, log, activity, started_at);
        let stops = self.inner.supervisor.insert(&run, &seat, Some(names));
        let replaces = policy == Policy::Replace;
        let job = Job { inbox, source, input, replaces, stops };
        Ok(Begun::Alive(Alive { run, seat, job }))
    }

    /// A run that was stopped before it exists: queued and ended in one batch. Nothing is started
    /// and nobody replaced.
    async fn begin_stopped(
        &self,
        plan: Plan,
        seat: &Seat,
        mut names: Names,
        outcome: &Outcome,
    ) -> Result<Begun, StartError> {
        let queued = queued_event(&plan.facts, &plan.input, seat.turn());
        let stream = StreamKey::run(&plan.facts.tenant, &plan.facts.run);
        let first = vec![EventRecord::encode(&queued)];
        let mut parts = vec![Part::create(stream, Epoch(FIRST_EPOCH), first)];
        let mut log = RunLog::new(&[queued]);
        parts.extend(terminal_parts(&mut log, &plan.facts, &[], outcome, None));
        let at = self.commit_start(&plan, RunStatus::Queued, &parts).await?;
        metrics::counter!("segue_runs_started_total").increment(1);
        count_end(outcome.status());
        for (index, stop) in names.take_stops().into_iter().enumerate() {
            stop.answer(index == 0);
        }
        let last_seq = log.next().prev();
        let facts = RunFacts { created_at: at, ..plan.facts };
        let journal = self.inner.journal.clone();
        let (run, _) = Run::new(facts, journal, false, 0, log, Activity::start(), None);
        let view = RunView::of_alive(&run, last_seq).with_ending(Ending::from(outcome), at);
        Ok(Begun::Stopped(view))
    }

    /// One batch: the session (and its entry in the catalogue, if it is new), the user's message,
    /// the run's creation, and what `parts` do to the run's stream. Gives their time.
    async fn commit_start(
        &self,
        plan: &Plan,
        status: RunStatus,
        parts: &[Part],
    ) -> Result<Timestamp, StartError> {
        let Plan { facts, said, mark, .. } = plan;
        // What takes the place of others is the first that is new.
        let mut supersedes = plan.supersedes.clone();
        let mut records = Vec::with_capacity(said.len() + 1);
        records.extend(said.iter().map(|message| {
            let message = Box::new(message.clone());
            Lifecycle::MessageCreated { message, replaces: supersedes.take() }
        }));
        records.push(Lifecycle::RunCreated {
            run_id: facts.run.clone(),
            message_id: facts.message.clone(),
            agent: facts.agent.clone(),
            status,
            metadata: facts.metadata.clone(),
            mark: mark.clone(),
            continues: facts.continues.clone(),
            replaces: supersedes,
        });
        let (tenant, session) = (&facts.tenant, &facts.session);
        match self.commit_to_session(tenant, session, Target::Any, &records, parts).await {
            Ok(committed) => Ok(committed.parts.last().map_or(facts.created_at, |part| part.at)),
            Err(AppendError::RunExists) => Err(StartError::RunExists),
            Err(AppendError::EventTooLarge { bytes, max }) => {
                Err(StartError::InputTooLarge { bytes, max })
            }
            Err(error) => Err(StartError::Journal(error)),
        }
    }
}

impl Engine {
    async fn drive(&self, run: &Arc<Run>, seat: &mut Seat, job: Job) {
        let Job { mut inbox, source, mut input, replaces, stops } = job;
        let is_queued = run.phase() == Phase::Queued;
        if is_queued {
            // However many wait: what they were asked is in the journal and not in memory.
            input.input = Value::Null;
        }
        let turn = match (stops.is_empty(), is_queued) {
            (false, _) => Turn::Stopped(stops),
            (true, true) => run.wait_for_turn(&mut inbox, seat, replaces).await,
            (true, false) => Turn::Come,
        };
        let turn = match turn {
            Turn::Come if is_queued => match begin_queued(run, &mut input).await {
                Ok(()) => Turn::Come,
                Err(error) => {
                    tracing::error!(run = %run.facts.run, %error, "a queued run could not begin");
                    Turn::Failed(Outcome::failed("journal", "the server could not store the run"))
                }
            },
            other => other,
        };
        let turn = match turn {
            Turn::Come => self.tell(run, &*source, &mut input).await,
            other => other,
        };
        match turn {
            Turn::Come => own(run.clone(), source, input, inbox, &self.inner.settings).await,
            Turn::Stopped(stops) => {
                run.end_stopped(stops).await;
                run.answer_rest(inbox).await;
            }
            Turn::Failed(outcome) => {
                run.end_as_is(outcome).await;
                run.answer_rest(inbox).await;
            }
            Turn::Left => run.answer_rest(inbox).await,
        }
    }

    /// What the source wants to know of the conversation.
    async fn tell(&self, run: &Run, source: &dyn Source, input: &mut RunInput) -> Turn {
        match self.history(&run.facts, &input.input, source.history_bytes()).await {
            Ok(history) => {
                input.history = history;
                Turn::Come
            }
            Err(error) => {
                tracing::error!(run = %run.facts.run, %error, "the conversation could not be read");
                Turn::Failed(Outcome::failed(
                    "history",
                    "the server could not read the conversation",
                ))
            }
        }
    }
}

/// Reads what the run was asked, and writes that it begins.
async fn begin_queued(run: &Run, input: &mut RunInput) -> Result<(), AppendError> {
    input.input = First::read(&*run.journal, &run.stream)?.input;
    run.begin(&Event::build(&started_fields(&run.facts, &input.input))).await
}

/// A run that is left to the next start has not ended.
fn count_end(status: RunStatus) {
    if status.is_terminal() {
        metrics::counter!("segue_runs_ended_total", "status" => status.as_str()).increment(1);
    }
}

pub(crate) fn run_input(facts: &RunFacts, input: Value, params: Value) -> RunInput {
    RunInput {
        run: facts.run.clone(),
        session: facts.session.clone(),
        agent: facts.agent.clone(),
        input,
        history: Vec::new(),
        params,
    }
}

/// The first event of a run that has to wait.
fn queued_event(facts: &RunFacts, input: &Value, turn: u64) -> Event {
    let mut fields = first_fields("run.queued", facts, input);
    fields["turn"] = json!(turn);
    with_restart(fields, facts)
}

/// Says that a run is at work.
fn started_fields(facts: &RunFacts, input: &Value) -> Value {
    let mut fields = first_fields("run.started", facts, input);
    fields["facades"] = json!({"native": 1, "ai_sdk": 1, "openai_responses": 1, "openai_chat": 1});
    fields
}

/// What a restart needs stands in the run's first event, where recovery looks, and in no other.
fn with_restart(mut fields: Value, facts: &RunFacts) -> Event {
    if let Some(restart) = &facts.restart {
        fields["restart"] = json!(restart);
    }
    Event::build(&fields)
}

fn first_fields(name: &str, facts: &RunFacts, input: &Value) -> Value {
    let mut fields = json!({
        "type": name,
        "session_id": facts.session,
        "message_id": facts.message,
        "agent": facts.agent,
        "input": input,
    });
    if let Some(run) = &facts.continues {
        fields["continues"] = json!(run);
    }
    fields
}

impl Run {
    /// The owner broke down; the run still gets its terminal.
    async fn end_after_panic(&self) {
        let outcome = Outcome::failed("internal", "the server broke down while it drove the run");
        self.end_as_is(outcome).await;
    }
}
