//! A message in hand.

use std::sync::Arc;

use segue_core::{MessageId, SessionId, Timestamp, fold::Message};
use tokio::{sync::oneshot, time::Instant};

use super::{StoreError, shape::is_structural};

/// What became of a state that somebody waits for.
pub(super) type Answer = oneshot::Sender<Result<(), StoreError>>;
/// How it is told.
pub(super) type Waiting = oneshot::Receiver<Result<(), StoreError>>;

/// What is known of one message.
pub(super) struct Entry {
    pub(super) session: SessionId,
    /// What is to be written next, or was last.
    pub(super) latest: Arc<Message>,
    /// Counts the states.
    pub(super) revision: u64,
    /// The last state that is stored.
    pub(super) written: u64,
    /// The state that is being written.
    pub(super) writing: Option<u64>,
    pub(super) due: Option<Instant>,
    /// Something since the last write must be delivered.
    pub(super) is_structural: bool,
    pub(super) failures: u32,
    /// Of the last record.
    pub(super) bytes: usize,
    pub(super) waiters: Vec<(u64, Answer)>,
}

/// A state to write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) id: MessageId,
    pub(super) session: SessionId,
    pub(super) message: Arc<Message>,
    pub(super) revision: u64,
    pub(super) must_deliver: bool,
}

/// How a write ended.
pub(super) enum Outcome {
    /// It is stored, in a record of so many bytes.
    Written(usize),
    /// It may be tried again.
    Failed(StoreError),
    /// This state can never be written.
    Refused(StoreError),
    /// The session is gone.
    Gone,
}

impl Entry {
    pub(super) fn new(session: SessionId, message: Message) -> Self {
        Self {
            session,
            latest: Arc::new(message),
            revision: 0,
            written: 0,
            writing: None,
            due: None,
            is_structural: false,
            failures: 0,
            bytes: 0,
            waiters: Vec::new(),
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.revision == self.written && self.writing.is_none()
    }

    /// What it is from here on. What a message is by its making stays, and so does its end.
    pub(super) fn change(&mut self, message: Message, at: Timestamp) {
        let before = &self.latest;
        let ended = before.status.is_terminal();
        let after = Message {
            session_id: before.session_id.clone(),
            run_id: before.run_id.clone(),
            role: before.role,
            superseded_by: before.superseded_by.clone(),
            status: if ended { before.status } else { message.status },
            version: before.version,
            created_at: before.created_at,
            updated_at: at.max(before.updated_at),
            ..message
        };
        self.is_structural |= is_structural(before, &after);
        self.latest = Arc::new(after);
        self.revision += 1;
    }

    /// Tells those who wait for states up to this one.
    pub(super) fn told(&mut self, revision: u64) -> Vec<Answer> {
        let told = |(waits_for, _): &mut (u64, Answer)| *waits_for <= revision;
        self.waiters.extract_if(.., told).map(|(_, answer)| answer).collect()
    }

    pub(super) fn wait(&mut self, revision: u64) -> Waiting {
        let (answer, waiting) = oneshot::channel();
        self.waiters.push((revision, answer));
        waiting
    }
}
