//! The kill.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;

/// Kills a server once so many events were acknowledged, on the spot.
#[derive(Debug)]
pub(super) struct Trigger {
    server: Pid,
    left: AtomicI64,
    fired: AtomicBool,
    heard: Notify,
}

impl Trigger {
    pub(super) fn new(server: Pid, events: i64) -> Self {
        let (left, fired) = (AtomicI64::new(events), AtomicBool::new(false));
        Self { server, left, fired, heard: Notify::new() }
    }

    /// So many more events are acknowledged.
    pub(super) fn count(&self, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        if self.left.fetch_sub(events, Ordering::Relaxed) <= events {
            self.fire();
        }
    }

    /// Kills it now, if it lives.
    pub(super) fn fire(&self) {
        if !self.fired.swap(true, Ordering::Relaxed) {
            // The process is a child that nobody has waited for yet, so the number is still its.
            kill_process(self.server, Signal::KILL).ok();
            self.heard.notify_one();
        }
    }

    pub(super) fn fired(&self) -> bool {
        self.fired.load(Ordering::Relaxed)
    }

    /// Until the server is killed.
    pub(super) async fn wait(&self) {
        while !self.fired() {
            self.heard.notified().await;
        }
    }
}
