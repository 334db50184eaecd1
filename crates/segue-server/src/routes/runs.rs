//! `POST /v1/sessions/{sid}/runs`, `GET /v1/runs`, `GET /v1/runs/{rid}`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use segue_core::{AgentName, Limits, RunId, RunStatus, Seq, SessionId, Timestamp};
use segue_engine::{List, RunQuery, RunView, StartRun};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    cursor::Start,
    stream::{location, stream},
};
use crate::{
    accept::wants_sse,
    app::Call,
    body::Follow,
    error::{Code, Problem},
    extract::{self, PathId, Query},
    facade::NativeSse,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StartBody {
    agent: Option<AgentName>,
    source: Option<Map<String, Value>>,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    params: Map<String, Value>,
    policy: Option<String>,
    run_id: Option<RunId>,
    detached: Option<bool>,
    #[serde(default)]
    limits: Limits,
    on_restart: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
    wait: Option<String>,
}

impl StartBody {
    /// What later versions understand is refused by name rather than passed over.
    fn refuse_unsupported(&self) -> Result<(), Problem> {
        let refuse = |detail: &str| Err(Problem::new(Code::NotSupported, detail));
        if self.policy.as_deref().is_some_and(|policy| policy != "reject") {
            return refuse("the only policy so far is \"reject\"");
        }
        if self.detached == Some(false) {
            return refuse("every run is detached so far");
        }
        if self.on_restart.is_some() {
            return refuse("`on_restart` is not supported yet");
        }
        if self.wait.as_deref().is_some_and(|wait| wait != "started") {
            return Err(Problem::new(Code::Malformed, "`wait` can only be \"started\""));
        }
        Ok(())
    }

    fn check_input(&self) -> Result<(), Problem> {
        match &self.input {
            Value::Null | Value::String(_) | Value::Array(_) => Ok(()),
            _ => {
                let shapes = "`input` is a string, a list of parts or a list of messages";
                Err(Problem::new(Code::Malformed, shapes))
            }
        }
    }
}

/// The run is durable when this answers, and its first event is written: with the policy
/// `reject` nothing is ever queued, so that `wait: "started"` has nothing to wait for.
pub(super) async fn start(
    call: Call,
    PathId(session): PathId<SessionId>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<StartBody>,
) -> Result<Response, Problem> {
    body.refuse_unsupported()?;
    body.check_input()?;
    if headers.contains_key("idempotency-key") {
        let detail = "`Idempotency-Key` is not supported yet, choose the `run_id`";
        return Err(Problem::new(Code::NotSupported, detail));
    }
    if body.source.is_some() {
        call.principal.need_admin("a source in the request")?;
    }
    let request = StartRun {
        session: Some(session),
        run: body.run_id,
        agent: body.agent,
        source: body.source.map(Value::Object),
        input: body.input,
        params: Value::Object(body.params),
        limits: body.limits,
        metadata: Value::Object(body.metadata),
    };
    let view = call.engine().start(call.tenant(), request).await?;
    let location = location(&view.id);
    let mut response = if wants_sse(&headers) {
        first_stream(&call, &view.id).await?
    } else {
        (StatusCode::ACCEPTED, Json(view)).into_response()
    };
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

async fn first_stream(call: &Call, run: &RunId) -> Result<Response, Problem> {
    let run = call.engine().attach(call.tenant(), run)?;
    let wire = NativeSse { named: true };
    stream(call, &run, wire, &Start::at(Seq::FIRST), Follow::Live).await
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    status: Option<String>,
    agent: Option<AgentName>,
    session: Option<SessionId>,
    since: Option<String>,
    after: Option<String>,
    #[serde(default)]
    limit: usize,
}

pub(super) async fn list(
    call: Call,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<RunView>>, Problem> {
    let bad = |detail: &str| Problem::new(Code::BadQuery, detail);
    let status = |text: &str| RunStatus::parse(text).ok_or_else(|| bad("no such status"));
    let time = |text: &str| Timestamp::parse(text).ok_or_else(|| bad("`since` is not RFC 3339"));
    let query = RunQuery {
        status: query.status.as_deref().map(status).transpose()?,
        agent: query.agent,
        session: query.session,
        since: query.since.as_deref().map(time).transpose()?,
        after: query.after,
        limit: query.limit,
    };
    Ok(Json(call.engine().runs(call.tenant(), query).await?))
}

pub(super) async fn show(call: Call, PathId(run): PathId<RunId>) -> Result<Json<RunView>, Problem> {
    let view = call.engine().run(call.tenant(), &run).await?;
    Ok(Json(view.ok_or_else(|| Problem::new(Code::NotFound, "there is no such run"))?))
}
