//! A run at rest: what its stream has shown so far, as one object.

use segue_core::{
    EventRecord, RunId, Seq,
    fold::{Message, Role},
};
use segue_engine::{MAX_LIMIT, MessageQuery, RunStream, RunView};
use segue_journal::{ReadError, ReadLimit};
use serde_json::{Value, json};

use super::refusal::Refusal;
use crate::{
    app::Call,
    error::{Code, Problem},
    facade::{Asked, NativeNdjson, OpenAiResponses, Whole},
    fan_out,
};

/// The run of a response.
pub(super) async fn find(call: &Call, id: &str) -> Result<RunView, Refusal> {
    let found = known(call, Asked::run_of(id)).await?;
    found.ok_or_else(|| Refusal::not_found(format!("response with id '{id}' not found")))
}

/// The run of a chat completion.
pub(super) async fn find_chat(call: &Call, id: &str) -> Result<RunView, Refusal> {
    let found = known(call, Asked::run_of_completion(id)).await?;
    found.ok_or_else(|| Refusal::not_found(format!("chat completion with id '{id}' not found")))
}

async fn known(call: &Call, run: Option<RunId>) -> Result<Option<RunView>, Refusal> {
    match run {
        Some(run) => Ok(call.engine().run(call.tenant(), &run).await?),
        None => Ok(None),
    }
}

/// Waits until a run has ended, however long it takes.
pub(super) async fn until_ended(call: &Call, run: &RunId) -> Result<(), Problem> {
    let stream = call.engine().attach(call.tenant(), run)?;
    if stream.info().tail.closed {
        return Ok(());
    }
    let shard = call.board().await;
    // Only its bell is used.
    let reader = stream.reader(NativeNdjson, stream.info().tail.next, &shard)?;
    let _client = call.enter(run);
    let ended = async {
        loop {
            reader.listener().hear();
            if reader.listener().tail().closed || reader.listener().deleted() {
                return Ok(());
            }
            reader.listener().rung().await;
        }
    };
    let ended = tokio::select! {
        ended = ended => ended,
        () = call.closing() => {
            Err(Problem::new(Code::ShuttingDown, "the server is shutting down"))
        }
    };
    fan_out::go_home().await;
    ended
}

/// The response of a run as it is now.
pub(super) async fn response(call: &Call, run: &RunView) -> Result<Value, Problem> {
    Ok(whole::<OpenAiResponses>(call, run).await?.object())
}

/// A facade that has taken in all that a run has said by now.
pub(super) async fn whole<F: Whole>(call: &Call, run: &RunView) -> Result<F, Problem> {
    // Reading a long run is no work for a thread that serves appends.
    let _shard = call.board().await;
    let facade = match read(call, run).await {
        Err(ReadError::Trimmed { .. }) => {
            call.engine().until_trimmed(call.tenant(), &run.id).await;
            rebuilt(call, run).await
        }
        read => read,
    };
    fan_out::go_home().await;
    Ok(facade?)
}

async fn read<F: Whole>(call: &Call, run: &RunView) -> Result<F, ReadError> {
    let stream = call.engine().attach(call.tenant(), &run.id)?;
    let mut facade = F::new(Asked::of(run));
    let mut next = Seq::FIRST;
    loop {
        let page = stream.read(next, ReadLimit::default())?;
        page.records.iter().for_each(|record| facade.take(record));
        let Some(last) = page.records.last() else { return Ok(facade) };
        next = last.seq.next();
        tokio::task::yield_now().await;
    }
}

/// Of a run whose events are gone: from its message and its end.
async fn rebuilt<F: Whole>(call: &Call, run: &RunView) -> Result<F, ReadError> {
    let stream = call.engine().attach(call.tenant(), &run.id)?;
    let mut facade = F::new(Asked::of(run));
    facade.take_event(run.created_at, &json!({"type": "run.started"}));
    for (part, index) in parts(&stream).await?.iter().zip(0..) {
        for event in events_of(part, index) {
            facade.take_event(run.created_at, &event);
        }
    }
    if let Some(outcome) = stream.outcome()? {
        let mut end = outcome.to_json(&run.message_id);
        if end["usage"].is_null() && run.usage.is_some() {
            end["usage"] = json!(run.usage);
        }
        facade.take_event(run.ended_at.unwrap_or(run.created_at), &end);
    }
    Ok(facade)
}

/// The parts of a run's message.
async fn parts(stream: &RunStream) -> Result<Vec<Value>, ReadError> {
    let snapshot = stream.snapshot().await?;
    let mut fold: Value = serde_json::from_slice(&snapshot.json).unwrap_or_default();
    match fold["message"]["parts"].take() {
        Value::Array(parts) => Ok(parts),
        _ => Ok(Vec::new()),
    }
}

/// Events that would make the part at `index`.
fn events_of(part: &Value, index: usize) -> Vec<Value> {
    let name = index.to_string();
    let as_event = |kind: &str| {
        let mut event = part.clone();
        event["type"] = kind.into();
        event
    };
    match part["type"].as_str().unwrap_or_default() {
        kind @ ("text" | "reasoning") => {
            let of = |what: &str| json!({"type": format!("{kind}.{what}"), "part": name});
            let (mut delta, mut end) = (of("delta"), of("end"));
            delta["text"] = part["text"].clone();
            end["signature"] = part["signature"].clone();
            vec![of("start"), delta, end]
        }
        "tool_call" => vec![as_event("tool_call.started"), as_event("tool_call.input_end")],
        kind @ ("tool_result" | "file" | "source") => vec![as_event(kind)],
        _ => Vec::new(),
    }
}

/// What a run was asked: from its first record, or, if that is gone, the messages of it.
pub(super) async fn input(call: &Call, run: &RunView) -> Result<Value, Problem> {
    let stream = call.engine().attach(call.tenant(), &run.id)?;
    let one = ReadLimit { records: 1, ..ReadLimit::default() };
    let page = match stream.read(Seq::FIRST, one) {
        Err(ReadError::Trimmed { .. }) => return messages(call, run).await,
        read => read?,
    };
    let first = page.records.into_iter().next().map(|record| record.bytes);
    let event = first.and_then(|bytes| EventRecord::decode(bytes).ok());
    let fields: Option<Value> = event.and_then(|event| serde_json::from_slice(event.json()).ok());
    Ok(fields.map_or(Value::Null, |mut fields| fields["input"].take()))
}

/// What was said to a run, from its session.
async fn messages(call: &Call, run: &RunView) -> Result<Value, Problem> {
    let session = Some(run.session_id.clone());
    let query = MessageQuery { session, limit: MAX_LIMIT, ..MessageQuery::default() };
    let all = call.engine().messages(call.tenant(), query).await?.data;
    let is_said = |message: &&Message| {
        message.role != Role::Assistant && message.run_id.as_ref() == Some(&run.id)
    };
    Ok(all.iter().filter(is_said).map(|message| json!(message)).collect())
}
