//! `GET /v1/runs`, `GET /v1/runs/{rid}`.

use axum::Json;
use segue_core::{AgentName, RunId, RunStatus, SessionId, Timestamp};
use segue_engine::{List, RunQuery, RunView};
use serde::Deserialize;

use crate::{
    app::Call,
    error::{Code, Problem},
    extract::{PathId, Query},
};

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
