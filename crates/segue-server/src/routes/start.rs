//! `POST /v1/sessions/{sid}/runs`.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use segue_core::{AgentName, Limits, MessageId, OnRestart, Policy, RunId, SessionId};
use segue_engine::{StartKey, StartRun, Started};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{
    cursor::{Wanted, decide},
    stream::{location, stream, stream_location},
};
use crate::{
    accept::wants_sse,
    app::Call,
    body::{Bound, Follow, Guarded},
    error::{Code, Problem},
    extract::{self, PathId},
    facade::NativeSse,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_BYTES: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StartBody {
    agent: Option<AgentName>,
    source: Option<Map<String, Value>>,
    #[serde(default)]
    input: Value,
    replaces: Option<MessageId>,
    r#continue: Option<RunId>,
    #[serde(default)]
    params: Map<String, Value>,
    policy: Option<Policy>,
    run_id: Option<RunId>,
    detached: Option<bool>,
    #[serde(default)]
    limits: Limits,
    on_restart: Option<OnRestart>,
    #[serde(default)]
    metadata: Map<String, Value>,
    wait: Option<WaitFor>,
}

/// What a start's answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WaitFor {
    Started,
}

impl StartBody {
    fn check_input(&self) -> Result<(), Problem> {
        match &self.input {
            Value::Null | Value::String(_) | Value::Array(_) => Ok(()),
            _ => {
                let shapes = "`input` is a string, a list of parts or a list of messages";
                Err(Problem::new(Code::Malformed, shapes))
            }
        }
    }

    /// A run that ends with its answer cannot outlive the server.
    fn check_bound(&self) -> Result<(), Problem> {
        if self.is_bound() && self.on_restart.is_some() {
            let detail =
                "a run with `detached: false` ends with its answer and has no `on_restart`";
            return Err(Problem::new(Code::Malformed, detail));
        }
        Ok(())
    }

    fn is_bound(&self) -> bool {
        self.detached == Some(false)
    }

    fn into_request(self, session: SessionId, key: Option<StartKey>) -> StartRun {
        StartRun {
            session: Some(session),
            run: self.run_id,
            agent: self.agent,
            source: self.source.map(Value::Object),
            input: self.input,
            replaces: self.replaces,
            continues: self.r#continue,
            params: Value::Object(self.params),
            policy: self.policy.unwrap_or_default(),
            limits: self.limits,
            on_restart: self.on_restart,
            metadata: Value::Object(self.metadata),
            key,
        }
    }
}

/// The run is durable when this answers. 202 for a new one, 200 for one that the same request
/// has started before.
pub(super) async fn start(
    call: Call,
    PathId(session): PathId<SessionId>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<StartBody>,
) -> Result<Response, Problem> {
    body.check_input()?;
    if body.source.is_some() {
        call.principal.need_admin("a source in the request")?;
    }
    let wants_sse = wants_sse(&headers);
    if body.is_bound() && !wants_sse {
        let detail =
            "a run with `detached: false` is answered with its stream: accept text/event-stream";
        return Err(Problem::new(Code::NotAcceptable, detail));
    }
    body.check_bound()?;
    let (is_bound, wait) = (body.is_bound(), body.wait);
    let request = body.into_request(session, key_of(&call, &headers)?);
    let (Started { mut run, is_new }, bound) = if is_bound {
        start_bound(&call, request).await?
    } else {
        (call.engine().start(call.tenant(), request).await?, None)
    };
    if wait == Some(WaitFor::Started) {
        run = call.engine().until_started(call.tenant(), &run.id).await.unwrap_or(run);
    }
    let (location, mut response) = if wants_sse {
        (stream_location(&run.id, true), first_stream(&call, &run.id).await?)
    } else {
        let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
        (location(&run.id), (status, Json(run)).into_response())
    };
    response.headers_mut().insert(header::LOCATION, location);
    Ok(match bound {
        Some(bound) => response.map(|body| Body::new(Guarded::new(body, bound))),
        None => response,
    })
}

/// Starts a run that is stopped when what is returned is dropped, wherever that is: also when
/// the client leaves before the start is answered. A run that was there before is not bound to
/// this request.
async fn start_bound(call: &Call, request: StartRun) -> Result<(Started, Option<Bound>), Problem> {
    let (answer, answered) = oneshot::channel();
    let starting = call.clone();
    call.spawn(async move {
        let started = starting.engine().start(starting.tenant(), request).await;
        let started = started.map(|started| {
            let bound = started.is_new.then(|| Bound::new(&starting, &started.run.id));
            (started, bound)
        });
        // Without a receiver it is dropped here, and the run is stopped.
        drop(answer.send(started));
    });
    let gone = |_| Problem::new(Code::ShuttingDown, "the server is shutting down");
    Ok(answered.await.map_err(gone)??)
}

/// The key that makes a start safe to send again.
pub(super) fn key_of(call: &Call, headers: &HeaderMap) -> Result<Option<StartKey>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let is_single = headers.get_all(IDEMPOTENCY_KEY).iter().count() == 1;
    let text = value.to_str().ok().map(str::trim);
    let text = text.filter(|text| is_single && (1..=MAX_KEY_BYTES).contains(&text.len()));
    let refusal = || {
        let detail = format!("`Idempotency-Key` is one text of 1 to {MAX_KEY_BYTES} characters");
        Problem::new(Code::BadHeader, detail)
    };
    let key = text.ok_or_else(refusal)?.to_owned();
    Ok(Some(StartKey { principal: call.principal.name().to_owned(), key }))
}

/// From the first event; of a run that was started before and is trimmed by now, what is left.
async fn first_stream(call: &Call, run: &RunId) -> Result<Response, Problem> {
    let run = call.engine().attach(call.tenant(), run)?;
    let start = decide(run.run(), run.info(), Wanted::default())?;
    stream(call, &run, NativeSse { named: true }, &start, Follow::Live).await
}
