//! `previous_response_id`: which session goes on.
//!
//! A response after the newest one of a session is its next run, and is told what was said before.
//! One after an older response goes another way from there: in a fork of the session that has the
//! conversation up to that response.

use segue_core::{Policy, SessionId, fold::said::brings_history};
use segue_engine::{ForkSession, RunQuery, RunView, SessionError};
use serde_json::Value;

use super::{
    refusal::Refusal,
    whole::{find, until_ended},
};
use crate::app::Call;

const PARAM: &str = "previous_response_id";

/// Where a run is started.
#[derive(Debug)]
pub(super) struct Place {
    /// The session that goes on; a new one without.
    pub(super) session: Option<SessionId>,
    pub(super) policy: Policy,
}

impl Place {
    /// At the beginning of `session`, or of a new one.
    pub(super) fn new(session: Option<SessionId>) -> Self {
        Self { session, policy: Policy::Reject }
    }
}

/// The run that a request goes on from.
pub(super) async fn previous(call: &Call, id: &Value) -> Result<Option<RunView>, Refusal> {
    let id = match id {
        Value::Null => return Ok(None),
        Value::String(id) => id,
        _ => return Err(Refusal::of_param(PARAM, format!("`{PARAM}` is no text"))),
    };
    find(call, id).await.map(Some).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Refusal {
    let detail = format!("previous response with id '{id}' not found");
    Refusal::of_param(PARAM, detail).with_code("previous_response_not_found")
}

/// Refuses answers in what is said after a response: they would be told in place of the
/// conversation, not after it.
pub(super) fn check_input(input: &Value) -> Result<(), Refusal> {
    if brings_history(input) {
        let detail = format!(
            "`input` has items of the assistant, which `{PARAM}` has already: send what is new"
        );
        return Err(Refusal::of_param("input", detail));
    }
    Ok(())
}

/// Where what follows `previous` is started.
pub(super) async fn place(call: &Call, previous: &RunView) -> Result<Option<Place>, Refusal> {
    let session = Some(previous.session_id.clone());
    let query = RunQuery { session: session.clone(), limit: 1, ..RunQuery::default() };
    let newest = call.engine().runs(call.tenant(), query).await?.data.into_iter().next();
    if newest.is_none_or(|newest| newest.id != previous.id) {
        return Ok(None);
    }
    // It is not over yet, and is waited for.
    let waits = !previous.status.is_terminal();
    Ok(Some(Place { session, policy: if waits { Policy::Queue } else { Policy::Reject } }))
}

/// A session with the conversation up to `previous`, which has `id` if one is given: the same
/// request made it before if it is there.
pub(super) async fn fork(
    call: &Call,
    previous: &RunView,
    id: Option<SessionId>,
) -> Result<Place, Refusal> {
    until_ended(call, &previous.id).await?;
    let at = Some(previous.message_id.clone());
    let request = ForkSession { at, id: id.clone(), ..ForkSession::default() };
    match call.engine().fork_session(call.tenant(), &previous.session_id, request).await {
        Ok(fork) => Ok(Place::new(Some(fork.id))),
        Err(SessionError::Exists) => Ok(Place::new(id)),
        // Its message was deleted, or another took its place.
        Err(SessionError::NoMessage(_) | SessionError::NotFound) => {
            Err(unknown(&crate::facade::Asked::response_id(&previous.id)))
        }
        Err(error) => Err(error.into()),
    }
}
