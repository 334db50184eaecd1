//! A run's appends: duplicate check, admission and submit under one short lock.
//!
//! [`RunLog`] is a copy of what the journal holds, one step ahead: it is changed when a batch is
//! submitted, and each batch says at which seq it expects to be written. When a batch fails, the
//! next one's expectation does not hold, the journal refuses it, and the copy is read again. So a
//! lost answer can never leave the copy wrong unnoticed.

use std::{cmp::Ordering, collections::HashMap, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use segue_core::{Admission, Event, EventKind, EventRecord, Limits, Outcome, ProducerId, Seq};
use segue_journal::{
    Batch, Epoch, Journal, Op, Part, Permit, ProducerClaim, ReadError, ReadLimit, StreamKey, Ticket,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Command, FIRST_EPOCH, Run, accepted::outcome_of_stopping, terminal_parts};
use crate::append::{AppendError, Appended};

/// The engine's copy of a run's write state.
pub(crate) struct RunLog {
    admission: Admission,
    next: Seq,
    producers: HashMap<ProducerId, Accepted>,
    bytes: u64,
    events: u64,
    usage: Option<Value>,
    /// How the run is to end, if a stop of it was accepted by a process before this one.
    stopped: Option<Outcome>,
    stale: bool,
    /// Last words that are on their way to the owner: nothing may be stored before them.
    ending: usize,
    ended: bool,
}

/// The newest numbers taken from a producer.
struct Accepted {
    epoch: u64,
    last_seq: u64,
}

/// A way to read a run's write state from its stream.
type Load = fn(&dyn Journal, &StreamKey) -> Result<RunLog, ReadError>;

/// What a producer's numbers say of an append.
enum Claim {
    New,
    Duplicate,
}

/// A bound on the bytes that these events may take in the journal, with what admission inserts
/// before them. A character of a subject takes at most six bytes when it is escaped.
pub(crate) fn bytes_needed(events: &[Event]) -> usize {
    use EventKind as K;
    let inserted = |event: &Event| {
        let subject = 6 * event.subject().map_or(0, str::len);
        match event.kind() {
            K::TextDelta | K::ReasoningDelta | K::StepFinished => 96 + subject,
            K::ToolCallInputDelta | K::ToolCallInputEnd | K::ToolResult => 2 * (192 + subject),
            _ => 0,
        }
    };
    let of_event = |event: &Event| 2 + event.name().len() + event.json().len() + inserted(event);
    events.iter().map(of_event).sum()
}

impl RunLog {
    /// The log of a run whose stream begins with `events`, which were just written.
    pub(crate) fn new(events: &[Event]) -> Self {
        let mut log = Self::empty();
        for event in events {
            log.admission.admit(event.clone(), &mut Vec::new());
            log.count(event);
            log.next = log.next.next();
        }
        log
    }

    fn empty() -> Self {
        Self {
            admission: Admission::default(),
            next: Seq::FIRST,
            producers: HashMap::new(),
            bytes: 0,
            events: 0,
            usage: None,
            stopped: None,
            stale: false,
            ending: 0,
            ended: false,
        }
    }

    /// Reads the state of a run from its stream to end it. Of a damaged one only the tail is
    /// known, so that its open parts stay open, but it ends.
    pub(crate) fn load_to_end(
        journal: &dyn Journal,
        stream: &StreamKey,
    ) -> Result<Self, ReadError> {
        match Self::load(journal, stream) {
            Err(error @ (ReadError::Corrupt { .. } | ReadError::Trimmed { .. })) => {
                metrics::counter!("segue_damaged_runs_ended_total").increment(1);
                tracing::error!(%stream, %error, "a damaged run is ended at its tail");
                let tail = journal.info(stream)?.tail;
                Ok(Self { next: tail.next, ended: tail.closed, ..Self::empty() })
            }
            other => other,
        }
    }

    /// Reads the state of a run from its stream.
    pub(crate) fn load(journal: &dyn Journal, stream: &StreamKey) -> Result<Self, ReadError> {
        let mut log = Self::empty();
        loop {
            let page = journal.read(stream, log.next, ReadLimit::default())?;
            if page.records.is_empty() {
                log.ended = page.info.tail.closed;
                break;
            }
            for record in page.records {
                log.next = record.seq.next();
                log.replay(record.bytes);
            }
        }
        for (id, state) in journal.producers(stream)? {
            log.producers.insert(id, Accepted { epoch: state.epoch, last_seq: state.last_seq });
        }
        Ok(log)
    }

    fn replay(&mut self, bytes: Bytes) {
        self.events += 1;
        if let Ok(record) = EventRecord::decode(bytes) {
            self.bytes += record.json().len() as u64;
            self.admission.replay(&record);
            self.note_usage(record.kind(), record.json());
            if record.kind() == EventKind::RunStopping {
                self.stopped = outcome_of_stopping(record.json());
            }
        }
    }

    /// How the run is to end, if a stop of it was accepted before it was read.
    pub(crate) fn stopped(&self) -> Option<&Outcome> {
        self.stopped.as_ref()
    }

    /// The copy may be wrong; it is read again before it is used.
    pub(crate) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Last words are on their way to the owner.
    pub(crate) fn ending_begins(&mut self) {
        self.ending += 1;
    }

    /// Whether last words are on their way to the owner.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending > 0
    }

    /// Last words were taken or refused, or never came to the owner.
    pub(crate) fn ending_is_over(&mut self) {
        self.ending -= 1;
    }

    /// How many of these events, from the first on, stay below the run's limits.
    fn fitting(&self, limits: &Limits, events: &[Event]) -> usize {
        let (mut bytes, mut count) = (self.bytes, self.events);
        let fits = |event: &&Event| {
            bytes += event.json().len() as u64;
            count += 1;
            !limits.exceeded(bytes, count)
        };
        events.iter().take_while(fits).count()
    }

    /// The newest usage event's fields, without its type.
    pub(crate) fn usage(&self) -> Option<Value> {
        let mut usage = self.usage.clone()?;
        usage.as_object_mut()?.remove("type");
        Some(usage)
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn admission_mut(&mut self) -> &mut Admission {
        &mut self.admission
    }

    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// The bytes of its events' JSON.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, event: &Event) {
        self.events += 1;
        self.bytes += event.json().len() as u64;
        self.note_usage(event.kind(), event.json());
    }

    fn note_usage(&mut self, kind: EventKind, json: &[u8]) {
        if kind == EventKind::Usage
            && let Ok(usage) = serde_json::from_slice(json)
        {
            self.usage = Some(usage);
        }
    }

    /// Reads a stale copy again with `load`.
    pub(super) fn refresh(&mut self, run: &Run, load: Load) -> Result<(), AppendError> {
        if self.stale {
            metrics::counter!("segue_run_log_reloads_total").increment(1);
            let ending = self.ending;
            *self = Self { ending, ..load(&*run.journal, &run.stream)? };
        }
        Ok(())
    }

    fn check_claim(&self, claim: &ProducerClaim) -> Result<Claim, AppendError> {
        check_claim(self.producers.get(&claim.id), claim)
    }

    fn check_limits(&self, run: &Run, events: &[Event]) -> Result<(), AppendError> {
        if self.fitting(&run.facts.limits, events) == events.len() {
            return Ok(());
        }
        run.stop_for_limit();
        Err(AppendError::RunLimit)
    }

    fn adopt_claim(&mut self, claim: &ProducerClaim) {
        let accepted = Accepted { epoch: claim.epoch, last_seq: claim.last_seq };
        self.producers.insert(claim.id.clone(), accepted);
    }

    /// Notes the admitted events and turns them to records.
    pub(crate) fn take(&mut self, admitted: &[Event]) -> Vec<Bytes> {
        self.next = Seq(self.next.0 + admitted.len() as u64);
        for event in admitted {
            self.count(event);
        }
        admitted.iter().map(EventRecord::encode).collect()
    }
}

fn check_claim(known: Option<&Accepted>, claim: &ProducerClaim) -> Result<Claim, AppendError> {
    let gap = |expected| AppendError::ProducerGap { expected, received: claim.first_seq };
    let first = || if claim.first_seq == 0 { Ok(Claim::New) } else { Err(gap(0)) };
    let Some(known) = known else { return first() };
    match claim.epoch.cmp(&known.epoch) {
        Ordering::Less => Err(AppendError::StaleProducer { current: known.epoch }),
        Ordering::Greater => first(),
        Ordering::Equal if claim.last_seq <= known.last_seq => Ok(Claim::Duplicate),
        Ordering::Equal if claim.first_seq == known.last_seq + 1 => Ok(Claim::New),
        Ordering::Equal => Err(gap(known.last_seq + 1)),
    }
}

/// What becomes of a claim on a run that has ended: an original may be asked for if all of its
/// numbers are known; if only the first ones are, the gap says which.
fn check_claim_of_ended(
    journal: &dyn Journal,
    stream: &StreamKey,
    claim: &ProducerClaim,
) -> Result<(), AppendError> {
    let producers = journal.producers(stream)?;
    let known = producers.into_iter().find(|(id, _)| *id == claim.id);
    let known = known.map(|(_, s)| Accepted { epoch: s.epoch, last_seq: s.last_seq });
    match check_claim(known.as_ref(), claim) {
        Ok(Claim::Duplicate) => Ok(()),
        Err(gap @ AppendError::ProducerGap { expected, .. }) if claim.first_seq < expected => {
            Err(gap)
        }
        Err(stale @ AppendError::StaleProducer { .. }) => Err(stale),
        Ok(Claim::New) | Err(_) => Err(AppendError::RunEnded),
    }
}

impl Run {
    /// How many of these events, from the first on, stay below the run's limits.
    pub(crate) fn fitting(&self, events: &[Event]) -> usize {
        self.log().fitting(&self.facts.limits, events)
    }

    /// Submits events, whole or not at all. The order of calls is the order of seqs.
    pub(crate) fn submit(
        &self,
        permit: Permit,
        events: Vec<Event>,
        claim: Option<ProducerClaim>,
    ) -> Result<Ticket, AppendError> {
        let mut log = self.log();
        log.refresh(self, RunLog::load)?;
        if self.has_not_begun() {
            return Err(AppendError::NotStarted);
        }
        if let Some(claim) = &claim
            && matches!(log.check_claim(claim)?, Claim::Duplicate)
        {
            return Ok(self.ask_for_original(permit, claim.clone()));
        }
        if log.ended {
            return Err(AppendError::RunEnded);
        }
        if log.ending > 0 {
            return Err(AppendError::Retry);
        }
        log.check_limits(self, &events)?;
        let expect = log.next;
        let mut admitted = Vec::with_capacity(events.len());
        for event in events {
            log.admission.admit(event, &mut admitted);
        }
        let records = log.take(&admitted);
        if let Some(claim) = &claim {
            log.adopt_claim(claim);
        }
        let op = Op::Append {
            records,
            create: false,
            close: false,
            expect: Some(expect),
            producer: claim,
        };
        let part = Part { stream: self.stream.clone(), op, epoch: Epoch(FIRST_EPOCH) };
        let ticket = self.journal.submit(permit, Batch { parts: vec![part] });
        drop(log);
        self.activity.event();
        Ok(ticket)
    }

    /// Whether a producer's numbers were taken before.
    pub(crate) fn is_duplicate(&self, claim: &ProducerClaim) -> Result<bool, AppendError> {
        let mut log = self.log();
        log.refresh(self, RunLog::load)?;
        log.check_claim(claim).map(|claim| matches!(claim, Claim::Duplicate))
    }

    /// An append without records: the journal answers with the original's range, in queue order,
    /// so that the original is settled by then.
    fn ask_for_original(&self, permit: Permit, claim: ProducerClaim) -> Ticket {
        self.journal.submit(permit, ask_for_original(&self.stream, claim))
    }

    /// Submits the run's last events, its terminal and its session's record as one batch.
    pub(crate) fn submit_end(
        &self,
        permit: Permit,
        last: &[Event],
        outcome: &Outcome,
        claim: Option<&ProducerClaim>,
    ) -> Result<Ticket, AppendError> {
        let mut log = self.log();
        log.refresh(self, RunLog::load_to_end)?;
        if let Some(claim) = claim
            && matches!(log.check_claim(claim)?, Claim::Duplicate)
        {
            let (expected, received) = (claim.last_seq + 1, claim.first_seq);
            return Err(AppendError::ProducerGap { expected, received });
        }
        if log.ended {
            return Err(AppendError::RunEnded);
        }
        let mut parts = terminal_parts(&mut log, &self.facts, last, outcome, claim.cloned());
        if self.session_lost.load(Relaxed) {
            parts.retain(|part| part.stream == self.stream);
        }
        if let Some(claim) = claim {
            log.adopt_claim(claim);
        }
        log.ended = true;
        Ok(self.journal.submit(permit, Batch { parts }))
    }
}

impl Run {
    /// Answers what came after the run's end, or after it was left to the next start.
    pub(crate) async fn answer_rest(&self, mut inbox: mpsc::Receiver<Command>) {
        inbox.close();
        while let Ok(command) = inbox.try_recv() {
            match command {
                Command::Stop(stop) => stop.answer(false),
                Command::End(words) => {
                    let answer = match self.journal.info(&self.stream) {
                        Ok(info) if !info.tail.closed => Err(AppendError::Unavailable),
                        _ => after_the_end(&*self.journal, &self.stream, words.claim).await,
                    };
                    drop(words.answer.send(answer));
                }
            }
        }
    }
}

/// The answer to an append that came after the run's end: to a retry of what was taken before,
/// its original one.
pub(crate) async fn after_the_end(
    journal: &dyn Journal,
    stream: &StreamKey,
    claim: Option<ProducerClaim>,
) -> Result<Appended, AppendError> {
    let claim = claim.ok_or(AppendError::RunEnded)?;
    check_claim_of_ended(journal, stream, &claim)?;
    let permit = journal.reserve(stream, 0).await?;
    let committed = journal.submit(permit, ask_for_original(stream, claim)).await?;
    Ok(Appended::from(&committed))
}

/// A batch that asks what became of a producer's numbers, and is refused if nothing did: no stream
/// expects seq 0. Its epoch is never stale, for the end of the run may be on its way.
fn ask_for_original(stream: &StreamKey, claim: ProducerClaim) -> Batch {
    let op = Op::Append {
        records: Vec::new(),
        create: false,
        close: false,
        expect: Some(Seq::ZERO),
        producer: Some(claim),
    };
    Batch { parts: vec![Part { stream: stream.clone(), op, epoch: Epoch(u64::MAX) }] }
}
