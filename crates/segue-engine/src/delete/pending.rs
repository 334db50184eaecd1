//! Deletions that a process before this one began and did not end.

use segue_core::{EventRecord, RunId, SessionId, TenantId, lifecycle::Lifecycle};
use segue_journal::{Journal, ReadError, ReadLimit, StreamKey};

use super::Doomed;
use crate::engine::Engine;

/// Hides what is to be erased, before anybody can ask. Gives the rest of the work, which does not
/// have to be waited for.
///
/// Fails like a read: what is hidden has to be known.
pub(crate) async fn resume(engine: &Engine) -> Result<Vec<Unfinished>, ReadError> {
    let tenant = TenantId::local();
    let deletions = StreamKey::deletions(&tenant);
    let begun = match begun(&*engine.inner.journal, &tenant, &deletions) {
        Err(ReadError::NotFound(_)) => Vec::new(),
        other => other?,
    };
    if begun.is_empty() {
        engine.forget_done(&deletions).await;
    }
    *engine.inner.deletions.0.lock().await = begun.len();
    for doomed in &begun {
        engine.inner.supervisor.hide(&doomed.streams());
    }
    Ok(begun.into_iter().map(Unfinished).collect())
}

/// A deletion to go on with.
pub(crate) struct Unfinished(Doomed);

impl Unfinished {
    /// Goes on beside everything else.
    pub(crate) fn go_on(self, engine: &Engine) {
        metrics::counter!("segue_deletions_resumed_total").increment(1);
        engine.inner.spawner.spawn(engine.clone().erase(self.0));
    }
}

fn begun(
    journal: &dyn Journal,
    tenant: &TenantId,
    deletions: &StreamKey,
) -> Result<Vec<Doomed>, ReadError> {
    let mut found: Vec<Doomed> = Vec::new();
    let mut from = journal.info(deletions)?.available_from;
    loop {
        let page = match journal.read(deletions, from, ReadLimit::default()) {
            // What stands around it is hidden all the same.
            Err(error @ ReadError::Corrupt { seq, .. }) => {
                metrics::counter!("segue_recovery_failures_total").increment(1);
                tracing::error!(%error, "a deletion cannot be read and is not gone on with");
                from = seq.next();
                continue;
            }
            other => other?,
        };
        let Some(last) = page.records.last() else { return Ok(found) };
        from = last.seq.next();
        for record in page.records {
            let record = EventRecord::decode(record.bytes).ok();
            match record.as_ref().and_then(Lifecycle::from_record) {
                Some(Lifecycle::DeletionBegun { session_id, runs }) => {
                    begin(&mut found, tenant, session_id, runs, false);
                }
                Some(Lifecycle::ImportBegun { session_id, runs }) => {
                    begin(&mut found, tenant, session_id, runs, true);
                }
                Some(Lifecycle::DeletionDone { session_id }) => {
                    found.retain(|doomed| doomed.session != session_id);
                }
                Some(_) | None => {}
            }
        }
    }
}

/// The records of one deletion follow each other in one batch.
fn begin(
    found: &mut Vec<Doomed>,
    tenant: &TenantId,
    session: SessionId,
    mut runs: Vec<RunId>,
    is_import: bool,
) {
    match found.iter_mut().find(|doomed| doomed.session == session) {
        Some(doomed) => doomed.runs.append(&mut runs),
        None => found.push(Doomed { tenant: tenant.clone(), session, runs, is_import }),
    }
}
