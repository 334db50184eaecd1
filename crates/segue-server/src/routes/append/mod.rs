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
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::Method;
use segue_core::{Event, RunId, Seq};
use segue_engine::{AppendError, Appended};
use serde::Serialize;
use serde_json::value::RawValue;

use self::{ingest::Ingest, producer::Producer};
use crate::{
    app::{App, Call},
    error::{Code, Problem},
    extract::{Media, PathId, bad_content_type, whole},
    fan_out,
};

/// The run that a request appends to, where its path says so plainly. Such a request is served
/// without the router: of all requests this is the one that comes once an event.
pub(super) fn target(request: &Request) -> Option<RunId> {
    let rest = request.uri().path().strip_prefix("/v1/runs/")?;
    let id = rest.strip_suffix("/events")?;
    if request.method() == Method::POST { id.parse().ok() } else { None }
}

/// Everything else that the router takes for an append: an id that is encoded, or none.
pub(super) async fn append(
    State(app): State<App>,
    PathId(run): PathId<RunId>,
    request: Request,
) -> Result<Response, Problem> {
    serve(&app, run, request).await
}

/// Appends what the request's body says to a run.
pub(super) async fn serve(app: &App, run: RunId, request: Request) -> Result<Response, Problem> {
    debug_assert!(fan_out::is_home(), "no append is served by a fan-out thread");
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    let call = Call::of(app, headers)?;
    let producer = Producer::of(headers)?;
    match Media::of(headers) {
        Media::Json => {
            let body = whole(body, app.body_bytes()).await?;
            batch(&call, &run, body, producer).await
        }
        Media::Ndjson => {
            // Nothing of the body is read where nothing of it could be taken; of an ended run a
            // numbered producer may still ask what was.
            let stream = call.engine().attach(call.tenant(), &run)?;
            if stream.info().tail.closed && producer.is_none() {
                return Err(AppendError::RunEnded.into());
            }
            Ok(Ingest::new(call, run, producer).answer(body, acks::at_end(headers)))
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
    Ok(Json(Answer::from(&pending.await?)).into_response())
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

/// Where appended events stand, for the producer.
#[derive(Clone, Copy, Debug, Serialize)]
struct Answer {
    first_seq: Seq,
    last_seq: Seq,
    stop_requested: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    /// Of lines: the newest of the producer's numbers that is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    acked_seq: Option<u64>,
}

impl From<&Appended> for Answer {
    fn from(appended: &Appended) -> Self {
        let Appended { first_seq, last_seq, duplicate, stop_requested } = *appended;
        Self { first_seq, last_seq, stop_requested, duplicate, acked_seq: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_plain_path_names_its_run() {
        let target = |method: &str, path: &str| {
            let request = http::Request::builder().method(method).uri(path);
            target(&request.body(axum::body::Body::empty()).expect("a path"))
        };
        assert_eq!(target("POST", "/v1/runs/r1/events?x=1"), "r1".parse().ok());
        for path in ["/v1/runs/r%31/events", "/v1/runs//events", "/v1/runs/a/b/events", "/v1/runs"]
        {
            assert_eq!(target("POST", path), None, "{path}");
        }
        assert_eq!(target("GET", "/v1/runs/r1/events"), None);
    }

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
