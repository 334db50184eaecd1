//! Folding what changed and writing what is due.

use std::{collections::BTreeSet, sync::Arc};

use segue_core::fold::Message;
use segue_journal::{
    Journal, Position, StreamKey,
    views::{Change, ViewError, ViewStore},
};
use tokio::{task::yield_now, time::Instant};

use super::{
    super::progress::{Marks, Side},
    draft::{Draft, Found, Step},
    held::Held,
};

/// About how many bytes of rows a transaction writes.
const GROUP_BYTES: usize = 4 << 20;
/// How many rows a transaction writes at most.
const GROUP: usize = 256;

/// What the task does, without when.
pub(super) struct Work {
    journal: Arc<dyn Journal>,
    views: Arc<dyn ViewStore>,
    marks: Arc<Marks>,
    /// Runs that changed and are not folded yet.
    dirty: BTreeSet<StreamKey>,
    held: Held,
    /// Everything up to here is folded, if perhaps not written.
    folded: Position,
}

impl Work {
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        views: Arc<dyn ViewStore>,
        marks: Arc<Marks>,
        dirty: BTreeSet<StreamKey>,
        folded: Position,
    ) -> Self {
        Self { journal, views, marks, dirty, held: Held::default(), folded }
    }

    pub(super) fn position(&self) -> Position {
        self.journal.position()
    }

    pub(super) fn changed(&mut self, runs: Vec<StreamKey>) {
        self.dirty.extend(runs);
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.held.has_unwritten()
    }

    /// Folds every run that changed up to its tail. What does not fit in memory is written on the
    /// way.
    pub(super) async fn fold(&mut self) -> Result<(), ViewError> {
        while let Some(run) = self.dirty.first().cloned() {
            self.advance(&run).await?;
            self.dirty.remove(&run);
            if self.held.is_full(GROUP) {
                let position = self.marks.both();
                self.write_due(false, |_| position).await?;
            }
        }
        Ok(())
    }

    /// Writes the rows that are due, or all that are not written, when everything up to `position`
    /// is folded. Gives up to where the rows are written.
    pub(super) async fn write(
        &mut self,
        everything: bool,
        position: Position,
    ) -> Result<Position, ViewError> {
        self.folded = position;
        let marks = self.marks.clone();
        self.write_due(everything, |held| marks.with(Side::Runs, held.written_to(position)))
            .await?;
        let written = self.held.written_to(position);
        self.marks.mark(Side::Runs, written);
        Ok(written)
    }

    /// The messages as they are now.
    pub(super) async fn messages(
        &mut self,
        runs: &[StreamKey],
    ) -> Result<Vec<Option<Message>>, ViewError> {
        let mut messages = Vec::with_capacity(runs.len());
        for run in runs {
            messages.push(match self.advance(run).await? {
                Found::Gone => None,
                Found::Whole(message) => Some(*message),
                Found::Draft(()) => self.held.message(run).cloned(),
            });
        }
        Ok(messages)
    }

    /// Folds a run up to its tail.
    async fn advance(&mut self, run: &StreamKey) -> Result<Found<()>, ViewError> {
        let mut draft = match self.held.take(run) {
            Some(draft) => draft,
            None => match Draft::load(&*self.views, run)? {
                Found::Draft(draft) => draft,
                Found::Whole(message) => return Ok(Found::Whole(message)),
                Found::Gone => return Ok(Found::Gone),
            },
        };
        let before = draft.fold.seq();
        let stepped = loop {
            match draft.step(&*self.journal, &*self.views, run) {
                Ok(Step::More) => yield_now().await,
                other => break other,
            }
        };
        if let Ok(Step::Gone) = stepped {
            return Ok(Found::Gone);
        }
        if draft.fold.seq() != before {
            draft.since.get_or_insert(self.folded);
            draft.changed_at = Instant::now();
        }
        self.held.put(run.clone(), draft);
        stepped.map(|_| Found::Draft(()))
    }

    /// Writes rows in transactions of a bounded size. Only with the last does the store's position
    /// become what `position` makes of what is left unwritten.
    async fn write_due(
        &mut self,
        everything: bool,
        position: impl Fn(&Held) -> Position,
    ) -> Result<(), ViewError> {
        let due = self.held.due(everything, Instant::now());
        let mut due = due.into_iter().peekable();
        while due.peek().is_some() {
            let (mut group, mut changes) = (Vec::new(), Vec::new());
            let (mut rows, mut bytes) = (0, 0);
            while bytes < GROUP_BYTES
                && group.len() < GROUP
                && let Some(run) = due.next()
            {
                let run_changes = self.held.changes(&run);
                rows += u64::from(!run_changes.is_empty());
                bytes += run_changes.iter().map(size_of_change).sum::<usize>();
                changes.extend(run_changes);
                group.push(run);
            }
            self.held.set_written(&group, true);
            let is_last = due.peek().is_none();
            let after = if is_last { position(&self.held) } else { self.marks.both() };
            if let Err(error) = self.views.apply(changes, Vec::new(), after).await {
                self.held.set_written(&group, false);
                return Err(error);
            }
            metrics::counter!("segue_message_rows_total").increment(rows);
            metrics::counter!("segue_message_row_bytes_total").increment(bytes as u64);
            self.held.release(&group);
        }
        Ok(())
    }
}

fn size_of_change(change: &Change) -> usize {
    match change {
        Change::Update { cells, .. } => cells.iter().map(|(_, cell)| cell.bytes()).sum(),
        Change::Put { row, .. } => row.iter().map(segue_journal::views::Value::bytes).sum(),
        Change::Index { text, .. } => text.len(),
        Change::Delete { .. } => 0,
    }
}
