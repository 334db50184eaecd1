//! What must hold when nothing is alive any more.

use std::collections::BTreeMap;

use segue_engine::RunQuery;
use segue_journal::ReadError;
use serde_json::Value;

use super::steps::{SESSIONS, Sim};
use crate::{
    detached::by_user_and_wait,
    folding::folded,
    races::of_session,
    support::{check_whole, run_id, session_id, tenant, types},
};

impl Sim<'_> {
    pub(super) async fn verify(&mut self) {
        let mut runs = BTreeMap::new();
        for session in SESSIONS {
            let id = session_id(session);
            let engine = &self.stage.engine;
            if engine.session(tenant(), &id).await.unwrap().is_none() {
                continue;
            }
            engine.stop_session(tenant(), &id, None, by_user_and_wait()).await.unwrap();
            let view = engine.session(tenant(), &id).await.unwrap().unwrap();
            assert_eq!((view.status, view.active_runs), ("idle", vec![]));
            self.check_session(session, &mut runs).await;
        }
        self.check_views(&runs).await;
        self.check_messages(&runs).await;
        self.check_producers(&runs);
        self.check_readers(&runs);
        self.check_the_erased(&runs);
        for (run, events) in &runs {
            self.world.trace(|| format!("{run}: {}", Value::from(events.clone())));
        }
    }

    /// Chains in order, each run whole.
    async fn check_session(&self, session: &str, runs: &mut BTreeMap<String, Vec<Value>>) {
        let records = of_session(&self.stage, session);
        let of_type = |name: &str| {
            let named = records.iter().filter(|record| record["type"] == name);
            named.map(|record| record["run_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (created, mut ended) = (of_type("run.created"), of_type("run.ended"));
        let mut once = created.clone();
        once.sort();
        ended.sort();
        assert_eq!(once, ended, "each is created once and ends once");
        let mut ends: Vec<(String, Option<u64>, String)> = Vec::new();
        for run in created {
            let events = self.stage.follow(&run_id(&run)).await;
            check_whole(&events);
            check_beginning(&events);
            let at = |event: &Value| event["at"].as_str().unwrap().to_owned();
            let queued = events[0]["type"] == "run.queued";
            let turn = events[0]["turn"].as_u64();
            if let Some(began) = events.iter().find(|event| event["type"] == "run.started")
                && queued
            {
                // On threads those that do not wait may be created before who stands before them.
                let stands_before = |other: &Option<u64>| {
                    !self.world.on_threads || (other.is_some() && *other < turn)
                };
                let before = ends.iter().filter(|(_, other, _)| stands_before(other));
                for (before, _, end) in before {
                    assert!(
                        *end < at(began),
                        "{run} began at {} before {before} had ended, {end}",
                        at(began)
                    );
                }
            }
            ends.push((run.clone(), turn, at(events.last().unwrap())));
            runs.insert(run, events);
        }
    }

    /// The lists are what the journal says, and nothing else.
    async fn check_views(&self, runs: &BTreeMap<String, Vec<Value>>) {
        let query = RunQuery { limit: 1000, ..RunQuery::default() };
        let listed = self.stage.engine.runs(tenant(), query).await.unwrap().data;
        let listed: BTreeMap<_, _> = listed
            .into_iter()
            .map(|run| (run.id.to_string(), (run.status.as_str(), run.last_seq.0)))
            .collect();
        let stored: BTreeMap<_, _> = runs
            .iter()
            .map(|(run, events)| {
                let status = events.last().unwrap()["type"].as_str().unwrap();
                (run.clone(), (&status["run.".len()..], events.len() as u64))
            })
            .collect();
        assert_eq!(listed, stored);
    }

    /// Every run's message is what its events make.
    async fn check_messages(&self, runs: &BTreeMap<String, Vec<Value>>) {
        for run in runs.keys() {
            let made = folded(&*self.stage.journal, &run_id(run));
            let message = self.stage.engine.message(tenant(), &made.id).await.unwrap();
            assert_eq!(message.as_ref(), Some(&made));
        }
    }

    /// What was acknowledged is there, each item once and in order, where its answer said.
    fn check_producers(&self, runs: &BTreeMap<String, Vec<Value>>) {
        for (run, produced) in &*self.world.produced.lock().unwrap() {
            let Some(events) = runs.get(run) else { continue };
            let items: Vec<(u64, u64)> = events
                .iter()
                .filter_map(|event| Some((event["n"].as_u64()?, event["seq"].as_u64()?)))
                .collect();
            let numbers: Vec<u64> = items.iter().map(|(n, _)| *n).collect();
            assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{run}");
            for (number, (first, last)) in &produced.acked {
                let at = items.iter().find(|(n, _)| n == number).map(|(_, seq)| *seq);
                let at = at.unwrap_or_else(|| panic!("{run}: {number} was acknowledged"));
                let is_newest = *number + 1 == produced.next;
                assert!(at <= *last && (!is_newest || at >= *first), "{run}: {number} is at {at}");
            }
        }
    }

    /// F14: what every reader saw, in however many pieces and lives, is what the journal has.
    fn check_readers(&self, runs: &BTreeMap<String, Vec<Value>>) {
        for seen in &self.world.seen {
            let seen = seen.lock().unwrap();
            let Some(events) = runs.get(&seen.run) else { continue };
            let from = usize::try_from(seen.from).unwrap() - 1;
            let saw = &seen.events[..];
            assert!(from + saw.len() <= events.len() || saw.is_empty(), "{}", seen.run);
            if !saw.is_empty() {
                assert_eq!(saw, &events[from..from + saw.len()], "{}", seen.run);
            }
        }
    }

    /// Who is not in a session is nowhere.
    fn check_the_erased(&self, runs: &BTreeMap<String, Vec<Value>>) {
        for run in &*self.world.new.lock().unwrap() {
            if runs.contains_key(run) {
                continue;
            }
            assert!(*self.world.asked.lock().unwrap() > 0, "{run} is lost");
            let attached = self.stage.engine.attach(tenant(), &run_id(run));
            assert!(matches!(attached.err(), Some(ReadError::NotFound(_))), "{run} is half there");
        }
    }
}

/// Nothing stands before a run has begun but that it was queued.
fn check_beginning(events: &[Value]) {
    let types = types(events);
    let begins = types.iter().position(|name| *name == "run.started");
    let queued = usize::from(types[0] == "run.queued");
    match begins {
        Some(begins) => assert_eq!(begins, queued, "{types:?}"),
        None => assert_eq!((queued, types.len()), (1, 2), "{types:?}"),
    }
}
