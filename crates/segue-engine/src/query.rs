//! What clients see of runs and sessions.
//!
//! Rows come from the views, which are waited for until they hold every acknowledged write; what
//! is alive is laid over them.

use std::{sync::Arc, time::Duration};

use segue_core::{
    AgentName, InterruptionCause, MessageId, RunError, RunId, RunStatus, Seq, SessionId,
    StopReason, TenantId, Timestamp, fold::Message, lifecycle::Ending,
};
use segue_journal::{
    StreamKey,
    views::{Compare, Select, Value as Cell, ViewError},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    engine::Engine,
    projection::{RUNS, SESSIONS, rows},
    run::{Phase, Run},
};

/// A page of things.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct List<T> {
    /// The things.
    pub data: Vec<T>,
    /// What to ask for to go on; `None` at the end.
    pub next: Option<String>,
}

/// A run as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Its agent.
    pub agent: AgentName,
    /// Where it is.
    pub status: RunStatus,
    /// Why it is being or was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<StopReason>,
    /// What cut it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<InterruptionCause>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// The message it makes.
    pub message_id: MessageId,
    /// The run whose message it goes on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<RunId>,
    /// The position of its last event.
    pub last_seq: Seq,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its source began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its terminal was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// The client's own data.
    pub metadata: Value,
}

/// A session as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// A title for people.
    pub title: Option<String>,
    /// `busy` while a run is active, else `idle`.
    pub status: &'static str,
    /// The runs that are active.
    pub active_runs: Vec<RunId>,
    /// The client's own data.
    pub metadata: Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something last happened in it.
    pub updated_at: Timestamp,
}

/// Which runs to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// Only of this status.
    pub status: Option<RunStatus>,
    /// Only of this agent.
    pub agent: Option<AgentName>,
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only those accepted at or after this time.
    pub since: Option<Timestamp>,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// The most to give; 0 means [`crate::DEFAULT_LIMIT`].
    pub limit: usize,
}

/// Which sessions to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// The most to give; 0 means [`crate::DEFAULT_LIMIT`].
    pub limit: usize,
}

/// The page size when none is asked for.
pub const DEFAULT_LIMIT: usize = 50;
/// The largest page.
pub const MAX_LIMIT: usize = 1000;

/// How long a query waits for the views.
const VIEW_WAIT: Duration = Duration::from_secs(10);

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The `after` is not the `next` of a page.
    #[error("`after` must be the `next` of a page")]
    BadCursor,
    /// There is nothing to look for.
    #[error("the search needs a word of letters or digits")]
    NoWords,
    /// The views failed.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// Waits for the views, but not for ever: views that cannot be written must not hang whoever asks.
async fn in_time<T>(waiting: impl Future<Output = Result<T, ViewError>>) -> Result<T, ViewError> {
    match tokio::time::timeout(VIEW_WAIT, waiting).await {
        Ok(result) => result,
        Err(_) => {
            metrics::counter!("segue_view_wait_timeouts_total").increment(1);
            Err(ViewError::Store("the views are behind the journal".into()))
        }
    }
}

/// How many things a page has.
pub(crate) fn page_size(asked: usize) -> usize {
    if asked == 0 { DEFAULT_LIMIT } else { asked.min(MAX_LIMIT) }
}

impl RunView {
    pub(crate) fn of_alive(run: &Run, last_seq: Seq) -> Self {
        let facts = run.facts.clone();
        let phase = run.phase();
        let reason = match &phase {
            Phase::Queued | Phase::Running | Phase::Failing => None,
            Phase::Stopping(reason) => Some(*reason),
            Phase::Ended(outcome) => outcome.reason(),
        };
        Self {
            id: facts.run,
            session_id: facts.session,
            agent: facts.agent,
            status: phase.status(),
            reason,
            cause: None,
            error: None,
            message_id: facts.message,
            continues: facts.continues,
            last_seq,
            created_at: facts.created_at,
            started_at: run.started_at(),
            ended_at: None,
            usage: run.log().usage(),
            metadata: facts.metadata,
        }
    }

    pub(crate) fn with_ending(mut self, ending: Ending, at: Timestamp) -> Self {
        let Ending { status, reason, cause, error, usage } = ending;
        self.ended_at = Some(at);
        Self { status, reason, cause, error, usage, ..self }
    }
}

impl Engine {
    /// A run. `None` if the tenant has no such run.
    pub async fn run(&self, tenant: &TenantId, run: &RunId) -> Result<Option<RunView>, QueryError> {
        if let Some(alive) = self.find_open(tenant, run) {
            return Ok(Some(RunView::of_alive(&alive, self.last_seq(tenant, run))));
        }
        self.views_caught_up().await?;
        let key = Cell::Text(rows::key(tenant, run.as_str()));
        let row = self.inner.views.get(RUNS, &key)?;
        let stored = row.and_then(|row| rows::run_of(&row));
        Ok(stored.map(|view| self.with_life(tenant, view)))
    }

    /// Runs, newest first.
    pub async fn runs(
        &self,
        tenant: &TenantId,
        query: RunQuery,
    ) -> Result<List<RunView>, QueryError> {
        self.views_caught_up().await?;
        let text = |text: &str| Cell::Text(text.to_owned());
        let mut filter = vec![("tenant", Compare::Eq, text(tenant.as_str()))];
        // That a run is being stopped is known of its owner only, whether it was queued or running.
        filter.extend(query.status.map(|status| match status {
            RunStatus::Stopping => ("ended_at", Compare::Eq, Cell::Null),
            stored => ("status", Compare::Eq, text(stored.as_str())),
        }));
        filter.extend(query.agent.map(|agent| ("agent", Compare::Eq, text(agent.as_str()))));
        filter.extend(query.session.map(|id| ("session_id", Compare::Eq, text(id.as_str()))));
        filter.extend(query.since.map(|at| ("created_at", Compare::Ge, rows::time(at))));
        let (found, next) = self.page(RUNS, filter, query.after, query.limit)?;
        let views = found.iter().filter_map(rows::run_of);
        let views = views.map(|view| self.with_life(tenant, view));
        let data = views.filter(|view| query.status.is_none_or(|status| status == view.status));
        Ok(List { data: data.collect(), next })
    }

    /// A session. `None` if the tenant has no such session.
    pub async fn session(
        &self,
        tenant: &TenantId,
        id: &SessionId,
    ) -> Result<Option<SessionView>, QueryError> {
        self.views_caught_up().await?;
        let key = Cell::Text(rows::key(tenant, id.as_str()));
        let row = self.inner.views.get(SESSIONS, &key)?;
        Ok(row.and_then(|row| rows::session_of(&row)).map(|view| self.with_runs(tenant, view)))
    }

    /// Sessions, newest first.
    pub async fn sessions(
        &self,
        tenant: &TenantId,
        query: SessionQuery,
    ) -> Result<List<SessionView>, QueryError> {
        self.views_caught_up().await?;
        let filter = vec![("tenant", Compare::Eq, Cell::Text(tenant.to_string()))];
        let (found, next) = self.page(SESSIONS, filter, query.after, query.limit)?;
        let views = found.iter().filter_map(rows::session_of);
        Ok(List { data: views.map(|view| self.with_runs(tenant, view)).collect(), next })
    }

    fn page(
        &self,
        table: &'static str,
        filter: Vec<(&'static str, Compare, Cell)>,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Vec<Cell>>, Option<String>), QueryError> {
        let limit = page_size(limit);
        let after = after.map(|text| rows::parse_page(&text).ok_or(QueryError::BadCursor));
        let query = Select {
            table,
            filter,
            phrases: Vec::new(),
            order_by: "created_at",
            descending: true,
            after: after.transpose()?,
            limit: limit + 1,
        };
        let mut found = self.inner.views.select(&query)?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).and_then(|row| rows::page_after(table, row));
        Ok((found, next))
    }

    /// Waits until the views hold every acknowledged write but what runs say.
    pub(crate) async fn views_caught_up(&self) -> Result<(), ViewError> {
        in_time(self.inner.projection.caught_up(self.inner.journal.position())).await
    }

    /// Waits until the views hold every acknowledged write but what runs say whose messages go on.
    pub(crate) async fn views_ended(&self) -> Result<(), ViewError> {
        in_time(self.inner.projection.ended(self.inner.journal.position())).await
    }

    /// What runs say by now.
    pub(crate) async fn says_now(
        &self,
        runs: Vec<StreamKey>,
    ) -> Result<Vec<Option<Message>>, ViewError> {
        in_time(self.inner.projection.now(runs)).await
    }

    /// A run that is alive and whose terminal nobody can have seen yet.
    fn find_open(&self, tenant: &TenantId, run: &RunId) -> Option<Arc<Run>> {
        let stream = StreamKey::run(tenant, run);
        let alive = self.inner.supervisor.find(&stream)?;
        let is_closed = self.inner.journal.info(&stream).is_ok_and(|info| info.tail.closed);
        (!is_closed).then_some(alive)
    }

    fn last_seq(&self, tenant: &TenantId, run: &RunId) -> Seq {
        let info = self.inner.journal.info(&StreamKey::run(tenant, run));
        info.map_or(Seq::ZERO, |info| info.tail.next.prev())
    }

    pub(crate) fn with_life(&self, tenant: &TenantId, stored: RunView) -> RunView {
        let last_seq = self.last_seq(tenant, &stored.id);
        match self.find_open(tenant, &stored.id) {
            Some(alive) if !stored.status.is_terminal() => RunView::of_alive(&alive, last_seq),
            None if !stored.status.is_terminal() => self.with_terminal(tenant, stored, last_seq),
            Some(_) | None => RunView { last_seq, ..stored },
        }
    }

    /// A run whose session's stream could not take its end: the run's own stream has it.
    fn with_terminal(&self, tenant: &TenantId, stored: RunView, last_seq: Seq) -> RunView {
        let view = RunView { last_seq, ..stored };
        let ended = self.attach(tenant, &view.id).and_then(|stream| stream.terminal());
        match ended {
            Ok(Some((outcome, at))) => view.with_ending(Ending::from(&outcome), at),
            Ok(None) | Err(_) => view,
        }
    }

    fn with_runs(&self, tenant: &TenantId, mut view: SessionView) -> SessionView {
        let active = self.inner.supervisor.active(&StreamKey::session(tenant, &view.id));
        let active = active.into_iter().filter(|run| self.find_open(tenant, run).is_some());
        view.active_runs = active.collect();
        view.status = if view.active_runs.is_empty() { "idle" } else { "busy" };
        view
    }
}
