//! Waking a thread that works when there is something to do.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::sync::held;

/// What wakes a thread. Rings are merged: woken once, it does all there is.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    work: bool,
    stop: bool,
}

impl Chores {
    /// Tells the thread that there is something to do.
    pub(crate) fn wake(&self) {
        held(&self.waiting).work = true;
        self.woken.notify_all();
    }

    /// Tells it to end.
    pub(crate) fn stop(&self) {
        held(&self.waiting).stop = true;
        self.woken.notify_all();
    }

    /// It is to end.
    pub(crate) fn stopped(&self) -> bool {
        held(&self.waiting).stop
    }

    /// Blocks until there is something to do, or for so long. `false`: the thread is to end.
    pub(crate) fn wait(&self, at_most: Option<Duration>) -> bool {
        let waiting = held(&self.waiting);
        let idle = |waiting: &mut Waiting| !waiting.work && !waiting.stop;
        let mut waiting = match at_most {
            None => self.woken.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let waited = self.woken.wait_timeout_while(waiting, time, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        waiting.work = false;
        !waiting.stop
    }
}
