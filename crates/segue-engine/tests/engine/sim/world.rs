//! What outlives a kill: the journal, and what clients know.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use segue_core::RunId;
use segue_engine::StartRun;
use segue_journal::memory::{MemoryJournal, MemoryOptions};
use serde_json::Value;

use super::dice::Dice;
use crate::support::TickingClock;

/// What clients and producers know, whoever holds it.
pub(super) type Known<T> = Arc<Mutex<T>>;

pub(super) struct World {
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) dice: Dice,
    /// Time goes on by itself: no run has to wait for a grace.
    pub(super) on_threads: bool,
    /// Every start that was ever sent.
    pub(super) sent: Vec<StartRun>,
    /// The runs that some answer called new.
    pub(super) new: Known<BTreeSet<String>>,
    /// By producer's run: what was sent and answered.
    pub(super) produced: Known<BTreeMap<String, Produced>>,
    /// What each reader of each run saw.
    pub(super) seen: Vec<Known<Seen>>,
    /// How many deletions were asked for.
    pub(super) asked: Known<usize>,
    /// Who sends for a run, one after the other.
    turns: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    trace: Known<Vec<String>>,
}

/// A producer with numbers.
#[derive(Default)]
pub(super) struct Produced {
    /// The number of its next item.
    pub(super) next: u64,
    /// Items whose append was acknowledged, with their positions.
    pub(super) acked: BTreeMap<u64, (u64, u64)>,
}

/// A reader's list. It comes back to where it was, over kills too.
pub(super) struct Seen {
    pub(super) run: String,
    /// The position it began at.
    pub(super) from: u64,
    pub(super) events: Vec<Value>,
}

impl World {
    pub(super) fn new(seed: u64, on_threads: bool) -> Self {
        let options = MemoryOptions::new(Arc::new(TickingClock::default()));
        let journal = MemoryJournal::new(MemoryOptions { seed: Some(seed), ..options });
        Self {
            journal: Arc::new(journal),
            dice: Dice::new(seed),
            on_threads,
            sent: Vec::new(),
            new: Known::default(),
            produced: Known::default(),
            seen: Vec::new(),
            asked: Known::default(),
            turns: BTreeMap::new(),
            trace: Known::default(),
        }
    }

    /// The turn of a run's producer. A kill ends whoever had it.
    pub(super) fn turn(&mut self, run: &RunId) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.entry(run.to_string()).or_default().clone()
    }

    pub(super) fn tracer(&self) -> Tracer {
        Tracer(self.trace.clone())
    }

    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        self.tracer().line(line);
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        std::mem::take(&mut self.trace.lock().unwrap())
    }
}

/// Writes down what happens, when it does.
#[derive(Clone)]
pub(super) struct Tracer(Known<Vec<String>>);

impl Tracer {
    pub(super) fn line(&self, line: impl FnOnce() -> String) {
        self.0.lock().unwrap().push(line());
    }
}
