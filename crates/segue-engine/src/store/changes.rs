//! What a store's callers change.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::join_all;
use segue_core::{
    MessageId, SessionId,
    fold::{Message, MessageStatus, Role, Said},
};
use tokio::sync::oneshot;

use super::{MessageEvent, MessageStore, Shared, StoreError, entry::Waiting, tell};
use crate::messages::CreateMessage;

impl MessageStore {
    /// Makes a message at the end of a session, which is made if it does not exist. An assistant's is
    /// streaming, until an update ends it; any other is complete.
    ///
    /// It is made even if the future is dropped.
    pub async fn create(&self, session: &SessionId, said: Said) -> Result<Message, StoreError> {
        let id = said.id.clone().unwrap_or_else(|| self.shared().engine.inner.ids.message());
        let said = Said { id: Some(id.clone()), ..said };
        let reserved = Reserved::message(self.shared(), id)?;
        let session = session.clone();
        self.detached(async move { reserved.create(session, said).await }).await
    }

    /// What a message is now, whole. It is written at the end of its window, and before this returns
    /// if something in it has begun or ended, or it had ended before.
    ///
    /// What a message is by its making stays: its session, its role, the time. So does its end: a
    /// later update may change what is in it, but not its status.
    pub async fn update(&self, message: Message) -> Result<(), StoreError> {
        match self.shared().enter(message).await? {
            Some(written) => self.shared().in_time(self.shared().patience, written).await,
            None => Ok(()),
        }
    }

    /// Waits until a message is stored as it was when this was called. Nothing is waited for of a
    /// message that has nothing unwritten, or does not exist.
    ///
    /// What could not be written stays to be written.
    pub async fn flush(&self, id: &MessageId) -> Result<(), StoreError> {
        let waiting = self.shared().with_book(|book, now| book.flush(now, id));
        let Some(waiting) = waiting else { return Ok(()) };
        let flushed = self.shared().in_time(self.shared().patience, waiting).await;
        unless_gone(flushed)
    }

    /// The same for all messages. If some could not be written, the others are; gives the first
    /// error.
    pub async fn flush_all(&self) -> Result<(), StoreError> {
        self.shared().flush_where(self.shared().patience, |_| true).await
    }

    /// Deletes a message, also one that a run makes. What is unwritten of it goes, and nothing more
    /// is told of it.
    ///
    /// It is deleted even if the future is dropped.
    pub async fn delete(&self, id: &MessageId) -> Result<(), StoreError> {
        let reserved = Reserved::message(self.shared(), id.clone())?;
        self.detached(reserved.delete()).await
    }

    /// Deletes a session with its messages and runs. What is unwritten of them goes, and nothing more
    /// is told of them.
    ///
    /// It is deleted even if the future is dropped.
    pub async fn delete_session(&self, session: &SessionId) -> Result<(), StoreError> {
        let reserved = Reserved::session(self.shared(), session.clone())?;
        self.detached(reserved.delete_session()).await
    }

    /// Does something to its end, whoever waits for it.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (told, outcome) = oneshot::channel();
        self.shared().engine.inner.spawner.spawn(async move {
            // Who waited may have gone.
            told.send(work.await).ok();
        });
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Who waits for a flush has nothing to wait for when the message is gone.
fn unless_gone(flushed: Result<(), StoreError>) -> Result<(), StoreError> {
    match flushed {
        Err(StoreError::NotFound) => Ok(()),
        other => other,
    }
}

impl Shared {
    /// Puts a message's state in the book; something to wait for if it is to be written at once.
    async fn enter(&self, message: Message) -> Result<Option<Waiting>, StoreError> {
        let mut looked_up: Option<(u64, Message)> = None;
        loop {
            let at = self.engine.now();
            let deletions = {
                let mut book = self.book();
                // What was looked up before a deletion may be what was deleted.
                let stored = looked_up.take().filter(|(then, _)| *then == book.deletions());
                if let Some((_, stored)) = stored {
                    book.adopt(stored)?;
                }
                if book.has(&message.id)? {
                    drop(book);
                    return Ok(self.with_book(|book, now| book.update(now, at, message)));
                }
                book.deletions()
            };
            looked_up = Some((deletions, self.ours(&message.id).await?));
        }
    }

    /// A message that is stored and that no run makes.
    async fn ours(&self, id: &MessageId) -> Result<Message, StoreError> {
        let stored = self.stored(id).await?.ok_or(StoreError::NotFound)?;
        if stored.is_of_run() { Err(StoreError::OfRun) } else { Ok(stored) }
    }

    /// Waits until the wanted messages are stored as they are now; gives the first error.
    pub(super) async fn flush_where(
        &self,
        patience: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<(), StoreError> {
        let waiting: Vec<Waiting> = self.with_book(|book, now| {
            let dirty = book.dirty(wanted);
            dirty.iter().filter_map(|id| book.flush(now, id)).collect()
        });
        let waiting = waiting.into_iter().map(|waiting| self.in_time(patience, waiting));
        join_all(waiting).await.into_iter().try_for_each(unless_gone)
    }

    async fn in_time(&self, patience: Duration, written: Waiting) -> Result<(), StoreError> {
        match tokio::time::timeout(patience, written).await {
            Ok(told) => told.unwrap_or(Err(StoreError::Closed)),
            Err(_) => {
                metrics::counter!("segue_store_wait_timeouts_total").increment(1);
                Err(StoreError::TimedOut)
            }
        }
    }
}

/// Messages that nobody else touches while it lives.
struct Reserved {
    shared: Arc<Shared>,
    what: What,
}

#[derive(Clone)]
enum What {
    Message(MessageId),
    Session(SessionId),
}

impl Reserved {
    fn message(shared: &Arc<Shared>, id: MessageId) -> Result<Self, StoreError> {
        shared.book().reserve(&id)?;
        Ok(Self { shared: Arc::clone(shared), what: What::Message(id) })
    }

    fn session(shared: &Arc<Shared>, session: SessionId) -> Result<Self, StoreError> {
        shared.book().reserve_session(&session)?;
        Ok(Self { shared: Arc::clone(shared), what: What::Session(session) })
    }

    async fn create(self, session: SessionId, said: Said) -> Result<Message, StoreError> {
        let Shared { engine, tenant, .. } = &*self.shared;
        let deletions = self.shared.book().deletions();
        let is_streaming = said.role == Role::Assistant;
        let status = if is_streaming { MessageStatus::Streaming } else { MessageStatus::Complete };
        let request = CreateMessage { said, is_summary: false, replaces: None };
        let made = engine.create_message_as(tenant, &session, request, status).await?;
        let delivery = {
            let mut book = self.shared.book();
            // Whoever heard that its session is gone does not hear of it.
            let is_there = book.deletions() == deletions && !book.is_going(&session);
            let event = MessageEvent::Created(Arc::new(made.clone()));
            let delivery = is_there.then(|| self.shared.publish(event, true)).flatten();
            if is_there && is_streaming {
                book.adopt(made.clone())?;
            }
            delivery
        };
        drop(self);
        if let Some(delivery) = delivery {
            delivery.await;
        }
        Ok(made)
    }

    async fn delete(self) -> Result<(), StoreError> {
        let What::Message(id) = &self.what else { return Err(StoreError::NotFound) };
        let Shared { engine, tenant, .. } = &*self.shared;
        self.settled(std::slice::from_ref(id)).await;
        let stored = self.shared.stored(id).await?;
        let session_id = stored.and_then(|stored| stored.session_id).ok_or(StoreError::NotFound)?;
        engine.delete_message(tenant, id).await?;
        let event = MessageEvent::Deleted { session_id, message_id: id.clone() };
        self.gone(std::slice::from_ref(id), event).await;
        Ok(())
    }

    async fn delete_session(self) -> Result<(), StoreError> {
        let What::Session(session) = &self.what else { return Err(StoreError::NotFound) };
        let Shared { engine, tenant, .. } = &*self.shared;
        let ids = self.shared.book().of_session(session);
        self.settled(&ids).await;
        engine.delete_session(tenant, session).await?;
        self.gone(&ids, MessageEvent::SessionDeleted { session_id: session.clone() }).await;
        Ok(())
    }

    /// Waits until nothing of these messages is being written.
    async fn settled(&self, ids: &[MessageId]) {
        let writing: Vec<Waiting> = {
            let mut book = self.shared.book();
            ids.iter().filter_map(|id| book.settled(id)).collect()
        };
        // How it went does not matter any more.
        join_all(writing).await;
    }

    /// Tells that they are gone, then lets them go.
    async fn gone(&self, ids: &[MessageId], event: MessageEvent) {
        let delivery = self.shared.publish(event, true);
        let waiting = self.shared.book().forget(ids);
        tell(waiting, &Err(StoreError::NotFound));
        if let Some(delivery) = delivery {
            delivery.await;
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let what = self.what.clone();
        self.shared.with_book(|book, now| match &what {
            What::Message(id) => book.release(now, id),
            What::Session(session) => book.release_session(now, session),
        });
        // The writer may have waited for this to end.
        self.shared.poke.notify_one();
    }
}
