//! Who is attached to which run, for retention alone: the run itself never knows (E2).
//!
//! A run is either read or trimmed: while it has readers nobody claims it, and while it is claimed
//! nobody begins to read it. So no reader ever finds gone what it was about to give.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use segue_journal::StreamKey;
use tokio::sync::Notify;

/// The readers of each run, and the runs that are being trimmed.
#[derive(Default)]
pub(crate) struct Attached {
    table: Mutex<Table>,
    /// Rung when a claim is given back.
    over: Notify,
}

#[derive(Default)]
struct Table {
    readers: HashMap<StreamKey, usize>,
    claimed: HashSet<StreamKey>,
}

/// A reader's place in the count, given back on every path.
pub(crate) struct Attachment {
    attached: Arc<Attached>,
    stream: StreamKey,
}

/// The right to trim a run, given back on every path.
pub(crate) struct Claim<'a> {
    attached: &'a Attached,
    stream: &'a StreamKey,
}

impl Attached {
    /// A place among the run's readers; `None` while it is being trimmed.
    pub(crate) fn enter(self: &Arc<Self>, stream: &StreamKey) -> Option<Attachment> {
        let mut table = self.table();
        if table.claimed.contains(stream) {
            return None;
        }
        *table.readers.entry(stream.clone()).or_default() += 1;
        Some(Attachment { attached: self.clone(), stream: stream.clone() })
    }

    /// The right to trim a run; `None` while somebody reads it.
    pub(crate) fn claim<'a>(&'a self, stream: &'a StreamKey) -> Option<Claim<'a>> {
        let mut table = self.table();
        let is_free = !table.readers.contains_key(stream) && table.claimed.insert(stream.clone());
        // Not made where it is not given: its drop gives back what another has.
        is_free.then(|| Claim { attached: self, stream })
    }

    /// Waits while the run is being trimmed.
    pub(crate) async fn until_free(&self, stream: &StreamKey) {
        loop {
            let over = self.over.notified();
            if !self.table().claimed.contains(stream) {
                return;
            }
            over.await;
        }
    }

    /// A panic elsewhere leaves the table whole: every change is one step.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut table = self.attached.table();
        if let Some(count) = table.readers.get_mut(&self.stream) {
            *count -= 1;
            if *count == 0 {
                table.readers.remove(&self.stream);
            }
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.attached.table().claimed.remove(self.stream);
        self.attached.over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> StreamKey {
        StreamKey::parse("default/r/a").expect("valid")
    }

    #[test]
    fn l02_a_run_is_not_claimed_until_its_last_reader_has_left() {
        let (attached, run) = (Arc::new(Attached::default()), run());
        let (first, second) = (attached.enter(&run), attached.enter(&run));
        drop(first);
        assert!(second.is_some() && attached.claim(&run).is_none());
        drop(second);
        assert!(attached.claim(&run).is_some() && attached.table().readers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn l05_nobody_begins_to_read_what_is_being_trimmed() {
        let (attached, run) = (Arc::new(Attached::default()), run());
        let claim = attached.claim(&run).expect("nobody reads it");
        assert!(attached.enter(&run).is_none() && attached.claim(&run).is_none());
        let mut free = std::pin::pin!(attached.until_free(&run));
        assert!(futures_util::poll!(&mut free).is_pending());
        drop(claim);
        free.await;
        assert!(attached.enter(&run).is_some() && attached.table().claimed.is_empty());
    }
}
