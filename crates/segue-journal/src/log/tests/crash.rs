//! Random work, a crash at a random change of the disk, and what is there afterwards.

use std::{collections::BTreeMap, future::Future};

use super::{
    AppendError, Arc, Bytes, Driven, Durability, Epoch, FaultyDisk, Journal, Op, Part, Random,
    StreamKey, options, run, session,
};
use crate::disk::Survival;

/// What each stream holds; absent: it does not exist.
type Model = BTreeMap<StreamKey, Vec<String>>;

const ROUNDS: u64 = 4;

struct Crasher {
    random: Random,
    model: Model,
    written: u64,
}

impl Crasher {
    fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), model: Model::new(), written: 0 }
    }

    /// A batch that is allowed, and the model after it.
    fn batch(&mut self) -> (Vec<Part>, Model) {
        let mut after = self.model.clone();
        let n = 1 + self.random.below(3);
        let parts = (0..n).map(|_| self.part(&mut after)).collect();
        (parts, after)
    }

    fn part(&mut self, model: &mut Model) -> Part {
        let id = self.random.below(5).to_string();
        let stream = if self.random.below(3) == 0 { session(&id) } else { run(&id) };
        if model.contains_key(&stream) && self.random.below(12) == 0 {
            model.remove(&stream);
            return Part { stream, op: Op::Delete, epoch: Epoch(0) };
        }
        let texts = self.texts();
        let records = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        let create = !model.contains_key(&stream);
        model.entry(stream.clone()).or_default().extend(texts);
        let op = Op::Append { records, create, close: false, expect: None, producer: None };
        Part { stream, op, epoch: Epoch(0) }
    }

    fn texts(&mut self) -> Vec<String> {
        let n = self.random.below(4);
        let text = |_| {
            self.written += 1;
            let len = usize::try_from(self.random.below(400)).expect("small");
            format!("{}:{}", self.written, "x".repeat(len))
        };
        (0..n).map(text).collect()
    }

    /// Works until the disk crashes. Gives the models that may be there then.
    fn work(&mut self, driven: &Driven) -> [Model; 2] {
        loop {
            let (parts, after) = self.batch();
            match driven.commit(parts) {
                Ok(_) => self.model = after,
                Err(AppendError::Poisoned(_)) => return [self.model.clone(), after],
                Err(other) => panic!("an allowed batch was refused: {other}"),
            }
            if self.random.below(4) == 0 {
                driven.log.step_keeper();
            }
        }
    }

    /// Works until a crash. Gives the disk after it.
    fn round(&mut self, disk: &FaultyDisk, durability: Durability, note: &str) -> FaultyDisk {
        let mut options = options(Arc::new(disk.clone()));
        options.durability = durability;
        let crash = disk.steps() + self.random.below(120);
        disk.crash_at(crash);
        let Ok(driven) = Driven::with(options) else {
            return disk.power_loss_or_restart(durability);
        };
        let possible = self.work(&driven);
        assert_eq!(driven.fatal.lock().expect("lock").len(), 1, "{note}");
        drop(driven);
        let after = disk.power_loss_or_restart(durability);
        let reopened = Driven::open(&after);
        let found = contents(&reopened);
        assert!(possible.contains(&found), "{note}: found {found:?}, not one of {possible:?}");
        assert!(reopened.log.damage().is_empty(), "{note}: {:?}", reopened.log.damage());
        self.model = found;
        drop(reopened);
        after
    }
}

trait Ends {
    fn power_loss_or_restart(&self, durability: Durability) -> FaultyDisk;
}

impl Ends for FaultyDisk {
    /// Level `disk` survives a power loss, level `os` a killed process.
    fn power_loss_or_restart(&self, durability: Durability) -> FaultyDisk {
        self.restart();
        match durability {
            Durability::Disk => self.power_loss(Survival::Torn),
            Durability::Os => self.clone(),
        }
    }
}

fn contents(driven: &Driven) -> Model {
    let ids = (0..5).map(|id| id.to_string());
    let keys = ids.flat_map(|id| [session(&id), run(&id)]);
    let read = |key: StreamKey| driven.read(&key).ok().map(|texts| (key, texts));
    keys.filter_map(read).collect()
}

fn crash_again_and_again(durability: Durability, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut disk = FaultyDisk::new(seed);
        let mut crasher = Crasher::new(seed);
        for round in 0..ROUNDS {
            let note = format!("seed {seed} round {round}");
            disk = crasher.round(&disk, durability, &note);
            let reopened = Driven::open(&disk);
            assert_eq!(contents(&reopened), crasher.model, "{note}: again");
            reopened.log.step_keeper();
        }
    }
}

#[test]
fn i04_a_power_loss_leaves_every_acknowledged_batch_and_no_half_one() {
    crash_again_and_again(Durability::Disk, 0..150);
}

#[test]
fn i04_a_killed_process_leaves_every_acknowledged_batch_at_level_os() {
    crash_again_and_again(Durability::Os, 1_000..1_100);
}

#[test]
fn a_failed_sync_ends_the_log_and_the_next_open_does_not_trust_the_cache() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    driven.append(&run("a"), "acknowledged");
    let shard = driven.log.doorbell().shard();
    let listener = driven.log.listen(&run("a"), &shard).expect("listening");
    listener.hear();
    disk.fail_sync();
    let lost = driven.submit(vec![super::append(&run("a"), "in doubt")]);
    let queued = driven.submit(vec![super::append(&run("a"), "queued")]);
    driven.settle();
    for ticket in [lost, queued] {
        assert!(matches!(ticket.wait(), Err(AppendError::Poisoned(_))));
    }
    assert_eq!(driven.fatal.lock().expect("lock").len(), 1);
    shard.pump();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(listener.poll_rung(&mut cx).is_ready(), "readers are told");
    assert!(matches!(driven.read(&run("a")), Err(super::ReadError::Io(_))));
    let reserved = std::pin::pin!(driven.log.reserve(&run("a"), 1)).as_mut().poll(&mut cx);
    assert!(matches!(reserved, std::task::Poll::Ready(Err(_))));
    drop(driven);
    // The cache shows a commit which the disk does not have. Once it was served, it must stay.
    disk.restart();
    let driven = Driven::open(&disk);
    let served = driven.read(&run("a")).expect("readable");
    drop(driven);
    let driven = Driven::open(&disk.power_loss(Survival::Nothing));
    assert_eq!(driven.read(&run("a")).expect("readable"), served);
    assert_eq!(served, ["acknowledged", "in doubt", "queued"], "one commit, whole");
}
