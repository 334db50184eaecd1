//! What is known of the messages in hand. Pure: who holds the lock tells it the time.
//!
//! ```text
//! clean --update--> dirty, due at the end of its window --take--> written ---> clean, and gone if
//!   ^                 ^  an update meanwhile: due again   |                    it has ended
//!   `-- next write    `------ due after a back-off -------+ failed
//! ```

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use segue_core::{MessageId, SessionId, Timestamp, fold::Message};
use tokio::time::Instant;

use super::{
    StoreCounts, StoreError, StoreOptions,
    entry::{Answer, Entry, Outcome, Waiting, Write},
};

/// How many messages stay in hand though nothing of them is unwritten.
const MOST_CLEAN: usize = 1024;

/// The messages in hand.
pub(super) struct Book {
    options: StoreOptions,
    entries: HashMap<MessageId, Entry>,
    /// The messages that are to be written, by when.
    due: BTreeSet<(Instant, MessageId)>,
    /// The end of the window that was opened last.
    tick: Option<Instant>,
    /// Messages that are being made or deleted: nobody else touches them.
    reserved: HashSet<MessageId>,
    /// Sessions that are being deleted.
    going: HashSet<SessionId>,
    /// How often something was deleted: what was looked up before may be gone.
    deletions: u64,
    /// How many entries make it look for those that are not needed.
    room: usize,
    is_closed: bool,
    is_left: bool,
    is_over: bool,
    counts: StoreCounts,
}

impl Book {
    pub(super) fn new(options: StoreOptions) -> Self {
        Self {
            options,
            entries: HashMap::new(),
            due: BTreeSet::new(),
            tick: None,
            reserved: HashSet::new(),
            going: HashSet::new(),
            deletions: 0,
            room: MOST_CLEAN,
            is_closed: false,
            is_left: false,
            is_over: false,
            counts: StoreCounts::default(),
        }
    }

    /// How many messages are in hand.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn counts(&mut self) -> &mut StoreCounts {
        &mut self.counts
    }

    pub(super) fn deletions(&self) -> u64 {
        self.deletions
    }

    /// Whether a message is in hand. An error if nobody may touch it now.
    pub(super) fn has(&self, id: &MessageId) -> Result<bool, StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        let entry = self.entries.get(id);
        let is_going = entry.is_some_and(|entry| self.going.contains(&entry.session));
        if is_going || self.reserved.contains(id) {
            return Err(StoreError::NotFound);
        }
        Ok(entry.is_some())
    }

    /// Whether a session is being deleted.
    pub(super) fn is_going(&self, session: &SessionId) -> bool {
        self.going.contains(session)
    }

    /// Takes a stored message in hand, if it is not.
    pub(super) fn adopt(&mut self, message: Message) -> Result<(), StoreError> {
        let session = message.session_id.clone().ok_or(StoreError::NotFound)?;
        if self.is_going(&session) {
            return Err(StoreError::NotFound);
        }
        if self.entries.len() >= self.room {
            self.entries.retain(|_, entry| !entry.is_clean());
            self.room = self.entries.len() * 2 + MOST_CLEAN;
        }
        let id = message.id.clone();
        self.entries.entry(id).or_insert_with(|| Entry::new(session, message));
        Ok(())
    }

    /// What a message in hand is now. Something to wait for if it cannot wait for its window.
    pub(super) fn update(
        &mut self,
        now: Instant,
        at: Timestamp,
        message: Message,
    ) -> Option<Waiting> {
        let id = message.id.clone();
        let entry = self.entries.get_mut(&id)?;
        self.counts.updates += 1;
        entry.change(message, at);
        if !entry.is_structural && !self.options.window.is_zero() {
            self.arm(now, &id);
            return None;
        }
        let waiting = entry.wait(entry.revision);
        self.arm_now(now, &id);
        Some(waiting)
    }

    /// What there is to wait for until a message's state of now is stored.
    pub(super) fn flush(&mut self, now: Instant, id: &MessageId) -> Option<Waiting> {
        let entry = self.entries.get_mut(id).filter(|entry| !entry.is_clean())?;
        let waiting = entry.wait(entry.revision);
        if entry.writing != Some(entry.revision) {
            self.arm_now(now, id);
        }
        Some(waiting)
    }

    /// The messages in hand that have something unwritten, of those that are wanted.
    pub(super) fn dirty(&self, wanted: impl Fn(&Message) -> bool) -> Vec<MessageId> {
        let dirty = self.entries.iter().filter(|(_, entry)| !entry.is_clean());
        dirty.filter(|(_, entry)| wanted(&entry.latest)).map(|(id, _)| id.clone()).collect()
    }

    /// When something is to be written next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// What is due, oldest first. Each of it is answered by [`Book::ended`].
    pub(super) fn take(&mut self, now: Instant) -> Vec<Write> {
        let mut writes = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            let Some((_, id)) = self.due.pop_first() else { break };
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.due = None;
            entry.writing = Some(entry.revision);
            let must_deliver = std::mem::take(&mut entry.is_structural);
            let (session, message) = (entry.session.clone(), Arc::clone(&entry.latest));
            let revision = entry.revision;
            writes.push(Write { id, session, message, revision, must_deliver });
        }
        writes
    }

    /// How a write ended. Gives those who are to be told.
    pub(super) fn ended(&mut self, now: Instant, write: &Write, outcome: &Outcome) -> Vec<Answer> {
        let Write { id, revision, must_deliver, .. } = write;
        let Some(entry) = self.entries.get_mut(id) else { return Vec::new() };
        entry.writing = None;
        let mut told = entry.told(*revision);
        match outcome {
            Outcome::Written(bytes) => {
                (entry.written, entry.failures, entry.bytes) = (*revision, 0, *bytes);
                if entry.is_clean() && entry.latest.status.is_terminal() {
                    self.remove(id);
                }
            }
            Outcome::Failed(_) => {
                entry.is_structural |= must_deliver;
                entry.failures += 1;
                let is_awaited = !entry.waiters.is_empty();
                let wait = if is_awaited { Duration::ZERO } else { self.back_off(id) };
                self.put_due(id, now + wait);
            }
            Outcome::Refused(_) => {
                entry.is_structural |= must_deliver;
                if entry.revision == *revision {
                    self.put_off(id);
                }
            }
            Outcome::Gone => {
                told.extend(entry.told(u64::MAX));
                self.remove(id);
            }
        }
        told
    }

    /// Keeps a message to whoever makes or deletes it. An error if somebody does already.
    pub(super) fn reserve(&mut self, id: &MessageId) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        if !self.reserved.insert(id.clone()) {
            return Err(StoreError::NotFound);
        }
        self.put_off(id);
        Ok(())
    }

    /// Others may touch it again.
    pub(super) fn release(&mut self, now: Instant, id: &MessageId) {
        self.reserved.remove(id);
        self.arm_again(now, id);
    }

    /// Keeps a session's messages to whoever deletes it.
    pub(super) fn reserve_session(&mut self, session: &SessionId) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        if !self.going.insert(session.clone()) {
            return Err(StoreError::NotFound);
        }
        for id in self.of_session(session) {
            self.put_off(&id);
        }
        Ok(())
    }

    /// It was not deleted.
    pub(super) fn release_session(&mut self, now: Instant, session: &SessionId) {
        self.going.remove(session);
        for id in self.of_session(session) {
            self.arm_again(now, &id);
        }
    }

    /// What there is to wait for until nothing of a message is being written.
    pub(super) fn settled(&mut self, id: &MessageId) -> Option<Waiting> {
        let entry = self.entries.get_mut(id)?;
        let revision = entry.writing?;
        Some(entry.wait(revision))
    }

    /// A session's messages in hand.
    pub(super) fn of_session(&self, session: &SessionId) -> Vec<MessageId> {
        let entries = self.entries.iter().filter(|(_, entry)| entry.session == *session);
        entries.map(|(id, _)| id.clone()).collect()
    }

    /// Messages are deleted: what was unwritten of them goes. Gives those who wait for that.
    pub(super) fn forget(&mut self, ids: &[MessageId]) -> Vec<Answer> {
        self.deletions += 1;
        let mut waiting = Vec::new();
        for id in ids {
            let waiters = self.remove(id).map(|entry| entry.waiters).unwrap_or_default();
            waiting.extend(waiters.into_iter().map(|(_, answer)| answer));
        }
        waiting
    }

    /// Takes no more updates.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Nobody will give it updates any more.
    pub(super) fn leave(&mut self) {
        self.is_left = true;
    }

    /// Whether nothing is left to do for the writer, for ever.
    pub(super) fn is_over(&self) -> bool {
        let is_idle = self.due.is_empty() && self.reserved.is_empty() && self.going.is_empty();
        self.is_over || (self.is_left && is_idle)
    }

    /// Lets go of everything. Gives how many messages had something unwritten.
    pub(super) fn end(&mut self) -> u64 {
        let lost = self.dirty(|_| true).len() as u64;
        (self.is_closed, self.is_over) = (true, true);
        self.counts.lost += lost;
        self.entries.clear();
        self.due.clear();
        lost
    }

    /// Whether nobody but their own writer may touch it.
    fn is_held(&self, id: &MessageId) -> bool {
        let session = self.entries.get(id).map(|entry| &entry.session);
        self.reserved.contains(id) || session.is_some_and(|session| self.going.contains(session))
    }

    /// Due at the end of the window, if it is not due yet. All windows that would end later end with
    /// the one that is open; a long message's takes as many times as long as it is longer.
    fn arm(&mut self, now: Instant, id: &MessageId) {
        let Some(entry) = self.entries.get(id) else { return };
        if entry.due.is_some() {
            return;
        }
        let (window, long) = (self.options.window, self.options.long_message.max(1));
        let tick = self.tick.filter(|tick| *tick > now).unwrap_or(now + window);
        self.tick = Some(tick);
        let times = u32::try_from(entry.bytes / long).unwrap_or(u32::MAX);
        self.put_due(id, tick + window.saturating_mul(times));
    }

    fn arm_now(&mut self, now: Instant, id: &MessageId) {
        self.put_due(id, now);
    }

    /// What could not be written meanwhile is due.
    fn arm_again(&mut self, now: Instant, id: &MessageId) {
        if self.entries.get(id).is_some_and(|entry| !entry.is_clean()) {
            self.arm_now(now, id);
        }
    }

    fn back_off(&self, id: &MessageId) -> Duration {
        let failures = self.entries.get(id).map_or(1, |entry| entry.failures);
        let times = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.options.first_retry.saturating_mul(times).min(self.options.last_retry)
    }

    fn put_due(&mut self, id: &MessageId, due: Instant) {
        let is_held = self.is_held(id);
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(before) = entry.due.take() {
            self.due.remove(&(before, id.clone()));
        }
        if !is_held {
            entry.due = Some(due);
            self.due.insert((due, id.clone()));
        }
    }

    fn put_off(&mut self, id: &MessageId) {
        let due = self.entries.get_mut(id).and_then(|entry| entry.due.take());
        if let Some(due) = due {
            self.due.remove(&(due, id.clone()));
        }
    }

    fn remove(&mut self, id: &MessageId) -> Option<Entry> {
        self.put_off(id);
        self.entries.remove(id)
    }
}
