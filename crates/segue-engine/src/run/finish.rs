//! The batch that ends a run: last events, terminal, session record, whole or not at all.

use std::time::Duration;

use segue_core::{Event, EventRecord, Outcome, lifecycle::Lifecycle};
use segue_journal::{
    AppendError as JournalError, Committed, Epoch, Op, Part, ProducerClaim, StreamKey,
};

use super::{FIRST_EPOCH, Phase, Run, RunFacts, RunLog, log::bytes_needed};
use crate::append::AppendError;

/// Room for the ends that a terminal inserts, beyond what is known when it is reserved.
const TERMINAL_BYTES: usize = 64 << 10;
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
    let ended = Lifecycle::RunEnded { run_id: facts.run.clone(), ending: (&outcome).into() };
    let session = StreamKey::session(&facts.tenant, &facts.session);
    vec![
        Part { stream, op, epoch: Epoch(FIRST_EPOCH + 1) },
        Part::append(session, Epoch(0), vec![EventRecord::encode(&ended.to_event())]),
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

impl Run {
    /// Ends the run durably. Tries until the journal takes it: a run without a terminal would be
    /// in limbo. An error means that the producer's last words were refused, or that the journal
    /// is gone for good, and recovery will end the run.
    pub(super) async fn end(
        &self,
        last: &[Event],
        outcome: &Outcome,
        claim: Option<&ProducerClaim>,
    ) -> Result<Committed, AppendError> {
        let mut retry = FIRST_RETRY;
        loop {
            let bytes = bytes_needed(last) + TERMINAL_BYTES;
            let permit = self.journal.reserve(&self.stream, bytes).await?;
            let refusal = match self.submit_end(permit, last, outcome, claim) {
                Ok(ticket) => match ticket.await {
                    Ok(committed) => return Ok(committed),
                    Err(refusal) => refusal,
                },
                Err(error) => return Err(error),
            };
            self.log().mark_stale();
            if matches!(refusal, JournalError::Poisoned(_)) {
                return Err(refusal.into());
            }
            metrics::counter!("segue_run_end_retries_total").increment(1);
            tracing::warn!(run = %self.facts.run, error = %refusal, "the run's end was refused, trying again");
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Ends the run and tells everybody who watches it.
    pub(crate) async fn end_as_is(&self, outcome: Outcome) {
        if let Err(error) = self.end(&[], &outcome, None).await {
            tracing::error!(run = %self.facts.run, %error, "the run's end could not be written");
        }
        self.enter(Phase::Ended(outcome));
    }
}
