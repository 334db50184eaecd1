//! The records of session and catalogue streams.
//!
//! They use the codec of [`EventRecord`] with a `type` each, so that every stream can be read
//! with the same eyes. The catalogue has `session.created`; a session's stream has the rest.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    event::{Event, EventRecord},
    id::{AgentName, MessageId, RunId, SessionId},
    run::{InterruptionCause, Outcome, RunError, RunStatus, StopReason},
};

/// A record of a session's or a catalogue's stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Lifecycle {
    /// Catalogue: a session exists from here on.
    #[serde(rename = "session.created")]
    SessionCreated {
        /// The session.
        session_id: SessionId,
    },
    /// Session: what changed. What is absent stays.
    #[serde(rename = "session.changed")]
    SessionChanged {
        /// A title for people; `Some(None)` takes it away.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        title: Option<Option<String>>,
        /// The client's own data, an object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Value>,
    },
    /// Session: a user said something.
    #[serde(rename = "message.created")]
    MessageCreated {
        /// The message.
        message_id: MessageId,
        /// The run it started.
        run_id: RunId,
        /// What was said: a string, a list of parts or a list of messages.
        input: Value,
    },
    /// Session: a run exists from here on.
    #[serde(rename = "run.created")]
    RunCreated {
        /// The run.
        run_id: RunId,
        /// The message it makes.
        message_id: MessageId,
        /// Its agent.
        agent: AgentName,
        /// `queued` or `running`.
        status: RunStatus,
        /// The client's own data, an object.
        metadata: Value,
        /// How its start is known again; absent in records of before there were any.
        #[serde(default, skip_serializing_if = "StartMark::is_empty")]
        mark: StartMark,
    },
    /// Session: a queued run began. Commits with the run's `run.started`.
    #[serde(rename = "run.changed")]
    RunChanged {
        /// The run.
        run_id: RunId,
        /// `running`.
        status: RunStatus,
    },
    /// Session: a run ended. Commits with the run's terminal event.
    #[serde(rename = "run.ended")]
    RunEnded {
        /// The run.
        run_id: RunId,
        /// How it ended.
        #[serde(flatten)]
        ending: Ending,
    },
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// By what a start that is sent again is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMark {
    /// A digest of what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A digest of the caller's key and of who called; none if there was no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl StartMark {
    fn is_empty(&self) -> bool {
        self.digest.is_none() && self.key.is_none()
    }
}

/// Tells a null from what is absent.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// How a run ended, in the fields that a run shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// A terminal status.
    pub status: RunStatus,
    /// Why it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<StopReason>,
    /// What cut it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<InterruptionCause>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
}

impl From<&Outcome> for Ending {
    fn from(outcome: &Outcome) -> Self {
        let (mut cause, mut error, mut usage) = (None, None, None);
        match outcome {
            Outcome::Finished { usage: cost, .. } => usage.clone_from(cost),
            Outcome::Stopped { .. } => {}
            Outcome::Failed { error: what } => error = Some(what.clone()),
            Outcome::Interrupted { cause: by } => cause = Some(*by),
        }
        Self { status: outcome.status(), reason: outcome.reason(), cause, error, usage }
    }
}

impl Lifecycle {
    /// The record as an event, ready for [`EventRecord::encode`].
    pub fn to_event(&self) -> Event {
        Event::build(&serde_json::to_value(self).unwrap_or(Value::Null))
    }

    /// Reads a record back. `None` if its fields are not those of its type.
    pub fn from_record(record: &EventRecord) -> Option<Self> {
        serde_json::from_slice(record.json()).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_survive_their_codec() {
        let run_id = RunId::parse("r").expect("valid");
        let ended = |outcome: &Outcome| Lifecycle::RunEnded {
            run_id: run_id.clone(),
            ending: outcome.into(),
        };
        let records = [
            Lifecycle::SessionCreated { session_id: SessionId::parse("s").expect("valid") },
            Lifecycle::SessionChanged {
                title: Some(Some("t".into())),
                metadata: Some(json!({"a": 1})),
            },
            Lifecycle::SessionChanged { title: Some(None), metadata: None },
            Lifecycle::SessionChanged { title: None, metadata: None },
            Lifecycle::MessageCreated {
                message_id: MessageId::parse("m").expect("valid"),
                run_id: run_id.clone(),
                input: json!("hello"),
            },
            Lifecycle::RunCreated {
                run_id: run_id.clone(),
                message_id: MessageId::of_run(&run_id),
                agent: AgentName::parse("demo").expect("valid"),
                status: RunStatus::Running,
                metadata: json!({}),
                mark: StartMark { digest: Some("d".into()), key: None },
            },
            Lifecycle::RunChanged { run_id: run_id.clone(), status: RunStatus::Running },
            ended(&Outcome::Finished { finish_reason: None, usage: Some(json!({"input": 1})) }),
            ended(&Outcome::failed("boom", "it broke")),
            ended(&Outcome::stopped(StopReason::User)),
            ended(&Outcome::Interrupted { cause: InterruptionCause::Restart }),
        ];
        for record in records {
            let stored = EventRecord::decode(EventRecord::encode(&record.to_event()));
            assert_eq!(Lifecycle::from_record(&stored.expect("valid")), Some(record));
        }
    }

    #[test]
    fn an_unknown_type_is_told_from_a_broken_one() {
        let read = |fields: Value| {
            let stored = EventRecord::encode(&Event::build(&fields));
            Lifecycle::from_record(&EventRecord::decode(stored).expect("valid"))
        };
        assert_eq!(read(json!({"type": "session.painted", "x": 1})), Some(Lifecycle::Unknown));
        assert_eq!(read(json!({"type": "run.ended", "run_id": 1})), None);
    }
}
