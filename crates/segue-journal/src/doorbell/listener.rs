//! A reader's end of a bell.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use super::{BellTail, Doorbell, shard::Mark};
use crate::{api::Tail, stream::StreamKey, sync::Arc};

/// Hears one stream's bell. Dropping it deregisters.
///
/// The loop that misses nothing: [`hear`](Self::hear), [`tail`](Self::tail), read up to it, wait
/// for [`rung`](Self::rung), again.
pub struct Listener {
    doorbell: Doorbell,
    stream: StreamKey,
    tail: Arc<BellTail>,
    mark: Arc<Mark>,
    ear: usize,
}

impl Listener {
    pub(super) fn new(
        doorbell: Doorbell,
        stream: StreamKey,
        tail: Arc<BellTail>,
        mark: Arc<Mark>,
        ear: usize,
    ) -> Self {
        Self { doorbell, stream, tail, mark, ear }
    }

    pub(super) fn raise(&self, tail: Tail) {
        self.tail.raise(tail);
    }

    /// The stream it listens to.
    pub fn stream(&self) -> &StreamKey {
        &self.stream
    }

    /// The last tail that was rung. Never goes back; what is below it can be read.
    pub fn tail(&self) -> Tail {
        self.tail.tail()
    }

    /// The stream was deleted: its tail stays, and a stream of the same name is another one.
    pub fn deleted(&self) -> bool {
        self.tail.deleted()
    }

    /// Clears this reader's mark. To be called before the tail is read.
    pub fn hear(&self) {
        self.mark.hear(self.ear);
    }

    /// Ready if rung since the last [`hear`](Self::hear).
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.mark.poll_rung(self.ear, cx)
    }

    /// Waits until rung since the last [`hear`](Self::hear).
    pub async fn rung(&self) {
        poll_fn(|cx| self.poll_rung(cx)).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.mark.remove_ear(self.ear) {
            self.doorbell.retire(&self.stream, &self.mark);
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("stream", &self.stream)
            .field("tail", &self.tail())
            .finish_non_exhaustive()
    }
}
