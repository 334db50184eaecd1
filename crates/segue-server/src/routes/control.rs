//! `GET /v1/runs/{rid}/control`: a producer's inbox. Holding it open renews the run's lease.

use std::{future::poll_fn, time::Duration};

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use segue_core::RunId;
use segue_engine::{ControlInbox, ControlItem, ControlKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stream::{answer, over};
use crate::{
    accept::{Form, negotiate},
    app::Call,
    body::{Age, Heartbeat},
    error::{Code, Problem},
    extract::{PathId, Query},
    facade::{NativeSse, Wire},
    wait,
};

#[derive(Deserialize)]
pub(super) struct ControlQuery {
    after: Option<String>,
    wait: Option<String>,
}

pub(super) async fn control(
    call: Call,
    PathId(run): PathId<RunId>,
    Query(query): Query<ControlQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wait = query.wait.as_deref().map(wait::parse).transpose()?;
    let after = place(query.after.as_deref(), &headers)?;
    let form = match wait {
        Some(_) => Form::Json,
        None => negotiate(&headers)?,
    };
    let stream = call.engine().attach(call.tenant(), &run)?;
    let inbox = call.engine().control(call.tenant(), &run)?;
    match form {
        Form::Json => Ok(poll(&call, inbox, after, wait.unwrap_or_default()).await),
        Form::Sse => match stream.outcome()? {
            Some(outcome) => Ok(over(Some(&outcome), stream.info().tail.next.prev())),
            None => Ok(follow(&call, inbox, after)),
        },
        Form::Ndjson => {
            Err(Problem::new(Code::NotAcceptable, "there are: text/event-stream, application/json"))
        }
    }
}

/// `after` has to be right; a header that is not is passed over, as the inbox is short.
fn place(after: Option<&str>, headers: &HeaderMap) -> Result<u64, Problem> {
    if let Some(after) = after {
        let detail = "`after` is the id of an item";
        return after.parse().map_err(|_| Problem::new(Code::BadCursor, detail));
    }
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    Ok(header.and_then(|id| id.parse().ok()).unwrap_or(0))
}

async fn poll(call: &Call, mut inbox: ControlInbox, after: u64, wait: Duration) -> Response {
    let next = async {
        tokio::select! {
            biased;
            item = inbox.next(after) => Some(item),
            () = call.closing() => None,
            () = tokio::time::sleep(wait) => None,
        }
    };
    let (item, closed) = match next.await {
        Some(Some(item)) => (Some(item), false),
        Some(None) => (None, true),
        None => (None, false),
    };
    let next = item.map_or(after, |item| item.id).to_string();
    let data: Vec<Value> = item.iter().map(item_json).collect();
    let next = (!closed).then_some(next);
    Json(json!({"data": data, "next": next, "closed": closed})).into_response()
}

fn item_json(item: &ControlItem) -> Value {
    match item.kind {
        ControlKind::Stop { reason } => json!({"id": item.id, "type": "stop", "reason": reason}),
    }
}

fn frame(item: &ControlItem) -> Bytes {
    let name = match item.kind {
        ControlKind::Stop { .. } => "stop",
    };
    format!("id: {}\nevent: {name}\ndata: {}\n\n", item.id, item_json(item)).into()
}

/// The inbox as a stream, to the end of the run.
struct Inbox {
    call: Call,
    items: ControlInbox,
    after: u64,
    heartbeat: Heartbeat,
    age: Age,
    opening: Option<Bytes>,
}

impl Inbox {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        if self.age.is_over() {
            return None;
        }
        tokio::select! {
            biased;
            item = self.items.next(self.after) => {
                let item = item?;
                self.after = item.id;
                self.heartbeat.delay();
                Some(frame(&item))
            }
            () = self.call.closing() => None,
            () = poll_fn(|cx| self.heartbeat.poll_beat(cx)) => {
                Some(Bytes::from_static(NativeSse::HEARTBEAT))
            }
        }
    }
}

fn follow(call: &Call, items: ControlInbox, after: u64) -> Response {
    let retry = call.numbers().retry.as_millis();
    let inbox = Inbox {
        call: call.clone(),
        items,
        after,
        heartbeat: Heartbeat::new(call.numbers().heartbeat),
        age: Age::new(call.numbers().stream_age),
        opening: Some(format!(": segue\nretry: {retry}\n\n").into()),
    };
    let frames = stream::unfold(inbox, async |mut inbox| {
        let bytes = inbox.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), inbox))
    });
    answer(NativeSse::CONTENT_TYPE, Body::from_stream(frames))
}
