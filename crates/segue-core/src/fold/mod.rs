//! A run's events, folded into its message.
//!
//! [`Fold`] is a pure function of the events so far. An event costs what it adds: a delta is
//! appended to its part's buffer, and nothing is parsed twice. As JSON a fold is its own
//! checkpoint, `{"format", "from_seq", "seq", "skipped"?, "copied"?, "truncated"?,
//! "omitted"?, "steps", "message"}`: what is
//! read back from it goes on exactly as the original would. A [`snapshot`](Fold::snapshot) for
//! clients has the same form, its large values cut.

mod bound;
mod message;
mod part;
mod parts;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod value;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    event::{Event, EventKind, EventRecord},
    id::{MessageId, RunId, SessionId},
    json::{Fields, JsonError},
    position::Seq,
    time::Timestamp,
};
use parts::Parts;

pub use bound::ArgumentLimits;
pub use message::{Approval, Message, MessageStatus, Role};
pub use part::{Call, Part, Prose, ProseKind, Whole};
pub use snapshot::{Snapshot, SnapshotLimits};
pub use value::Json;

/// The version of the form in which a fold is kept. Another one is not read but folded anew.
pub const FORMAT: u32 = 1;

/// The message of a run, up to an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Fold {
    format: u32,
    from_seq: Seq,
    seq: Seq,
    #[serde(skip_serializing_if = "is_zero")]
    skipped: u64,
    /// What the `copy` operations of state patches have added, in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    copied: u64,
    /// In a snapshot: how many parts are cut.
    #[serde(skip_serializing_if = "is_zero")]
    truncated: u64,
    /// In a snapshot: how many parts and values are left out.
    #[serde(skip_serializing_if = "is_zero")]
    omitted: u64,
    /// Open steps, oldest first: a part belongs to the newest.
    steps: Vec<String>,
    message: Message,
    #[serde(skip)]
    parts: Parts,
}

/// A fold as it is kept.
#[derive(Deserialize)]
struct Stored {
    format: u32,
    from_seq: Seq,
    seq: Seq,
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    copied: u64,
    #[serde(default)]
    truncated: u64,
    #[serde(default)]
    omitted: u64,
    steps: Vec<String>,
    message: Message,
}

/// A fold of another version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fold has format {found}, known is {FORMAT}")]
pub struct UnknownFormat {
    found: u32,
}

/// Why an event was passed over. The fold goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Its payload is not what its type needs.
    #[error("the payload of event {seq} cannot be used: {why}")]
    Payload {
        /// Its position.
        seq: Seq,
        /// What is wrong.
        why: String,
    },
    /// It is not the next one.
    #[error("event {seq} does not follow on {after}")]
    Order {
        /// Its position.
        seq: Seq,
        /// The last one that was folded.
        after: Seq,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl TryFrom<Stored> for Fold {
    type Error = UnknownFormat;

    fn try_from(stored: Stored) -> Result<Self, UnknownFormat> {
        let Stored { format, from_seq, seq, skipped, copied, truncated, omitted, steps, message } =
            stored;
        if format != FORMAT {
            return Err(UnknownFormat { found: format });
        }
        let parts = Parts::of(&message.parts);
        Ok(Self {
            format,
            from_seq,
            seq,
            skipped,
            copied,
            truncated,
            omitted,
            steps,
            message,
            parts,
        })
    }
}

impl Fold {
    /// The fold of nothing, whose first event will be `first`. Later than [`Seq::FIRST`] where the
    /// run's beginning is gone; the message then lacks it, and says so by [`Fold::from_seq`].
    pub fn new(run: &RunId, first: Seq) -> Self {
        let message = Message::of_run(run, first.prev());
        let seq = first.prev();
        Self {
            format: FORMAT,
            from_seq: first,
            seq,
            skipped: 0,
            copied: 0,
            truncated: 0,
            omitted: 0,
            steps: Vec::new(),
            message,
            parts: Parts::default(),
        }
    }

    /// The message so far.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The first event that is in it, or will be.
    pub fn from_seq(&self) -> Seq {
        self.from_seq
    }

    /// The last event that is in it.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// How many events were passed over because they could not be used.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// About what it takes in memory, in bytes.
    pub fn cost(&self) -> usize {
        let message = &self.message;
        let approvals = message.approvals.values().flat_map(|a| [&a.requested, &a.resolved]);
        let kept = message.data.values().chain(approvals.flatten()).map(|json| json.text().len());
        let state = message.state.values().chain([&message.metadata]).map(state::size);
        let parts = message.parts.iter().map(Part::cost);
        size_of::<Self>() + parts.chain(kept).chain(state).sum::<usize>()
    }

    /// Folds the next event in.
    ///
    /// An event that cannot be used is passed over and counted in [`Fold::skipped`]; one that is
    /// not the next one changes nothing.
    pub fn apply(
        &mut self,
        seq: Seq,
        at: Timestamp,
        record: &EventRecord,
    ) -> Result<(), FoldError> {
        self.pass(seq, at)?;
        self.fold(record).map_err(|Unusable(why)| {
            self.skipped += 1;
            FoldError::Payload { seq, why }
        })
    }

    /// Passes over a record that is no event.
    pub fn skip(&mut self, seq: Seq, at: Timestamp) -> Result<(), FoldError> {
        self.pass(seq, at)?;
        self.skipped += 1;
        Ok(())
    }

    fn pass(&mut self, seq: Seq, at: Timestamp) -> Result<(), FoldError> {
        if seq != self.seq.next() {
            return Err(FoldError::Order { seq, after: self.seq });
        }
        if seq == self.from_seq {
            self.message.created_at = at;
        }
        (self.seq, self.message.version, self.message.updated_at) = (seq, seq, at);
        Ok(())
    }

    #[deny(clippy::wildcard_enum_match_arm)]
    fn fold(&mut self, record: &EventRecord) -> Result<(), Unusable> {
        use EventKind as K;
        let kind = record.kind();
        let parts = &mut self.message.parts;
        let step = || self.steps.last().cloned();
        match kind {
            K::TextDelta => self.parts.prose_delta(parts, ProseKind::Text, record, step),
            K::ReasoningDelta => self.parts.prose_delta(parts, ProseKind::Reasoning, record, step),
            K::ToolCallInputDelta => self.parts.call_delta(parts, record, step),
            K::TextStart
            | K::TextEnd
            | K::ReasoningStart
            | K::ReasoningEnd
            | K::ToolCallStarted
            | K::ToolCallInputEnd
            | K::ToolResult
            | K::File
            | K::Source
            | K::Warning
            | K::InputReceived
            | K::Opaque => self.parts.take(parts, record, self.steps.last()),
            K::StepStarted | K::StepFinished | K::Discard => self.fold_step(record),
            K::RunQueued | K::RunStarted => self.fold_start(record),
            K::ApprovalRequested | K::ApprovalResolved => self.fold_approval(record),
            K::Usage => self.fold_usage(record),
            K::Data | K::State | K::Metadata => self.fold_named(record),
            K::RunFinished | K::RunStopped | K::RunFailed | K::RunInterrupted => {
                self.fold_end(record)
            }
            // A log line is no content; a resource is the server's own.
            K::Log | K::RunResource | K::RunStopping => Ok(()),
        }
    }

    fn fold_start(&mut self, record: &EventRecord) -> Result<(), Unusable> {
        let fields = Fields::read(record.json())?;
        if let Some(Some(id)) = fields.get::<MessageId>("message_id") {
            self.message.id = id;
        }
        self.message.session_id = fields.get::<SessionId>("session_id").flatten();
        Ok(())
    }

    fn fold_step(&mut self, record: &EventRecord) -> Result<(), Unusable> {
        let event = Event::from_record(record);
        let step = event.subject().ok_or("no `step`")?;
        match event.kind() {
            EventKind::Discard => self.parts.discard(&mut self.message.parts, step),
            EventKind::StepFinished => self.steps.retain(|open| open != step),
            _ if self.steps.iter().any(|open| open == step) => {}
            _ => self.steps.push(step.to_owned()),
        }
        Ok(())
    }

    fn fold_approval(&mut self, record: &EventRecord) -> Result<(), Unusable> {
        let fields = Fields::read(record.json())?;
        let id = fields.get::<String>("approval_id").flatten().ok_or("no `approval_id`")?;
        let event = Some(whole_event(record)?);
        let none = Approval { requested: None, resolved: None };
        let approval = self.message.approvals.entry(id).or_insert(none);
        if record.kind() == EventKind::ApprovalResolved {
            approval.resolved = event;
        } else {
            *approval = Approval { requested: event, resolved: None };
        }
        Ok(())
    }

    /// Numbers so far; those of an event that says `"cumulative": false` are added to them.
    fn fold_usage(&mut self, record: &EventRecord) -> Result<(), Unusable> {
        let mut new: Map<String, Value> = read(record.json())?;
        new.remove("type");
        let adds = new.remove("cumulative") == Some(Value::Bool(false));
        match &mut self.message.usage {
            Some(usage) if adds => new.into_iter().for_each(|(key, value)| add(usage, key, value)),
            usage => *usage = Some(new),
        }
        Ok(())
    }

    fn fold_named(&mut self, record: &EventRecord) -> Result<(), Unusable> {
        let fields = Fields::read(record.json())?;
        let name = fields.get::<String>("name").flatten().unwrap_or_default();
        let value = |key: &str| fields.raw(key).map(|raw| read::<Value>(raw.get().as_bytes()));
        if record.kind() == EventKind::Data {
            self.message.data.insert(name, whole_event(record)?);
        } else if record.kind() == EventKind::Metadata {
            let new = value("metadata").ok_or("no `metadata`")??;
            if !new.is_object() {
                return Err("`metadata` is not an object".into());
            }
            json_patch::merge(&mut self.message.metadata, &new);
        } else if let Some(snapshot) = value("snapshot") {
            self.message.state.insert(name, snapshot?);
        } else {
            let patch = value("patch").ok_or("neither `snapshot` nor `patch`")??;
            let mut fresh = json!({});
            let state = self.message.state.get_mut(&name);
            let is_new = state.is_none();
            let applied = state::apply(state.unwrap_or(&mut fresh), patch, &mut self.copied);
            applied.map_err(|error| Unusable(error.to_string()))?;
            if is_new {
                self.message.state.insert(name, fresh);
            }
        }
        Ok(())
    }

    /// The kind alone says how it ended, also where a later version gives reasons of its own.
    fn fold_end(&mut self, record: &EventRecord) -> Result<(), Unusable> {
        let fields = Fields::read(record.json())?;
        if let Some(Some(usage)) = fields.get("usage") {
            self.message.usage = Some(usage);
        }
        self.message.status = MessageStatus::after(record.kind());
        self.steps.clear();
        self.parts.end(&mut self.message.parts, &fields);
        Ok(())
    }
}

/// What is wrong with a payload.
struct Unusable(String);

impl From<&str> for Unusable {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl From<JsonError> for Unusable {
    fn from(error: JsonError) -> Self {
        Self(error.to_string())
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Unusable> {
    serde_json::from_slice(json).map_err(|error| Unusable(error.to_string()))
}

fn whole_event(record: &EventRecord) -> Result<Json, Unusable> {
    let text = std::str::from_utf8(record.json()).map_err(|error| Unusable(error.to_string()))?;
    Json::parse(text).ok_or(Unusable("not JSON".to_owned()))
}

/// Adds a number to the one of the same name; what is no number replaces.
fn add(usage: &mut Map<String, Value>, key: String, value: Value) {
    let sum = match (usage.get(&key), &value) {
        (Some(Value::Number(old)), Value::Number(new)) => match (old.as_u64(), new.as_u64()) {
            (Some(old), Some(new)) => Some(json!(old.saturating_add(new))),
            _ => old.as_f64().zip(new.as_f64()).map(|(old, new)| json!(old + new)),
        },
        _ => None,
    };
    usage.insert(key, sum.unwrap_or(value));
}
