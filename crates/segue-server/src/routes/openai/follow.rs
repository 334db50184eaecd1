//! A run's stream in the words of one of the protocols.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use segue_engine::RunView;

use super::refusal::Refusal;
use crate::{
    app::Call,
    body::Follow,
    error::Problem,
    facade::Whole,
    routes::{
        cursor::Start,
        stream::{after_frame, over, stream},
    },
};

/// Whether `stream` in a query asks for one.
pub(super) fn asks_for_stream(said: Option<&str>) -> Result<bool, Refusal> {
    match said {
        None | Some("false" | "False" | "") => Ok(false),
        Some("true" | "True") => Ok(true),
        Some(_) => Err(Refusal::of_param("stream", "`stream` is true or false")),
    }
}

/// The id of the last frame that a client has.
pub(super) fn cursor_of(headers: &HeaderMap) -> Option<&str> {
    let cursor = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    cursor.filter(|cursor| !cursor.is_empty())
}

/// Goes on after a frame.
pub(super) async fn resume<F: Whole>(
    call: &Call,
    run: &RunView,
    facade: F,
    cursor: &str,
) -> Result<Response, Problem> {
    let attached = call.engine().attach(call.tenant(), &run.id)?;
    match after_frame(&attached, cursor)? {
        Some(start) => follow(call, run, facade, &start).await,
        None => Ok(over(attached.outcome()?.as_ref(), attached.info().tail.next.prev())),
    }
}

/// Follows the run from `start`; the answer's head tells where its stream can be resumed.
pub(super) async fn follow<F: Whole>(
    call: &Call,
    run: &RunView,
    facade: F,
    start: &Start,
) -> Result<Response, Problem> {
    let attached = call.engine().attach(call.tenant(), &run.id)?;
    let mut response = stream(call, &attached, facade, start, Follow::Live).await?;
    let path = format!("{}{}?stream=true", call.openai_prefix(), F::path(&run.id));
    let location = HeaderValue::from_str(&path).ok();
    response.headers_mut().extend(location.map(|path| (header::LOCATION, path)));
    Ok(response)
}
