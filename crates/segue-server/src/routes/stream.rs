//! The answer that is an event stream.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use segue_core::{Outcome, RunId, Seq, Snapshot};
use segue_engine::{Place, RunStream};
use segue_journal::{ReadError, ReadLimit};

use super::cursor::{Start, Wanted, decide};
use crate::{
    app::Call,
    body::{Age, EventBody, Follow, Heartbeat},
    error::{Code, Problem},
    facade::{EarlyEnd, NativeSse, Wire},
};

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const RUN_STATUS: HeaderName = HeaderName::from_static("segue-run-status");
const RUN_REASON: HeaderName = HeaderName::from_static("segue-run-reason");
const LAST_SEQ: HeaderName = HeaderName::from_static("segue-last-seq");

/// Answers with the run's frames from `start` on, on a fan-out thread.
///
/// While the server drains, a run that is still open is not followed any more: the client gets
/// its `retry:` hint and a clean end, and comes back; one that would take a clean end for a
/// finished answer is refused.
pub(super) async fn stream<W: Wire>(
    call: &Call,
    run: &RunStream,
    wire: W,
    start: &Start,
    follow: Follow,
) -> Result<Response, Problem> {
    let retry = call.numbers().retry.as_millis();
    if !call.engine().is_ready() && !run.info().tail.closed {
        if W::EARLY_END == EarlyEnd::Abort {
            return Err(Problem::new(Code::ShuttingDown, "the server is shutting down"));
        }
        let start = if start.snapshot { &Start::at(Seq::FIRST) } else { start };
        let opening = wire.opening(run.run(), start, None, retry).concat();
        return Ok(turned_away(W::CONTENT_TYPE, opening.into()));
    }
    let client = call.enter(run.run());
    let shard = call.board().await;
    let (start, snapshot) = settle(run, start).await?;
    let from = snapshot.as_ref().map_or(start.from, |snapshot| snapshot.seq.next());
    let opening = wire.opening(run.run(), &start, snapshot.as_ref(), retry);
    let reader = run.reader(wire, Place { seq: from, frames: start.frames }, &shard)?;
    let heartbeat = Heartbeat::new(call.numbers().heartbeat);
    let age = Age::new(call.numbers().stream_age);
    let body = EventBody::new(opening, reader, follow, heartbeat, age, call.closing(), client);
    Ok(answer(W::CONTENT_TYPE, Body::new(body)))
}

/// The place after a frame of a facade with a state: `<run>:<seq>` is a whole record,
/// `<run>:<seq>.<k>` its first k frames. `None` if nothing comes after it, for ever.
pub(super) fn after_frame(run: &RunStream, cursor: &str) -> Result<Option<Start>, Problem> {
    let (record, frames) = match cursor.rsplit_once('.') {
        Some((record, frames)) if record.contains(':') => {
            let plain = frames.parse().ok().filter(|_| !frames.starts_with(['0', '+']));
            let bad = || Problem::new(Code::BadCursor, "the frame's number is malformed");
            (record, plain.ok_or_else(bad)?)
        }
        _ => (cursor, 0),
    };
    let wanted = Wanted { after: Some(record), ..Wanted::default() };
    let after = decide(run.run(), run.info(), wanted)?;
    let tail = run.info().tail;
    if frames == 0 && tail.closed && after.from >= tail.next {
        return Ok(None);
    }
    let from = if frames == 0 { after.from } else { after.from.prev() };
    Ok(Some(Start { frames, ..Start::at(from) }))
}

/// In place of a 5xx for a state that passes, which would stop an `EventSource` for good: its
/// `retry:` hint and a clean end.
pub(super) fn come_back(call: &Call) -> Response {
    let retry = call.numbers().retry.as_millis();
    turned_away(NativeSse::CONTENT_TYPE, format!(": segue\nretry: {retry}\n\n").into())
}

fn turned_away(content_type: &'static str, opening: Bytes) -> Response {
    metrics::counter!("segue_attaches_turned_away_total").increment(1);
    answer(content_type, Body::from(opening))
}

/// Takes the snapshot, if there is to be one, and says where it begins. What follows can be read:
/// where a trim was faster, the snapshot is taken again. Damage is told now, with a status, rather
/// than by a stream that breaks off again and again.
pub(super) async fn settle(
    run: &RunStream,
    start: &Start,
) -> Result<(Start, Option<Snapshot>), Problem> {
    let one = ReadLimit { records: 1, ..ReadLimit::default() };
    if !start.snapshot {
        run.read(start.from, one)?;
        return Ok((start.clone(), None));
    }
    loop {
        let snapshot = run.snapshot().await?;
        match run.read(snapshot.seq.next(), one) {
            Err(ReadError::Trimmed { .. }) => tokio::task::yield_now().await,
            read => {
                read?;
                let start = Start { from: snapshot.from_seq, ..start.clone() };
                return Ok((start, Some(snapshot)));
            }
        }
    }
}

pub(super) fn answer(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let no_cache = HeaderValue::from_static("no-cache, no-transform");
    headers.insert(header::CACHE_CONTROL, no_cache);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// 204: everything was given and nothing will come. It stops an `EventSource` for good.
pub(super) fn over(outcome: Option<&Outcome>, last: Seq) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(LAST_SEQ, HeaderValue::from(last.0));
    if let Some(outcome) = outcome {
        headers.insert(RUN_STATUS, HeaderValue::from_static(outcome.status().as_str()));
        let reason = reason_of(outcome).and_then(|reason| HeaderValue::from_str(&reason).ok());
        headers.extend(reason.map(|reason| (RUN_REASON, reason)));
    }
    response
}

/// Why it ended, in one word: the stop's reason, the interruption's cause, the error's code, the
/// model's finish reason.
fn reason_of(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Finished { finish_reason, .. } => finish_reason.clone(),
        Outcome::Stopped { reason, .. } => Some(reason.as_str().to_owned()),
        Outcome::Failed { error } => Some(error.code.clone()),
        Outcome::Interrupted { cause } => Some(cause.as_str().to_owned()),
    }
}

/// The path at which a run's event stream goes on, for a `Location` header.
pub(super) fn stream_location(run: &RunId, named: bool) -> HeaderValue {
    let query = if named { "" } else { "?event=none" };
    let path = format!("/v1/runs/{run}/events{query}");
    HeaderValue::from_str(&path).expect("an id is made of ASCII letters, digits and `_.-`")
}

/// The path of a run, for a `Location` header.
pub(super) fn location(run: &RunId) -> HeaderValue {
    let path = format!("/v1/runs/{run}");
    HeaderValue::from_str(&path).expect("an id is made of ASCII letters, digits and `_.-`")
}
