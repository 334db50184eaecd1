//! Who is attached: counted for the operator and for the lists of sessions, of no other effect.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use segue_core::{RunId, TenantId};

type Key = (TenantId, RunId);

/// The attached clients of each run.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<HashMap<Key, u64>>>);

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        // Each change is one call, so a panic elsewhere leaves the counts whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a client until what is returned is dropped.
    pub(crate) fn enter(&self, tenant: &TenantId, run: &RunId) -> Client {
        let key = (tenant.clone(), run.clone());
        *self.lock().entry(key.clone()).or_default() += 1;
        metrics::counter!("segue_attaches_total").increment(1);
        metrics::gauge!("segue_subscribers").increment(1);
        Client { clients: self.clone(), key }
    }

    /// How many clients are attached to a run.
    pub(crate) fn of(&self, tenant: &TenantId, run: &RunId) -> u64 {
        self.lock().get(&(tenant.clone(), run.clone())).copied().unwrap_or(0)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// One attached client.
pub(crate) struct Client {
    clients: Clients,
    key: Key,
}

impl Drop for Client {
    fn drop(&mut self) {
        metrics::gauge!("segue_subscribers").decrement(1);
        let mut runs = self.clients.lock();
        if let Some(count) = runs.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                runs.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_counts_until_it_is_dropped() {
        let (clients, tenant) = (Clients::default(), TenantId::local());
        let run = RunId::parse("r").expect("valid");
        let first = clients.enter(&tenant, &run);
        let second = clients.enter(&tenant, &run);
        assert_eq!(clients.of(&tenant, &run), 2);
        drop(first);
        assert_eq!(clients.of(&tenant, &run), 1);
        drop(second);
        assert_eq!(clients.of(&tenant, &run), 0);
        assert!(clients.is_empty());
    }
}
