//! The stores of an engine, which go down with it.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;

use super::Shared;

/// The stores that are open.
#[derive(Default)]
pub(crate) struct Stores(Mutex<Vec<Weak<Shared>>>);

impl Stores {
    pub(super) fn add(&self, store: &Arc<Shared>) {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(store));
    }

    /// Shuts all of them down, and gives up after the budget.
    pub(crate) async fn shutdown(&self, budget: Duration) {
        let stores = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let open: Vec<_> = stores.iter().filter_map(Weak::upgrade).collect();
        join_all(open.iter().map(|store| store.shutdown(budget))).await;
    }
}
