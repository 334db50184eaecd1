//! The one task that writes a store's messages.
//!
//! What is due is written in groups: the records of each session in a part of its own, the sessions
//! of a group in one commit. Where a group is refused, each of its sessions is tried alone, so that
//! one that cannot be written keeps no other from it. At most one commit is under way, so that the
//! states of a message are written in their order.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use segue_core::{SessionId, fold::Message, lifecycle::Lifecycle};
use segue_journal::{Committed, Epoch, Part, StreamKey};
use tokio::time::{Instant, sleep_until};

use super::{
    MessageEvent, Shared, StoreError,
    entry::{Answer, Outcome, Write},
    tell,
};
use crate::{append::AppendError, sessions::Target};

/// How many bytes of records a commit of several sessions has, about.
const GROUP_BYTES: usize = 1 << 20;
/// How many sessions a commit has at most.
const GROUP_SESSIONS: usize = 256;

/// Writes what is due until the end has come.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let (writes, next, is_over) = {
            let mut book = shared.book();
            (book.take(Instant::now()), book.next_due(), book.is_over())
        };
        if !writes.is_empty() {
            shared.write(writes).await;
            continue;
        }
        if is_over {
            shared.finish();
            return;
        }
        match next {
            Some(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = shared.poke.notified() => {}
            },
            None => shared.poke.notified().await,
        }
    }
}

/// A session's records of one commit.
#[derive(Default)]
struct Records {
    writes: Vec<Drafted>,
    encoded: Vec<Bytes>,
}

/// A state and the message that its record has.
struct Drafted {
    write: Write,
    message: Box<Message>,
}

impl Records {
    fn bytes(&self) -> usize {
        self.encoded.iter().map(Bytes::len).sum()
    }
}

/// Waits for the subscribers that have no room; gives how many have missed the event.
pub(super) type Delivery = BoxFuture<'static, usize>;

/// The sessions of a commit.
type Group = Vec<(SessionId, Records)>;

impl Shared {
    async fn write(&self, writes: Vec<Write>) {
        let mut sessions: BTreeMap<SessionId, Vec<Write>> = BTreeMap::new();
        for write in writes {
            sessions.entry(write.session.clone()).or_default().push(write);
        }
        let (mut group, mut bytes) = (Group::new(), 0);
        for (session, writes) in sessions {
            let Some(records) = self.records(&session, writes) else { continue };
            let more = records.bytes();
            if !group.is_empty() && (bytes + more > GROUP_BYTES || group.len() == GROUP_SESSIONS) {
                self.write_group(std::mem::take(&mut group)).await;
                bytes = 0;
            }
            bytes += more;
            group.push((session, records));
        }
        self.write_group(group).await;
    }

    /// What can be written of a session; none if there is nothing.
    fn records(&self, session: &SessionId, writes: Vec<Write>) -> Option<Records> {
        let stream = StreamKey::session(&self.tenant, session);
        let is_gone = self.engine.inner.supervisor.is_gone(&stream);
        let max = self.engine.settings().event_bytes;
        let mut records = Records::default();
        for write in writes {
            let updated = Lifecycle::MessageUpdated { message: Box::new((*write.message).clone()) };
            let record = updated.encode();
            let Lifecycle::MessageUpdated { message } = updated else { continue };
            if is_gone {
                self.end(&write, &Outcome::Gone);
            } else if record.len() > max {
                let error = AppendError::EventTooLarge { bytes: record.len(), max };
                self.end(&write, &Outcome::Refused(StoreError::Write(error)));
            } else {
                records.encoded.push(record);
                records.writes.push(Drafted { write, message });
            }
        }
        (!records.writes.is_empty()).then_some(records)
    }

    async fn write_group(&self, group: Group) {
        if group.is_empty() {
            return;
        }
        match self.commit(&group).await {
            Ok(committed) => self.written(group, &committed),
            Err(error) if group.len() < 2 => self.failed(group, &error),
            Err(_) => {
                metrics::counter!("segue_store_splits_total").increment(1);
                for alone in group.into_iter().map(|one| vec![one]) {
                    match self.commit(&alone).await {
                        Ok(committed) => self.written(alone, &committed),
                        Err(error) => self.failed(alone, &error),
                    }
                }
            }
        }
    }

    /// One commit of a group, which has at least one session.
    async fn commit(&self, group: &[(SessionId, Records)]) -> Result<Committed, AppendError> {
        let Some(((session, records), others)) = group.split_first() else {
            return Err(AppendError::NotFound);
        };
        let part = |(session, records): &(SessionId, Records)| {
            let stream = StreamKey::session(&self.tenant, session);
            Part::append(stream, Epoch(0), records.encoded.clone())
        };
        let beside: Vec<Part> = others.iter().map(part).collect();
        let (engine, tenant, records) = (&self.engine, &self.tenant, &records.encoded);
        engine.commit_encoded(tenant, session, Target::Known, records, &beside).await
    }

    fn failed(&self, group: Group, error: &AppendError) {
        let drafted = group.into_iter().flat_map(|(_, records)| records.writes);
        let is_gone = *error == AppendError::NotFound;
        if !is_gone {
            tracing::warn!(%error, "messages could not be written, they are tried again");
            self.book().counts().failures += 1;
            metrics::counter!("segue_store_failures_total").increment(1);
        }
        let outcome = match error {
            _ if is_gone => Outcome::Gone,
            AppendError::TooLarge { .. } => Outcome::Refused(StoreError::Write(error.clone())),
            error => Outcome::Failed(StoreError::Write(error.clone())),
        };
        drafted.for_each(|drafted| self.end(&drafted.write, &outcome));
    }

    /// Tells subscribers, then those who wait for the writes.
    fn written(&self, group: Group, committed: &Committed) {
        self.count(&group);
        for ((_, written), part) in group.into_iter().zip(&committed.parts) {
            let mut seq = part.first_seq;
            for (drafted, record) in written.writes.into_iter().zip(&written.encoded) {
                let Drafted { write, mut message } = drafted;
                message.version = seq;
                seq = seq.next();
                let event = MessageEvent::Updated(Arc::from(message));
                let delivery = self.publish(event, write.must_deliver);
                // Only now may others touch it: what they tell of it is told later.
                let outcome = Outcome::Written(record.len());
                let answers = self.with_book(|book, now| book.ended(now, &write, &outcome));
                self.tell_once(delivery, answers);
            }
        }
    }

    fn count(&self, group: &Group) {
        let records: usize = group.iter().map(|(_, records)| records.encoded.len()).sum();
        let bytes: usize = group.iter().map(|(_, records)| records.bytes()).sum();
        let mut book = self.book();
        let counts = book.counts();
        counts.commits += 1;
        counts.records += records as u64;
        counts.bytes += bytes as u64;
        drop(book);
        metrics::counter!("segue_store_commits_total").increment(1);
        metrics::counter!("segue_store_records_total").increment(records as u64);
        metrics::counter!("segue_store_bytes_total").increment(bytes as u64);
    }

    /// Gives subscribers an event; something to wait for if one that must be delivered finds no room.
    pub(super) fn publish(&self, event: MessageEvent, must_deliver: bool) -> Option<Delivery> {
        if !must_deliver {
            self.feed.publish(event);
            return None;
        }
        let mut delivery = self.feed.publish_must_deliver(event).boxed();
        let is_done = (&mut delivery).now_or_never().is_some();
        (!is_done).then_some(delivery)
    }

    /// Tells those who wait, once the delivery has come to its end. The writer does not wait for it.
    fn tell_once(&self, delivery: Option<Delivery>, answers: Vec<Answer>) {
        let Some(delivery) = delivery else { return tell(answers, &Ok(())) };
        self.engine.inner.spawner.spawn(async move {
            delivery.await;
            tell(answers, &Ok(()));
        });
    }

    fn end(&self, write: &Write, outcome: &Outcome) {
        let told = match outcome {
            Outcome::Written(_) => Ok(()),
            Outcome::Failed(error) | Outcome::Refused(error) => Err(error.clone()),
            Outcome::Gone => Err(StoreError::NotFound),
        };
        tell(self.with_book(|book, now| book.ended(now, write, outcome)), &told);
    }
}
