//! A run's appends: duplicate check, admission and submit under one short lock.
//!
//! [`RunLog`] is a copy of what the journal holds, one step ahead: it is changed when a batch is
//! submitted, and each batch says at which seq it expects to be written. When a batch fails, the
//! next one's expectation does not hold, the journal refuses it, and the copy is read again. So a
//! lost answer can never leave the copy wrong unnoticed.

use std::collections::HashMap;

use bytes::Bytes;
use segue_core::{Admission, Event, EventKind, EventRecord, Outcome, ProducerId, Seq};
use segue_journal::{
    Batch, Epoch, Journal, Op, Part, Permit, ProducerClaim, ReadError, ReadLimit, StreamKey, Ticket,
};
use serde_json::Value;

use super::{FIRST_EPOCH, Run, terminal_parts};
use crate::append::AppendError;

/// The engine's copy of a run's write state.
pub(crate) struct RunLog {
    admission: Admission,
    next: Seq,
    producers: HashMap<ProducerId, Accepted>,
    bytes: u64,
    events: u64,
    usage: Option<Value>,
    stale: bool,
    /// A producer's last words are on their way to the owner: nothing may be stored before them.
    ending: bool,
    ended: bool,
}

/// The newest numbers taken from a producer.
struct Accepted {
    epoch: u64,
    last_seq: u64,
}

/// What a producer's numbers say of an append.
enum Claim {
    New,
    Duplicate,
}

/// Room for what admission may insert beside an event: up to two starts that name its subject,
/// and the record's head.
const INSERTED_BYTES: usize = 256;

/// A bound on the bytes that these events may take in the journal.
pub(crate) fn bytes_needed(events: &[Event]) -> usize {
    let of_event = |event: &Event| {
        let subject = event.subject().map_or(0, str::len);
        event.json().len() + event.name().len() + INSERTED_BYTES + 12 * subject
    };
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
            stale: false,
            ending: false,
            ended: false,
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
        self.bytes += bytes.len() as u64;
        if let Ok(record) = EventRecord::decode(bytes) {
            self.admission.replay(&record);
            if record.kind() == EventKind::Usage {
                self.usage = serde_json::from_slice(record.json()).ok();
            }
        }
    }

    /// The copy may be wrong; it is read again before it is used.
    pub(crate) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Last words are on their way to the owner, or were refused.
    pub(crate) fn set_ending(&mut self, ending: bool) {
        self.ending = ending;
    }

    /// The newest usage event's fields, without its type.
    pub(crate) fn usage(&self) -> Option<Value> {
        let mut usage = self.usage.clone()?;
        usage.as_object_mut()?.remove("type");
        Some(usage)
    }

    pub(crate) fn admission_mut(&mut self) -> &mut Admission {
        &mut self.admission
    }

    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    fn count(&mut self, event: &Event) {
        self.events += 1;
        self.bytes += event.json().len() as u64;
        if event.kind() == EventKind::Usage {
            self.usage = serde_json::from_slice(event.json()).ok();
        }
    }

    fn refresh(&mut self, run: &Run) -> Result<(), AppendError> {
        if self.stale {
            metrics::counter!("segue_run_log_reloads_total").increment(1);
            let ending = self.ending;
            *self = Self { ending, ..Self::load(&*run.journal, &run.stream)? };
        }
        Ok(())
    }

    fn check_claim(&self, claim: &ProducerClaim) -> Result<Claim, AppendError> {
        let gap = |expected| AppendError::ProducerGap { expected, received: claim.first_seq };
        let Some(known) = self.producers.get(&claim.id) else {
            return if claim.first_seq == 0 { Ok(Claim::New) } else { Err(gap(0)) };
        };
        if claim.epoch < known.epoch {
            return Err(AppendError::StaleProducer { current: known.epoch });
        }
        if claim.epoch > known.epoch {
            return if claim.first_seq == 0 { Ok(Claim::New) } else { Err(gap(0)) };
        }
        if claim.last_seq <= known.last_seq {
            return Ok(Claim::Duplicate);
        }
        let follows = claim.first_seq == known.last_seq + 1;
        if follows { Ok(Claim::New) } else { Err(gap(known.last_seq + 1)) }
    }

    fn check_limits(&self, run: &Run, events: &[Event]) -> Result<(), AppendError> {
        let bytes: u64 = events.iter().map(|event| event.json().len() as u64).sum();
        let total = (self.bytes + bytes, self.events + events.len() as u64);
        if !run.facts.limits.exceeded(total.0, total.1) {
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

impl Run {
    /// Submits events, whole or not at all. The order of calls is the order of seqs.
    pub(crate) fn submit(
        &self,
        permit: Permit,
        events: Vec<Event>,
        claim: Option<ProducerClaim>,
    ) -> Result<Ticket, AppendError> {
        let mut log = self.log();
        log.refresh(self)?;
        if let Some(claim) = &claim
            && matches!(log.check_claim(claim)?, Claim::Duplicate)
        {
            return Ok(self.ask_for_original(permit, claim.clone()));
        }
        if log.ended {
            return Err(AppendError::RunEnded);
        }
        if log.ending && self.takes_appends {
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
        log.refresh(self)?;
        log.check_claim(claim).map(|claim| matches!(claim, Claim::Duplicate))
    }

    /// An append without records: the journal answers with the original's range, in queue order,
    /// so that the original is settled by then.
    fn ask_for_original(&self, permit: Permit, claim: ProducerClaim) -> Ticket {
        self.journal.submit(permit, ask_for_original(&self.stream, Epoch(FIRST_EPOCH), claim))
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
        log.refresh(self)?;
        if let Some(claim) = claim
            && matches!(log.check_claim(claim)?, Claim::Duplicate)
        {
            let (expected, received) = (claim.last_seq + 1, claim.first_seq);
            return Err(AppendError::ProducerGap { expected, received });
        }
        if log.ended {
            return Err(AppendError::RunEnded);
        }
        let parts = terminal_parts(&mut log, &self.facts, last, outcome, claim.cloned());
        log.ended = true;
        Ok(self.journal.submit(permit, Batch { parts }))
    }
}

/// A batch that asks what became of a producer's numbers, and is refused if nothing did.
pub(crate) fn ask_for_original(stream: &StreamKey, epoch: Epoch, claim: ProducerClaim) -> Batch {
    let op = Op::Append {
        records: Vec::new(),
        create: false,
        close: false,
        expect: Some(Seq::ZERO),
        producer: Some(claim),
    };
    Batch { parts: vec![Part { stream: stream.clone(), op, epoch }] }
}
