//! The life of a run: status, reasons, and the outcome that a terminal event tells.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{event::EventKind, id::MessageId};

/// Where a run is. The last four are terminal, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Accepted, waiting for its turn.
    Queued,
    /// Its source is at work.
    Running,
    /// A stop was accepted; the source cleans up.
    Stopping,
    /// The source came to its end.
    Finished,
    /// It was stopped.
    Stopped,
    /// The source failed.
    Failed,
    /// It was cut off: nobody knows how it would have ended.
    Interrupted,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [RunStatus; 7] = [
        Self::Queued,
        Self::Running,
        Self::Stopping,
        Self::Finished,
        Self::Stopped,
        Self::Failed,
        Self::Interrupted,
    ];

    /// Whether nothing will come after it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed | Self::Interrupted)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody asked for it.
    User,
    /// A newer run took its place.
    Replaced,
    /// It took longer than its wall-clock limit.
    WallClock,
    /// It was silent for longer than its idle limit.
    Idle,
    /// It stored more than its byte or event limit.
    Limit,
    /// It was bound to a response whose client left.
    Disconnected,
    /// The server went down in order.
    Shutdown,
    /// Its session was deleted.
    Deleted,
}

impl StopReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Replaced => "replaced",
            Self::WallClock => "wall_clock",
            Self::Idle => "idle",
            Self::Limit => "limit",
            Self::Disconnected => "disconnected",
            Self::Shutdown => "shutdown",
            Self::Deleted => "deleted",
        }
    }
}

/// What happens to a run that is started in a session which has active runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is refused.
    #[default]
    Reject,
    /// It waits until every run before it has ended.
    Queue,
    /// The runs before it are stopped; it waits for their ends.
    Replace,
    /// It starts beside them.
    Parallel,
}

/// What a restart of the server does with a run, where it does not interrupt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRestart {
    /// A queued run stays queued and is started in its turn.
    Start,
    /// A push run that is running goes on; its producer has a lease's time to come back.
    Await,
}

/// What cut a run off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptionCause {
    /// The server went away while it ran.
    Restart,
    /// A push producer showed no sign of life for its lease.
    LeaseLost,
    /// The upstream ended without saying that it had.
    UpstreamEof,
}

impl InterruptionCause {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::LeaseLost => "lease_lost",
            Self::UpstreamEof => "upstream_eof",
        }
    }
}

/// What went wrong in a run, safe to show to a client: no secrets, no internal paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// A stable word, `[a-z_]+`.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
}

impl RunError {
    /// An error of this code.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// How a run ended: the content of its terminal event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The source came to its end.
    Finished {
        /// Why the model stopped: `stop`, `length`, `tool_calls`, ...
        finish_reason: Option<String>,
        /// What it cost.
        usage: Option<Value>,
    },
    /// It was stopped.
    Stopped {
        /// Why.
        reason: StopReason,
        /// Who asked, where somebody did.
        by: Option<String>,
        /// What the source still said of its own end after the stop was accepted.
        source_outcome: Option<Value>,
    },
    /// The source failed.
    Failed {
        /// What went wrong.
        error: RunError,
    },
    /// It was cut off.
    Interrupted {
        /// By what.
        cause: InterruptionCause,
    },
}

impl Outcome {
    /// A plain stop.
    pub fn stopped(reason: StopReason) -> Self {
        Self::Stopped { reason, by: None, source_outcome: None }
    }

    /// A failure of this code.
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::Failed { error: RunError::new(code, message) }
    }

    /// The status of a run that ended so.
    pub fn status(&self) -> RunStatus {
        match self {
            Self::Finished { .. } => RunStatus::Finished,
            Self::Stopped { .. } => RunStatus::Stopped,
            Self::Failed { .. } => RunStatus::Failed,
            Self::Interrupted { .. } => RunStatus::Interrupted,
        }
    }

    /// The kind of its terminal event.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Finished { .. } => EventKind::RunFinished,
            Self::Stopped { .. } => EventKind::RunStopped,
            Self::Failed { .. } => EventKind::RunFailed,
            Self::Interrupted { .. } => EventKind::RunInterrupted,
        }
    }

    /// The stop reason, if it was stopped.
    pub fn reason(&self) -> Option<StopReason> {
        match self {
            Self::Stopped { reason, .. } => Some(*reason),
            Self::Finished { .. } | Self::Failed { .. } | Self::Interrupted { .. } => None,
        }
    }

    /// The fields of its terminal event, `type`, `message_id` and `status` among them.
    pub fn to_json(&self, message: &MessageId) -> Value {
        let mut fields = json!({
            "type": self.kind().as_str(),
            "message_id": message,
            "status": self.status(),
        });
        let mut put = |key: &str, value: Value| {
            if !value.is_null() {
                fields[key] = value;
            }
        };
        match self {
            Self::Finished { finish_reason, usage } => {
                put("finish_reason", json!(finish_reason));
                put("usage", json!(usage));
            }
            Self::Stopped { reason, by, source_outcome } => {
                put("reason", json!(reason));
                put("by", json!(by));
                put("source_outcome", json!(source_outcome));
            }
            Self::Failed { error } => put("error", json!(error)),
            Self::Interrupted { cause } => put("cause", json!(cause)),
        }
        fields
    }

    /// Reads the fields of a terminal event back. `None` if they are not one.
    pub fn from_json(fields: &Value) -> Option<Self> {
        let field = |key: &str| fields.get(key).filter(|value| !value.is_null()).cloned();
        let text = |key: &str| field(key).and_then(|v| v.as_str().map(str::to_owned));
        let typed = |key: &str| field(key).unwrap_or(Value::Null);
        Some(match EventKind::parse(fields.get("type")?.as_str()?) {
            EventKind::RunFinished => {
                Self::Finished { finish_reason: text("finish_reason"), usage: field("usage") }
            }
            EventKind::RunStopped => Self::Stopped {
                reason: serde_json::from_value(typed("reason")).ok()?,
                by: text("by"),
                source_outcome: field("source_outcome"),
            },
            EventKind::RunFailed => Self::Failed { error: error_from_json(&typed("error")) },
            EventKind::RunInterrupted => {
                Self::Interrupted { cause: serde_json::from_value(typed("cause")).ok()? }
            }
            _ => return None,
        })
    }
}

/// Producers say `{"code", "message"}` or just a text.
fn error_from_json(value: &Value) -> RunError {
    match value {
        Value::String(message) => RunError::new("source_failed", message.clone()),
        other => {
            let text = |key: &str| other.get(key).and_then(Value::as_str);
            RunError::new(
                text("code").unwrap_or("source_failed"),
                text("message").unwrap_or("the source failed without a message"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_terminal_event() {
        let message = MessageId::parse("m").expect("valid");
        let outcomes = [
            Outcome::Finished {
                finish_reason: Some("stop".into()),
                usage: Some(json!({"input": 1})),
            },
            Outcome::Finished { finish_reason: None, usage: None },
            Outcome::stopped(StopReason::WallClock),
            Outcome::failed("boom", "it broke"),
            Outcome::Interrupted { cause: InterruptionCause::LeaseLost },
        ];
        for outcome in outcomes {
            let fields = outcome.to_json(&message);
            assert_eq!(fields["message_id"], "m");
            assert_eq!(fields["status"], outcome.status().as_str());
            assert!(outcome.status().is_terminal());
            assert_eq!(Outcome::from_json(&fields), Some(outcome));
        }
    }

    #[test]
    fn words_on_the_wire_are_those_of_serde() {
        for status in RunStatus::ALL {
            assert_eq!(json!(status), status.as_str());
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(json!(StopReason::WallClock), StopReason::WallClock.as_str());
        assert_eq!(json!(InterruptionCause::UpstreamEof), "upstream_eof");
    }
}
