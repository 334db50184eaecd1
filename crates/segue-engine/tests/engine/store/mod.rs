//! The message store: what a program that makes its answers itself is promised.

mod coalescing;
mod deleting;
mod flushing;
mod random;
mod structural;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use segue_core::{
    EventRecord, MessageId, ProducerId, Seq,
    fold::{Message, MessageStatus, Part, said},
    lifecycle::Lifecycle,
};
use segue_engine::{FeedOptions, Heard, MessageEvent, MessageStore, StoreOptions, Subscription};
use segue_journal::{
    Batch, Doorbell, FrameCache, Journal, Listener, MemoryJournal, MemoryOptions, Op, Page, Permit,
    Position, ProducerState, ReadError, ReadLimit, Reserve, Shard, StreamInfo, StreamKey,
    StreamKind, Ticket, memory::Hold,
};
use serde_json::{Value, json};

use super::support::*;

pub const WINDOW: Duration = Duration::from_millis(33);
const MS: Duration = Duration::from_millis(1);

/// A journal that refuses what it is told to.
struct Moody {
    inner: Arc<MemoryJournal>,
    /// How many of the next batches are refused.
    refusals: AtomicUsize,
    /// Sessions whose batches are.
    refused: Mutex<HashSet<StreamKey>>,
}

impl Moody {
    fn refuses(&self, batch: &Batch) -> bool {
        let refused = self.refused.lock().unwrap();
        let is_next = |n: usize| n.checked_sub(1);
        batch.parts.iter().any(|part| refused.contains(&part.stream))
            || self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_next).is_ok()
    }
}

impl Journal for Moody {
    fn reserve(&self, stream: &StreamKey, bytes: usize) -> Reserve<'_> {
        self.inner.reserve(stream, bytes)
    }

    fn submit(&self, permit: Permit, mut batch: Batch) -> Ticket {
        if self.refuses(&batch) {
            for part in &mut batch.parts {
                if let Op::Append { expect, .. } = &mut part.op {
                    // No stream has its tail there.
                    *expect = Some(Seq::ZERO);
                }
            }
        }
        self.inner.submit(permit, batch)
    }

    fn read(&self, stream: &StreamKey, from: Seq, limit: ReadLimit) -> Result<Page, ReadError> {
        self.inner.read(stream, from, limit)
    }

    fn info(&self, stream: &StreamKey) -> Result<StreamInfo, ReadError> {
        self.inner.info(stream)
    }

    fn producers(&self, stream: &StreamKey) -> Result<Vec<(ProducerId, ProducerState)>, ReadError> {
        self.inner.producers(stream)
    }

    fn listen(&self, stream: &StreamKey, shard: &Shard) -> Result<Listener, ReadError> {
        self.inner.listen(stream, shard)
    }

    fn doorbell(&self) -> &Doorbell {
        self.inner.doorbell()
    }

    fn frames(&self) -> &FrameCache {
        self.inner.frames()
    }

    fn open_runs(&self) -> Vec<StreamKey> {
        self.inner.open_runs()
    }

    fn changed_since(
        &self,
        since: Position,
        kind: StreamKind,
    ) -> Result<Vec<StreamKey>, ReadError> {
        self.inner.changed_since(since, kind)
    }

    fn position(&self) -> Position {
        self.inner.position()
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// An engine with a store, on a journal with moods.
struct Shelf {
    stage: Stage,
    store: MessageStore,
    journal: Arc<Moody>,
}

impl Shelf {
    async fn new() -> Self {
        Self::with(StoreOptions::default()).await
    }

    async fn with_window(window: Duration) -> Self {
        Self::with(StoreOptions { window, ..StoreOptions::default() }).await
    }

    async fn with(options: StoreOptions) -> Self {
        let inner = MemoryJournal::new(MemoryOptions::new(Arc::new(TickingClock::default())));
        let (refusals, refused) = Default::default();
        let journal = Arc::new(Moody { inner: Arc::new(inner), refusals, refused });
        let stage = Stage::over(journal.clone(), Puppet::new(true)).await;
        let store = MessageStore::open(&stage.engine, tenant(), options);
        Self { stage, store, journal }
    }

    /// Keeps what is written from now on under way.
    fn hold(&self) -> Hold {
        self.journal.inner.hold()
    }

    /// Refuses the next batches.
    fn refuse(&self, batches: usize) {
        self.journal.refusals.store(batches, Ordering::Relaxed);
    }

    /// Refuses all batches with this session.
    fn refuse_session(&self, session: &str, is_refused: bool) {
        let stream = StreamKey::session(tenant(), &session_id(session));
        let mut refused = self.journal.refused.lock().unwrap();
        if is_refused {
            refused.insert(stream)
        } else {
            refused.remove(&stream)
        };
    }

    /// A new answer of which nothing is said.
    async fn draft(&self, session: &str, id: &str) -> Message {
        let said = json!({"role": "assistant", "id": id, "parts": []});
        self.store.create(&session_id(session), said::one(&said).unwrap()).await.unwrap()
    }

    /// What is stored of a message as text.
    async fn text(&self, id: &str) -> String {
        texts(&self.row(id).await)
    }

    async fn row(&self, id: &str) -> Message {
        self.store.get(&message_id(id)).await.unwrap().expect("it is stored")
    }

    /// The states of a message that its session's stream has.
    fn written(&self, session: &str, id: &str) -> Vec<Message> {
        let stream = StreamKey::session(tenant(), &session_id(session));
        let limit = ReadLimit { bytes: usize::MAX, records: usize::MAX };
        let records = self.journal.read(&stream, Seq::FIRST, limit).unwrap().records;
        let updated = records.into_iter().filter_map(|record| {
            let event = EventRecord::decode(record.bytes).unwrap();
            match Lifecycle::from_record(&event)? {
                Lifecycle::MessageUpdated { message } if message.id.as_str() == id => {
                    Some(*message)
                }
                _ => None,
            }
        });
        updated.collect()
    }

    /// How many messages of any kind were written.
    fn records(&self) -> u64 {
        self.store.counts().records
    }
}

fn message_id(id: &str) -> MessageId {
    MessageId::parse(id).unwrap()
}

fn part(json: &Value) -> Part {
    serde_json::from_value(json.clone()).unwrap()
}

fn with_parts(message: &Message, parts: &Value) -> Message {
    let parts = parts.as_array().unwrap().iter().map(part).collect();
    Message { parts, ..message.clone() }
}

/// The message with this text so far.
fn saying(message: &Message, text: &str) -> Message {
    with_parts(message, &json!([{"type": "text", "text": text}]))
}

/// The message with this text, ended.
fn ended(message: &Message, text: &str) -> Message {
    Message { status: MessageStatus::Complete, ..saying(message, text) }
}

fn texts(message: &Message) -> String {
    message.parts.texts().collect()
}

/// What can be heard without waiting.
fn heard(subscription: &mut Subscription<MessageEvent>) -> Vec<MessageEvent> {
    let heard = std::iter::from_fn(|| subscription.next().now_or_never().flatten());
    heard.map(|heard| heard.value().expect("nothing is lost")).collect()
}

/// The messages that were told to have changed.
fn updates(subscription: &mut Subscription<MessageEvent>) -> Vec<Arc<Message>> {
    let updated = heard(subscription).into_iter().filter_map(|event| match event {
        MessageEvent::Updated(message) => Some(message),
        _ => None,
    });
    updated.collect()
}

/// Versions rise.
fn check_versions(events: &[Arc<Message>]) {
    assert!(events.is_sorted_by(|left, right| left.version < right.version));
}

/// A task of the test's own.
#[expect(clippy::disallowed_methods, reason = "awaited or aborted by the test")]
fn beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// Lets everything that needs no time happen.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
