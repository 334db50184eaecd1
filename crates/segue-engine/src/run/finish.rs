//! The batch that ends a run: last events, terminal, session record, whole or not at all.

use std::{sync::atomic::Ordering, time::Duration};

use segue_core::{
    Event, Outcome,
    lifecycle::{Ending, Lifecycle},
};
use segue_journal::{Committed, Epoch, Op, Part, ProducerClaim, StreamKey};

use super::{FIRST_EPOCH, Phase, Run, RunFacts, RunLog, log::bytes_needed};
use crate::append::AppendError;

/// The bytes of a terminal and of a session's record, beside outcome and usage: ids and names.
const END_BYTES: usize = 2048;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Closes what is open in `log` and makes the parts that end its run. The epoch is raised with
/// them, so that no writer of the run before can add anything.
pub(crate) fn terminal_parts(
    log: &mut RunLog,
    facts: &RunFacts,
    last: &[Event],
    outcome: &Outcome,
    claim: Option<ProducerClaim>,
) -> Vec<Part> {
    let expect = log.next();
    let mut events = Vec::with_capacity(last.len() + 4);
    for event in last {
        log.admission_mut().admit(event.clone(), &mut events);
    }
    let outcome = with_usage(outcome, log);
    log.admission_mut().end(&outcome, &facts.message, &mut events);
    let records = log.take(&events);
    let op =
        Op::Append { records, create: false, close: true, expect: Some(expect), producer: claim };
    let stream = StreamKey::run(&facts.tenant, &facts.run);
    let ending = Ending::from(&outcome);
    // Whatever the end, the run shows what it cost.
    let ending = Ending { usage: ending.usage.or_else(|| log.usage()), ..ending };
    let bytes = log.bytes();
    let ended = Lifecycle::RunEnded { run_id: facts.run.clone(), ending, bytes };
    let session = StreamKey::session(&facts.tenant, &facts.session);
    vec![
        Part { stream, op, epoch: Epoch(FIRST_EPOCH + 1) },
        Part::append(session, Epoch(0), vec![ended.encode()]),
    ]
}

/// A finish without usage shows the last that the run reported.
fn with_usage(outcome: &Outcome, log: &RunLog) -> Outcome {
    match outcome {
        Outcome::Finished { finish_reason, usage: None } => {
            Outcome::Finished { finish_reason: finish_reason.clone(), usage: log.usage() }
        }
        other => other.clone(),
    }
}

/// A bound on the bytes of what [`terminal_parts`] makes of this log, beside the last events.
pub(crate) fn end_bytes(log: &RunLog, facts: &RunFacts, outcome: &Outcome) -> usize {
    let outcome = outcome.to_json(&facts.message).to_string().len();
    let usage = log.usage().map_or(0, |usage| usage.to_string().len());
    // The outcome and the usage stand in the terminal and in the session's record.
    log.admission().end_bytes() + 2 * (outcome + usage) + END_BYTES
}

impl Run {
    /// Ends the run durably. Tries until the journal takes it: a run without a terminal would be
    /// in limbo. No end would ever be taken with the record of a session whose stream cannot be
    /// read, so it is left out then.
    ///
    /// An error means that the run has ended, that the journal is gone for good, or that the run's
    /// own stream cannot be read: then recovery will end it.
    pub(crate) async fn end(&self, outcome: &Outcome) -> Result<Committed, AppendError> {
        let mut retry = FIRST_RETRY;
        loop {
            let error = match self.try_end(&[], outcome, None).await {
                Ok(committed) => return Ok(committed),
                Err(error @ (AppendError::Unavailable | AppendError::RunEnded)) => {
                    return Err(error);
                }
                Err(error @ AppendError::Unreadable)
                    if retry == LAST_RETRY && self.session_lost.load(Ordering::Relaxed) =>
                {
                    return Err(error);
                }
                Err(error) => error,
            };
            if error == AppendError::Unreadable && !self.session_lost.swap(true, Ordering::Relaxed)
            {
                metrics::counter!("segue_run_ends_without_session_total").increment(1);
            }
            metrics::counter!("segue_run_end_retries_total").increment(1);
            tracing::warn!(run = %self.facts.run, %error, "the run's end was refused, trying again");
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Ends the run with a producer's last words. A refusal leaves the run as it is.
    pub(super) async fn end_with(
        &self,
        last: &[Event],
        outcome: &Outcome,
        claim: Option<&ProducerClaim>,
    ) -> Result<Committed, AppendError> {
        match self.try_end(last, outcome, claim).await {
            // The copy was stale, and is read again now.
            Err(AppendError::Retry) => self.try_end(last, outcome, claim).await,
            other => other,
        }
    }

    async fn try_end(
        &self,
        last: &[Event],
        outcome: &Outcome,
        claim: Option<&ProducerClaim>,
    ) -> Result<Committed, AppendError> {
        // Appends may come in between: then the permit is too small, and the next try has it right.
        let bytes = bytes_needed(last) + end_bytes(&self.log(), &self.facts, outcome);
        let permit = self.journal.reserve(&self.stream, bytes).await?;
        let ticket = self.submit_end(permit, last, outcome, claim)?;
        ticket.await.map_err(|refusal| {
            self.log().mark_stale();
            refusal.into()
        })
    }

    /// Ends the run and tells everybody who watches it.
    pub(crate) async fn end_as_is(&self, outcome: Outcome) {
        match self.end(&outcome).await {
            Ok(_) => self.enter(Phase::Ended(outcome)),
            Err(AppendError::RunEnded) => {}
            Err(error) => {
                tracing::error!(run = %self.facts.run, %error, "the run's end could not be written");
            }
        }
    }
}
