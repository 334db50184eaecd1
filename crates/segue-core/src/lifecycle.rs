//! The records of session and catalogue streams.
//!
//! They use the codec of [`EventRecord`] with a `type` each, so that every stream can be read
//! with the same eyes. The catalogue has `session.created`; a session's stream has the rest.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    event::{Event, EventRecord},
    fold::{Fold, Message},
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
    /// Catalogue and session: nobody may see the session or its runs any more. In the session's own
    /// stream nothing that follows counts.
    #[serde(rename = "session.deleted")]
    SessionDeleted {
        /// The session.
        session_id: SessionId,
    },
    /// Catalogue: nothing is left of a deleted session. Its id is free from here on.
    #[serde(rename = "session.erased")]
    SessionErased {
        /// The session.
        session_id: SessionId,
    },
    /// Deletions: a session is to be erased, with these runs. Long lists take several records.
    #[serde(rename = "deletion.begun")]
    DeletionBegun {
        /// The session.
        session_id: SessionId,
        /// Runs of it.
        runs: Vec<RunId>,
    },
    /// Deletions: a session is being brought in with these runs, and is to be erased if it does not
    /// come to its end. Long lists take several records.
    #[serde(rename = "import.begun")]
    ImportBegun {
        /// The session.
        session_id: SessionId,
        /// Its runs.
        runs: Vec<RunId>,
    },
    /// Deletions: nothing is left of the session, or all of it is brought in.
    #[serde(rename = "deletion.done")]
    DeletionDone {
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
    /// Session: a message that no run makes is in the conversation from here on, in this place.
    ///
    /// It carries the whole message. The row is what it says, but for the version, which is the
    /// seq of this record, and the session, which is the stream's.
    #[serde(rename = "message.created")]
    MessageCreated {
        /// The message.
        message: Box<Message>,
        /// This message and those after it are superseded by the new one, as far as they stand
        /// before it and are not superseded yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<MessageId>,
    },
    /// Session: what a message that no run makes is now, whole. Its place, the time of its making
    /// and what superseded it stay; its version is the seq of this record. Of a message that is not
    /// there, or that a run makes, it says nothing.
    #[serde(rename = "message.updated")]
    MessageUpdated {
        /// The message.
        message: Box<Message>,
    },
    /// Session: a message is not part of the conversation any more, whoever makes it. What comes
    /// later of it says nothing.
    #[serde(rename = "message.deleted")]
    MessageDeleted {
        /// The message.
        message_id: MessageId,
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
        /// The run whose message goes on: what this one says is the end of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        continues: Option<RunId>,
        /// This message and those after it are superseded by the run's, as far as they stand
        /// before it and are not superseded yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<MessageId>,
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
        /// The bytes of its events' JSON; zero in records of before they were counted.
        #[serde(default)]
        bytes: u64,
    },
    /// Session: a run's events but the terminal are gone, and this is what they made. Commits with
    /// the trim. Written by [`message_final`] and read by [`final_fold`]; here only its run.
    #[serde(rename = "message.final")]
    MessageFinal {
        /// The run.
        run_id: RunId,
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
    /// The record as it is stored.
    pub fn encode(&self) -> Bytes {
        let name = match self {
            // What producers and clients wrote into a message is not read as numbers.
            Self::MessageCreated { .. } => MESSAGE_CREATED,
            Self::MessageUpdated { .. } => MESSAGE_UPDATED,
            _ => return EventRecord::encode(&self.to_event()),
        };
        let json = serde_json::to_vec(self).expect("a message has text keys and JSON values");
        EventRecord::encode_json(name, &json)
    }

    /// The record as an event, ready for [`EventRecord::encode`].
    fn to_event(&self) -> Event {
        Event::build(&serde_json::to_value(self).unwrap_or(Value::Null))
    }

    /// Reads a record back. `None` if its fields are not those of its type.
    pub fn from_record(record: &EventRecord) -> Option<Self> {
        match record.name() {
            MESSAGE_CREATED => {
                let OfMessage { message, replaces } = serde_json::from_slice(record.json()).ok()?;
                Some(Self::MessageCreated { message, replaces })
            }
            MESSAGE_UPDATED => {
                let OfMessage { message, .. } = serde_json::from_slice(record.json()).ok()?;
                Some(Self::MessageUpdated { message })
            }
            MESSAGE_FINAL => {
                let OnlyRun { run_id } = serde_json::from_slice(record.json()).ok()?;
                Some(Self::MessageFinal { run_id })
            }
            _ => serde_json::from_slice(record.json()).ok(),
        }
    }
}

const MESSAGE_CREATED: &str = "message.created";
const MESSAGE_UPDATED: &str = "message.updated";
const MESSAGE_FINAL: &str = "message.final";

/// A message's JSON, whose raw values a tagged enum cannot read.
#[derive(Deserialize)]
struct OfMessage {
    message: Box<Message>,
    #[serde(default)]
    replaces: Option<MessageId>,
}

/// The fold's own JSON is kept as it is: what a producer wrote into it is not read as numbers.
#[derive(Serialize)]
struct WithFold<'a> {
    r#type: &'static str,
    run_id: &'a RunId,
    fold: &'a Fold,
}

/// Without looking at the fold, whose numbers may be larger than ours.
#[derive(Deserialize)]
struct OnlyRun {
    run_id: RunId,
}

#[derive(Deserialize)]
struct OnlyFold {
    fold: Fold,
}

/// The record of a run whose events are trimmed: their fold up to the terminal.
pub fn message_final(run_id: &RunId, fold: &Fold) -> Result<Bytes, serde_json::Error> {
    let json = serde_json::to_vec(&WithFold { r#type: MESSAGE_FINAL, run_id, fold })?;
    Ok(EventRecord::encode_json(MESSAGE_FINAL, &json))
}

/// The fold in a record of [`message_final`]; `None` if it is not one, or of another format.
pub fn final_fold(record: &EventRecord) -> Option<Fold> {
    if record.name() != MESSAGE_FINAL {
        return None;
    }
    serde_json::from_slice::<OnlyFold>(record.json()).ok().map(|found| found.fold)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{position::Seq, time::Timestamp};

    #[test]
    fn a_final_message_survives_its_record_byte_for_byte() {
        let run_id = RunId::parse("r").expect("valid");
        let mut fold = Fold::new(&run_id, Seq::FIRST);
        let text =
            r#"{"type":"data","name":"n","value":1.0e400,"big":123456789012345678901234567890}"#;
        let event = Event::from_producer(&Bytes::from_static(text.as_bytes()), 1 << 10);
        let record = EventRecord::decode(EventRecord::encode(&event.expect("an event")));
        fold.apply(Seq(1), Timestamp::default(), &record.expect("valid")).expect("the next one");
        let bytes = message_final(&run_id, &fold).expect("JSON");
        let record = EventRecord::decode(bytes).expect("valid");
        assert_eq!(final_fold(&record), Some(fold));
        assert_eq!(Lifecycle::from_record(&record), Some(Lifecycle::MessageFinal { run_id }));
        let other = EventRecord::encode(&Event::build(&json!({"type": "run.changed", "fold": 1})));
        assert_eq!(final_fold(&EventRecord::decode(other).expect("valid")), None);
    }

    /// One with a number that ours cannot hold.
    fn message() -> Box<Message> {
        let input = r#"{"role":"user","parts":[{"type":"text","text":"x"},{"type":"n","n":1}]}"#;
        let said = crate::fold::said::one(&serde_json::from_str(input).expect("JSON"));
        let (id, session) = (MessageId::parse("m"), SessionId::parse("s"));
        let (id, session) = (id.expect("valid"), session.expect("valid"));
        let mut message =
            Message::said(id, session, said.expect("a message"), Timestamp::default());
        let large = r#"{"type":"n","n":1.0e400}"#;
        let parts = [serde_json::from_str::<crate::fold::Part>(large).expect("a part")];
        message.parts = message.parts.iter().cloned().chain(parts).collect();
        Box::new(message)
    }

    #[test]
    fn records_survive_their_codec() {
        let run_id = RunId::parse("r").expect("valid");
        let ended = |outcome: &Outcome| Lifecycle::RunEnded {
            run_id: run_id.clone(),
            ending: outcome.into(),
            bytes: 12,
        };
        let records = [
            Lifecycle::SessionCreated { session_id: SessionId::parse("s").expect("valid") },
            Lifecycle::SessionChanged {
                title: Some(Some("t".into())),
                metadata: Some(json!({"a": 1})),
            },
            Lifecycle::SessionDeleted { session_id: SessionId::parse("s").expect("valid") },
            Lifecycle::SessionErased { session_id: SessionId::parse("s").expect("valid") },
            Lifecycle::DeletionBegun {
                session_id: SessionId::parse("s").expect("valid"),
                runs: vec![run_id.clone()],
            },
            Lifecycle::DeletionDone { session_id: SessionId::parse("s").expect("valid") },
            Lifecycle::SessionChanged { title: Some(None), metadata: None },
            Lifecycle::SessionChanged { title: None, metadata: None },
            Lifecycle::MessageCreated { message: message(), replaces: None },
            Lifecycle::MessageCreated {
                message: message(),
                replaces: Some(MessageId::of_run(&run_id)),
            },
            Lifecycle::MessageUpdated { message: message() },
            Lifecycle::MessageDeleted { message_id: MessageId::of_run(&run_id) },
            Lifecycle::RunCreated {
                run_id: run_id.clone(),
                message_id: MessageId::of_run(&run_id),
                agent: AgentName::parse("demo").expect("valid"),
                status: RunStatus::Running,
                metadata: json!({}),
                mark: StartMark { digest: Some("d".into()), key: None },
                continues: Some(run_id.clone()),
                replaces: Some(MessageId::of_run(&run_id)),
            },
            Lifecycle::RunChanged { run_id: run_id.clone(), status: RunStatus::Running },
            ended(&Outcome::Finished { finish_reason: None, usage: Some(json!({"input": 1})) }),
            ended(&Outcome::failed("boom", "it broke")),
            ended(&Outcome::stopped(StopReason::User)),
            ended(&Outcome::Interrupted { cause: InterruptionCause::Restart }),
        ];
        for record in records {
            let stored = EventRecord::decode(record.encode());
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
