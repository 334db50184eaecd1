//! The run of a request: a new one, or the one that the same request started before.
//!
//! A client whose connection broke before the answer's head sends the request again, and says so in
//! a header. With an `Idempotency-Key` that is known for ever; without one the newest run of the
//! same request is taken, if it is young and did not break off.

use http::{HeaderMap, HeaderName};
use segue_core::{AgentName, ClientApi, Limits, RunStatus, SessionId, Timestamp};
use segue_engine::{RunQuery, RunView, StartError, StartKey, StartRun};
use serde_json::{Map, Value, json};

use super::{
    chain::{self, Place},
    input, messages, options,
    refusal::{Refusal, of_start},
};
use crate::{
    app::Call,
    digest::digest,
    facade::{Asked, OPENAI_MARK},
    routes::start::key_of,
};

/// How many times the client has sent the request before.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
/// How long a request may be on its way, with all of its repetitions, in milliseconds.
const REPEATED_MS: u64 = 30 * 60 * 1000;
/// How many runs are looked through for it.
const REPEATED_RUNS: usize = 200;

/// A request that starts a run.
pub(super) struct Ask {
    agent: Option<AgentName>,
    params: Value,
    /// What its answer will say of it.
    kept: Map<String, Value>,
    key: Option<StartKey>,
    /// It may have been sent before.
    is_again: bool,
}

impl Ask {
    /// Of a request's body.
    pub(super) fn of(
        call: &Call,
        headers: &HeaderMap,
        api: ClientApi,
        body: &Map<String, Value>,
    ) -> Result<Self, Refusal> {
        let kind = match api {
            ClientApi::OpenAiChat => "chat",
            ClientApi::OpenAiResponses => "response",
        };
        let key = key_of(call, headers)?;
        let mut whole = Value::Object(body.clone());
        whole.sort_all_objects();
        let mut kept = Asked::kept(body);
        kept.insert("kind".to_owned(), kind.into());
        kept.insert("request".to_owned(), digest(&format!("{kind} {whole}")).into());
        if let Some(StartKey { principal, key }) = &key {
            kept.insert("key".to_owned(), digest(&json!([principal, key]).to_string()).into());
        }
        let count = headers.get(RETRY_COUNT).and_then(|count| count.to_str().ok());
        let is_again = key.is_none() && count.is_some_and(|count| count != "0");
        let agent = agent(call, body)?;
        let params = options::params(call, agent.as_ref(), api, body)?;
        Ok(Self { agent, params, kept, key, is_again })
    }

    /// Starts the run of a response.
    pub(super) async fn respond(
        self,
        call: &Call,
        body: &Map<String, Value>,
    ) -> Result<RunView, Refusal> {
        let field = |name: &str| body.get(name).unwrap_or(&Value::Null);
        let previous = chain::previous(call, field("previous_response_id")).await?;
        let session = previous.as_ref().map(|run| run.session_id.clone());
        if let Some(run) = self.known(call, session).await? {
            return Ok(run);
        }
        let instructions = body.get("instructions").filter(|said| !said.is_null());
        let input = input::of_request(instructions, field("input"))?;
        let Some(previous) = previous else {
            return self
                .start(call, Place::new(self.own_session()), input)
                .await
                .map_err(|error| of_start(error, "input"));
        };
        chain::check_input(&input)?;
        if let Some(place) = chain::place(call, &previous).await? {
            match self.start(call, place, input.clone()).await {
                // Somebody else went on from there a moment before.
                Err(StartError::Busy(_)) => {}
                started => return started.map_err(|error| of_start(error, "input")),
            }
        }
        let fork = chain::fork(call, &previous, self.own_session()).await?;
        self.start(call, fork, input).await.map_err(|error| of_start(error, "input"))
    }

    /// Starts the run of a chat completion: a conversation that the request has all of.
    pub(super) async fn complete(
        self,
        call: &Call,
        body: &Map<String, Value>,
    ) -> Result<RunView, Refusal> {
        if let Some(run) = self.known(call, None).await? {
            return Ok(run);
        }
        let input = messages::of_request(body.get("messages").unwrap_or(&Value::Null))?;
        let started = self.start(call, Place::new(self.own_session()), input).await;
        started.map_err(|error| of_start(error, "messages"))
    }

    /// The session of whoever has the request's key.
    fn own_session(&self) -> Option<SessionId> {
        SessionId::parse(&format!("openai_{}", self.kept.get("key")?.as_str()?)).ok()
    }

    async fn start(&self, call: &Call, place: Place, input: Value) -> Result<RunView, StartError> {
        let request = StartRun {
            replaces: None,
            continues: None,
            session: place.session,
            run: None,
            agent: self.agent.clone(),
            source: None,
            input,
            params: self.params.clone(),
            policy: place.policy,
            limits: Limits::default(),
            on_restart: None,
            metadata: json!({ OPENAI_MARK: self.kept }),
            key: self.key.clone(),
        };
        Ok(call.engine().start(call.tenant(), request).await?.run)
    }

    /// The run of the same request before: of the same key in the session that it went on with, or
    /// of the same words where the client says that it repeats itself.
    async fn known(
        &self,
        call: &Call,
        session: Option<SessionId>,
    ) -> Result<Option<RunView>, Refusal> {
        let query = RunQuery { limit: REPEATED_RUNS, ..RunQuery::default() };
        let (query, same) = if self.key.is_some() && session.is_some() {
            (RunQuery { session, ..query }, "key")
        } else if self.is_again {
            let since = call.engine().now().as_millis().saturating_sub(REPEATED_MS);
            (RunQuery { since: Some(Timestamp::from_millis(since)), ..query }, "request")
        } else {
            return Ok(None);
        };
        let runs = call.engine().runs(call.tenant(), query).await?.data;
        let is_same = |run: &RunView| {
            let is_alive = same == "key" || answers(run.status);
            is_alive && Some(&run.metadata[OPENAI_MARK][same]) == self.kept.get(same)
        };
        let Some(run) = runs.into_iter().find(is_same) else { return Ok(None) };
        if Some(&run.metadata[OPENAI_MARK]["request"]) != self.kept.get("request") {
            return Err(StartError::Different(run.id).into());
        }
        metrics::counter!("segue_starts_repeated_total").increment(1);
        Ok(Some(run))
    }
}

/// Whether a run did not break off.
fn answers(status: RunStatus) -> bool {
    matches!(status, RunStatus::Queued | RunStatus::Running | RunStatus::Finished)
}

/// The agent that `model` names.
fn agent(call: &Call, body: &Map<String, Value>) -> Result<Option<AgentName>, Refusal> {
    let name = match body.get("model") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(name)) => name,
        Some(_) => return Err(Refusal::of_param("model", "`model` is no text")),
    };
    let agents = call.engine().agents().into_iter().map(|agent| agent.name);
    let known = agents.into_iter().find(|agent| agent.as_str() == name);
    known.map(Some).ok_or_else(|| Refusal::of_model(name))
}
