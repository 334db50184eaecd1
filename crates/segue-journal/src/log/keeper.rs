//! What is done beside the writer, so that it need not wait: making the next segment and sealing
//! full ones.

use std::{io, sync::Arc};

use super::{Step, index, store::Store, table::CHUNK};
use crate::disk::is_full;

/// Runs on the keeper's thread until it is stopped. A panic fails the log.
pub(crate) fn run(store: &Store) {
    store.guard("the keeper panicked", || {
        loop {
            while step(store) == Step::Worked {}
            if !store.keeping.wait(None) {
                return;
            }
        }
    });
}

/// Does one chore, if there is one.
pub(crate) fn step(store: &Store) -> Step {
    if store.failed().is_some() {
        return Step::Closed;
    }
    match store.make_spare().and_then(|_| seal(store)) {
        Ok(true) => Step::Worked,
        Ok(false) => Step::Idle,
        Err(error) => {
            store.fail(&format!("a segment could not be kept: {error}"));
            Step::Closed
        }
    }
}

/// Seals the oldest unsealed segment, unless it is being written. `false`: nothing was sealed.
///
/// A full disk leaves it for later: its commits are durable, and are scanned at the next open.
pub(crate) fn seal(store: &Store) -> io::Result<bool> {
    match seal_oldest(store) {
        Err(error) if is_full(&error) => {
            metrics::counter!("segue_journal_disk_full_total", "what" => "index").increment(1);
            Ok(false)
        }
        done => done,
    }
}

fn seal_oldest(store: &Store) -> io::Result<bool> {
    let (segment, commits, end, keys) = {
        let table = store.table();
        let Some(oldest) = table.unsealed.front().filter(|_| table.unsealed.len() > 1) else {
            return Ok(false);
        };
        let segment = Arc::clone(&oldest.segment);
        let keys = table.to_index(segment.number);
        (segment, oldest.commits, oldest.end, keys)
    };
    let mut leaves = Vec::with_capacity(keys.len());
    for keys in keys.chunks(CHUNK) {
        let table = store.table();
        leaves.extend(keys.iter().filter_map(|key| table.leaf(key, (segment.number, commits.0))));
    }
    let number = segment.number;
    let sealed = index::write(segment, leaves, commits, end)?;
    let touched = store.table_mut().seal(Arc::new(sealed));
    for keys in touched.chunks(CHUNK) {
        store.table_mut().release(number, keys);
    }
    metrics::counter!("segue_journal_segments_sealed_total").increment(1);
    store.packing.chores.wake();
    Ok(true)
}
