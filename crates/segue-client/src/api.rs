//! The shapes of plain calls: what is sent, what is answered.

use std::time::Duration;

use segue_core::{AgentName, Limits, MessageId, RunId, RunStatus, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What a run is started from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// An agent that the server has configured or built in.
    Agent(AgentName),
    /// A source described in the request; needs the admin scope.
    Source(Value),
}

/// A start of a run. Absent fields take the server's defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StartRun {
    #[serde(flatten)]
    from: Option<StartFrom>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "continue")]
    continues: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detached: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<Map<String, Value>>,
}

impl StartRun {
    /// A run of the server's default agent.
    pub fn of_default_agent() -> Self {
        Self::default()
    }

    /// A run of a configured agent; `push` and `demo` are built in.
    pub fn of_agent(agent: AgentName) -> Self {
        Self { from: Some(StartFrom::Agent(agent)), ..Self::default() }
    }

    /// A run of a source described here, such as `{"kind": "process", "command": [..]}`.
    pub fn of_source(source: Value) -> Self {
        Self { from: Some(StartFrom::Source(source)), ..Self::default() }
    }

    /// What the user says: a string, a list of parts or a list of messages.
    #[must_use]
    pub fn input(mut self, input: impl Into<Value>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// A message of the session: it and those after it are superseded by what this start makes.
    #[must_use]
    pub fn replaces(mut self, message: MessageId) -> Self {
        self.replaces = Some(message);
        self
    }

    /// A run of the session that has ended, whose message the new one goes on with.
    #[must_use]
    pub fn continues(mut self, run: RunId) -> Self {
        self.continues = Some(run);
        self
    }

    /// What happens when the session is busy: `reject`, `queue`, `replace` or `parallel`.
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Self {
        self.policy = Some(policy.to_owned());
        self
    }

    /// A name of the caller's own; the same start again attaches to the same run.
    #[must_use]
    pub fn run_id(mut self, run: RunId) -> Self {
        self.run_id = Some(run);
        self
    }

    /// Whether the run outlives the response that started it.
    #[must_use]
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = Some(detached);
        self
    }

    /// The run's limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Data of the caller's own, kept with the run.
    #[must_use]
    pub fn metadata(mut self, metadata: Map<String, Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// A parameter for the source, such as `speed` for the demo.
    #[must_use]
    pub fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }
}

/// A run, as the server shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The session it belongs to.
    pub session_id: SessionId,
    /// The agent it runs.
    pub agent: String,
    /// Where it is.
    pub status: RunStatus,
    /// Why it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What cut it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// The message it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// The seq of its last event.
    #[serde(default)]
    pub last_seq: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its source began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// What its start said of it.
    #[serde(default)]
    pub metadata: Option<Value>,
}

/// Which messages of a session to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MessageFilter {
    /// Only of who has this role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Also those that others took the place of.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// `asc`, the oldest first, or `desc`; the server's default is the former.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Where [`List::next`] says that it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SearchFilter {
    /// Words that all have to be there, `"words in quotation marks"`, `begin*`.
    pub q: String,
    /// Only in this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Where [`List::next`] says that it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The message.
    pub message_id: MessageId,
    /// Its session.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// The run that made it, or that it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Who says it.
    pub role: String,
    /// What it says where it was found.
    pub snippet: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A session, as the server shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// `idle` or `busy`.
    pub status: String,
    /// The ids of its runs that have not ended.
    #[serde(default)]
    pub active_runs: Vec<RunId>,
    /// How many clients are attached to its runs.
    #[serde(default)]
    pub clients: u64,
    /// What its creator said of it.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// An agent that a run can be started from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// The kind of its source.
    pub kind: String,
    /// Whether a start that names none gets it.
    #[serde(default)]
    pub default: bool,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Where the next page begins; none after the last.
    #[serde(default)]
    pub next: Option<String>,
}

/// Which runs, and which page of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunFilter {
    /// Only those in this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// Only those of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Only those of this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Only those created at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The page that begins where [`List::next`] says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The most entries of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// How long a stop waits for the run's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    #[default]
    No,
    /// At most this long, in whole seconds.
    AtMost(Duration),
}

impl Wait {
    pub(crate) fn to_body(self) -> Value {
        match self {
            Self::No => json!({}),
            Self::AtMost(time) => json!({ "wait": time.as_secs() }),
        }
    }
}

/// The answer to a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Whether this call is what stopped it.
    pub stopped: bool,
    /// The run's status, or `pending` for a run that does not exist yet.
    pub status: String,
}

/// The answer to an append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The seq of the first event of it.
    pub first_seq: u64,
    /// The seq of the last event of it.
    pub last_seq: u64,
    /// Whether an earlier request had appended it already.
    #[serde(default, skip_serializing_if = "is_false")]
    pub duplicate: bool,
    /// Whether somebody asked the run to stop.
    #[serde(default)]
    pub stop_requested: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_names_an_agent_or_a_source_or_neither() {
        let text = |start: &StartRun| serde_json::to_value(start).unwrap();
        let demo = StartRun::of_agent(AgentName::parse("demo").unwrap()).param("speed", 10);
        assert_eq!(text(&demo), json!({"agent": "demo", "params": {"speed": 10}}));
        let process = StartRun::of_source(json!({"kind": "process", "command": ["ls"]}))
            .run_id(RunId::parse("r1").unwrap())
            .detached(true)
            .policy("reject");
        assert_eq!(
            text(&process),
            json!({"source": {"kind": "process", "command": ["ls"]}, "run_id": "r1",
                   "detached": true, "policy": "reject"})
        );
        assert_eq!(
            text(&StartRun::of_default_agent().input("hi").limits(Limits::default())),
            json!({"input": "hi", "limits": Limits::default()})
        );
    }

    #[test]
    fn a_run_of_a_newer_server_is_still_read() {
        let run: Run = serde_json::from_value(json!({
            "id": "r", "session_id": "s", "agent": "demo", "status": "stopped",
            "reason": "a_reason_of_tomorrow", "last_seq": 3, "metadata": {},
            "created_at": "2026-11-20T12:00:00.000Z", "colour": "blue",
        }))
        .unwrap();
        assert_eq!((run.status, run.last_seq), (RunStatus::Stopped, 3));
        assert_eq!(run.reason.as_deref(), Some("a_reason_of_tomorrow"));
    }
}
