//! A run's events, folded into its message.
//!
//! [`Fold`] is a pure function of the events so far. An event costs what it adds: a delta is
//! appended to its part's buffer, and nothing is parsed twice. As JSON a fold is its own
//! checkpoint, `{"format", "from_seq", "seq", "skipped"?, "work"?, "truncated"?,
//! "omitted"?, "steps", "message"}`: what is
//! read back from it goes on exactly as the original would. A [`snapshot`](Fold::snapshot) for
//! clients has the same form, its large values cut.

mod bound;
mod held;
mod list;
mod message;
mod named;
mod part;
mod parts;
mod patch;
pub mod said;
mod size;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod value;

use serde::{Deserialize, Serialize};

use crate::{
    event::{Event, EventKind, EventRecord},
    id::{MessageId, RunId, SessionId},
    json::{Fields, JsonError},
    position::Seq,
    time::Timestamp,
};
use parts::Parts;
use size::most;

pub use bound::ArgumentLimits;
pub use list::PartList;
pub use message::{Approval, Message, MessageStatus, Role};
pub use part::{Call, Part, Prose, ProseKind, Whole};
pub use said::{Said, SaidError};
pub use snapshot::{Snapshot, SnapshotLimits};
pub use value::Json;

/// The version of the form in which a fold is kept. Another one is not read but folded anew.
pub const FORMAT: u32 = 1;

/// About the most bytes of memory that a fold takes, whatever the run has.
pub const MAX_HELD: usize = 16 << 20;

/// The most steps that are open at once.
const MAX_STEPS: usize = 1024;

/// The message of a run, up to an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Fold {
    format: u32,
    from_seq: Seq,
    seq: Seq,
    #[serde(skip_serializing_if = "is_zero")]
    skipped: u64,
    /// What state patches have shifted, work and moved, in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    work: u64,
    /// In a snapshot: how many parts are cut.
    #[serde(skip_serializing_if = "is_zero")]
    truncated: u64,
    /// How many parts and values are left out, of a snapshot or for want of room.
    #[serde(skip_serializing_if = "is_zero")]
    omitted: u64,
    /// Open steps, oldest first: a part belongs to the newest.
    steps: Vec<String>,
    message: Message,
    #[serde(skip)]
    parts: Parts,
    /// What all but the parts takes, about. A function of it, so that it is not kept.
    #[serde(skip)]
    values: usize,
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
    work: u64,
    #[serde(default)]
    truncated: u64,
    #[serde(default)]
    omitted: u64,
    steps: Vec<String>,
    message: Message,
}

/// A fold without its message.
#[derive(Serialize, Deserialize)]
struct Rest {
    format: u32,
    from_seq: Seq,
    seq: Seq,
    #[serde(default, skip_serializing_if = "is_zero")]
    skipped: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    work: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    truncated: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    omitted: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
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
        let Stored { format, from_seq, seq, skipped, work, truncated, omitted, steps, message } =
            stored;
        if format != FORMAT {
            return Err(UnknownFormat { found: format });
        }
        let parts = Parts::of(&message.parts);
        let values = held::of(&message, &steps);
        Ok(Self {
            format,
            from_seq,
            seq,
            skipped,
            work,
            truncated,
            omitted,
            steps,
            message,
            parts,
            values,
        })
    }
}

impl Fold {
    /// The fold of nothing, whose first event will be `first`. Later than [`Seq::FIRST`] where the
    /// run's beginning is gone; the message then lacks it, and says so by [`Fold::from_seq`].
    pub fn new(run: &RunId, first: Seq) -> Self {
        let message = Message::of_run(run, first.prev());
        let values = held::of(&message, &[]);
        let seq = first.prev();
        Self {
            format: FORMAT,
            from_seq: first,
            seq,
            skipped: 0,
            work: 0,
            truncated: 0,
            omitted: 0,
            steps: Vec::new(),
            message,
            parts: Parts::default(),
            values,
        }
    }

    /// All of it but the message, as JSON, for who keeps the message's parts by themselves.
    pub fn checkpoint(&self) -> String {
        let Self { format, from_seq, seq, skipped, work, truncated, omitted, .. } = *self;
        let steps = self.steps.clone();
        let rest = Rest { format, from_seq, seq, skipped, work, truncated, omitted, steps };
        serde_json::to_string(&rest).expect("numbers and texts are JSON")
    }

    /// The fold of which these were [`Fold::checkpoint`] and [`Fold::message`]. `None` if the
    /// checkpoint is not one, or of another format.
    pub fn resume(checkpoint: &str, message: Message) -> Option<Self> {
        let Rest { format, from_seq, seq, skipped, work, truncated, omitted, steps } =
            serde_json::from_str(checkpoint).ok()?;
        let stored =
            Stored { format, from_seq, seq, skipped, work, truncated, omitted, steps, message };
        stored.try_into().ok()
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

    /// Whether something is missing of the message: its beginning, parts or values that had no
    /// room, what a snapshot cut.
    pub fn is_partial(&self) -> bool {
        self.from_seq > Seq::FIRST || self.truncated + self.omitted > 0
    }

    /// How many events were passed over because they could not be used.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// About what it takes in memory, in bytes: at most little more than [`MAX_HELD`].
    pub fn cost(&self) -> usize {
        size_of::<Self>() + self.held()
    }

    fn held(&self) -> usize {
        self.values + self.message.parts.cost()
    }

    /// How much more it may hold.
    fn room(&self) -> usize {
        MAX_HELD.saturating_sub(self.held())
    }

    fn grow(&mut self, bytes: i64) {
        self.values = self.values.saturating_add_signed(isize::try_from(bytes).unwrap_or(0));
    }

    /// Folds the next event in.
    ///
    /// An event that cannot be used is passed over and counted in [`Fold::skipped`]; one that is
    /// not the next one changes nothing. What there is no room for is left out and counted; of a
    /// text the newest stays.
    pub fn apply(
        &mut self,
        seq: Seq,
        at: Timestamp,
        record: &EventRecord,
    ) -> Result<(), FoldError> {
        self.pass(seq, record.time(at))?;
        match self.fold(record) {
            Ok(had_room) => {
                self.omitted += u64::from(!had_room);
                Ok(())
            }
            Err(Unusable(why)) => {
                self.skipped += 1;
                Err(FoldError::Payload { seq, why })
            }
        }
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

    /// Gives whether there was room for it.
    #[deny(clippy::wildcard_enum_match_arm)]
    fn fold(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        use EventKind as K;
        let (kind, room) = (record.kind(), self.room());
        let parts = &mut self.message.parts;
        let step = || self.steps.last().cloned();
        match kind {
            K::TextDelta => self.parts.prose_delta(parts, ProseKind::Text, record, step, room),
            K::ReasoningDelta => {
                self.parts.prose_delta(parts, ProseKind::Reasoning, record, step, room)
            }
            K::ToolCallInputDelta => self.parts.call_delta(parts, record, step, room),
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
            | K::Opaque => self.parts.take(parts, record, self.steps.last(), room),
            K::StepStarted | K::StepFinished | K::Discard => self.fold_step(record),
            K::RunQueued | K::RunStarted => self.fold_start(record).map(|()| true),
            K::ApprovalRequested | K::ApprovalResolved => self.fold_approval(record),
            K::Usage => self.fold_usage(record),
            K::Data => self.fold_data(record),
            K::State => self.fold_state(record),
            K::Metadata => self.fold_metadata(record),
            K::RunFinished | K::RunStopped | K::RunFailed | K::RunInterrupted => {
                self.fold_end(record)
            }
            // A log line is no content; a resource is the server's own.
            K::Log | K::RunResource | K::RunStopping => Ok(true),
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

    /// Of more open steps than [`MAX_STEPS`] the oldest is forgotten.
    fn fold_step(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        let event = Event::from_record(record);
        let step = event.subject().ok_or("no `step`")?;
        match event.kind() {
            EventKind::Discard => self.parts.discard(&mut self.message.parts, step),
            EventKind::StepFinished => {
                if let Some(at) = self.steps.iter().position(|open| open == step) {
                    self.steps.remove(at);
                    self.grow(-held::entry(step, 0));
                }
            }
            _ if self.steps.iter().any(|open| open == step) => {}
            _ => {
                self.steps.push(step.to_owned());
                self.grow(held::entry(step, 0));
                if self.steps.len() > MAX_STEPS {
                    let oldest = self.steps.remove(0);
                    self.grow(-held::entry(&oldest, 0));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The kind alone says how it ended, also where a later version gives reasons of its own.
    fn fold_end(&mut self, record: &EventRecord) -> Result<bool, Unusable> {
        let has_room = most(record.json()) <= self.room();
        let fields = if has_room { Fields::read(record.json())? } else { Fields::default() };
        if let Some(Some(usage)) = fields.get("usage") {
            let grown = held::replace_usage(&mut self.message.usage, usage);
            self.grow(grown);
        }
        self.message.status = MessageStatus::after(record.kind());
        let steps: i64 = self.steps.drain(..).map(|step| held::entry(&step, 0)).sum();
        self.grow(-steps);
        self.parts.end(&mut self.message.parts, &fields);
        Ok(has_room)
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
