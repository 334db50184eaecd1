//! The tables of the views, and how rows become what clients see.

use segue_core::{
    AgentName, MessageId, RunId, RunStatus, Seq, SessionId, TenantId, Timestamp,
    lifecycle::StartMark,
};
use segue_journal::views::{
    Column, ColumnKind, Row, Schema, Table, Value as Cell, ViewError, ViewStore,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::query::{RunView, SessionView};

/// The table of runs.
pub(crate) const RUNS: &str = "runs";
/// The table of sessions.
pub(crate) const SESSIONS: &str = "sessions";
/// The table of sums, a row a tenant.
pub(crate) const TOTALS: &str = "totals";

pub(super) const fn text(name: &'static str) -> Column {
    Column { name, kind: ColumnKind::Text }
}

pub(super) const fn int(name: &'static str) -> Column {
    Column { name, kind: ColumnKind::Int }
}

/// The tables that the engine keeps. `key` is `<tenant>/<id>`; times are milliseconds since the
/// Unix epoch; `error`, `usage` and `metadata` are JSON. `bytes` are those of events' JSON: of a run
/// once it has ended, of a session and in the totals of ended runs that are not trimmed. `final_seq` is the place
/// of a trimmed run's `message.final` in its session's stream.
pub const SCHEMA: Schema = Schema {
    version: 6,
    tables: &[
        super::message::TABLE,
        Table {
            name: SESSIONS,
            columns: &[
                text("key"),
                text("tenant"),
                text("id"),
                text("title"),
                text("metadata"),
                int("created_at"),
                int("updated_at"),
                int("bytes"),
            ],
            indexes: &[&["tenant", "created_at"]],
            is_searched: false,
        },
        Table {
            name: RUNS,
            columns: &[
                text("key"),
                text("tenant"),
                text("id"),
                text("session_id"),
                text("agent"),
                text("status"),
                text("reason"),
                text("cause"),
                text("error"),
                text("usage"),
                text("metadata"),
                text("message_id"),
                int("created_at"),
                int("started_at"),
                int("ended_at"),
                text("start_key"),
                text("start_digest"),
                int("bytes"),
                int("final_seq"),
                text("continues"),
            ],
            indexes: &[
                &["tenant", "created_at"],
                &["tenant", "status", "created_at"],
                &["tenant", "session_id", "created_at"],
                &["start_key", "created_at"],
                &["tenant", "final_seq", "ended_at"],
            ],
            is_searched: false,
        },
        Table {
            name: TOTALS,
            columns: &[text("tenant"), int("runs"), int("bytes")],
            indexes: &[],
            is_searched: false,
        },
    ],
};

/// A run's row: what clients see of it, by what its start is known, and what is stored of it.
pub(crate) struct StoredRun {
    pub(crate) view: RunView,
    pub(crate) mark: StartMark,
    /// Of its events' JSON; zero before its end.
    pub(crate) bytes: u64,
    /// Where its final message is, in its session's stream, if it is trimmed.
    pub(crate) final_seq: Option<Seq>,
}

/// A session's row: what clients see of it, and what is stored of it.
pub(crate) struct StoredSession {
    pub(crate) view: SessionView,
    /// Of the ended runs' events that are not trimmed.
    pub(crate) bytes: u64,
}

/// How many runs that have ended are not trimmed, and the bytes of their events' JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) runs: u64,
    pub(crate) bytes: u64,
}

impl Kept {
    /// With a run more.
    pub(crate) fn with(self, bytes: u64) -> Self {
        Self { runs: self.runs + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    /// With a run less.
    pub(crate) fn without(self, bytes: u64) -> Self {
        Self { runs: self.runs.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    pub(crate) fn of(row: &Row) -> Self {
        let at = |at| count_of(row.get(at)).unwrap_or_default();
        Self { runs: at(1), bytes: at(2) }
    }

    pub(crate) fn row(self, tenant: &TenantId) -> Row {
        vec![Cell::Text(tenant.to_string()), count(self.runs), count(self.bytes)]
    }
}

/// What is kept of a tenant's ended runs.
pub(crate) fn kept(views: &dyn ViewStore, tenant: &TenantId) -> Result<Kept, ViewError> {
    let row = views.get(TOTALS, &Cell::Text(tenant.to_string()))?;
    Ok(row.as_ref().map_or_else(Kept::default, Kept::of))
}

/// What a start's key is found by.
pub(crate) fn start_key(tenant: &TenantId, session: &SessionId, key: &str) -> String {
    format!("{tenant}/{session}/{key}")
}

pub(crate) fn count(n: u64) -> Cell {
    Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

pub(super) fn count_of(cell: Option<&Cell>) -> Option<u64> {
    match cell {
        Some(Cell::Int(n)) => u64::try_from(*n).ok(),
        Some(Cell::Text(_) | Cell::Null) | None => None,
    }
}

/// The primary key of a row.
pub(crate) fn key(tenant: &TenantId, id: &str) -> String {
    format!("{tenant}/{id}")
}

pub(crate) fn time(at: Timestamp) -> Cell {
    Cell::Int(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

/// The place after `row` in a list, as clients carry it: `<created_at>:<key>`.
pub(crate) fn page_after(table: &str, row: &Row) -> Option<String> {
    let created_at = if table == RUNS { 12 } else { 5 };
    match (row.get(created_at)?, row.first()?) {
        (Cell::Int(at), Cell::Text(key)) => Some(format!("{at}:{key}")),
        _ => None,
    }
}

/// The place of a run's row among all by the time of their end.
pub(crate) fn place_by_end(row: &Row) -> Option<(Cell, Cell)> {
    Some((row.get(14)?.clone(), row.first()?.clone()))
}

/// Reads what [`page_after`] wrote.
pub(crate) fn parse_page(text: &str) -> Option<(Cell, Cell)> {
    let (at, key) = text.split_once(':')?;
    Some((Cell::Int(at.parse().ok()?), Cell::Text(key.to_owned())))
}

/// The id under which what a run says has its row: its message's, or where that goes on with the
/// message of another run, the one that its own would have had.
pub(crate) fn row_id(run: &RunId, continues: Option<&RunId>, message: &MessageId) -> MessageId {
    match continues {
        Some(_) => MessageId::of_run(run),
        None => message.clone(),
    }
}

/// The row of a run.
pub(crate) fn of_run(tenant: &TenantId, run: &StoredRun) -> Row {
    let time_or_null = |at: Option<Timestamp>| at.map_or(Cell::Null, time);
    let StoredRun { view, mark, bytes, final_seq } = run;
    let key_of = |digest: &String| start_key(tenant, &view.session_id, digest);
    let text_or_null = |text: Option<String>| text.map_or(Cell::Null, Cell::Text);
    vec![
        Cell::Text(key(tenant, view.id.as_str())),
        Cell::Text(tenant.to_string()),
        Cell::Text(view.id.to_string()),
        Cell::Text(view.session_id.to_string()),
        Cell::Text(view.agent.to_string()),
        Cell::Text(view.status.as_str().to_owned()),
        word(view.reason.as_ref()),
        word(view.cause.as_ref()),
        json(view.error.as_ref()),
        json(view.usage.as_ref()),
        json(Some(&view.metadata)),
        Cell::Text(view.message_id.to_string()),
        time(view.created_at),
        time_or_null(view.started_at),
        time_or_null(view.ended_at),
        text_or_null(mark.key.as_ref().map(key_of)),
        text_or_null(mark.digest.clone()),
        count(*bytes),
        final_seq.map_or(Cell::Null, |seq| count(seq.0)),
        text_or_null(view.continues.as_ref().map(RunId::to_string)),
    ]
}

/// What a run's row says, with what its start is known by.
pub(crate) fn stored_run_of(row: &Row) -> Option<StoredRun> {
    let key = text_of(row.get(15)?).and_then(|key| key.rsplit('/').next()).map(str::to_owned);
    let mark = StartMark { digest: text_of(row.get(16)?).map(str::to_owned), key };
    let bytes = count_of(row.get(17)).unwrap_or_default();
    let final_seq = count_of(row.get(18)).map(Seq);
    Some(StoredRun { view: run_of(row)?, mark, bytes, final_seq })
}

/// What a run's row says. `last_seq` is not kept in the row: the journal knows it.
pub(crate) fn run_of(row: &Row) -> Option<RunView> {
    Some(RunView {
        id: RunId::parse(text_of(row.get(2)?)?).ok()?,
        session_id: SessionId::parse(text_of(row.get(3)?)?).ok()?,
        agent: AgentName::parse(text_of(row.get(4)?)?).ok()?,
        status: RunStatus::parse(text_of(row.get(5)?)?)?,
        reason: of_word(row.get(6)?),
        cause: of_word(row.get(7)?),
        error: of_json(row.get(8)?),
        usage: of_json(row.get(9)?),
        metadata: of_json(row.get(10)?).unwrap_or(Value::Null),
        message_id: MessageId::parse(text_of(row.get(11)?)?).ok()?,
        continues: text_of(row.get(19)?).and_then(|id| RunId::parse(id).ok()),
        last_seq: Seq::ZERO,
        created_at: time_of(row.get(12)?)?,
        started_at: time_of(row.get(13)?),
        ended_at: time_of(row.get(14)?),
    })
}

/// The row of a session.
pub(crate) fn of_session(tenant: &TenantId, session: &StoredSession) -> Row {
    let StoredSession { view, bytes } = session;
    vec![
        Cell::Text(key(tenant, view.id.as_str())),
        Cell::Text(tenant.to_string()),
        Cell::Text(view.id.to_string()),
        view.title.clone().map_or(Cell::Null, Cell::Text),
        json(Some(&view.metadata)),
        time(view.created_at),
        time(view.updated_at),
        count(*bytes),
    ]
}

/// What a session's row says, with what is stored of it.
pub(crate) fn stored_session_of(row: &Row) -> Option<StoredSession> {
    let bytes = count_of(row.get(7)).unwrap_or_default();
    Some(StoredSession { view: session_of(row)?, bytes })
}

/// What a session's row says, as if nothing ran in it.
pub(crate) fn session_of(row: &Row) -> Option<SessionView> {
    Some(SessionView {
        id: SessionId::parse(text_of(row.get(2)?)?).ok()?,
        title: text_of(row.get(3)?).map(str::to_owned),
        status: "idle",
        active_runs: Vec::new(),
        metadata: of_json(row.get(4)?).unwrap_or(Value::Null),
        created_at: time_of(row.get(5)?)?,
        updated_at: time_of(row.get(6)?)?,
    })
}

/// Whether a run's row is of this session.
pub(crate) fn is_of_session(row: &Row, tenant: &TenantId, session: &SessionId) -> bool {
    let is = |at: usize, text: &str| row.get(at).and_then(text_of) == Some(text);
    is(1, tenant.as_str()) && is(3, session.as_str())
}

pub(super) fn text_of(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::Text(text) => Some(text),
        Cell::Int(_) | Cell::Null => None,
    }
}

pub(super) fn time_of(cell: &Cell) -> Option<Timestamp> {
    match cell {
        Cell::Int(at) => u64::try_from(*at).ok().map(Timestamp::from_millis),
        Cell::Text(_) | Cell::Null => None,
    }
}

pub(super) fn json<T: Serialize>(value: Option<&T>) -> Cell {
    value.and_then(|value| serde_json::to_string(value).ok()).map_or(Cell::Null, Cell::Text)
}

pub(super) fn of_json<T: DeserializeOwned>(cell: &Cell) -> Option<T> {
    serde_json::from_str(text_of(cell)?).ok()
}

/// A word of an enum, without the quotes of JSON.
pub(super) fn word<T: Serialize>(value: Option<&T>) -> Cell {
    match value.and_then(|value| serde_json::to_value(value).ok()) {
        Some(Value::String(word)) => Cell::Text(word),
        _ => Cell::Null,
    }
}

pub(super) fn of_word<T: DeserializeOwned>(cell: &Cell) -> Option<T> {
    serde_json::from_value(Value::String(text_of(cell)?.to_owned())).ok()
}
