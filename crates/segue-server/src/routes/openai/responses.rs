//! `POST /responses`, `GET` and `DELETE /responses/{id}`, `POST /responses/{id}/cancel`,
//! `GET /responses/{id}/input_items`.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use segue_core::{ClientApi, Seq, StopReason};
use segue_engine::StopRequest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Caller, Id, Query, body_of, flag,
    follow::{asks_for_stream, cursor_of, follow, resume},
    input,
    refusal::Refusal,
    start::Ask,
    whole::{self, find},
};
use crate::{
    app::{App, Call},
    facade::{Asked, OpenAiResponses, Whole as _},
    routes::cursor::Start,
};

/// How long a cancellation waits for the end; the engine has a bound of its own.
const CANCEL_WAIT: std::time::Duration = std::time::Duration::from_mins(1);
/// How many input items a page has, where nobody says.
const PAGE: usize = 20;

#[derive(Deserialize)]
pub(super) struct RetrieveQuery {
    stream: Option<String>,
    starting_after: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ItemsQuery {
    after: Option<String>,
    limit: Option<String>,
    order: Option<String>,
}

/// What in a request nobody here can do, so that nothing is left out in silence.
const UNKNOWN: [&str; 2] = ["conversation", "prompt"];

/// Starts a response. It goes on whatever becomes of this connection.
pub(super) async fn create(State(app): State<App>, request: Request) -> Result<Response, Refusal> {
    let call = Call::of_any(&app, request.headers());
    let headers = request.headers().clone();
    let body = body_of(request, &app).await?;
    let (streams, background) = (flag(&body, "stream")?, flag(&body, "background")?);
    let is_said = |name: &&&str| body.get(**name).is_some_and(|value| !value.is_null());
    if let Some(name) = UNKNOWN.iter().find(is_said) {
        return Err(Refusal::of_param(*name, format!("`{name}` is not served here")));
    }
    let run =
        Ask::of(&call, &headers, ClientApi::OpenAiResponses, &body)?.respond(&call, &body).await?;
    if streams {
        let facade = OpenAiResponses::new(Asked::of(&run));
        return Ok(follow(&call, &run, facade, &Start::at(Seq::FIRST)).await?);
    }
    if !background {
        whole::until_ended(&call, &run.id).await?;
    }
    Ok(Json(whole::response(&call, &run).await?).into_response())
}

/// The response at rest, or its stream: from its first event, after `starting_after`, or after the
/// frame that a `Last-Event-ID` names.
pub(super) async fn retrieve(
    Caller(call): Caller,
    Id(id): Id,
    Query(query): Query<RetrieveQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let run = find(&call, &id).await?;
    if !asks_for_stream(query.stream.as_deref())? {
        return Ok(Json(whole::response(&call, &run).await?).into_response());
    }
    let facade = OpenAiResponses::new(Asked::of(&run));
    if let Some(cursor) = cursor_of(&headers) {
        return Ok(resume(&call, &run, facade, cursor).await?);
    }
    let number = query.starting_after.as_deref().filter(|text| !text.is_empty());
    let facade = match number.map(str::parse) {
        None => facade,
        Some(Ok(number)) => facade.after(number),
        Some(Err(_)) => {
            let detail = "`starting_after` is the number of an event";
            return Err(Refusal::of_param("starting_after", detail));
        }
    };
    Ok(follow(&call, &run, facade, &Start::at(Seq::FIRST)).await?)
}

/// Stops the response. Idempotent, and without effect on one that has ended.
pub(super) async fn cancel(Caller(call): Caller, Id(id): Id) -> Result<Json<Value>, Refusal> {
    let run = find(&call, &id).await?;
    let stop = StopRequest { reason: StopReason::User, by: None, wait: Some(CANCEL_WAIT) };
    call.engine().stop_run(call.tenant(), &run.id, stop).await?;
    Ok(Json(whole::response(&call, &run).await?))
}

/// Deletes a response that is alone in its session, which is what can be deleted.
pub(super) async fn delete(Caller(call): Caller, Id(id): Id) -> Result<Json<Value>, Refusal> {
    super::delete(&call, &find(&call, &id).await?).await?;
    Ok(Json(json!({"id": id, "object": "response", "deleted": true})))
}

/// What the response was asked, the newest first.
pub(super) async fn input_items(
    Caller(call): Caller,
    Id(id): Id,
    Query(query): Query<ItemsQuery>,
) -> Result<Json<Value>, Refusal> {
    let run = find(&call, &id).await?;
    let limit = match query.limit.as_deref().map(str::parse) {
        None => PAGE,
        Some(Ok(limit @ 1..=100)) => limit,
        Some(_) => return Err(Refusal::of_param("limit", "`limit` is a number from 1 to 100")),
    };
    let mut items = input::items(&run.id, &whole::input(&call, &run).await?);
    match query.order.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(Refusal::of_param("order", "`order` is asc or desc")),
    }
    if let Some(after) = query.after {
        let place = items.iter().position(|item| item["id"] == *after);
        let unknown = || Refusal::of_param("after", format!("there is no item {after}"));
        items.drain(..=place.ok_or_else(unknown)?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id_of = |item: Option<&Value>| item.map(|item| item["id"].clone());
    Ok(Json(json!({
        "object": "list", "first_id": id_of(items.first()), "last_id": id_of(items.last()),
        "has_more": has_more, "data": items,
    })))
}
