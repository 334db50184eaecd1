//! A message: what a run's events say, folded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{list::PartList, value::Json};
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
    /// The run that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Who says it.
    pub role: Role,
    /// Whether more will come, and how it ended.
    pub status: MessageStatus,
    /// Rises with every change: the seq of the last event that is in it.
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
    /// The message of a run, of which nothing is known yet.
    pub(super) fn of_run(run: &RunId, version: Seq) -> Self {
        Self {
            id: MessageId::of_run(run),
            session_id: None,
            run_id: Some(run.clone()),
            role: Role::Assistant,
            status: MessageStatus::Streaming,
            version,
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

    /// What is small of it: no parts and no values by name.
    pub(super) fn without_values(&self) -> Self {
        Self {
            id: self.id.clone(),
            session_id: self.session_id.clone(),
            run_id: self.run_id.clone(),
            role: self.role,
            status: self.status,
            version: self.version,
            parts: PartList::default(),
            data: BTreeMap::new(),
            state: BTreeMap::new(),
            approvals: BTreeMap::new(),
            usage: None,
            metadata: Value::Object(Map::new()),
            created_at: self.created_at,
            updated_at: self.updated_at,
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
