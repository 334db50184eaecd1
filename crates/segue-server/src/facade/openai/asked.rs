//! What a run's objects say of the request that began it.

use segue_core::RunId;
use segue_engine::RunView;
use serde_json::{Map, Value};

/// Where a run's metadata keeps what its request asked for.
pub(crate) const MARK: &str = "openai";

/// Fields of a request that the response repeats.
const ECHOED: [&str; 21] = [
    "background",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// Fields of a chat's request that its frames depend on.
const CHATS_OWN: [&str; 1] = ["stream_options"];

/// The fields of these names that say something.
fn said<'a>(
    fields: &Map<String, Value>,
    names: impl IntoIterator<Item = &'a &'a str>,
) -> Map<String, Value> {
    let fields = names.into_iter().filter_map(|name| Some((name, fields.get(*name)?)));
    let said = fields.filter(|(_, value)| !value.is_null());
    said.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// The facts of a run that its objects show beside its events. They never change, so frames stay
/// a pure function of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(super) run: RunId,
    pub(super) agent: String,
    pub(super) fields: Map<String, Value>,
}

impl Asked {
    /// What of a request's body is kept.
    pub(crate) fn kept(body: &Map<String, Value>) -> Map<String, Value> {
        said(body, ECHOED.iter().chain(&CHATS_OWN))
    }

    /// What the response repeats.
    pub(super) fn echoed(&self) -> Map<String, Value> {
        said(&self.fields, &ECHOED)
    }

    /// Of any run, also of one that no response began.
    pub(crate) fn of(run: &RunView) -> Self {
        let fields = run.metadata[MARK].as_object().cloned().unwrap_or_default();
        Self { run: run.id.clone(), agent: run.agent.to_string(), fields }
    }

    /// The id of a run as a response.
    pub(crate) fn response_id(run: &RunId) -> String {
        format!("resp_{run}")
    }

    /// The run of a response.
    pub(crate) fn run_of(response: &str) -> Option<RunId> {
        RunId::parse(response.strip_prefix("resp_")?).ok()
    }

    /// The id of a run as a chat completion.
    pub(crate) fn completion_id(run: &RunId) -> String {
        format!("chatcmpl-{run}")
    }

    /// The run of a chat completion.
    pub(crate) fn run_of_completion(id: &str) -> Option<RunId> {
        RunId::parse(id.strip_prefix("chatcmpl-")?).ok()
    }

    /// What the request said of this.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The model as the request named it.
    pub(super) fn model(&self) -> &str {
        self.field("model").and_then(Value::as_str).unwrap_or(&self.agent)
    }

    /// Whether a chat's stream ends with what it cost.
    pub(super) fn includes_usage(&self) -> bool {
        self.field("stream_options").is_some_and(|options| options["include_usage"] == true)
    }

    /// Whether a call is of the client: a source says so, or else the client said that it has a
    /// function of this name.
    pub(super) fn is_function(&self, call: &Value) -> bool {
        call["executor"] == "client"
            || !call["executor"].is_string()
                && call["name"].as_str().is_some_and(|name| self.has_function(name))
    }

    fn has_function(&self, name: &str) -> bool {
        let tools = self.field("tools").and_then(Value::as_array).into_iter().flatten();
        let mut functions = tools.filter(|tool| tool["type"] == "function");
        functions.any(|tool| tool["name"] == name || tool["function"]["name"] == name)
    }
}
