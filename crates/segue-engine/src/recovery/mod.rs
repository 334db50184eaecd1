//! What a process that died left open is ended before anything else happens.
//!
//! A run whose stream is open had no terminal: nobody knows how it would have ended. It gets
//! `run.interrupted{restart}` with a real seq, or the stop's terminal if one was accepted; its unfinished tool calls are marked uncertain and
//! nothing of it is run again. Two kinds are left open, if their starts asked for it: queued runs,
//! which are started in their turn, and push runs, whose producer may come back.

mod going_on;

use segue_core::{
    AgentName, EventKind, EventRecord, InterruptionCause, Limits, MessageId, Outcome, RunId, Seq,
    SessionId, TenantId, Timestamp,
};
use segue_journal::{AppendError, Batch, Journal, Part, ReadError, ReadLimit, StreamKey, Ticket};
use serde_json::Value;

use crate::{
    engine::{Engine, OpenError},
    run::{Restart, RunFacts, RunLog, terminal_parts},
};
use going_on::{GoingOn, go_on};

/// Ends every open run but those whose start asked to go on. Batches go out together and are
/// awaited at the end; then the others go on, in the order of their turns.
pub(crate) async fn recover(engine: &Engine) -> Result<(), OpenError> {
    let open = engine.inner.journal.open_runs();
    let mut tickets = Vec::with_capacity(open.len());
    let mut going_on = Vec::new();
    for stream in open {
        // It is about to be erased.
        if engine.inner.supervisor.is_gone(&stream) {
            continue;
        }
        match recover_run(engine, &stream).await {
            Ok(Recovered::Ends(ticket)) => tickets.push((stream, ticket)),
            Ok(Recovered::GoesOn(run)) => going_on.push(*run),
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
    go_on(engine, going_on);
    Ok(())
}

/// What becomes of an open run.
enum Recovered {
    Ends(Ticket),
    GoesOn(Box<GoingOn>),
}

async fn recover_run(engine: &Engine, stream: &StreamKey) -> Result<Recovered, OpenError> {
    let inner = &engine.inner;
    let first = First::read(&*inner.journal, stream)?;
    if let Some(going_on) = GoingOn::of(engine, stream, &first) {
        return Ok(Recovered::GoesOn(Box::new(going_on)));
    }
    for resource in resources(&*inner.journal, stream) {
        inner.agents.release(&resource).await;
    }
    let mut log = RunLog::load_to_end(&*inner.journal, stream)?;
    let interrupted = Outcome::Interrupted { cause: InterruptionCause::Restart };
    // A stop that was accepted stands.
    let outcome = log.stopped().cloned().unwrap_or(interrupted);
    let parts = terminal_parts(&mut log, &first.facts, &[], &outcome, None);
    let bytes = parts.iter().map(Part::bytes).sum();
    let permit = inner.journal.reserve(stream, bytes).await;
    let permit = permit.map_err(|error| AppendError::Poisoned(error.to_string()))?;
    Ok(Recovered::Ends(inner.journal.submit(permit, Batch { parts })))
}

fn not_recovered(stream: &StreamKey, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!("segue_recovery_failures_total").increment(1);
    tracing::error!(%stream, error, "an open run could not be ended");
}

/// What the first event of a run says.
#[derive(Clone)]
pub(crate) struct First {
    pub(crate) facts: RunFacts,
    pub(crate) input: Value,
    /// Its number in its session's line, if it was queued.
    pub(crate) turn: Option<u64>,
}

impl First {
    /// Reads it; `Corrupt` if it is not the first event of a run.
    pub(crate) fn read(journal: &dyn Journal, stream: &StreamKey) -> Result<Self, ReadError> {
        let limit = ReadLimit { records: 1, ..ReadLimit::default() };
        let page = journal.read(stream, Seq::FIRST, limit)?;
        let record = page.records.into_iter().next();
        let read = record.and_then(|record| {
            let event = EventRecord::decode(record.bytes).ok()?;
            Self::of(stream, serde_json::from_slice(event.json()).ok()?, record.at)
        });
        read.ok_or_else(|| ReadError::Corrupt {
            seq: Seq::FIRST,
            what: "not the first event of a run".into(),
        })
    }

    fn of(stream: &StreamKey, mut fields: Value, created_at: Timestamp) -> Option<Self> {
        let fields = fields.as_object_mut()?;
        let input = fields.remove("input").unwrap_or_default();
        let restart = fields.remove("restart");
        let restart: Option<Restart> = restart.and_then(|r| serde_json::from_value(r).ok());
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        let facts = RunFacts {
            tenant: TenantId::parse(stream.tenant()).ok()?,
            session: SessionId::parse(text("session_id")?).ok()?,
            message: text("message_id").and_then(|id| MessageId::parse(id).ok())?,
            continues: text("continues").and_then(|id| RunId::parse(id).ok()),
            agent: AgentName::parse(text("agent")?).ok()?,
            run: RunId::parse(stream.id()).ok()?,
            limits: restart.as_ref().map_or_else(Limits::default, |r| r.limits.clone()),
            metadata: restart.as_ref().map_or(Value::Null, |r| r.metadata.clone()),
            restart,
            created_at,
        };
        Some(Self { facts, input, turn: fields.get("turn").and_then(Value::as_u64) })
    }
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
