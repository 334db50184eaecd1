//! `POST /chat/completions`, `GET` and `DELETE /chat/completions/{id}`.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use segue_core::{ClientApi, Seq};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Caller, Id, Query, body_of, flag,
    follow::{asks_for_stream, cursor_of, follow, resume},
    refusal::Refusal,
    start::Ask,
    whole::{find_chat, until_ended, whole},
};
use crate::{
    app::{App, Call},
    facade::{Asked, OpenAiChat, Whole as _},
    routes::cursor::Start,
};

/// What in a request nobody here can do, so that nothing is left out in silence.
const UNKNOWN: [&str; 3] = ["audio", "functions", "function_call"];

#[derive(Deserialize)]
pub(super) struct RetrieveQuery {
    stream: Option<String>,
}

/// Starts a completion. It goes on whatever becomes of this connection.
pub(super) async fn create(State(app): State<App>, request: Request) -> Result<Response, Refusal> {
    let call = Call::of_any(&app, request.headers());
    let headers = request.headers().clone();
    let body = body_of(request, &app).await?;
    let streams = flag(&body, "stream")?;
    check(&body)?;
    let run =
        Ask::of(&call, &headers, ClientApi::OpenAiChat, &body)?.complete(&call, &body).await?;
    if streams {
        let facade = OpenAiChat::new(Asked::of(&run));
        return Ok(follow(&call, &run, facade, &Start::at(Seq::FIRST)).await?);
    }
    until_ended(&call, &run.id).await?;
    let chat: OpenAiChat = whole(&call, &run).await?;
    match chat.broken() {
        None => Ok(Json(chat.object()).into_response()),
        Some(broken) => Err(Refusal::of_broken(broken)),
    }
}

fn check(body: &Map<String, Value>) -> Result<(), Refusal> {
    let said = |name: &str| body.get(name).filter(|value| !value.is_null());
    if let Some(name) = UNKNOWN.iter().find(|name| said(name).is_some()) {
        return Err(Refusal::of_param(*name, format!("`{name}` is not served here")));
    }
    if said("n").is_some_and(|n| *n != 1) {
        return Err(Refusal::of_param("n", "`n` is 1: a run gives one answer"));
    }
    let options = said("stream_options");
    if options.is_some_and(|options| !options.is_object()) {
        return Err(Refusal::of_param("stream_options", "`stream_options` is an object"));
    }
    Ok(())
}

/// The completion at rest, or, as a healing `fetch` asks for it, its stream.
pub(super) async fn retrieve(
    Caller(call): Caller,
    Id(id): Id,
    Query(query): Query<RetrieveQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let run = find_chat(&call, &id).await?;
    if !asks_for_stream(query.stream.as_deref())? {
        let chat: OpenAiChat = whole(&call, &run).await?;
        return Ok(Json(chat.object()).into_response());
    }
    let facade = OpenAiChat::new(Asked::of(&run));
    match cursor_of(&headers) {
        Some(cursor) => Ok(resume(&call, &run, facade, cursor).await?),
        None => Ok(follow(&call, &run, facade, &Start::at(Seq::FIRST)).await?),
    }
}

/// Deletes a completion.
pub(super) async fn delete(Caller(call): Caller, Id(id): Id) -> Result<Json<Value>, Refusal> {
    super::delete(&call, &find_chat(&call, &id).await?).await?;
    Ok(Json(json!({"id": id, "object": "chat.completion.deleted", "deleted": true})))
}
