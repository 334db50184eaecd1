//! A message's parts, in memory and as JSON.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;

use super::value::{Json, Object, quoted};
use crate::json::Fields;

/// A part of a message. As JSON it is an object with a `type`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Part {
    /// Text or reasoning, which grows.
    Prose(Prose),
    /// A tool call, whose input grows.
    Call(Call),
    /// A part that came whole: a tool's result, a file, an end.
    Whole(Whole),
}

/// Which prose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProseKind {
    /// What the model says.
    Text,
    /// What it thinks.
    Reasoning,
}

/// Text or reasoning: `{"type", "part", "step"?, "text", "signature"?, "open"?,
/// "truncated"?}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prose {
    /// Which.
    #[serde(rename = "type")]
    pub kind: ProseKind,
    /// The id that its events name. A later part may use it again once this one is closed. Empty
    /// where no event made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// The step that it began in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// All of its deltas.
    pub text: String,
    /// The model's proof of its reasoning; the last one that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Json>,
    /// Whether more may come.
    #[serde(default, skip_serializing_if = "is_false")]
    pub open: bool,
    /// In a snapshot: how many bytes of it are missing, of its text the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<u64>,
}

/// A tool call: `{"type": "tool_call", "call_id", "name", "executor"?, "step"?, "text"?, "input"?,
/// "raw"?, "error"?, "open"?, "truncated"?}`.
///
/// While it is open it has the `text` of its input so far; then `input`, or `raw` and `error` if
/// that is no JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Call {
    #[serde(rename = "type")]
    tag: CallTag,
    /// Its id.
    pub call_id: String,
    /// The tool.
    pub name: String,
    /// Who runs it: `provider`, `server` or `client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Json>,
    /// The step that it began in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The input so far, while it is open.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The input, once it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// What there is of an input that is no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Json>,
    /// What is wrong with the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Json>,
    /// Whether more of the input may come.
    #[serde(default, skip_serializing_if = "is_false")]
    pub open: bool,
    /// In a snapshot: how many bytes of it are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallTag {
    #[default]
    ToolCall,
}

/// A part that came whole: the fields of its event under a `type` of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Whole {
    json: Json,
    /// The step that it came in, where a discard of that step makes it void.
    #[serde(skip)]
    pub(super) step: Option<String>,
    /// Of a tool's result: the call.
    #[serde(skip)]
    pub(super) call: Option<String>,
    /// In a snapshot: large fields are left out, and `truncated` counts their bytes.
    #[serde(skip)]
    pub(super) is_truncated: bool,
}

/// The `type` of a tool call's result.
pub(super) const RESULT: &str = "tool_result";

/// What indexes and the list take for a part beside its ids, about.
const INDEX: usize = 128;

/// The field of a cut part that says how many bytes are missing.
const MARK: &str = "truncated";
/// A producer's own field of that name.
const OWN_MARK: &str = "_truncated";

/// A field that is never cut, in bytes.
const SMALL: usize = 256;
/// A part of more fields, each small, keeps only those of [`KEPT`].
const MOST_FIELDS: usize = 32;
/// What says which part it is.
const KEPT: [&str; 3] = ["type", "step", "call_id"];

/// The fields of [`Prose`].
const PROSE: [&str; 7] = ["type", "part", "step", "text", "signature", "open", "truncated"];
/// The fields of [`Call`].
const CALL: [&str; 11] = [
    "type",
    "call_id",
    "name",
    "executor",
    "step",
    "text",
    "input",
    "raw",
    "error",
    "open",
    "truncated",
];

/// Prose or a call with a field that somebody added is kept whole.
fn has_only(fields: &Fields<'_>, known: &[&str]) -> bool {
    fields.keys().all(|key| known.contains(&key))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Part {
    /// The step that it belongs to.
    pub(super) fn step(&self) -> Option<&str> {
        match self {
            Self::Prose(prose) => prose.step.as_deref(),
            Self::Call(call) => call.step.as_deref(),
            Self::Whole(whole) => whole.step.as_deref(),
        }
    }

    /// About what it takes in memory, its indexes included, in bytes.
    pub(super) fn cost(&self) -> usize {
        let ids = self.step().map_or(0, str::len) * 2
            + match self {
                Self::Prose(prose) => prose.part.len(),
                Self::Call(call) => call.call_id.len(),
                Self::Whole(whole) => whole.call.as_ref().map_or(0, |call| call.len() * 2),
            };
        size_of::<Self>() + INDEX + ids + self.bytes()
    }

    /// The text of a text part, for who searches or shows it.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Prose(prose) if prose.kind == ProseKind::Text => Some(Cow::from(&*prose.text)),
            Self::Prose(_) | Self::Call(_) => None,
            Self::Whole(whole) => {
                let fields = Fields::unchecked(whole.json.text().as_bytes())?;
                let is_text = fields.get::<String>("type").flatten().as_deref() == Some("text");
                is_text.then(|| fields.get::<String>("text").flatten()).flatten().map(Cow::from)
            }
        }
    }

    /// How many bytes of content it has.
    pub(super) fn bytes(&self) -> usize {
        let len = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.text().len());
        match self {
            Self::Prose(prose) => prose.text.len() + prose.part.len() + len(&prose.signature),
            Self::Call(call) => {
                let ids = call.call_id.len() + call.name.len() + len(&call.executor);
                ids + call.text.len() + len(&call.input) + len(&call.raw) + len(&call.error)
            }
            Self::Whole(whole) => whole.json.text().len(),
        }
    }
}

impl Prose {
    /// Gives up the older half of the text, or all of it if that is not enough for a delta. Done
    /// so, a text that grows on costs a constant for each byte.
    pub(super) fn make_room(&mut self, room: usize, delta: usize) {
        let half = self.text.ceil_char_boundary(self.text.len() / 2);
        let at = if half + room >= delta { half } else { self.text.len() };
        self.text = self.text[at..].to_owned();
        self.truncated = Some(self.truncated.unwrap_or(0) + at as u64);
    }

    /// What came before a delta that has no room is missing too: a text has its newest.
    pub(super) fn add(&mut self, delta: &str, fits: bool) {
        if fits || !self.text.is_empty() {
            self.text.push_str(delta);
        } else {
            self.truncated = Some(self.truncated.unwrap_or(0) + delta.len() as u64);
        }
    }
}

impl Call {
    pub(super) fn new(call_id: &str, step: Option<String>) -> Self {
        Self { call_id: call_id.to_owned(), step, open: true, ..Self::default() }
    }

    /// The input is whole. Its event's `input` counts, else what the deltas make; no event came
    /// where the run was cut off.
    pub(super) fn close(&mut self, end: Option<&Fields<'_>>) {
        let text = std::mem::take(&mut self.text);
        let field = |key| end.and_then(|fields| Json::of_field(fields, key));
        (self.input, self.raw, self.error) = (field("input"), field("raw"), field("error"));
        self.open = false;
        if self.truncated.is_some() && self.error.is_none() && self.input.is_none() {
            self.error = Some(Json::string("the input is cut"));
        }
        if self.input.is_some() || self.raw.is_some() {
            return;
        }
        if self.error.is_none() {
            self.input = Json::parse(&text).filter(|json| !json.is_null());
        }
        if self.input.is_none() && !text.is_empty() {
            self.raw = Some(Json::string(&text));
            self.error.get_or_insert_with(|| Json::string("the input is not JSON"));
        }
    }

    /// There is no room for what comes, nor a use for what came.
    pub(super) fn lose(&mut self, more: usize) {
        let text = std::mem::take(&mut self.text);
        self.truncated = Some(self.truncated.unwrap_or(0) + (text.len() + more) as u64);
    }

    /// What is small of it.
    pub(super) fn clone_without_values(&self) -> Self {
        let (call_id, step) = (self.call_id.clone(), self.step.clone());
        Self { call_id, step, open: self.open, ..Self::default() }
    }
}

impl Whole {
    /// The fields of an event, but for `type` and `step`. One that is called like our mark of what
    /// is cut stands under [`OWN_MARK`].
    pub(super) fn of(kind: &str, step: Option<String>, fields: &Fields<'_>) -> Self {
        let mut object = Self::begin(kind, step.as_deref());
        object.put_all(fields, |key, _| !["type", "step", MARK, OWN_MARK].contains(&key));
        if let Some(own) = fields.raw(MARK).or_else(|| fields.raw(OWN_MARK)) {
            object.put(OWN_MARK, own.get());
        }
        let call = fields.get::<String>("call_id").flatten().filter(|_| kind == RESULT);
        Self { json: object.finish(), step, call, is_truncated: false }
    }

    /// An event of a type that is not known, whole.
    pub(super) fn opaque(step: Option<String>, event: &str) -> Self {
        let mut object = Self::begin("event", step.as_deref());
        object.put("event", event);
        Self { json: object.finish(), step, call: None, is_truncated: false }
    }

    fn begin(kind: &str, step: Option<&str>) -> Object {
        let mut object = Object::new();
        object.put("type", &quoted(kind));
        if let Some(step) = step {
            object.put("step", &quoted(step));
        }
        object
    }

    /// Large fields are left out.
    pub(super) fn cut(&self, cap: usize) -> Self {
        let text = self.json.text();
        let fields = Fields::unchecked(text.as_bytes());
        let Some(fields) = fields.filter(|_| text.len() > cap) else { return self.clone() };
        let many = text.len() > SMALL * MOST_FIELDS && fields.keys().count() > MOST_FIELDS;
        let stays = |key: &str, value: &str| {
            KEPT.contains(&key) || (!many && value.len() <= SMALL && key.len() <= SMALL)
        };
        if fields.iter().all(|(key, value)| stays(key, value.get())) {
            return self.clone();
        }
        let before = fields.get::<u64>(MARK).flatten().filter(|_| self.is_truncated);
        let mut object = Object::new();
        object.put_all(&fields, |key, value| key != MARK && stays(key, value));
        let missing = text.len().saturating_sub(object.len()) as u64 + before.unwrap_or(0);
        object.put(MARK, &missing.to_string());
        let (step, call) = (self.step.clone(), self.call.clone());
        Self { json: object.finish(), step, call, is_truncated: true }
    }

    /// The part as JSON.
    pub fn json(&self) -> &Json {
        &self.json
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let fields = Fields::unchecked(raw.get().as_bytes());
        let fields = fields.ok_or_else(|| D::Error::custom("a part is an object"))?;
        let kind: String = fields.get("type").flatten().unwrap_or_default();
        match kind.as_str() {
            "text" | "reasoning" if has_only(&fields, &PROSE) => {
                serde_json::from_str(raw.get()).map(Self::Prose)
            }
            "tool_call" if has_only(&fields, &CALL) => {
                serde_json::from_str(raw.get()).map(Self::Call)
            }
            _ => Ok(Self::Whole(Whole {
                step: fields.get("step").flatten(),
                call: fields.get("call_id").flatten().filter(|_| kind == RESULT),
                is_truncated: fields.raw(MARK).is_some(),
                json: Json::from(&*raw),
            })),
        }
        .map_err(D::Error::custom)
    }
}
