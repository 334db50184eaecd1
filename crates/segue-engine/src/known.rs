//! A start that is sent again: how it is known, and what it gets.

use segue_core::{Policy, RunId, TenantId, lifecycle::StartMark};
use segue_journal::{
    ReadError, StreamKey,
    views::{Compare, Select, Value as Cell},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    delete::is_erased,
    engine::Engine,
    projection::{RUNS, rows},
    query::RunView,
    start::{StartError, StartRun},
    supervisor::Names,
};

/// A key that makes a start safe to send again: within its session, the same principal's same key
/// means the same run for as long as the run is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartKey {
    /// Who calls.
    pub principal: String,
    /// The caller's key.
    pub key: String,
}

impl StartKey {
    /// Neither part can run into the other.
    fn digest(&self) -> String {
        hex(&json!([self.principal, self.key]))
    }
}

impl StartRun {
    /// By what it is known when it is sent again. The order of members does not count; members of
    /// the request that are about its answer do not either.
    pub(crate) fn mark(&self) -> StartMark {
        let policy = if self.policy == Policy::Reject { Value::Null } else { json!(self.policy) };
        let mut asked = json!({
            "agent": self.agent, "source": self.source, "input": self.input, "params": self.params,
            "limits": self.limits, "metadata": self.metadata, "policy": policy,
            "on_restart": self.on_restart, "run": self.run,
        });
        // Absent where they are not asked for, as in starts of before there were any.
        if let Some(message) = &self.replaces {
            asked["replaces"] = json!(message);
        }
        if let Some(run) = &self.continues {
            asked["continue"] = json!(run);
        }
        let key = self.key.as_ref().map(StartKey::digest);
        StartMark { digest: Some(hex(&asked)), key }
    }
}

/// What stands for an id where the id itself must not be kept.
pub(crate) fn digest_of(id: &str) -> String {
    hex(&json!(id))
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// SHA-256 over a value with its members in order.
fn hex(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    hex_of(&Sha256::digest(value.to_string().as_bytes()))
}

/// A digest as text.
pub(crate) fn hex_of(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        text.extend([byte >> 4, byte & 0xf].map(|half| char::from(HEX[usize::from(half)])));
        text
    })
}

impl Engine {
    /// Claims what the start is known by; waits while another one of the same names is under way.
    pub(crate) async fn claim(&self, stream: &StreamKey, key: Option<String>) -> Names {
        loop {
            let changed = self.inner.supervisor.changed();
            if let Some(names) = self.inner.supervisor.claim(stream, key.clone()) {
                return names;
            }
            changed.await;
        }
    }

    /// The run that the same request started before, by its key or by its run's id.
    pub(crate) async fn known(
        &self,
        tenant: &TenantId,
        request: &StartRun,
        mark: &StartMark,
    ) -> Result<Option<RunView>, StartError> {
        let is_used = request.run.as_ref().is_some_and(|run| self.is_used(tenant, run));
        if request.key.is_none() && !is_used {
            return Ok(None);
        }
        self.views_caught_up().await?;
        let by_key = match &mark.key {
            Some(key) => self.row_of_key(tenant, request, key)?,
            None => None,
        };
        let by_run = || {
            let key = request.run.as_ref().filter(|_| is_used)?;
            let key = Cell::Text(rows::key(tenant, key.as_str()));
            self.inner.views.get(RUNS, &key).transpose()
        };
        let row = match by_key {
            Some(row) => Some(row),
            None => by_run().transpose()?,
        };
        let Some(stored) = row.as_ref().and_then(rows::stored_run_of) else {
            return if is_used { Err(StartError::RunExists) } else { Ok(None) };
        };
        let is_elsewhere = request.session.as_ref().is_some_and(|s| *s != stored.view.session_id);
        if is_elsewhere || stored.mark.digest.is_none() {
            return Err(StartError::RunExists);
        }
        if stored.mark.digest != mark.digest {
            return Err(StartError::Different(stored.view.id));
        }
        Ok(Some(self.with_life(tenant, stored.view)))
    }

    /// Whether there is or was a run of this id.
    fn is_used(&self, tenant: &TenantId, run: &RunId) -> bool {
        let info = self.inner.journal.info(&StreamKey::run(tenant, run));
        !matches!(info, Err(ReadError::NotFound(_))) || is_erased(self, tenant, run)
    }

    fn row_of_key(
        &self,
        tenant: &TenantId,
        request: &StartRun,
        key: &str,
    ) -> Result<Option<Vec<Cell>>, StartError> {
        let Some(session) = &request.session else { return Ok(None) };
        let key = rows::start_key(tenant, session, key);
        let query = Select {
            table: RUNS,
            filter: vec![("start_key", Compare::Eq, Cell::Text(key))],
            phrases: Vec::new(),
            order_by: "created_at",
            descending: false,
            after: None,
            limit: 1,
        };
        Ok(self.inner.views.select(&query)?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use segue_core::{AgentName, MessageId};

    use super::*;

    fn start(input: Value) -> StartRun {
        StartRun { input, ..StartRun::of(AgentName::parse("a").expect("valid")) }
    }

    #[test]
    fn the_order_of_members_does_not_count_and_that_of_lists_does() {
        let mark = |text: &str| start(serde_json::from_str(text).expect("json")).mark();
        assert_eq!(mark(r#"[{"a":1,"b":{"c":2,"d":3}}]"#), mark(r#"[{"b":{"d":3,"c":2},"a":1}]"#));
        assert_ne!(mark("[1,2]"), mark("[2,1]"));
        assert_ne!(mark(r#""1""#), mark("1"));
    }

    #[test]
    fn whatever_is_asked_for_counts() {
        let plain = || start(json!("x"));
        let others = [
            StartRun { policy: Policy::Queue, ..plain() },
            StartRun { metadata: json!({"a": 1}), ..plain() },
            StartRun { run: RunId::parse("r").ok(), ..plain() },
            StartRun { agent: None, ..plain() },
            StartRun { replaces: MessageId::parse("m").ok(), ..plain() },
            StartRun { continues: RunId::parse("r").ok(), ..plain() },
        ];
        for other in others {
            assert_ne!(other.mark().digest, plain().mark().digest);
        }
    }

    #[test]
    fn keys_are_of_their_principal() {
        let of = |principal: &str, key: &str| {
            StartKey { principal: principal.into(), key: key.into() }.digest()
        };
        assert_eq!(of("a", "b"), of("a", "b"));
        assert_ne!(of("a", "b"), of("ab", ""));
        assert_ne!(of("a", "b"), of("b", "a"));
    }
}
