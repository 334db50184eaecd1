//! Messages for programs that embed the engine and make their answers themselves.
//!
//! A program that streams an answer has a new state of its message a hundred times a second. It
//! gives each whole to [`MessageStore::update`], which keeps the newest and writes it at the end of
//! a window, 33 ms after the first one that was not written; so a row is never older than a window,
//! and a message that changes a hundred times is written three times. What begins or ends something
//! (a tool call, its end, the end of the message) is written before `update` returns. Each write is
//! a record of the session's stream, of which the row is the fold, and one event for subscribers,
//! who hear of it once it is stored.
//!
//! What it promises:
//! - an event's version is never lower than that of the one before it for the same message, and
//!   whoever has heard of a version reads that or a later one;
//! - after [`MessageEvent::Deleted`] comes nothing more of that message;
//! - a write that fails is tried again until it succeeds, and what it was about is not lost while the
//!   program lives; [`MessageStore::shutdown`] tells what it could not write;
//! - messages that have ended are not kept in memory.
//!
//! One store at a time writes a tenant's messages. What runs make is not its to change, but it can
//! be read and deleted through it.

mod book;
mod changes;
mod entry;
mod reads;
mod registry;
mod shape;
mod writer;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use segue_core::{MessageId, SessionId, TenantId, fold::Message};
use tokio::{sync::Notify, time::Instant};

use crate::{
    append::AppendError,
    delete::DeleteError,
    engine::Engine,
    feed::{Feed, FeedCounts, FeedOptions, Subscription},
    messages::MessageError,
    query::QueryError,
};
use book::Book;
use entry::Answer;

pub(crate) use registry::Stores;

/// The numbers of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// How long a change may wait to be written. Zero writes each before its update returns.
    pub window: Duration,
    /// A message of so many bytes has a window twice as long, one of twice as many three times, so
    /// that what is written stays in proportion to what is said. 0 is no limit.
    pub long_message: usize,
    /// How long a flush or a structural update waits for its write.
    pub patience: Duration,
    /// How long after a failed write it is tried again; twice as long each further time.
    pub first_retry: Duration,
    /// The longest that this becomes.
    pub last_retry: Duration,
    /// What subscribers hear.
    pub feed: FeedOptions,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(33),
            long_message: 256 << 10,
            patience: Duration::from_secs(10),
            first_retry: Duration::from_millis(50),
            last_retry: Duration::from_secs(5),
            feed: FeedOptions::default(),
        }
    }
}

/// What has become of a message; told once it is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageEvent {
    /// It was made. Must be delivered.
    Created(Arc<Message>),
    /// It has changed. Must be delivered if something in it has begun or ended.
    Updated(Arc<Message>),
    /// It is no part of the conversation any more. Must be delivered.
    Deleted {
        /// Its session.
        session_id: SessionId,
        /// The message.
        message_id: MessageId,
    },
    /// A session is gone with all of its messages. Must be delivered.
    SessionDeleted {
        /// The session.
        session_id: SessionId,
    },
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The tenant has no such message or session.
    #[error("there is no such message or session")]
    NotFound,
    /// A run makes the message.
    #[error("the message is made by a run")]
    OfRun,
    /// It was not written in time. It stays to be written.
    #[error("the message was not written in time")]
    TimedOut,
    /// The store was shut down.
    #[error("the message store is shut down")]
    Closed,
    /// The write failed. It stays to be written.
    #[error("the message was not written: {0}")]
    Write(AppendError),
    /// The message was not made or deleted.
    #[error(transparent)]
    Message(MessageError),
    /// The session was not deleted.
    #[error(transparent)]
    Delete(DeleteError),
    /// The views could not be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl From<MessageError> for StoreError {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::NotFound => Self::NotFound,
            other => Self::Message(other),
        }
    }
}

impl From<DeleteError> for StoreError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::NotFound => Self::NotFound,
            other => Self::Delete(other),
        }
    }
}

/// What a store has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Updates it was given.
    pub updates: u64,
    /// Commits to the journal, each of one or more sessions.
    pub commits: u64,
    /// Records of messages in them.
    pub records: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// Commits that failed.
    pub failures: u64,
    /// Messages whose last state was not written before the end.
    pub lost: u64,
}

/// Keeps the messages that a program makes. Cheap to clone; what is unwritten when its last clone
/// is dropped is still written.
#[derive(Clone)]
pub struct MessageStore {
    handle: Arc<Handle>,
}

/// Lets the writer go when nobody is left.
struct Handle {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    engine: Engine,
    tenant: TenantId,
    book: Mutex<Book>,
    feed: Feed<MessageEvent>,
    patience: Duration,
    /// Something is due sooner, or the end has come.
    poke: Notify,
}

impl MessageStore {
    /// A store of this tenant's messages. Its writes go on beside, on the engine's runtime, whoever
    /// drops what; [`Engine::shutdown`] shuts it down.
    pub fn open(engine: &Engine, tenant: &TenantId, options: StoreOptions) -> Self {
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            tenant: tenant.clone(),
            feed: Feed::new(options.feed),
            patience: options.patience,
            book: Mutex::new(Book::new(options)),
            poke: Notify::new(),
        });
        engine.inner.stores.add(&shared);
        engine.inner.spawner.spawn(writer::run(Arc::clone(&shared)));
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Hears of what becomes of messages from here on.
    pub fn subscribe(&self) -> Subscription<MessageEvent> {
        self.shared().feed.subscribe()
    }

    /// What it has counted.
    pub fn counts(&self) -> StoreCounts {
        *self.shared().book().counts()
    }

    /// What its subscribers did not hear.
    pub fn feed_counts(&self) -> FeedCounts {
        self.shared().feed.counts()
    }

    /// How many messages are in memory.
    pub fn in_hand(&self) -> usize {
        self.shared().book().len()
    }

    /// Takes no more, writes what is unwritten and ends the subscriptions. Gives how many messages
    /// could not be written in time: their last state is lost. Doing it twice does nothing more.
    pub async fn shutdown(&self) -> u64 {
        self.shared().shutdown(self.shared().patience).await
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // A panic elsewhere leaves it whole: every change is one step.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the book and wakes the writer if that has to come sooner.
    fn with_book<T>(&self, change: impl FnOnce(&mut Book, Instant) -> T) -> T {
        let mut book = self.book();
        let before = book.next_due();
        let done = change(&mut book, Instant::now());
        let after = book.next_due();
        drop(book);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.poke.notify_one();
        }
        done
    }

    /// Takes no more and writes what is unwritten, if that can be done in time.
    pub(crate) async fn shutdown(&self, budget: Duration) -> u64 {
        self.book().close();
        // What could not be written is counted.
        self.flush_where(budget, |_| true).await.ok();
        let lost = self.finish();
        self.poke.notify_one();
        lost
    }

    /// Lets go of everything; gives how many messages had something unwritten.
    fn finish(&self) -> u64 {
        let lost = self.book().end();
        if lost > 0 {
            metrics::counter!("segue_store_lost_total").increment(lost);
            tracing::error!(lost, "messages were not written before the end");
        }
        self.feed.shutdown();
        lost
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.book().leave();
        self.shared.poke.notify_one();
    }
}

/// Tells those who wait. Some may have gone.
fn tell(answers: Vec<Answer>, outcome: &Result<(), StoreError>) {
    for answer in answers {
        answer.send(outcome.clone()).unwrap_or_default();
    }
}
