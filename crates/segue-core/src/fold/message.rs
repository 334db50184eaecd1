//! A message: what a run's events say, folded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{list::PartList, said::Said, value::Json};
use crate::{
    event::EventKind,
    id::{MessageId, RunId, SessionId},
    position::Seq,
    time::Timestamp,
};

/// A message, as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its session, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The run that makes it; of any other role but the assistant's, the run that it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Who says it.
    pub role: Role,
    /// What stands before it is told in short by this one: a model needs nothing older.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_summary: bool,
    /// The message that took its place. It is kept, and no part of the conversation any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<MessageId>,
    /// Whether more will come, and how it ended.
    pub status: MessageStatus,
    /// Rises with every change: the seq of the last event that is in it, and of a message that no
    /// run makes the seq of its last record in the session's stream.
    pub version: Seq,
    /// What it says, in the order in which it began.
    pub parts: PartList,
    /// The newest `data` event of each name, whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Json>,
    /// The state of each name, patches applied; a state without a name has the empty one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, Value>,
    /// What somebody has or had to decide, by approval id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub approvals: BTreeMap<String, Approval>,
    /// What it cost so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Map<String, Value>>,
    /// Metadata events, merged.
    pub metadata: Value,
    /// The time of its first event.
    pub created_at: Timestamp,
    /// The time of its last event.
    pub updated_at: Timestamp,
}

impl Message {
    /// A message that no run makes, whole.
    pub fn said(id: MessageId, session: SessionId, said: Said, at: Timestamp) -> Self {
        let Said { role, parts, metadata, .. } = said;
        Self {
            session_id: Some(session),
            role,
            status: MessageStatus::Complete,
            parts,
            metadata: Value::Object(metadata),
            created_at: at,
            updated_at: at,
            ..Self::empty(id)
        }
    }

    /// The message of a run, of which nothing is known yet.
    pub fn of_run(run: &RunId, version: Seq) -> Self {
        Self { run_id: Some(run.clone()), version, ..Self::empty(MessageId::of_run(run)) }
    }

    /// Whether a run makes it.
    pub fn is_of_run(&self) -> bool {
        self.role == Role::Assistant && self.run_id.is_some()
    }

    /// What is small of it: no parts and no values by name.
    pub(super) fn without_values(&self) -> Self {
        Self {
            session_id: self.session_id.clone(),
            run_id: self.run_id.clone(),
            role: self.role,
            is_summary: self.is_summary,
            superseded_by: self.superseded_by.clone(),
            status: self.status,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ..Self::empty(self.id.clone())
        }
    }

    fn empty(id: MessageId) -> Self {
        Self {
            id,
            session_id: None,
            run_id: None,
            role: Role::Assistant,
            is_summary: false,
            superseded_by: None,
            status: MessageStatus::Streaming,
            version: Seq::ZERO,
            parts: PartList::default(),
            data: BTreeMap::new(),
            state: BTreeMap::new(),
            approvals: BTreeMap::new(),
            usage: None,
            metadata: Value::Object(Map::new()),
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        }
    }
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A run.
    Assistant,
    /// A client.
    User,
    /// Who made the product: what every answer has to heed.
    System,
    /// A tool outside, with what it gave.
    Tool,
}

impl Role {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assistant => "assistant",
            Self::User => "user",
            Self::System => "system",
            Self::Tool => "tool",
        }
    }

    /// Reads [`Role::as_str`]. `developer` is an API's word for the system.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "assistant" => Self::Assistant,
            "user" => Self::User,
            "system" | "developer" => Self::System,
            "tool" => Self::Tool,
            _ => return None,
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// More may come.
    Streaming,
    /// Its run finished.
    Complete,
    /// Its run was stopped.
    Stopped,
    /// Its run failed.
    Failed,
    /// Its run was cut off.
    Interrupted,
}

impl MessageStatus {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Complete => "complete",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether nothing more will come.
    pub fn is_terminal(self) -> bool {
        self != Self::Streaming
    }

    /// The status after an event of this kind.
    pub(super) fn after(kind: EventKind) -> Self {
        match kind {
            EventKind::RunFinished => Self::Complete,
            EventKind::RunStopped => Self::Stopped,
            EventKind::RunFailed => Self::Failed,
            EventKind::RunInterrupted => Self::Interrupted,
            _ => Self::Streaming,
        }
    }
}

/// A decision that was asked for. It is pending while it has no `resolved`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// The event that asked; absent if it was trimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Json>,
    /// The event that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Json>,
}
