//! Records of session and catalogue streams, folded into rows.

use std::collections::HashMap;

use segue_core::{
    EventRecord, RunId, RunStatus, Seq, SessionId, TenantId, Timestamp, lifecycle::Lifecycle,
};
use segue_journal::{
    Journal, ReadError, ReadLimit, Record, StreamKey, StreamKind,
    views::{Change, Checkpoint, Row, Value as Cell, ViewError, ViewStore},
};
use serde_json::json;

use super::rows::{RUNS, SESSIONS, StoredRun, key, of_run, of_session, session_of, stored_run_of};
use crate::query::{RunView, SessionView};

/// A fold in progress: rows that changed lie over those of the store.
pub(super) struct Fold<'a> {
    views: &'a dyn ViewStore,
    rows: HashMap<(&'static str, String), Row>,
    checkpoints: Vec<Checkpoint>,
}

/// The session that a stream belongs to.
struct Place {
    tenant: TenantId,
    session: SessionId,
}

impl<'a> Fold<'a> {
    pub(super) fn new(views: &'a dyn ViewStore) -> Self {
        Self { views, rows: HashMap::new(), checkpoints: Vec::new() }
    }

    /// Folds a stream from its checkpoint to its tail.
    pub(super) fn stream(
        &mut self,
        journal: &dyn Journal,
        stream: &StreamKey,
    ) -> Result<(), ViewError> {
        let mut next = self.views.checkpoint(stream)?.next();
        loop {
            let page = match journal.read(stream, next, ReadLimit::default()) {
                Ok(page) => page,
                Err(error) => match after_damage(stream, error)? {
                    Some(readable) => {
                        next = readable;
                        continue;
                    }
                    None => break,
                },
            };
            let Some(last) = page.records.last() else { break };
            next = last.seq.next();
            for record in page.records {
                self.record(stream, record)?;
            }
        }
        self.checkpoints.push(Checkpoint { stream: stream.clone(), seq: next.prev() });
        Ok(())
    }

    /// What is to be written.
    pub(super) fn finish(self) -> (Vec<Change>, Vec<Checkpoint>) {
        let put = |((table, _), row)| Change::Put { table, row };
        (self.rows.into_iter().map(put).collect(), self.checkpoints)
    }

    fn record(&mut self, stream: &StreamKey, record: Record) -> Result<(), ViewError> {
        let at = record.at;
        let lifecycle = EventRecord::decode(record.bytes).ok();
        let lifecycle = lifecycle.as_ref().and_then(Lifecycle::from_record);
        let (Some(lifecycle), Some(place)) = (lifecycle, place_of(stream)) else {
            metrics::counter!("segue_projection_unknown_records_total").increment(1);
            return Ok(());
        };
        self.fold(&place, lifecycle, at)
    }

    fn fold(&mut self, place: &Place, record: Lifecycle, at: Timestamp) -> Result<(), ViewError> {
        match record {
            Lifecycle::SessionChanged { title, metadata } => {
                let session = self.session(place, at)?;
                let title = title.unwrap_or(session.title);
                let metadata = metadata.unwrap_or(session.metadata);
                let view = SessionView { title, metadata, updated_at: at, ..session };
                self.put_session(place, &view);
            }
            Lifecycle::MessageCreated { .. } => self.touch(place, at)?,
            Lifecycle::RunCreated { run_id, message_id, agent, status, metadata, mark } => {
                let view = RunView {
                    id: run_id,
                    session_id: place.session.clone(),
                    agent,
                    status,
                    reason: None,
                    cause: None,
                    error: None,
                    message_id,
                    last_seq: Seq::ZERO,
                    created_at: at,
                    started_at: (status == RunStatus::Running).then_some(at),
                    ended_at: None,
                    usage: None,
                    metadata,
                };
                self.put_run(place, &StoredRun { view, mark });
                self.touch(place, at)?;
            }
            Lifecycle::RunChanged { run_id, status } => {
                if let Some(StoredRun { view, mark }) = self.run(place, &run_id)? {
                    let view = RunView { status, started_at: Some(at), ..view };
                    self.put_run(place, &StoredRun { view, mark });
                }
                self.touch(place, at)?;
            }
            Lifecycle::RunEnded { run_id, ending } => {
                if let Some(StoredRun { view, mark }) = self.run(place, &run_id)? {
                    let view = view.with_ending(ending, at);
                    self.put_run(place, &StoredRun { view, mark });
                }
                self.touch(place, at)?;
            }
            // The session's own stream says the rest.
            Lifecycle::SessionCreated { .. } | Lifecycle::Unknown => {}
        }
        Ok(())
    }

    fn touch(&mut self, place: &Place, at: Timestamp) -> Result<(), ViewError> {
        let session = self.session(place, at)?;
        self.put_session(place, &SessionView { updated_at: at, ..session });
        Ok(())
    }

    fn session(&self, place: &Place, at: Timestamp) -> Result<SessionView, ViewError> {
        let row = self.row(SESSIONS, key(&place.tenant, place.session.as_str()))?;
        Ok(row.as_ref().and_then(session_of).unwrap_or_else(|| SessionView {
            id: place.session.clone(),
            title: None,
            status: "idle",
            active_runs: Vec::new(),
            metadata: json!({}),
            created_at: at,
            updated_at: at,
        }))
    }

    fn run(&self, place: &Place, run: &RunId) -> Result<Option<StoredRun>, ViewError> {
        Ok(self.row(RUNS, key(&place.tenant, run.as_str()))?.as_ref().and_then(stored_run_of))
    }

    fn row(&self, table: &'static str, key: String) -> Result<Option<Row>, ViewError> {
        match self.rows.get(&(table, key.clone())) {
            Some(row) => Ok(Some(row.clone())),
            None => self.views.get(table, &Cell::Text(key)),
        }
    }

    fn put_session(&mut self, place: &Place, view: &SessionView) {
        let key = key(&place.tenant, view.id.as_str());
        self.rows.insert((SESSIONS, key), of_session(&place.tenant, view));
    }

    fn put_run(&mut self, place: &Place, run: &StoredRun) {
        let key = key(&place.tenant, run.view.id.as_str());
        self.rows.insert((RUNS, key), of_run(&place.tenant, run));
    }
}

fn place_of(stream: &StreamKey) -> Option<Place> {
    let tenant = TenantId::parse(stream.tenant()).ok()?;
    match stream.kind() {
        StreamKind::Session => Some(Place { tenant, session: SessionId::parse(stream.id()).ok()? }),
        // A catalogue's records name their session themselves and fold to nothing yet.
        StreamKind::Catalogue | StreamKind::Run | StreamKind::Raw => {
            Some(Place { tenant, session: SessionId::parse("none").ok()? })
        }
    }
}

/// Where the fold goes on after what cannot be read: a damaged record must not keep those after it
/// from being folded. `None` if the stream is gone.
fn after_damage(stream: &StreamKey, error: ReadError) -> Result<Option<Seq>, ViewError> {
    let next = match error {
        ReadError::NotFound(_) => None,
        ReadError::Trimmed { available_from } => Some(available_from),
        ReadError::Corrupt { seq, .. } => Some(seq.next()),
        ReadError::Io(what) => return Err(ViewError::Store(what)),
    };
    metrics::counter!("segue_projection_damaged_records_total").increment(1);
    tracing::error!(%stream, "a record cannot be folded");
    Ok(next)
}
