//! `POST /v1/runs/{rid}/events`: a producer appends.
//!
//! `application/json` is one atomic batch with one producer seq; `application/x-ndjson` is
//! journaled line by line as it arrives ([`ingest`]), line `k` with the header's seq + `k`.

mod acks;
mod batch;
mod ingest;
mod lines;
mod producer;

use axum::{
    Json,
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::HeaderMap;
use segue_core::{Event, RunId};
use segue_engine::{AppendError, Appended};
use serde_json::{Value, json, value::RawValue};

use self::{ingest::Ingest, producer::Producer};
use crate::{
    app::{App, Call},
    error::{Code, Problem},
    extract::{Media, PathId, bad_content_type, whole},
    fan_out,
};

/// The body of an append, unread.
pub(super) struct Payload {
    media: Media,
    body: Body,
    max: usize,
}

impl FromRequest<App> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (media, max) = (Media::of(request.headers()), app.body_bytes());
        Ok(Self { media, body: request.into_body(), max })
    }
}

pub(super) async fn append(
    call: Call,
    PathId(run): PathId<RunId>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, Problem> {
    debug_assert!(fan_out::is_home(), "no append is served by a fan-out thread");
    let producer = Producer::of(&headers)?;
    match payload.media {
        Media::Json => {
            let body = whole(payload.body, payload.max).await?;
            batch(&call, &run, body, producer).await
        }
        Media::Ndjson => {
            // Nothing of the body is read where nothing of it could be taken; of an ended run a
            // numbered producer may still ask what was.
            let stream = call.engine().attach(call.tenant(), &run)?;
            if stream.info().tail.closed && producer.is_none() {
                return Err(AppendError::RunEnded.into());
            }
            Ok(Ingest::new(call, run, producer).answer(payload.body, acks::at_end(&headers)))
        }
        Media::Other => Err(bad_content_type("application/json or application/x-ndjson")),
    }
}

async fn batch(
    call: &Call,
    run: &RunId,
    body: Bytes,
    producer: Option<Producer>,
) -> Result<Response, Problem> {
    let events = read_events(&body, call.engine().settings().event_bytes)?;
    let claim = producer.map(|producer| producer.claim(0, 0));
    let pending = call.engine().append(call.tenant(), run, events, claim).await?;
    Ok(Json(appended_json(&pending.await?)).into_response())
}

/// One event or an array of events.
fn read_events(body: &Bytes, max: usize) -> Result<Vec<Event>, Problem> {
    if body.trim_ascii_start().first() != Some(&b'[') {
        return Ok(vec![Event::from_producer(body, max)?]);
    }
    let raw: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::Malformed, error.to_string()))?;
    if raw.is_empty() {
        return Err(Problem::new(Code::Malformed, "the array has no events"));
    }
    let read = |(index, raw): (usize, &&RawValue)| {
        let event = Event::from_producer(&body.slice_ref(raw.get().as_bytes()), max);
        event.map_err(|error| Problem::from(error).with("index", index))
    };
    raw.iter().enumerate().map(read).collect()
}

fn appended_json(appended: &Appended) -> Value {
    let mut fields = json!({
        "first_seq": appended.first_seq,
        "last_seq": appended.last_seq,
        "stop_requested": appended.stop_requested,
    });
    if appended.duplicate {
        fields["duplicate"] = true.into();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &'static str) -> Result<usize, Value> {
        read_events(&Bytes::from_static(text.as_bytes()), 1 << 10)
            .map(|events| events.len())
            .map_err(|problem| problem.to_json())
    }

    #[test]
    fn one_event_or_an_array() {
        assert_eq!(check(r#" {"type":"data","name":"n"} "#), Ok(1));
        assert_eq!(check(r#" [ {"type":"data","name":"n"} , {"type":"state"} ] "#), Ok(2));
    }

    #[test]
    fn a_bad_entry_is_named() {
        let refusal = check(r#"[{"type":"state"},{"type":"run.started"}]"#).expect_err("reserved");
        assert_eq!((&refusal["code"], &refusal["index"]), (&json!("forged_event"), &json!(1)));
        for text in ["", "[]", "[1", "{", "1", "[1]", "null"] {
            assert_eq!(check(text).expect_err("malformed")["code"], "malformed", "{text:?}");
        }
    }
}
