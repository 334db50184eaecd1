//! Appends of producers outside.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use segue_core::{Event, RunId, Seq, TenantId};
use segue_journal::{
    AppendError as JournalError, Committed, ProducerClaim, ReadError, ReserveError, StreamKey,
    StreamKind, Ticket,
};
use tokio::sync::oneshot;

use crate::{
    engine::Engine,
    run::{
        Run,
        log::{after_the_end, bytes_needed},
        owner::outcome_of,
    },
};

/// Where appended events stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first position, inserted starts included.
    pub first_seq: Seq,
    /// The last position.
    pub last_seq: Seq,
    /// The producer's numbers were taken before; the positions are those of then.
    pub duplicate: bool,
    /// The run is to come to its end.
    pub stop_requested: bool,
}

impl From<&Committed> for Appended {
    fn from(committed: &Committed) -> Self {
        let part = committed.parts.first();
        Self {
            first_seq: part.map_or(Seq::ZERO, |part| part.first_seq),
            last_seq: part.map_or(Seq::ZERO, |part| part.last_seq),
            duplicate: committed.duplicate,
            stop_requested: false,
        }
    }
}

/// Why an append was refused. Nothing of it was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The tenant has no such run.
    #[error("there is no such run")]
    NotFound,
    /// The run has ended.
    #[error("the run has ended")]
    RunEnded,
    /// The run's id was used before.
    #[error("the run id was used before")]
    RunExists,
    /// The run waits for its turn; what is appended then may be sent again.
    #[error("the run waits for the runs before it, send it again when it has started")]
    NotStarted,
    /// The run's events come from its own source.
    #[error("the run does not take events from outside, its agent produces them")]
    NotPush,
    /// An event is larger than an event may be.
    #[error("the event has {bytes} bytes, at most {max} are allowed")]
    EventTooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        max: usize,
    },
    /// A terminal event is not the last of its append.
    #[error("a terminal event must be the last of its append")]
    AfterTerminal,
    /// A terminal event that only the server writes, or whose fields cannot be read.
    #[error("a producer ends a run with run.finished or run.failed")]
    BadTerminal,
    /// The run would go over its byte or event limit. It is being stopped.
    #[error("the run is over its limit of bytes or events")]
    RunLimit,
    /// The producer's epoch is lower than one already seen.
    #[error("the producer epoch is stale, the newest is {current}")]
    StaleProducer {
        /// The newest.
        current: u64,
    },
    /// The producer's numbers do not follow on.
    #[error("expected producer seq {expected}, received {received}")]
    ProducerGap {
        /// The number that would follow on.
        expected: u64,
        /// The number that came.
        received: u64,
    },
    /// The batch is larger than the journal can take.
    #[error("the append has {bytes} bytes, at most {max} fit")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that fits.
        max: usize,
    },
    /// The disk is full; only ends of runs are still taken.
    #[error("the disk is full")]
    DiskFull,
    /// An append before this one failed or is about to end the run, so this one was not stored;
    /// it may be sent again.
    #[error("an append before this one failed or ends the run, send it again")]
    Retry,
    /// The journal is gone for good.
    #[error("the journal takes nothing more")]
    Unavailable,
    /// The run's stream could not be read.
    #[error("the run cannot be read")]
    Unreadable,
}

impl From<JournalError> for AppendError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::NotFound(_) => Self::NotFound,
            // The epoch is raised by the batch that ends a run and by nothing else.
            JournalError::Closed { .. } | JournalError::StaleEpoch { .. } => Self::RunEnded,
            JournalError::StaleProducer { current } => Self::StaleProducer { current },
            JournalError::ProducerGap { expected, received } => {
                Self::ProducerGap { expected, received }
            }
            JournalError::Exists(key) if key.kind() == StreamKind::Run => Self::RunExists,
            JournalError::Unexpected { .. } | JournalError::Exists(_) => Self::Retry,
            JournalError::TooLarge { bytes, max } => Self::TooLarge { bytes, max },
            JournalError::DiskFull => Self::DiskFull,
            JournalError::Unreadable(_) => Self::Unreadable,
            JournalError::Poisoned(_) => Self::Unavailable,
        }
    }
}

impl From<ReserveError> for AppendError {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::TooLarge { bytes, max } => Self::TooLarge { bytes, max },
            ReserveError::Poisoned(_) => Self::Unavailable,
        }
    }
}

impl From<ReadError> for AppendError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound(_) => Self::NotFound,
            ReadError::Trimmed { .. } | ReadError::Corrupt { .. } | ReadError::Io(_) => {
                Self::Unreadable
            }
        }
    }
}

/// A submitted append. Dropping it drops only the answer.
pub struct Pending(State);

enum State {
    Ticket(Ticket, Arc<Run>),
    Owner(oneshot::Receiver<Result<Appended, AppendError>>),
    Known(Appended),
}

impl Future for Pending {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Known(appended) => Poll::Ready(Ok(*appended)),
            State::Owner(answer) => {
                let answer = ready!(Pin::new(answer).poll(cx));
                // The owner broke down; the run is being ended without the words.
                Poll::Ready(answer.unwrap_or(Err(AppendError::RunEnded)))
            }
            State::Ticket(ticket, run) => {
                let result = ready!(Pin::new(ticket).poll(cx));
                Poll::Ready(settle(result, run))
            }
        }
    }
}

fn settle(result: Result<Committed, JournalError>, run: &Run) -> Result<Appended, AppendError> {
    match result {
        Ok(committed) => {
            let stop_requested = run.stop_requested();
            Ok(Appended { stop_requested, ..Appended::from(&committed) })
        }
        Err(error) => {
            run.log().mark_stale();
            Err(error.into())
        }
    }
}

impl Engine {
    /// Appends a producer's events to a push run, whole or not at all.
    ///
    /// Returns once the events are submitted, in the order of calls; the [`Pending`] tells when
    /// they are durable. A terminal as the last event ends the run in the same batch.
    pub async fn append(
        &self,
        tenant: &TenantId,
        run: &RunId,
        mut events: Vec<Event>,
        claim: Option<ProducerClaim>,
    ) -> Result<Pending, AppendError> {
        let stream = StreamKey::run(tenant, run);
        let supervisor = &self.inner.supervisor;
        let found = match supervisor.find(&stream) {
            // Perhaps durable by now, but without an owner.
            None if supervisor.is_coming(&stream) => return Err(AppendError::Retry),
            // It may have come between the two questions.
            found => found.or_else(|| supervisor.find(&stream)),
        };
        let Some(run) = found else {
            return self.append_to_ended(&stream, claim).await;
        };
        if !run.takes_appends {
            return Err(AppendError::NotPush);
        }
        if run.has_not_begun() {
            return Err(AppendError::NotStarted);
        }
        run.activity.renew_lease();
        check_events(&events, run.event_bytes)?;
        let is_known = claim.as_ref().map_or(Ok(false), |claim| run.is_duplicate(claim))?;
        if let Some(terminal) = events.pop_if(|event| event.kind().is_terminal())
            && !is_known
        {
            let outcome = outcome_of(&terminal).ok_or(AppendError::BadTerminal)?;
            return match run.give_last_words(events, outcome, claim.clone()).await {
                Some(answer) => Ok(Pending(State::Owner(answer))),
                None => self.append_to_ended(&stream, claim).await,
            };
        }
        if !is_known {
            run.words_are_over().await;
        }
        let permit = run.journal.reserve(&stream, bytes_needed(&events)).await?;
        match run.submit(permit, events, claim.clone()) {
            Ok(ticket) => Ok(Pending(State::Ticket(ticket, run))),
            Err(AppendError::RunEnded) => self.append_to_ended(&stream, claim).await,
            Err(refusal) => Err(refusal),
        }
    }

    /// A retry of what was taken before gets its original answer, also now.
    async fn append_to_ended(
        &self,
        stream: &StreamKey,
        claim: Option<ProducerClaim>,
    ) -> Result<Pending, AppendError> {
        if self.inner.supervisor.is_gone(stream) {
            return Err(AppendError::NotFound);
        }
        let is_open = !self.inner.journal.info(stream)?.tail.closed;
        if is_open && !self.is_ready() {
            // The next start of the server goes on with it or ends it.
            return Err(AppendError::Unavailable);
        }
        let answer = after_the_end(&*self.inner.journal, stream, claim).await?;
        Ok(Pending(State::Known(answer)))
    }

    /// A sign of life of a push run's producer. Nothing happens to a run that has ended.
    pub fn renew_lease(&self, tenant: &TenantId, run: &RunId) {
        if let Some(run) = self.inner.supervisor.find(&StreamKey::run(tenant, run)) {
            run.activity.renew_lease();
        }
    }
}

fn check_events(events: &[Event], max: usize) -> Result<(), AppendError> {
    let before_last = &events[..events.len().saturating_sub(1)];
    if before_last.iter().any(|event| event.kind().is_terminal()) {
        return Err(AppendError::AfterTerminal);
    }
    match events.iter().map(|event| event.json().len()).find(|bytes| *bytes > max) {
        Some(bytes) => Err(AppendError::EventTooLarge { bytes, max }),
        None => Ok(()),
    }
}
