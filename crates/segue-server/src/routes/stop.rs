//! `POST /v1/runs/{rid}/stop`, `POST /v1/sessions/{sid}/stop`.

use axum::Json;
use segue_core::{RunId, RunStatus, SessionId, StopReason};
use segue_engine::{StopRequest, Stopped};
use serde::{Deserialize, Serialize};

use crate::{
    app::Call,
    error::Problem,
    extract::{self, PathId},
    wait,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StopBody {
    run_id: Option<RunId>,
    wait: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct StopAnswer {
    stopped: bool,
    /// A status, or `pending` for a run that does not exist yet.
    status: Option<&'static str>,
}

impl From<Stopped> for StopAnswer {
    fn from(stopped: Stopped) -> Self {
        let status = stopped.status.map(RunStatus::as_str);
        let status = if stopped.pending { Some("pending") } else { status };
        Self { stopped: stopped.stopped, status }
    }
}

impl StopBody {
    fn request(&self) -> Result<StopRequest, Problem> {
        let wait = self.wait.map(wait::of_seconds).transpose()?;
        Ok(StopRequest { reason: StopReason::User, by: None, wait })
    }
}

pub(super) async fn run(
    call: Call,
    PathId(run): PathId<RunId>,
    extract::Json(body): extract::Json<StopBody>,
) -> Result<Json<StopAnswer>, Problem> {
    let request = body.request()?;
    if body.run_id.is_some_and(|other| other != run) {
        // Not the run that was meant: harmless, and its status is told.
        let view = call.engine().run(call.tenant(), &run).await?;
        let view = view.ok_or(segue_engine::StopError::NotFound)?;
        return Ok(Json(StopAnswer { stopped: false, status: Some(view.status.as_str()) }));
    }
    Ok(Json(call.engine().stop_run(call.tenant(), &run, request).await?.into()))
}

pub(super) async fn session(
    call: Call,
    PathId(session): PathId<SessionId>,
    extract::Json(body): extract::Json<StopBody>,
) -> Result<Json<StopAnswer>, Problem> {
    let (request, run) = (body.request()?, body.run_id.as_ref());
    Ok(Json(call.engine().stop_session(call.tenant(), &session, run, request).await?.into()))
}
