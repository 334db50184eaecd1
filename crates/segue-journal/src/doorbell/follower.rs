//! Rings by kind.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use super::Doorbell;
use crate::{
    api::Position,
    stream::{KeySet, StreamKey, StreamKind},
    sync::{Arc, Mutex, lock},
};

/// Follows every stream of some kinds. Dropping it ends that.
///
/// To miss nothing: follow first, then look at what there is, then take and wait in turns.
pub struct Follower {
    follow: Arc<Follow>,
    doorbell: Doorbell,
}

impl Follower {
    pub(super) fn new(follow: Arc<Follow>, doorbell: Doorbell) -> Self {
        Self { follow, doorbell }
    }

    /// The streams that were changed, created or deleted since the last call, each once, in any
    /// order.
    pub fn take(&self) -> Vec<StreamKey> {
        let mut news = lock(&self.follow.news);
        news.shaken = false;
        news.changed.drain().collect()
    }

    /// Waits until every commit up to `position` has been rung, so that [`Follower::take`] names
    /// all that they changed. Gives `position` back.
    pub async fn heard(&self, position: Position) -> Position {
        poll_fn(|cx| {
            {
                let mut news = lock(&self.follow.news);
                news.waker = Some(cx.waker().clone());
                news.awaits_commit = true;
            }
            // Looked at after the wish is noted: a commit that is rung in between finds it.
            if self.doorbell.rung() < position {
                return Poll::Pending;
            }
            lock(&self.follow.news).awaits_commit = false;
            Poll::Ready(position)
        })
        .await
    }

    /// Ready when there is something to take, or the journal failed.
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut news = lock(&self.follow.news);
        if news.shaken || !news.changed.is_empty() {
            return Poll::Ready(());
        }
        news.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until there is something to take, or the journal failed.
    pub async fn rung(&self) {
        poll_fn(|cx| self.poll_rung(cx)).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.doorbell.unfollow(&self.follow);
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

pub(super) struct Follow {
    kinds: Vec<StreamKind>,
    news: Mutex<News>,
}

#[derive(Default)]
struct News {
    changed: KeySet,
    /// To be woken although nothing changed.
    shaken: bool,
    /// To be woken by the next commit, whatever it changed.
    awaits_commit: bool,
    waker: Option<Waker>,
}

impl Follow {
    pub(super) fn new(kinds: &[StreamKind]) -> Self {
        Self { kinds: kinds.to_vec(), news: Mutex::new(News::default()) }
    }

    /// Gives the waker of who waits, if the kind is followed.
    pub(super) fn tell(&self, stream: &StreamKey, kind: StreamKind) -> Option<Waker> {
        if !self.kinds.contains(&kind) {
            return None;
        }
        let mut news = lock(&self.news);
        if !news.changed.contains(stream) {
            news.changed.insert(stream.clone());
        }
        news.waker.take()
    }

    /// Gives the waker of who waits for a commit.
    pub(super) fn advance(&self) -> Option<Waker> {
        let mut news = lock(&self.news);
        if news.awaits_commit { news.waker.take() } else { None }
    }

    pub(super) fn shake(&self) -> Option<Waker> {
        let mut news = lock(&self.news);
        news.shaken = true;
        news.waker.take()
    }
}
