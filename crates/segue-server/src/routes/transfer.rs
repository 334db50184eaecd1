//! `GET /v1/sessions/{sid}/export` and `POST /v1/import`.

use std::io;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use segue_core::SessionId;
use segue_engine::Export;

use super::sessions::created;
use crate::{
    app::{App, Call},
    error::{Code, Problem},
    extract::{Media, PathId, bad_content_type},
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
