//! What is written of an import before it is there: runs without their ends, which nobody sees.

use std::{collections::HashSet, mem};

use bytes::Bytes;
use segue_core::{
    EventKind, EventRecord, MessageId, RunId, Seq, SessionId, TenantId, Timestamp,
    lifecycle::Lifecycle,
};
use segue_journal::{
    AppendError as JournalError, Epoch, Op, Part, StreamKey, StreamKind, views::Value as Cell,
};
use serde::Deserialize;

use super::{Head, LEFT_OUT, RunHead, import::ImportError};
use crate::{
    append::AppendError,
    delete::{Doomed, is_erased},
    engine::Engine,
    projection::{MESSAGES, rows},
    run::FIRST_EPOCH,
    supervisor::Names,
};

/// Bytes of events that are written at once.
const CHUNK_BYTES: usize = 1 << 20;
/// How many records stand in for trimmed ones in one batch.
const CHUNK_RECORDS: u64 = 10_000;
/// The most that the session's own records may have together, in bytes.
const SESSION_BYTES: usize = 60 << 20;

/// An import that was begun.
pub(super) struct Stage {
    engine: Engine,
    doomed: Doomed,
    runs: Vec<RunHead>,
    /// How many runs are whole.
    whole: usize,
    /// The next event of the run that is not.
    next: Seq,
    chunk: Vec<Bytes>,
    chunk_bytes: usize,
    /// What ends the runs, each of its own stream.
    ends: Vec<Part>,
    session: Vec<Bytes>,
    session_bytes: usize,
    created: HashSet<RunId>,
    messages: Vec<MessageId>,
    /// Nobody else gets the runs' names meanwhile.
    _names: Vec<Names>,
}

/// What a first event says.
#[derive(Deserialize)]
struct First {
    session_id: SessionId,
}

impl Stage {
    /// Hides what is to come and says durably that it may have to be erased.
    pub(super) async fn begin(
        engine: &Engine,
        tenant: &TenantId,
        head: Head,
        line: u64,
    ) -> Result<Self, ImportError> {
        let bad = |what: &str| ImportError::Line { line, what: what.to_owned() };
        let Head { session_id, runs, .. } = head;
        let mut ids = HashSet::new();
        if !runs.iter().all(|run| ids.insert(&run.run_id)) {
            return Err(bad("has a run twice"));
        }
        if !runs.iter().all(|run| run.from >= Seq::FIRST && run.last_seq >= run.from) {
            return Err(bad("has a run without an event"));
        }
        let ids = runs.iter().map(|run| run.run_id.clone()).collect();
        let doomed = Doomed::import(tenant.clone(), session_id, ids);
        let names = claim(engine, &doomed).await?;
        if let Err(error) = engine.begin_import(&doomed).await {
            engine.inner.supervisor.show(&doomed.streams());
            return Err(error.into());
        }
        let next = runs.first().map_or(Seq::FIRST, |run| run.from);
        let (chunk, ends, session, messages) = Default::default();
        Ok(Self {
            engine: engine.clone(),
            doomed,
            runs,
            whole: 0,
            next,
            chunk,
            chunk_bytes: 0,
            ends,
            session,
            session_bytes: 0,
            created: HashSet::new(),
            messages,
            _names: names,
        })
    }

    /// Takes the next event of the runs.
    pub(super) async fn event(
        &mut self,
        run: &RunId,
        seq: Seq,
        record: Bytes,
        line: u64,
    ) -> Result<(), ImportError> {
        let bad = |what: &str| ImportError::Line { line, what: what.to_owned() };
        let head = self.runs.get(self.whole).filter(|head| head.run_id == *run);
        let head = head.cloned().ok_or_else(|| bad("is of a run that is not to come"))?;
        if seq != self.next {
            return Err(bad(&format!("has the seq {seq}, {} is to come", self.next)));
        }
        let event = EventRecord::decode(record.clone()).map_err(|_| bad("is no event"))?;
        if event.kind().is_terminal() != (seq == head.last_seq) {
            return Err(bad("does not end its run where the head says"));
        }
        if seq == Seq::FIRST && !self.is_first(&event) {
            return Err(bad("does not begin a run of this session"));
        }
        if seq == head.from {
            self.stand_in(&head).await?;
        }
        if seq == head.last_seq {
            return self.end(&head, record).await;
        }
        self.next = seq.next();
        self.chunk_bytes += record.len();
        self.chunk.push(record);
        if self.chunk_bytes >= CHUNK_BYTES { self.flush(&head).await } else { Ok(()) }
    }

    fn is_first(&self, event: &EventRecord) -> bool {
        let first = serde_json::from_slice::<First>(event.json());
        matches!(event.kind(), EventKind::RunStarted | EventKind::RunQueued)
            && first.is_ok_and(|first| first.session_id == self.doomed.session)
    }

    /// Makes the run's stream, with empty records in place of the trimmed ones.
    async fn stand_in(&mut self, head: &RunHead) -> Result<(), ImportError> {
        let stream = StreamKey::run(&self.doomed.tenant, &head.run_id);
        self.commit(vec![Part::create(stream.clone(), Epoch(FIRST_EPOCH), Vec::new())]).await?;
        let json = format!(r#"{{"type":"{LEFT_OUT}"}}"#);
        let empty = EventRecord::encode_foreign(json.as_bytes(), Timestamp::default());
        let empty = empty.unwrap_or_default();
        let mut missing = head.from.prev().0;
        while missing > 0 {
            let count = missing.min(CHUNK_RECORDS);
            let records = (0..count).map(|_| empty.clone()).collect();
            self.commit(vec![Part::append(stream.clone(), Epoch(FIRST_EPOCH), records)]).await?;
            missing -= count;
        }
        Ok(())
    }

    async fn flush(&mut self, head: &RunHead) -> Result<(), ImportError> {
        let (records, _) = (mem::take(&mut self.chunk), mem::take(&mut self.chunk_bytes));
        if records.is_empty() {
            return Ok(());
        }
        let stream = StreamKey::run(&self.doomed.tenant, &head.run_id);
        self.commit(vec![Part::append(stream, Epoch(FIRST_EPOCH), records)]).await
    }

    /// The terminal is kept for the last batch, with which the run is there.
    async fn end(&mut self, head: &RunHead, terminal: Bytes) -> Result<(), ImportError> {
        self.flush(head).await?;
        let stream = StreamKey::run(&self.doomed.tenant, &head.run_id);
        let part = |op| Part { stream: stream.clone(), op, epoch: Epoch(FIRST_EPOCH) };
        self.ends.push(part(Op::Append {
            records: vec![terminal],
            create: false,
            close: true,
            expect: Some(head.last_seq),
            producer: None,
        }));
        if head.from > Seq::FIRST {
            self.ends.push(part(Op::Trim { before: head.from }));
        }
        self.whole += 1;
        self.next = self.runs.get(self.whole).map_or(Seq::FIRST, |run| run.from);
        Ok(())
    }

    /// Takes the next record of the session.
    pub(super) fn record(&mut self, seq: Seq, record: Bytes, line: u64) -> Result<(), ImportError> {
        let bad = |what: &str| ImportError::Line { line, what: what.to_owned() };
        if let Some(missing) = self.runs.get(self.whole) {
            return Err(bad(&format!("comes before the end of the run {}", missing.run_id)));
        }
        let next = Seq(self.session.len() as u64 + 1);
        if seq != next {
            return Err(bad(&format!("has the seq {seq}, {next} is to come")));
        }
        let event = EventRecord::decode(record.clone()).map_err(|_| bad("is no record"))?;
        match Lifecycle::from_record(&event) {
            Some(Lifecycle::RunCreated { run_id, message_id, continues, .. }) => {
                let is_ours = self.runs.iter().any(|run| run.run_id == run_id);
                if !is_ours || !self.created.insert(run_id) {
                    return Err(bad("makes a run that the head does not have"));
                }
                self.messages.extend(continues.is_none().then_some(message_id));
            }
            Some(Lifecycle::MessageCreated { message, .. }) => self.messages.push(message.id),
            Some(Lifecycle::SessionDeleted { .. }) => return Err(bad("deletes the session")),
            Some(_) => {}
            None => return Err(bad("is no record of a session")),
        }
        self.session_bytes += record.len();
        if self.session_bytes > SESSION_BYTES {
            return Err(ImportError::TooLarge { max: SESSION_BYTES });
        }
        self.session.push(record);
        Ok(())
    }

    /// Refuses an end before all that the head has told of.
    pub(super) fn check_whole(&self, line: u64) -> Result<(), ImportError> {
        if self.created.len() == self.runs.len() && !self.session.is_empty() {
            return Ok(());
        }
        let what = "is the end, and runs of the head are missing".to_owned();
        Err(ImportError::Line { line, what })
    }

    /// All of it is there, in one batch; or it is still to be undone.
    pub(super) async fn finish(mut self) -> Result<SessionId, (ImportError, Self)> {
        match self.try_finish().await {
            Ok(()) => {
                self.engine.inner.supervisor.show(&self.doomed.streams());
                Ok(self.doomed.session)
            }
            Err(error) => Err((error, self)),
        }
    }

    async fn try_finish(&mut self) -> Result<(), ImportError> {
        self.engine.views_caught_up().await?;
        for id in &self.messages {
            let key = Cell::Text(rows::key(&self.doomed.tenant, id.as_str()));
            if self.engine.inner.views.get(MESSAGES, &key)?.is_some() {
                return Err(ImportError::MessageExists(id.clone()));
            }
        }
        let session =
            Part::create(self.doomed.session_stream(), Epoch(0), mem::take(&mut self.session));
        let parts = [session].into_iter().chain(mem::take(&mut self.ends)).collect();
        self.engine.finish_import(&self.doomed, parts).await.map_err(|error| self.told(error))
    }

    /// Erases what was written.
    pub(super) async fn undo(self) {
        self.engine.erase(self.doomed).await;
    }

    async fn commit(&self, parts: Vec<Part>) -> Result<(), ImportError> {
        let main = self.doomed.session_stream();
        self.engine.commit(&main, parts).await.map_err(|error| self.told(error))
    }

    fn told(&self, error: JournalError) -> ImportError {
        match error {
            JournalError::Exists(key) if key.kind() == StreamKind::Session => {
                ImportError::SessionExists(self.doomed.session.clone())
            }
            JournalError::Exists(key) => match RunId::parse(key.id()) {
                Ok(run) => ImportError::RunExists(run),
                Err(_) => AppendError::Retry.into(),
            },
            other => AppendError::from(other).into(),
        }
    }
}

/// Hides the session that is to come and takes the names of its runs, if all of them are free.
async fn claim(engine: &Engine, doomed: &Doomed) -> Result<Vec<Names>, ImportError> {
    let inner = &engine.inner;
    let session = doomed.session_stream();
    let exists = || ImportError::SessionExists(doomed.session.clone());
    if inner.journal.info(&session).is_ok() || !inner.supervisor.hide([&session]) {
        return Err(exists());
    }
    // A start that came before may have made it by now.
    inner.supervisor.settled(&session).await;
    let names = doomed.runs.iter().map(|run| name(engine, &doomed.tenant, run));
    let names = names.collect::<Result<Vec<_>, _>>();
    let is_made = inner.journal.info(&session).is_ok();
    let claimed = names.and_then(|names| if is_made { Err(exists()) } else { Ok(names) });
    match &claimed {
        Ok(_) => drop(inner.supervisor.hide(&doomed.streams())),
        Err(_) => inner.supervisor.show([&session]),
    }
    claimed
}

/// Takes a run's name, so that no start gets it.
fn name(engine: &Engine, tenant: &TenantId, run: &RunId) -> Result<Names, ImportError> {
    let supervisor = &engine.inner.supervisor;
    let stream = StreamKey::run(tenant, run);
    let names = supervisor.claim(&stream, None).filter(|_| {
        let is_there = engine.inner.journal.info(&stream).is_ok();
        !is_there && !is_erased(engine, tenant, run) && !supervisor.is_gone(&stream)
    });
    names.ok_or_else(|| ImportError::RunExists(run.clone()))
}
