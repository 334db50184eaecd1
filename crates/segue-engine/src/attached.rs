//! Who is attached to which run, for retention alone: the run itself never knows (E2).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use segue_journal::StreamKey;

/// The readers of each run.
#[derive(Default)]
pub(crate) struct Attached(Mutex<HashMap<StreamKey, usize>>);

/// A reader's place in the count, given back on every path.
pub(crate) struct Attachment {
    attached: Arc<Attached>,
    stream: StreamKey,
}

impl Attached {
    pub(crate) fn enter(self: &Arc<Self>, stream: &StreamKey) -> Attachment {
        *self.lock().entry(stream.clone()).or_default() += 1;
        Attachment { attached: self.clone(), stream: stream.clone() }
    }

    /// Whether anybody reads the run.
    pub(crate) fn has(&self, stream: &StreamKey) -> bool {
        self.lock().contains_key(stream)
    }

    /// A panic elsewhere leaves the counts whole: every change is one step.
    fn lock(&self) -> MutexGuard<'_, HashMap<StreamKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut counts = self.attached.lock();
        if let Some(count) = counts.get_mut(&self.stream) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l02_who_reads_is_counted_until_the_last_has_left() {
        let attached = Arc::new(Attached::default());
        let run = StreamKey::parse("default/r/a").expect("valid");
        let (first, second) = (attached.enter(&run), attached.enter(&run));
        drop(first);
        assert!(attached.has(&run));
        drop(second);
        assert!(!attached.has(&run) && attached.lock().is_empty());
    }
}
