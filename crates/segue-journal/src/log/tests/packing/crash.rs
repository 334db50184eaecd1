//! Random work with packing, a crash at a random change of the disk or between two steps, and what
//! is there afterwards.

use std::{collections::BTreeMap, fmt, path::Path};

use bytes::Bytes;

use super::*;
use crate::{
    disk::Survival,
    log::{Durability, check::check_with, tests::Random},
};

/// What a stream holds: its records, the first that is readable, whether it is closed.
#[derive(Clone, Default, PartialEq)]
struct Held {
    texts: Vec<String>,
    trimmed: usize,
    closed: bool,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.texts.iter().map(|text| text.split(':').next().unwrap_or_default());
        f.debug_list().entries(texts).entry(&self.closed).finish()
    }
}

type Model = BTreeMap<StreamKey, Held>;

struct Crasher {
    random: Random,
    place: Place,
    model: Model,
    written: u64,
}

const IDS: u64 = 4;

impl Crasher {
    fn new(seed: u64) -> Self {
        let random = Random::new(seed);
        let mut place = Place::new();
        place.disk = FaultyDisk::new(seed);
        place.hot_bytes = random.below(3) * 2 * super::super::SEGMENT;
        Self { random, place, model: Model::new(), written: 0 }
    }

    fn small(&self, below: u64) -> usize {
        usize::try_from(self.random.below(below)).expect("small")
    }

    fn part(&mut self, model: &mut Model) -> Part {
        let id = self.random.below(IDS).to_string();
        let stream = if self.random.below(2) == 0 { session(&id) } else { run(&id) };
        let choice = self.random.below(12);
        let (known, texts) = (model.get(&stream).cloned(), self.texts());
        match known {
            Some(_) if choice == 0 => {
                model.remove(&stream);
                return delete(&stream);
            }
            Some(mut held) if choice == 1 => {
                held.trimmed = held.trimmed.max(self.small(1 + held.texts.len() as u64));
                held.texts[..held.trimmed].fill(String::new());
                let before = held.trimmed as u64 + 1;
                model.insert(stream.clone(), held);
                return trim(&stream, before);
            }
            Some(held) if held.closed => {
                model.remove(&stream);
                return delete(&stream);
            }
            _ => {}
        }
        let create = known.is_none();
        let close = choice == 2;
        let held = model.entry(stream.clone()).or_default();
        held.texts.extend(texts.iter().cloned());
        held.closed = close;
        let records = texts.into_iter().map(Bytes::from).collect();
        let op = Op::Append { records, create, close, expect: None, producer: None };
        Part { stream, op, epoch: Epoch(0) }
    }

    fn texts(&mut self) -> Vec<String> {
        let n = self.random.below(4);
        let text = |_| {
            self.written += 1;
            let long = if self.random.below(40) == 0 { 70_000 } else { 300 };
            format!("{}:{}", self.written, "x".repeat(self.small(long)))
        };
        (0..n).map(text).collect()
    }

    /// One batch. `Some`: the disk crashed, and there is one of these afterwards.
    fn batch(&mut self, driven: &Driven) -> Option<[Model; 2]> {
        let mut after = self.model.clone();
        let n = 1 + self.random.below(3);
        let parts = (0..n).map(|_| self.part(&mut after)).collect();
        match driven.commit(parts) {
            Ok(_) => self.model = after,
            Err(AppendError::Poisoned(_)) => return Some([self.model.clone(), after]),
            Err(other) => panic!("an allowed batch was refused: {other}"),
        }
        None
    }

    /// Works until the disk crashes or the work is done.
    fn work(&mut self, driven: &Driven, note: &str) -> Vec<Model> {
        for step in 0..60 {
            if let Some(possible) = self.batch(driven) {
                return possible.into();
            }
            for _ in 0..self.random.below(3) {
                driven.log.step_keeper();
                driven.log.step_packer();
            }
            let crashed = driven.log.store.failed().is_some();
            if !crashed && self.random.below(4) == 0 {
                assert_eq!(contents(driven), self.model, "{note} step {step}");
            }
        }
        vec![self.model.clone()]
    }

    /// Works, crashes, opens again and compares.
    fn round(&mut self, durability: Durability, note: &str) {
        let disk = self.place.disk.clone();
        disk.crash_at(disk.steps() + self.random.below(250));
        let mut options = self.place.options();
        options.durability = durability;
        let possible = match Driven::with(options) {
            Ok(driven) => self.work(&driven, note),
            Err(_) => vec![self.model.clone()],
        };
        disk.restart();
        self.place.disk = match durability {
            Durability::Disk => disk.power_loss(Survival::Torn),
            Durability::Os => disk,
        };
        let driven = self.place.open();
        let found = contents(&driven);
        assert!(possible.contains(&found), "{note}: found {found:?}, not one of {possible:?}");
        assert!(driven.log.damage().is_empty(), "{note}: {:?}", driven.log.damage());
        self.model = found;
        drop(driven);
        let data = Path::new("/data/segue");
        let report = check_with(data, &self.place.disk, &self.place.cold()).expect("checked");
        assert_eq!(report.faults, [], "{note}");
    }
}

fn contents(driven: &Driven) -> Model {
    let ids = (0..IDS).map(|id| id.to_string());
    let held = |key: StreamKey| {
        let info = driven.log.info(&key).ok()?;
        let trimmed = usize::try_from(info.available_from.0).expect("small") - 1;
        let mut texts = vec![String::new(); trimmed];
        texts.extend(driven.read(&key).unwrap_or_else(|error| panic!("{key}: {error}")));
        Some((key, Held { texts, trimmed, closed: info.tail.closed }))
    };
    ids.flat_map(|id| [session(&id), run(&id)]).filter_map(held).collect()
}

fn crash_again_and_again(durability: Durability, seeds: std::ops::Range<u64>) {
    let mut packed = 0;
    for seed in seeds {
        let mut crasher = Crasher::new(seed);
        for round in 0..4 {
            crasher.round(durability, &format!("seed {seed} round {round}"));
        }
        packed += u64::from(crasher.place.cold().exists());
    }
    assert!(packed > 16, "the work is such that much of it is packed, {packed}");
}

#[test]
fn i04_a_power_loss_while_packing_leaves_every_acknowledged_batch_once() {
    crash_again_and_again(Durability::Disk, 0..24);
}

#[test]
fn i04_a_killed_process_while_packing_leaves_every_acknowledged_batch_once() {
    crash_again_and_again(Durability::Os, 1_000..1_024);
}
