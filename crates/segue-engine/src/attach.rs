//! Attaching to a run: alive, ended, or from before the last restart.

use std::sync::Arc;

use segue_core::{EventRecord, Outcome, RunId, RunStatus, Seq, TenantId, Timestamp};
use segue_journal::{Journal, Page, ReadError, ReadLimit, Shard, StreamInfo, StreamKey};

use crate::{
    engine::Engine,
    reader::{Facade, Place, Reader},
};

/// A run's stream, ready to be read. Holding one has no effect on the run.
pub struct RunStream {
    pub(crate) engine: Engine,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) stream: StreamKey,
    pub(crate) run: RunId,
    info: StreamInfo,
}

impl Engine {
    /// Finds a run's stream. `NotFound` if the tenant has no such run, or it is being deleted.
    pub fn attach(&self, tenant: &TenantId, run: &RunId) -> Result<RunStream, ReadError> {
        let journal = self.inner.journal.clone();
        let stream = StreamKey::run(tenant, run);
        if self.inner.supervisor.is_gone(&stream) {
            return Err(ReadError::NotFound(stream));
        }
        let info = journal.info(&stream)?;
        Ok(RunStream { engine: self.clone(), journal, stream, run: run.clone(), info })
    }

    /// A run's status now, from its owner or its terminal; views are not asked. `NotFound` if the
    /// tenant has no such run.
    pub fn status(&self, tenant: &TenantId, run: &RunId) -> Result<RunStatus, ReadError> {
        let stream = self.attach(tenant, run)?;
        if let Some(outcome) = stream.outcome()? {
            return Ok(outcome.status());
        }
        let alive = self.inner.supervisor.find(&stream.stream);
        Ok(alive.map_or(RunStatus::Running, |run| run.phase().status()))
    }

    /// Waits while a run is being trimmed; what is left of it shows in the next attach.
    pub async fn until_trimmed(&self, tenant: &TenantId, run: &RunId) {
        self.inner.attached.until_free(&StreamKey::run(tenant, run)).await;
    }

    /// A new shard of the journal's doorbell, for a thread that drives readers.
    pub fn shard(&self) -> Shard {
        self.inner.journal.doorbell().shard()
    }
}

impl RunStream {
    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// What the journal knew of the stream when it was found.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// How the run ended, from its terminal record; `None` while it is open.
    pub fn outcome(&self) -> Result<Option<Outcome>, ReadError> {
        Ok(self.terminal()?.map(|(outcome, _)| outcome))
    }

    /// How the run ended and when; `None` while it is open.
    pub(crate) fn terminal(&self) -> Result<Option<(Outcome, Timestamp)>, ReadError> {
        let tail = self.journal.info(&self.stream)?.tail;
        if !tail.closed {
            return Ok(None);
        }
        let page = self.read(tail.next.prev(), ReadLimit { records: 1, ..ReadLimit::default() })?;
        let Some(last) = page.records.into_iter().next() else { return Ok(None) };
        let Ok(event) = EventRecord::decode(last.bytes) else { return Ok(None) };
        let fields = serde_json::from_slice(event.json()).ok();
        let outcome = fields.as_ref().and_then(Outcome::from_json);
        Ok(outcome.map(|outcome| (outcome, event.time(last.at))))
    }

    /// A page of records from `from` on.
    pub fn read(&self, from: Seq, limit: ReadLimit) -> Result<Page, ReadError> {
        self.journal.read(&self.stream, from, limit)
    }

    /// A reader that gives the frames from `from` on, a record or a place within one, and whose
    /// bell wakes on `shard`. As long as it lives retention does not trim the run.
    ///
    /// `Trimmed` also while the run is being trimmed: see [`Engine::until_trimmed`].
    pub fn reader<F: Facade>(
        &self,
        facade: F,
        from: impl Into<Place>,
        shard: &Shard,
    ) -> Result<Reader<F>, ReadError> {
        // From here on nothing of it goes; what went before shows now.
        let attachment = self.engine.inner.attached.enter(&self.stream);
        let info = self.journal.info(&self.stream)?;
        let last = info.tail.next.prev();
        let attachment = attachment.ok_or(ReadError::Trimmed { available_from: last })?;
        let place = from.into();
        if place.seq < info.available_from {
            return Err(ReadError::Trimmed { available_from: info.available_from });
        }
        let listener = self.journal.listen(&self.stream, shard)?;
        let (journal, run) = (self.journal.clone(), self.run.clone());
        let incarnation = self.info.incarnation;
        Ok(Reader::new(journal, run, listener, incarnation, facade, place, attachment))
    }
}
