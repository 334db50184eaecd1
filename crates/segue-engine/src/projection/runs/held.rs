//! The drafts in memory, within one budget.

use std::collections::{BTreeMap, BTreeSet};

use segue_core::fold::Message;
use segue_journal::{Position, StreamKey, views::Change};
use tokio::time::Instant;

use super::{SETTLE, draft::Draft};

/// What drafts may take together, in bytes, between two transactions.
const BUDGET: usize = 64 << 20;

/// Messages that may still change, and those whose last row is not written.
#[derive(Default)]
pub(super) struct Held {
    drafts: BTreeMap<StreamKey, Draft>,
    bytes: usize,
    ended: usize,
    /// Counts uses, to find the least recent one.
    clock: u64,
}

impl Held {
    /// Takes a draft out, to be put back when it is folded on.
    pub(super) fn take(&mut self, run: &StreamKey) -> Option<Draft> {
        let draft = self.drafts.remove(run)?;
        self.bytes -= draft.cost;
        self.ended -= usize::from(draft.has_ended());
        Some(draft)
    }

    pub(super) fn put(&mut self, run: StreamKey, mut draft: Draft) {
        self.clock += 1;
        draft.used = self.clock;
        draft.cost = draft.fold.cost();
        self.bytes += draft.cost;
        self.ended += usize::from(draft.has_ended());
        self.drafts.insert(run, draft);
    }

    pub(super) fn message(&self, run: &StreamKey) -> Option<&Message> {
        self.drafts.get(run).map(|draft| draft.fold.message())
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.drafts.values().any(|draft| draft.since.is_some())
    }

    /// Whether something is to be written before more comes.
    pub(super) fn is_full(&self, most_ended: usize) -> bool {
        self.bytes > BUDGET || self.ended >= most_ended
    }

    /// Up to where everything is written, if everything up to `position` is folded.
    pub(super) fn written_to(&self, position: Position) -> Position {
        self.drafts.values().filter_map(|draft| draft.since).min().unwrap_or(position)
    }

    /// Whose rows are to be written: that have to be, and that have to leave.
    pub(super) fn due(&self, everything: bool, now: Instant) -> BTreeSet<StreamKey> {
        let mut due = self.leaving();
        let is_due = |draft: &Draft| {
            draft.since.is_some()
                && (everything || draft.is_grown() || now - draft.changed_at >= SETTLE)
        };
        due.extend(
            self.drafts.iter().filter(|(_, draft)| is_due(draft)).map(|(run, _)| run.clone()),
        );
        due
    }

    /// The least recently used ones, as many as are over the budget.
    fn leaving(&self) -> BTreeSet<StreamKey> {
        let mut over = self.bytes.saturating_sub(BUDGET);
        if over == 0 {
            return BTreeSet::new();
        }
        let mut by_use: Vec<_> = self.drafts.iter().collect();
        by_use.sort_unstable_by_key(|(_, draft)| draft.used);
        let mut leaving = BTreeSet::new();
        for (run, draft) in by_use {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(draft.cost);
            leaving.insert(run.clone());
        }
        leaving
    }

    /// What is to be written of a draft; nothing if its row is as it is.
    pub(super) fn changes(&self, run: &StreamKey) -> Vec<Change> {
        let draft = self.drafts.get(run).filter(|draft| draft.since.is_some());
        draft.map(Draft::changes).unwrap_or_default()
    }

    /// Notes that rows are written, or takes that back.
    pub(super) fn set_written(&mut self, runs: &[StreamKey], is_written: bool) {
        for run in runs {
            if let Some(draft) = self.drafts.get_mut(run) {
                draft.set_written(is_written);
            }
        }
    }

    /// Lets go of written drafts that have ended, and of as many others as are over the budget.
    pub(super) fn release(&mut self, written: &[StreamKey]) {
        for run in written {
            let is_over = self.bytes > BUDGET;
            if self.drafts.get(run).is_some_and(|draft| is_over || draft.has_ended()) {
                let has_ended = self.take(run).is_some_and(|draft| draft.has_ended());
                metrics::counter!("segue_projection_folds_evicted_total")
                    .increment(u64::from(!has_ended));
            }
        }
    }
}
