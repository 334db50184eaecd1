//! `GET /v1/sessions/{sid}/export`, `POST /v1/import` and `POST /v1/backup`.

use std::{io, path::PathBuf};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use segue_core::SessionId;
use segue_engine::Export;
use serde::{Deserialize, Serialize};

use super::sessions::created;
use crate::{
    app::{App, Call},
    error::{Code, Problem},
    extract::{self, Media, PathId, bad_content_type},
};

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The session with its runs. An answer that breaks off has no last line, which an import misses.
pub(super) async fn export(
    call: Call,
    PathId(session): PathId<SessionId>,
) -> Result<Response, Problem> {
    call.principal.need_admin("an export")?;
    let begin = {
        let (engine, tenant) = (call.engine().clone(), call.tenant().clone());
        move || engine.export_session(&tenant, &session)
    };
    let export = tokio::task::spawn_blocking(begin).await.map_err(gone)??;
    let export = export.ok_or_else(|| Problem::new(Code::NotFound, "there is no such session"))?;
    let body = Body::from_stream(stream::try_unfold(export, next_lines));
    Ok(([(header::CONTENT_TYPE, NDJSON)], body).into_response())
}

/// Read beside the runtime: all of it is on disk. An error breaks the answer off.
async fn next_lines(mut export: Export) -> io::Result<Option<(Bytes, Export)>> {
    let next = move || export.next_lines().map(|lines| lines.map(|lines| (lines, export)));
    let read = tokio::task::spawn_blocking(next).await?;
    read.map_err(|error| {
        metrics::counter!("segue_exports_broken_off_total").increment(1);
        tracing::error!(%error, "an export broke off");
        io::Error::other("the export broke off")
    })
}

fn gone(_: tokio::task::JoinError) -> Problem {
    Problem::new(Code::Internal, "the export broke off")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupBody {
    /// A folder of the server's that does not exist yet, from the root.
    to: PathBuf,
}

#[derive(Serialize)]
pub(super) struct Backed {
    to: PathBuf,
    bytes: u64,
}

/// A copy of everything that is acknowledged, into a folder of which a server can be started.
pub(super) async fn backup(
    call: Call,
    extract::Json(body): extract::Json<BackupBody>,
) -> Result<Response, Problem> {
    call.principal.need_admin("a backup")?;
    if !body.to.is_absolute() {
        return Err(Problem::new(Code::Malformed, "`to` is a path from the root"));
    }
    let bytes = call.engine().backup(body.to.clone()).await?;
    Ok((StatusCode::CREATED, Json(Backed { to: body.to, bytes })).into_response())
}

/// All of it is there when this answers, or nothing.
pub(super) async fn import(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let call = Call::of(&app, &head.headers)?;
    call.principal.need_admin("an import")?;
    if !matches!(Media::of(&head.headers), Media::Ndjson) {
        return Err(bad_content_type("application/x-ndjson"));
    }
    let session = call.engine().import_session(call.tenant(), body.into_data_stream()).await?;
    Ok(created(&call, session))
}
