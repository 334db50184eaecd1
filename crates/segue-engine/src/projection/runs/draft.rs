//! A message on its way.

use segue_core::{Fold, RunId, Seq, TenantId, fold::Message};
use segue_journal::{
    Journal, Position, ReadError, ReadLimit, StreamKey,
    views::{Change, Value as Cell, ViewError, ViewStore},
};
use tokio::time::Instant;

use super::super::{
    MESSAGES, RUNS,
    message::{StoredMessage, content, index},
    rows::{self, StoredRun},
};
use crate::{query::RunView, retention::final_fold_at, snapshot::fold_in};

/// A row is written again when its message has grown by one part in so many. What is written of a
/// message then stays within this and one times its size.
const GROWTH: usize = 4;

/// A run's fold, and how its row is behind.
pub(super) struct Draft {
    pub(super) fold: Fold,
    /// The row's.
    key: String,
    /// What the fold takes in memory.
    pub(super) cost: usize,
    /// What it took when its row was written last.
    written: usize,
    /// All commits that the row lacks come after this position; `None` if it lacks none.
    pub(super) since: Option<Position>,
    /// The same before the row that is being written.
    written_since: Option<Position>,
    /// When it last grew.
    pub(super) changed_at: Instant,
    pub(super) used: u64,
}

/// What there is of a run's message.
pub(super) enum Found<D> {
    Draft(D),
    /// Its row is all of it.
    Whole(Box<Message>),
    /// The run or the message is deleted.
    Gone,
}

/// What a step came to.
pub(super) enum Step {
    More,
    AtTail,
    Gone,
}

impl Draft {
    /// The fold that a run's row keeps, or one that begins.
    pub(super) fn load(
        views: &dyn ViewStore,
        stream: &StreamKey,
    ) -> Result<Found<Self>, ViewError> {
        let Some((tenant, run)) = stored_run(views, stream)? else { return Ok(Found::Gone) };
        let RunView { id, continues, message_id, .. } = &run.view;
        let row = rows::row_id(id, continues.as_ref(), message_id);
        let key = rows::key(&tenant, row.as_str());
        let row = views.get(MESSAGES, &Cell::Text(key.clone()))?;
        let Some(stored) = row.as_ref().and_then(StoredMessage::of) else {
            return Ok(Found::Gone);
        };
        if stored.message.status.is_terminal() {
            return Ok(Found::Whole(Box::new(stored.message)));
        }
        let kept = stored.fold.and_then(|checkpoint| Fold::resume(&checkpoint, stored.message));
        let fold = kept.unwrap_or_else(|| Fold::new(&run.view.id, Seq::FIRST));
        let (written, now) = (fold.cost(), Instant::now());
        let (since, written_since) = (None, None);
        Ok(Found::Draft(Self {
            fold,
            key,
            cost: 0,
            written,
            since,
            written_since,
            changed_at: now,
            used: 0,
        }))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.fold.message().status.is_terminal()
    }

    /// Whether the row is worth being written.
    pub(super) fn is_grown(&self) -> bool {
        self.has_ended() || self.cost >= self.written + self.written / GROWTH
    }

    pub(super) fn set_written(&mut self, is_written: bool) {
        if is_written {
            self.written_since = self.since.take();
            self.written = self.cost;
        } else {
            self.since = self.written_since.take();
        }
    }

    /// The row's cells; once the message is whole, its words too.
    pub(super) fn changes(&self) -> Vec<Change> {
        let (message, key) = (self.fold.message(), Cell::Text(self.key.clone()));
        let mut cells = content(message);
        cells.push(("fold", Cell::Text(self.fold.checkpoint())));
        let words = self.has_ended().then(|| index(key.clone(), message));
        let update = Change::Update { table: MESSAGES, key, cells };
        [update].into_iter().chain(words).collect()
    }

    /// Folds the next page in.
    pub(super) fn step(
        &mut self,
        journal: &dyn Journal,
        views: &dyn ViewStore,
        stream: &StreamKey,
    ) -> Result<Step, ViewError> {
        let next = self.fold.seq().next();
        match journal.read(stream, next, ReadLimit::default()) {
            Ok(page) if page.records.is_empty() => return Ok(Step::AtTail),
            Ok(page) => {
                for record in page.records {
                    fold_in(&mut self.fold, &record);
                }
            }
            Err(ReadError::NotFound(_)) => return Ok(Step::Gone),
            Err(ReadError::Trimmed { available_from }) => {
                self.begin_after_trim(journal, views, stream, available_from)?;
            }
            Err(ReadError::Corrupt { seq, .. }) => self.pass_damage(stream, seq),
            Err(ReadError::Io(what)) => return Err(ViewError::Store(what)),
        }
        Ok(Step::More)
    }

    /// What was to be folded next is gone: the session has what all of it made, or else what is
    /// left is the message.
    fn begin_after_trim(
        &mut self,
        journal: &dyn Journal,
        views: &dyn ViewStore,
        stream: &StreamKey,
        available_from: Seq,
    ) -> Result<(), ViewError> {
        let Some((tenant, run)) = stored_run(views, stream)? else { return Ok(()) };
        let session = StreamKey::session(&tenant, &run.view.session_id);
        let kept = run.final_seq.and_then(|seq| final_fold_at(journal, &session, seq).ok());
        let kept = kept.flatten().filter(|fold| fold.seq().next() >= available_from);
        self.fold = kept.unwrap_or_else(|| Fold::new(&run.view.id, available_from));
        Ok(())
    }

    /// A damaged record must not keep those after it from being folded.
    fn pass_damage(&mut self, stream: &StreamKey, damaged: Seq) {
        metrics::counter!("segue_projection_damaged_records_total").increment(1);
        tracing::error!(%stream, seq = %damaged, "a record cannot be folded");
        let at = self.fold.message().updated_at;
        while self.fold.seq() < damaged && self.fold.skip(self.fold.seq().next(), at).is_ok() {}
    }
}

/// A run's row, if its tenant still has it.
fn stored_run(
    views: &dyn ViewStore,
    stream: &StreamKey,
) -> Result<Option<(TenantId, StoredRun)>, ViewError> {
    let (Ok(tenant), Ok(run)) = (TenantId::parse(stream.tenant()), RunId::parse(stream.id()))
    else {
        return Ok(None);
    };
    let row = views.get(RUNS, &Cell::Text(rows::key(&tenant, run.as_str())))?;
    Ok(row.as_ref().and_then(rows::stored_run_of).map(|run| (tenant, run)))
}
