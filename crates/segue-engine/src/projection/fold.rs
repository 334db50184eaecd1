//! Records of session and catalogue streams, folded into rows.

use std::collections::{HashMap, HashSet};

use segue_core::{
    EventRecord, RunId, RunStatus, Seq, SessionId, TenantId, Timestamp, fold::Message,
    lifecycle::Lifecycle,
};
use segue_journal::{
    Journal, ReadError, ReadLimit, Record, StreamKey, StreamKind,
    views::{Change, Checkpoint, Compare, Row, Select, Value as Cell, ViewError, ViewStore},
};
use serde_json::json;

use super::edits::{Edits, Within};
use super::rows::{
    Kept, RUNS, SESSIONS, StoredRun, StoredSession, TOTALS, is_of_session, key, of_run, of_session,
    row_id, stored_run_of, stored_session_of,
};
use crate::query::{RunView, SessionView};

/// How many rows of a deleted session are looked up at once.
const ROWS_AT_ONCE: usize = 1000;

/// A fold in progress: rows that changed, or went, lie over those of the store.
pub(super) struct Fold<'a> {
    views: &'a dyn ViewStore,
    rows: HashMap<(&'static str, String), Option<Row>>,
    messages: Edits<'a>,
    checkpoints: Vec<Checkpoint>,
    /// Sessions that were erased: one of the same name is folded from its beginning.
    erased: HashSet<StreamKey>,
}

/// The session that a record is about.
struct Place {
    tenant: TenantId,
    session: SessionId,
}

impl Place {
    fn within(&self) -> Within<'_> {
        Within { tenant: &self.tenant, session: &self.session }
    }
}

impl<'a> Fold<'a> {
    pub(super) fn new(views: &'a dyn ViewStore) -> Self {
        let (rows, checkpoints, erased) = Default::default();
        Self { views, rows, messages: Edits::new(views), checkpoints, erased }
    }

    /// Folds a stream from its checkpoint to its tail.
    pub(super) fn stream(
        &mut self,
        journal: &dyn Journal,
        stream: &StreamKey,
    ) -> Result<(), ViewError> {
        let Some(tenant) = folded_of(stream) else { return Ok(()) };
        let is_new = self.erased.contains(stream);
        let done = if is_new { Seq::ZERO } else { self.views.checkpoint(stream)? };
        let mut next = done.next();
        loop {
            let page = match journal.read(stream, next, ReadLimit::default()) {
                Ok(page) => page,
                Err(ReadError::NotFound(_)) => {
                    self.is_not_there(tenant, stream)?;
                    next = Seq::FIRST;
                    break;
                }
                Err(error) => {
                    next = after_damage(stream, error)?;
                    continue;
                }
            };
            let Some(last) = page.records.last() else { break };
            next = last.seq.next();
            for record in page.records {
                self.record(&tenant, stream, record)?;
            }
        }
        self.checkpoints.push(Checkpoint { stream: stream.clone(), seq: next.prev() });
        Ok(())
    }

    /// The stream of a session can be erased between the read of the catalogue and its own: then
    /// nobody in this fold says that it was deleted, and its rows are still to go.
    fn is_not_there(&mut self, tenant: TenantId, stream: &StreamKey) -> Result<(), ViewError> {
        match SessionId::parse(stream.id()) {
            Ok(session) if stream.kind() == StreamKind::Session => {
                self.erase(&Place { tenant, session })
            }
            _ => Ok(()),
        }
    }

    /// What is to be written.
    pub(super) fn finish(self) -> (Vec<Change>, Vec<Checkpoint>) {
        let change = |((table, key), row)| match row {
            Some(row) => Change::Put { table, row },
            None => Change::Delete { table, key: Cell::Text(key) },
        };
        let mut changes: Vec<Change> = self.rows.into_iter().map(change).collect();
        changes.extend(self.messages.finish());
        (changes, self.checkpoints)
    }

    fn record(
        &mut self,
        tenant: &TenantId,
        stream: &StreamKey,
        record: Record,
    ) -> Result<(), ViewError> {
        let seq = record.seq;
        let event = EventRecord::decode(record.bytes).ok();
        let at = event.as_ref().map_or(record.at, |event| event.time(record.at));
        let lifecycle = event.as_ref().and_then(Lifecycle::from_record);
        if let Some(lifecycle) = lifecycle {
            if stream.kind() == StreamKind::Catalogue {
                return self.catalogue(tenant, lifecycle);
            }
            if let Ok(session) = SessionId::parse(stream.id()) {
                return self.session_record(
                    &Place { tenant: tenant.clone(), session },
                    lifecycle,
                    seq,
                    at,
                );
            }
        }
        metrics::counter!("segue_projection_unknown_records_total").increment(1);
        Ok(())
    }

    /// The session's own stream says the rest. What it said went with it.
    fn catalogue(&mut self, tenant: &TenantId, record: Lifecycle) -> Result<(), ViewError> {
        if let Lifecycle::SessionErased { session_id: session } = record {
            let stream = StreamKey::session(tenant, &session);
            self.erase(&Place { tenant: tenant.clone(), session })?;
            self.checkpoints.push(Checkpoint { stream: stream.clone(), seq: Seq::ZERO });
            self.erased.insert(stream);
        }
        Ok(())
    }

    fn session_record(
        &mut self,
        place: &Place,
        record: Lifecycle,
        seq: Seq,
        at: Timestamp,
    ) -> Result<(), ViewError> {
        match record {
            Lifecycle::SessionChanged { title, metadata } => {
                let StoredSession { view, bytes } = self.session(place, at)?;
                let title = title.unwrap_or(view.title);
                let metadata = metadata.unwrap_or(view.metadata);
                let view = SessionView { title, metadata, updated_at: at, ..view };
                self.put_session(place, &StoredSession { view, bytes });
            }
            Lifecycle::MessageCreated { message, replaces } => {
                let message = Message { version: seq, ..*message };
                self.messages.supersede(place.within(), replaces.as_ref(), seq, &message.id)?;
                self.messages.create(place.within(), message, seq, None)?;
                self.touch(place, at, 0)?;
            }
            Lifecycle::MessageUpdated { message } => {
                self.messages.update(place.within(), *message, seq)?;
                self.touch(place, at, 0)?;
            }
            Lifecycle::MessageDeleted { message_id } => {
                self.messages.delete(place.within(), &message_id)?;
                self.touch(place, at, 0)?;
            }
            created @ Lifecycle::RunCreated { .. } => self.run_created(place, created, seq, at)?,
            Lifecycle::RunChanged { run_id, status } => {
                if let Some(run) = self.run(place, &run_id)? {
                    let view = RunView { status, started_at: Some(at), ..run.view };
                    self.put_run(place, &StoredRun { view, ..run });
                    self.touch(place, at, 0)?;
                }
            }
            Lifecycle::RunEnded { run_id, ending, bytes } => {
                if let Some(run) = self.run(place, &run_id)? {
                    let view = run.view.with_ending(ending, at);
                    self.put_run(place, &StoredRun { view, bytes, ..run });
                    self.touch(place, at, signed(bytes))?;
                    self.keep(place, |kept| kept.with(bytes))?;
                }
            }
            Lifecycle::MessageFinal { run_id } => {
                if let Some(run) = self.run(place, &run_id)?.filter(|run| run.final_seq.is_none()) {
                    let bytes = run.bytes;
                    self.put_run(place, &StoredRun { final_seq: Some(seq), ..run });
                    let updated_at = self.session(place, at)?.view.updated_at;
                    self.touch(place, updated_at, -signed(bytes))?;
                    self.keep(place, |kept| kept.without(bytes))?;
                }
            }
            Lifecycle::SessionDeleted { .. } => self.erase(place)?,
            Lifecycle::SessionCreated { .. }
            | Lifecycle::SessionErased { .. }
            | Lifecycle::DeletionBegun { .. }
            | Lifecycle::DeletionDone { .. }
            | Lifecycle::ImportBegun { .. }
            | Lifecycle::Unknown => {}
        }
        Ok(())
    }

    /// A run, and the message that it makes.
    fn run_created(
        &mut self,
        place: &Place,
        record: Lifecycle,
        seq: Seq,
        at: Timestamp,
    ) -> Result<(), ViewError> {
        let Lifecycle::RunCreated {
            run_id,
            message_id,
            agent,
            status,
            metadata,
            mark,
            continues,
            replaces,
        } = record
        else {
            return Ok(());
        };
        let view = RunView {
            id: run_id,
            session_id: place.session.clone(),
            agent,
            status,
            reason: None,
            cause: None,
            error: None,
            message_id,
            continues,
            last_seq: Seq::ZERO,
            created_at: at,
            started_at: (status == RunStatus::Running).then_some(at),
            ended_at: None,
            usage: None,
            metadata,
        };
        let id = row_id(&view.id, view.continues.as_ref(), &view.message_id);
        let message =
            Message { id, created_at: at, updated_at: at, ..Message::of_run(&view.id, Seq::ZERO) };
        let first = view.continues.is_some().then_some(&view.message_id);
        self.messages.supersede(place.within(), replaces.as_ref(), seq, &view.message_id)?;
        self.messages.create(place.within(), message, seq, first)?;
        self.put_run(place, &StoredRun { view, mark, bytes: 0, final_seq: None });
        self.touch(place, at, 0)
    }

    /// Something happened in the session, and so many bytes of its runs came or went.
    fn touch(&mut self, place: &Place, at: Timestamp, bytes: i64) -> Result<(), ViewError> {
        let session = self.session(place, at)?;
        let bytes = session.bytes.saturating_add_signed(bytes);
        let view = SessionView { updated_at: at, ..session.view };
        self.put_session(place, &StoredSession { view, bytes });
        Ok(())
    }

    /// Changes the sums of the tenant.
    fn keep(&mut self, place: &Place, change: impl Fn(Kept) -> Kept) -> Result<(), ViewError> {
        let tenant = &place.tenant;
        let row = self.row(TOTALS, tenant.to_string())?;
        let kept = change(row.as_ref().map_or_else(Kept::default, Kept::of));
        self.rows.insert((TOTALS, tenant.to_string()), Some(kept.row(tenant)));
        Ok(())
    }

    /// The rows of a session and of its runs go.
    fn erase(&mut self, place: &Place) -> Result<(), ViewError> {
        let Place { tenant, session } = place;
        self.messages.erase(place.within())?;
        self.rows.insert((SESSIONS, key(tenant, session.as_str())), None);
        let is_own = |row: &Row| is_of_session(row, tenant, session);
        let over = self.rows.iter().filter(|(_, row)| row.as_ref().is_some_and(is_own));
        let over: Vec<String> = over
            .filter(|((table, _), _)| *table == RUNS)
            .map(|((_, key), _)| key.clone())
            .collect();
        for key in over {
            self.erase_run(place, key)?;
        }
        let mut after = None;
        loop {
            let rows = self.views.select(&runs_of(place, after.take()))?;
            for row in &rows {
                if let Some(Cell::Text(key)) = row.first() {
                    self.erase_run(place, key.clone())?;
                }
            }
            match rows.last() {
                Some(last) if rows.len() == ROWS_AT_ONCE => {
                    after = Some((last[CREATED_AT].clone(), last[0].clone()));
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn erase_run(&mut self, place: &Place, key: String) -> Result<(), ViewError> {
        let run = self.row(RUNS, key.clone())?.as_ref().and_then(stored_run_of);
        if let Some(run) = run
            && run.view.ended_at.is_some()
            && run.final_seq.is_none()
        {
            self.keep(place, |kept| kept.without(run.bytes))?;
        }
        self.rows.insert((RUNS, key), None);
        Ok(())
    }

    fn session(&self, place: &Place, at: Timestamp) -> Result<StoredSession, ViewError> {
        let row = self.row(SESSIONS, key(&place.tenant, place.session.as_str()))?;
        let new = || StoredSession {
            view: SessionView {
                id: place.session.clone(),
                title: None,
                status: "idle",
                active_runs: Vec::new(),
                metadata: json!({}),
                created_at: at,
                updated_at: at,
            },
            bytes: 0,
        };
        Ok(row.as_ref().and_then(stored_session_of).unwrap_or_else(new))
    }

    fn run(&self, place: &Place, run: &RunId) -> Result<Option<StoredRun>, ViewError> {
        Ok(self.row(RUNS, key(&place.tenant, run.as_str()))?.as_ref().and_then(stored_run_of))
    }

    fn row(&self, table: &'static str, key: String) -> Result<Option<Row>, ViewError> {
        match self.rows.get(&(table, key.clone())) {
            Some(row) => Ok(row.clone()),
            None => self.views.get(table, &Cell::Text(key)),
        }
    }

    fn put_session(&mut self, place: &Place, session: &StoredSession) {
        let key = key(&place.tenant, session.view.id.as_str());
        self.rows.insert((SESSIONS, key), Some(of_session(&place.tenant, session)));
    }

    fn put_run(&mut self, place: &Place, run: &StoredRun) {
        let key = key(&place.tenant, run.view.id.as_str());
        self.rows.insert((RUNS, key), Some(of_run(&place.tenant, run)));
    }
}

/// Whose stream it is; `None` for one that folds to nothing.
fn folded_of(stream: &StreamKey) -> Option<TenantId> {
    let tenant = TenantId::parse(stream.tenant()).ok()?;
    let is_folded = match stream.kind() {
        StreamKind::Session => true,
        StreamKind::Catalogue => *stream == StreamKey::catalogue(&tenant),
        StreamKind::Run | StreamKind::Erased | StreamKind::Raw => false,
    };
    is_folded.then_some(tenant)
}

/// The place of `created_at` in a run's row.
const CREATED_AT: usize = 12;

fn runs_of(place: &Place, after: Option<(Cell, Cell)>) -> Select {
    let text = |text: &str| Cell::Text(text.to_owned());
    Select {
        table: RUNS,
        filter: vec![
            ("tenant", Compare::Eq, text(place.tenant.as_str())),
            ("session_id", Compare::Eq, text(place.session.as_str())),
        ],
        phrases: Vec::new(),
        order_by: "created_at",
        descending: false,
        after,
        limit: ROWS_AT_ONCE,
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Where the fold goes on after what cannot be read: a damaged record must not keep those after it
/// from being folded.
fn after_damage(stream: &StreamKey, error: ReadError) -> Result<Seq, ViewError> {
    let next = match error {
        ReadError::NotFound(_) => Seq::FIRST,
        ReadError::Trimmed { available_from } => available_from,
        ReadError::Corrupt { seq, .. } => seq.next(),
        ReadError::Io(what) => return Err(ViewError::Store(what)),
    };
    metrics::counter!("segue_projection_damaged_records_total").increment(1);
    tracing::error!(%stream, "a record cannot be folded");
    Ok(next)
}
