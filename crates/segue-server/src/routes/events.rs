//! `GET /v1/runs/{rid}/events`: replay, then live; as SSE, as lines, or as a page.

use std::time::Duration;

use axum::response::Response;
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, header};
use segue_core::{Cursor, RunId, Seq, Snapshot};
use segue_engine::RunStream;
use segue_journal::{Page, ReadLimit};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    cursor::{Begin, CursorRefusal, Start, Wanted, decide},
    stream::{answer, come_back, over, settle, stream, stream_location},
};
use crate::{
    accept::{Form, negotiate},
    app::Call,
    body::Follow,
    error::{Code, Problem},
    extract::{PathId, Query},
    facade::{NativeNdjson, NativeSse, gap_json, snapshot_json, write_record},
    fan_out, wait,
};

/// The most events of a page.
const PAGE_EVENTS: usize = 1_000;
/// About the most bytes of a page; one event is always given.
const PAGE_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    after: Option<String>,
    from: Option<String>,
    live: Option<String>,
    wait: Option<String>,
    event: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn events(
    call: Call,
    PathId(run): PathId<RunId>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = negotiate(&headers)?;
    match give(&call, &run, form, &query, &headers).await {
        Err(problem) if form == Form::Sse && problem.is_passing() => Ok(come_back(&call)),
        answer => answer,
    }
}

/// Where the place that was decided on is trimmed before it is read, it is decided anew once that is
/// over: a client without a cursor must not be told that its cursor is gone.
async fn give(
    call: &Call,
    run: &RunId,
    form: Form,
    query: &EventsQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    loop {
        let run = call.engine().attach(call.tenant(), run)?;
        let start = query.start(&run, headers)?;
        match give_from(call, &run, form, query, start).await {
            Err(problem) if problem.code() == Code::CursorTrimmed => {
                call.engine().until_trimmed(call.tenant(), run.run()).await;
            }
            answer => return answer,
        }
    }
}

async fn give_from(
    call: &Call,
    run: &RunStream,
    form: Form,
    query: &EventsQuery,
    start: Start,
) -> Result<Response, Problem> {
    match form {
        Form::Sse => {
            query.refuse_page_options()?;
            if is_over(run, &start) {
                return Ok(over(run.outcome()?.as_ref(), run.info().tail.next.prev()));
            }
            let named = query.named()?;
            let (wire, follow) = (NativeSse { named }, query.follow()?);
            let mut response = stream(call, run, wire, &start, follow).await?;
            // What ends at the stored events by wish is not to be gone on with.
            if follow == Follow::Live {
                let place = stream_location(run.run(), named);
                response.headers_mut().insert(header::LOCATION, place);
            }
            Ok(response)
        }
        Form::Ndjson => {
            query.refuse_page_options()?;
            stream(call, run, NativeNdjson, &start, query.follow()?).await
        }
        Form::Json => page(call, run, start, query).await,
    }
}

/// The client has everything and nothing will come.
fn is_over(run: &RunStream, start: &Start) -> bool {
    let tail = run.info().tail;
    !start.snapshot && tail.closed && start.from >= tail.next
}

impl EventsQuery {
    fn start(&self, run: &RunStream, headers: &HeaderMap) -> Result<Start, Problem> {
        // A header that is not text is as bad as any other that is not a cursor.
        let header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
        let from = self.from.as_deref().map(begin).transpose()?;
        let wanted = Wanted { after: self.after.as_deref(), header, from };
        let start = decide(run.run(), run.info(), wanted);
        let start = start.map_err(|refusal| refused(run.run(), refusal))?;
        if let Some(gap) = &start.gap {
            metrics::counter!("segue_gaps_total", "why" => gap.why()).increment(1);
        }
        Ok(start)
    }

    fn follow(&self) -> Result<Follow, Problem> {
        match self.live.as_deref() {
            None | Some("true") => Ok(Follow::Live),
            Some("false") => Ok(Follow::Stop),
            Some(_) => Err(bad_query("`live` is true or false")),
        }
    }

    fn named(&self) -> Result<bool, Problem> {
        match self.event.as_deref() {
            None => Ok(true),
            Some("none") => Ok(false),
            Some(_) => Err(bad_query("`event` can only be none")),
        }
    }

    fn refuse_page_options(&self) -> Result<(), Problem> {
        if self.wait.is_some() || self.limit.is_some() {
            return Err(bad_query("`wait` and `limit` are for pages, Accept: application/json"));
        }
        Ok(())
    }

    fn limit(&self) -> Result<ReadLimit, Problem> {
        match self.limit {
            Some(0) => Err(bad_query("`limit` is at least 1")),
            limit => {
                let records = limit.unwrap_or(PAGE_EVENTS).min(PAGE_EVENTS);
                Ok(ReadLimit { bytes: PAGE_BYTES, records })
            }
        }
    }
}

/// A cursor that was trimmed is told where to go on.
fn refused(run: &RunId, refusal: CursorRefusal) -> Problem {
    let is_trimmed = matches!(refusal, CursorRefusal::Trimmed { .. });
    let problem = Problem::from(refusal);
    if is_trimmed {
        problem.with("snapshot", format!("/v1/runs/{run}/events?from=snapshot"))
    } else {
        problem
    }
}

fn begin(text: &str) -> Result<Begin, Problem> {
    match text {
        "start" => Ok(Begin::Start),
        "tail" => Ok(Begin::Tail),
        "snapshot" => Ok(Begin::Snapshot),
        _ => text
            .strip_prefix("last:")
            .and_then(|count| count.parse().ok())
            .map(Begin::Last)
            .ok_or_else(|| bad_query("`from` is start, tail, snapshot or last:N")),
    }
}

fn bad_query(detail: &str) -> Problem {
    Problem::new(Code::BadQuery, detail)
}

async fn page(
    call: &Call,
    run: &RunStream,
    start: Start,
    query: &EventsQuery,
) -> Result<Response, Problem> {
    let limit = query.limit()?;
    let wait = query.wait.as_deref().map(wait::parse).transpose()?;
    if start.snapshot {
        call.board().await;
    }
    let (start, snapshot) = settle(run, &start).await?;
    let from = snapshot.as_ref().map_or(start.from, |snapshot| snapshot.seq.next());
    let mut page = run.read(from, limit)?;
    if let Some(wait) = wait.filter(|wait| !wait.is_zero() && snapshot.is_none())
        && page.records.is_empty()
        && !page.info.tail.closed
    {
        page = next_page(call, run, from, limit, wait).await?;
    }
    // Back from the wait: what follows may ask the views.
    fan_out::go_home().await;
    let next = page.records.last().map_or(from, |record| record.seq.next());
    let closed = page.info.tail.closed && next >= page.info.tail.next;
    let status = call.engine().status(call.tenant(), run.run())?.as_str();
    let rest = json!({
        "next": (!closed).then(|| Cursor { run: run.run().clone(), seq: next.prev() }.to_string()),
        "closed": closed,
        "status": status,
    });
    let body = page_json(run.run(), &start, snapshot.as_ref(), &page, &rest);
    Ok(answer("application/json", body.freeze().into()))
}

/// Long-poll: the first page that is not empty, or an empty one once `wait` is over.
async fn next_page(
    call: &Call,
    run: &RunStream,
    from: Seq,
    limit: ReadLimit,
    wait: Duration,
) -> Result<Page, Problem> {
    let shard = call.board().await;
    // Only its bell is used.
    let reader = run.reader(NativeNdjson, from, &shard)?;
    let _client = call.enter(run.run());
    let news = async {
        loop {
            reader.listener().hear();
            let tail = reader.listener().tail();
            if tail.next > from || tail.closed || reader.listener().deleted() {
                return;
            }
            reader.listener().rung().await;
        }
    };
    tokio::select! {
        () = news => {}
        () = call.closing() => {}
        () = tokio::time::sleep(wait) => {}
    }
    Ok(run.read(from, limit)?)
}

/// Written by hand so that the events' own bytes are passed on as they are stored.
fn page_json(
    run: &RunId,
    start: &Start,
    snapshot: Option<&Snapshot>,
    page: &Page,
    rest: &Value,
) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(b'{');
    if let Some(gap) = &start.gap {
        out.put_slice(format!("\"gap\":{},", gap_json(run, gap, start)).as_bytes());
    }
    if let Some(snapshot) = snapshot {
        out.put_slice(b"\"snapshot\":");
        out.extend(snapshot_json(run, snapshot));
        out.put_u8(b',');
    }
    out.put_slice(b"\"data\":[");
    for (index, record) in page.records.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        write_record(&mut out, run, record);
    }
    out.put_slice(b"],");
    out.put_slice(rest.to_string().trim_start_matches('{').as_bytes());
    out
}
