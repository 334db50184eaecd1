//! A stop that was accepted of a run which a restart would go on with: it is durable before it is
//! answered, so that the next start of the engine ends the run.

use segue_core::{Event, OnRestart, Outcome};
use segue_journal::{Batch, Epoch, Op, Part};
use serde_json::{Value, json};

use super::{FIRST_EPOCH, Run, RunLog, StopCommand, log::bytes_needed};
use crate::append::AppendError;

impl Run {
    /// Writes an accepted stop, if a restart would forget it. False if the journal refuses: the
    /// run is stopped all the same, but a crash before its end forgets it.
    pub(super) async fn keep_stop(&self, stop: &StopCommand) -> bool {
        let how = self.facts.restart.as_ref().map(|restart| restart.how);
        if how != Some(OnRestart::Await) {
            return true;
        }
        let event = stopping_event(stop);
        let mut kept = self.write_stop(&event).await;
        if kept == Err(AppendError::Retry) {
            // The copy was stale, and is read again now.
            kept = self.write_stop(&event).await;
        }
        kept.map_err(|error| {
            metrics::counter!("segue_stops_not_kept_total").increment(1);
            tracing::warn!(run = %self.facts.run, %error, "an accepted stop could not be stored");
        })
        .is_ok()
    }

    async fn write_stop(&self, event: &Event) -> Result<(), AppendError> {
        let needed = bytes_needed(std::slice::from_ref(event));
        let permit = self.journal.reserve(&self.stream, needed).await?;
        let ticket = {
            let mut log = self.log();
            log.refresh(self, RunLog::load)?;
            let expect = Some(log.next());
            let records = log.take(std::slice::from_ref(event));
            let op = Op::Append { records, create: false, close: false, expect, producer: None };
            let part = Part { stream: self.stream.clone(), op, epoch: Epoch(FIRST_EPOCH) };
            self.journal.submit(permit, Batch { parts: vec![part] })
        };
        ticket.await.map(drop).map_err(|refusal| {
            self.log().mark_stale();
            refusal.into()
        })
    }
}

fn stopping_event(stop: &StopCommand) -> Event {
    let mut fields = json!({"type": "run.stopping", "reason": stop.reason});
    if let Some(by) = &stop.by {
        fields["by"] = json!(by);
    }
    Event::build(&fields)
}

/// How a run ends of which a stop was accepted, by what was written of that.
pub(super) fn outcome_of_stopping(json: &[u8]) -> Option<Outcome> {
    let mut fields: Value = serde_json::from_slice(json).ok()?;
    *fields.get_mut("type")? = json!("run.stopped");
    Outcome::from_json(&fields)
}
