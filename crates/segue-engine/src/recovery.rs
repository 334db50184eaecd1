//! What a process that died left open is ended before anything else happens.
//!
//! A run whose stream is open had no terminal: nobody knows how it would have ended. It gets
//! `run.interrupted{restart}` with a real seq; its unfinished tool calls are marked uncertain and
//! nothing of it is run again.

use segue_core::{
    AgentName, EventKind, EventRecord, InterruptionCause, Limits, MessageId, Outcome, RunId, Seq,
    SessionId, TenantId, Timestamp,
};
use segue_journal::{AppendError, Batch, Journal, Part, ReadError, ReadLimit, StreamKey, Ticket};
use serde_json::Value;

use crate::{
    engine::{Engine, OpenError},
    run::{RunFacts, RunLog, terminal_parts},
};

/// Ends every open run. Batches go out together and are awaited at the end.
pub(crate) async fn recover(engine: &Engine) -> Result<(), OpenError> {
    let open = engine.inner.journal.open_runs();
    let mut tickets = Vec::with_capacity(open.len());
    for stream in open {
        match recover_run(engine, &stream).await {
            Ok(ticket) => tickets.push((stream, ticket)),
            // Nobody knows any more whose run it was: it stays open and is named.
            Err(OpenError::Read(error @ (ReadError::Corrupt { .. } | ReadError::NotFound(_)))) => {
                not_recovered(&stream, &error);
            }
            Err(error) => return Err(error),
        }
    }
    let recovered = tickets.len();
    for (stream, ticket) in tickets {
        match ticket.await {
            Ok(_) => {}
            Err(error @ AppendError::Poisoned(_)) => return Err(error.into()),
            // The others are served all the same; the next start tries again.
            Err(error) => not_recovered(&stream, &error),
        }
    }
    if recovered > 0 {
        metrics::counter!("segue_recovered_runs_total").increment(recovered as u64);
        tracing::info!(runs = recovered, "runs of an earlier process were interrupted");
    }
    Ok(())
}

async fn recover_run(engine: &Engine, stream: &StreamKey) -> Result<Ticket, OpenError> {
    let inner = &engine.inner;
    let facts = read_facts(&*inner.journal, stream)?;
    for resource in resources(&*inner.journal, stream) {
        inner.agents.release(&resource).await;
    }
    let mut log = RunLog::load_to_end(&*inner.journal, stream)?;
    let outcome = Outcome::Interrupted { cause: InterruptionCause::Restart };
    let parts = terminal_parts(&mut log, &facts, &[], &outcome, None);
    let bytes = parts.iter().map(Part::bytes).sum();
    let permit = inner.journal.reserve(stream, bytes).await;
    let permit = permit.map_err(|error| AppendError::Poisoned(error.to_string()))?;
    Ok(inner.journal.submit(permit, Batch { parts }))
}

fn not_recovered(stream: &StreamKey, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!("segue_recovery_failures_total").increment(1);
    tracing::error!(%stream, error, "an open run could not be ended");
}

/// What the run was started with, from its first event.
fn read_facts(journal: &dyn Journal, stream: &StreamKey) -> Result<RunFacts, ReadError> {
    let first = ReadLimit { records: 1, ..ReadLimit::default() };
    let page = journal.read(stream, Seq::FIRST, first)?;
    let created_at = page.records.first().map_or(Timestamp::default(), |record| record.at);
    let fields = page.records.into_iter().next().and_then(|r| EventRecord::decode(r.bytes).ok());
    let fields = fields.and_then(|event| serde_json::from_slice::<Value>(event.json()).ok());
    fields.and_then(|fields| facts_of(stream, &fields, created_at)).ok_or_else(|| {
        ReadError::Corrupt { seq: Seq::FIRST, what: "not the first event of a run".into() }
    })
}

fn facts_of(stream: &StreamKey, fields: &Value, created_at: Timestamp) -> Option<RunFacts> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let run = RunId::parse(stream.id()).ok()?;
    Some(RunFacts {
        tenant: TenantId::parse(stream.tenant()).ok()?,
        session: SessionId::parse(text("session_id")?).ok()?,
        message: text("message_id").and_then(|id| MessageId::parse(id).ok())?,
        agent: AgentName::parse(text("agent")?).ok()?,
        run,
        limits: Limits::default(),
        metadata: Value::Null,
        created_at,
    })
}

/// What the run held outside of the process, as far as its stream can be read.
fn resources(journal: &dyn Journal, stream: &StreamKey) -> Vec<String> {
    let (mut found, mut from) = (Vec::new(), Seq::FIRST);
    while let Ok(page) = journal.read(stream, from, ReadLimit::default()) {
        let Some(last) = page.records.last() else { break };
        from = last.seq.next();
        found.extend(page.records.into_iter().filter_map(|record| resource_of(record.bytes)));
    }
    found
}

fn resource_of(bytes: bytes::Bytes) -> Option<String> {
    let event = EventRecord::decode(bytes).ok()?;
    // A producer cannot write this kind, so that it cannot name what is not its own.
    if event.kind() != EventKind::RunResource {
        return None;
    }
    let fields: Value = serde_json::from_slice(event.json()).ok()?;
    fields.get("resource")?.as_str().map(str::to_owned)
}
