//! A run as its server gives it when nothing runs.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use anyhow::{Context, ensure};
use segue_core::{Fold, RunId, Seq, Timestamp, event::wire::read_event};
use serde::Deserialize;
use serde_json::Value;

use crate::crash::site::Site;

/// All events of a run.
#[derive(Debug)]
pub(in crate::crash) struct Journal {
    run: String,
    text: String,
    events: Vec<Value>,
    /// What the run's own resource says.
    resource: Value,
    /// What its events make, as the server says.
    message: String,
    /// Its events but the last are gone.
    is_trimmed: bool,
}

/// What a run must still be later.
#[derive(Clone, Debug)]
pub(in crate::crash) struct Digest {
    pub(in crate::crash) run: String,
    pub(in crate::crash) events: u64,
    pub(in crate::crash) status: String,
    hash: u64,
    /// Of the message and of the last event, which stay when it is trimmed.
    kept: u64,
}

impl Journal {
    /// Reads a run; `None` if there is none.
    pub(in crate::crash) async fn read(site: &Site, run: &str) -> anyhow::Result<Option<Self>> {
        let resource = site.get(&format!("/v1/runs/{run}"), "application/json").await?;
        if resource.status() == 404 {
            return Ok(None);
        }
        let path = format!("/v1/runs/{run}/events?live=false");
        let answer = site.get(&path, "application/x-ndjson").await?;
        ensure!(answer.status() == 200, "{run}: got {}: {}", answer.status(), answer.text());
        let text = String::from_utf8(answer.body).with_context(|| format!("{run}: not text"))?;
        let mut events = parse(run, &text)?;
        ensure!(!events.is_empty(), "{run}: it exists and has no event");
        let is_trimmed = events[0]["type"] == "control.gap";
        let snapshot = if is_trimmed {
            ensure!(events.len() == 3, "{run}: it is trimmed and has {events:?}");
            events.drain(..2).next_back().unwrap_or_default()
        } else {
            snapshot(site, run).await?
        };
        let is_snapshot = snapshot["type"] == "control.snapshot";
        ensure!(is_snapshot, "{run}: in place of a snapshot it has {snapshot}");
        let resource = resource.json();
        let folded = if is_trimmed {
            let lines = text.lines().skip(2);
            folded(run, serde_json::from_value(snapshot.clone())?, lines)?
        } else {
            folded(run, Fold::new(&RunId::parse(run)?, Seq::FIRST), text.lines())?
        };
        check_message(site, run, &resource, &folded).await?;
        let message = snapshot["message"].to_string();
        Ok(Some(Self { run: run.to_owned(), text, events, resource, message, is_trimmed }))
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.events.len() as u64
    }

    pub(super) fn last(&self) -> &Value {
        &self.events[self.events.len() - 1]
    }

    /// The status by the terminal event; empty if the last event is none.
    pub(super) fn status(&self) -> &str {
        let name = self.last()["type"].as_str().unwrap_or_default();
        if is_terminal(name) { name.trim_start_matches("run.") } else { "" }
    }

    /// The producer's items, by number.
    pub(super) fn items(&self) -> impl Iterator<Item = (u64, &Value)> {
        self.events.iter().filter_map(|event| Some((event["n"].as_u64()?, event)))
    }

    /// Where an item stands.
    pub(super) fn seq_of(&self, item: u64) -> Option<u64> {
        let (_, event) = self.items().find(|(n, _)| *n == item)?;
        event["seq"].as_u64()
    }

    /// Dense from 1; begins with its start, before which it may have waited, and begins once; one terminal, last; nothing left open; and the run's
    /// resource agrees.
    pub(super) fn check_shape(&self) -> anyhow::Result<()> {
        let run = &self.run;
        let mut open = BTreeSet::new();
        for (index, event) in self.events.iter().enumerate() {
            let (expected, name) = (index as u64 + 1, event["type"].as_str().unwrap_or_default());
            ensure!(event["seq"] == expected, "{run}: {event} stands where {expected} should");
            ensure!(event["run_id"] == **run, "{run}: has an event of another run: {event}");
            let last = expected == self.last_seq();
            ensure!(self.begins_well(index, name, last), "{run}: {event}");
            ensure!(is_terminal(name) == last, "{run}: {expected} of {}: {event}", self.last_seq());
            let part = &event["part"];
            let fine = match name {
                "text.start" => open.insert(part.to_string()),
                "text.delta" => open.contains(&part.to_string()),
                "text.end" => open.remove(&part.to_string()),
                _ => true,
            };
            ensure!(fine, "{run}: {event} with {open:?} open");
        }
        ensure!(open.is_empty(), "{run}: ends with {open:?} open");
        self.check_resource()
    }

    /// A run begins with its first event, or, if it waited, with its second, unless it ends there.
    fn begins_well(&self, index: usize, name: &str, last: bool) -> bool {
        let waited = self.events[0]["type"] == "run.queued";
        match (waited, index) {
            (true, 0) => name == "run.queued",
            (true, 1) => name == "run.started" || last,
            (false, 0) => name == "run.started",
            _ => !matches!(name, "run.queued" | "run.started"),
        }
    }

    fn check_resource(&self) -> anyhow::Result<()> {
        let (run, resource) = (&self.run, &self.resource);
        ensure!(resource["status"] == *self.status(), "{run}: is {resource}");
        ensure!(resource["last_seq"] == self.last_seq(), "{run}: is {resource}");
        Ok(())
    }

    /// Reading it again gives the same.
    pub(super) async fn check_unchanged(&self, site: &Site) -> anyhow::Result<()> {
        self.digest().check(site).await.map(drop)
    }

    pub(super) fn digest(&self) -> Digest {
        Digest {
            run: self.run.clone(),
            events: self.last_seq(),
            status: self.status().to_owned(),
            hash: hash(&self.text),
            kept: hash(&(&self.message, self.lines().last())),
        }
    }
}

/// The message that a fold and the events after it make.
fn folded<'a>(
    run: &str,
    mut fold: Fold,
    lines: impl Iterator<Item = &'a str>,
) -> anyhow::Result<Value> {
    for line in lines {
        let envelope: Envelope = serde_json::from_str(line)?;
        let event = read_event(line.as_bytes()).with_context(|| format!("{run}: {line}"))?;
        fold.apply(envelope.seq, envelope.at, &event).with_context(|| format!("{run}: {line}"))?;
    }
    Ok(serde_json::to_value(fold.message())?)
}

/// What is beside an event's own fields.
#[derive(Deserialize)]
struct Envelope {
    seq: Seq,
    at: Timestamp,
}

/// The run's message is what its events make.
async fn check_message(
    site: &Site,
    run: &str,
    resource: &Value,
    folded: &Value,
) -> anyhow::Result<()> {
    let id = resource["message_id"].as_str().unwrap_or_default();
    let answer = site.get(&format!("/v1/messages/{id}"), "application/json").await?;
    let stored = answer.json();
    let is = |message: &Value| {
        let mut message = message.clone();
        message.as_object_mut().map(|fields| fields.remove("session_id"));
        message
    };
    let same = is(&stored) == is(folded);
    ensure!(same, "{run}: its message is {stored}, its events make {folded}");
    Ok(())
}

impl Digest {
    /// The run is as it was, or trimmed. Gives whether it is.
    pub(in crate::crash) async fn check(&self, site: &Site) -> anyhow::Result<bool> {
        let now = Journal::read(site, &self.run).await?;
        let now = now.with_context(|| format!("{}: is gone", self.run))?;
        let (is_trimmed, now) = (now.is_trimmed, now.digest());
        ensure!(now.kept == self.kept, "{}: was {self:?}, is {now:?}", self.run);
        ensure!(is_trimmed || now.hash == self.hash, "{}: was {self:?}, is {now:?}", self.run);
        Ok(is_trimmed)
    }
}

fn parse(run: &str, text: &str) -> anyhow::Result<Vec<Value>> {
    let parse = |line| serde_json::from_str(line).with_context(|| format!("{run}: {line}"));
    text.lines().map(parse).collect()
}

async fn snapshot(site: &Site, run: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/runs/{run}/events?from=snapshot&live=false");
    let answer = site.get(&path, "application/x-ndjson").await?;
    Ok(parse(run, &answer.text())?.into_iter().next().unwrap_or_default())
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn is_terminal(name: &str) -> bool {
    matches!(name, "run.finished" | "run.stopped" | "run.failed" | "run.interrupted")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GOOD: [&str; 5] =
        ["run.started", "text.start", "text.delta", "text.end", "run.interrupted"];

    fn journal(names: &[&str]) -> Journal {
        let event = |(index, name): (usize, &&str)| json!({"seq": index + 1, "run_id": "r", "type": name, "part": "p", "n": index});
        let events: Vec<Value> = names.iter().enumerate().map(event).collect();
        let resource = json!({"status": "interrupted", "last_seq": names.len()});
        let text = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let (message, is_trimmed) = ("{}".into(), false);
        Journal { run: "r".into(), text, events, resource, message, is_trimmed }
    }

    #[test]
    fn a_whole_run_is_fine() {
        let good = journal(&GOOD);
        good.check_shape().unwrap();
        assert_eq!((good.status(), good.last_seq(), good.seq_of(2)), ("interrupted", 5, Some(3)));
    }

    #[test]
    fn whatever_is_taken_away_or_doubled_is_seen() {
        for (index, name) in GOOD.into_iter().enumerate() {
            let mut names = GOOD.to_vec();
            names.remove(index);
            // A run without deltas is fine.
            assert_eq!(journal(&names).check_shape().is_ok(), index == 2, "without {index}");
            let mut names = GOOD.to_vec();
            names.insert(index, name);
            assert_eq!(journal(&names).check_shape().is_ok(), index == 2, "{index} twice");
        }
    }

    #[test]
    fn a_run_that_waited_begins_once_or_ends() {
        for (names, fine) in [
            (&["run.queued", "run.started", "run.interrupted"][..], true),
            (&["run.queued", "run.interrupted"], true),
            (&["run.queued", "data", "run.interrupted"], false),
            (&["run.queued", "run.started", "run.started", "run.interrupted"], false),
            (&["run.started", "run.queued", "run.interrupted"], false),
            (&["run.interrupted"], false),
        ] {
            assert_eq!(journal(names).check_shape().is_ok(), fine, "{names:?}");
        }
    }

    #[test]
    fn a_hole_in_the_numbers_and_a_wrong_resource_are_seen() {
        let mut holed = journal(&GOOD);
        holed.events[3]["seq"] = 9.into();
        assert!(holed.check_shape().is_err());
        let mut running = journal(&GOOD);
        running.resource["status"] = "running".into();
        assert!(running.check_shape().is_err());
    }

    #[test]
    fn another_byte_is_another_digest() {
        let (one, mut other) = (journal(&GOOD), journal(&GOOD));
        other.text.push(' ');
        assert_ne!(one.digest().hash, other.digest().hash);
        other.message.push(' ');
        assert_ne!(one.digest().kept, other.digest().kept);
    }
}
