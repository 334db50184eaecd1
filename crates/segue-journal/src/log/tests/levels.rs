//! Level `os`: what the system had not written is lost from the end.

use std::sync::Arc;

use segue_core::Seq;

use super::{Driven, Durability, FaultyDisk, Journal, ReadError, ReadLimit, closing, options, run};
use crate::disk::Survival;

fn at_level_os(disk: &FaultyDisk) -> Driven {
    let mut options = options(Arc::new(disk.clone()));
    options.durability = Durability::Os;
    Driven::with(options).expect("open")
}

/// Fills `more` segments without sealing them; gives how many records that took.
fn fill(driven: &Driven, more: usize) -> usize {
    let until = driven.log.store.table().unsealed.len() + more;
    let mut appended = 0;
    while driven.log.store.table().unsealed.len() < until {
        driven.append(&run("a"), &"x".repeat(200));
        appended += 1;
    }
    appended
}

#[test]
fn a_close_makes_every_segment_durable() {
    let disk = FaultyDisk::new(1);
    let driven = at_level_os(&disk);
    driven.create(&run("a"));
    let appended = fill(&driven, 3);
    driven.log.close();
    driven.writer.lock().expect("lock").step();
    drop(driven);
    let driven = Driven::open(&disk.power_loss(Survival::Nothing));
    assert!(driven.log.damage().is_empty());
    assert_eq!(driven.read(&run("a")).expect("readable").len(), appended);
}

#[test]
fn an_open_makes_durable_what_a_killed_process_left_to_the_system() {
    let disk = FaultyDisk::new(1);
    let driven = at_level_os(&disk);
    driven.create(&run("a"));
    let appended = fill(&driven, 2);
    drop(driven);
    drop(Driven::open(&disk));
    let driven = Driven::open(&disk.power_loss(Survival::Nothing));
    assert!(driven.log.damage().is_empty());
    assert_eq!(driven.read(&run("a")).expect("readable").len(), appended);
}

#[test]
fn a_power_loss_leaves_holes_in_the_last_segment_only() {
    for seed in 0..40 {
        let disk = FaultyDisk::new(seed);
        let driven = at_level_os(&disk);
        driven.create(&run("a"));
        let whole = fill(&driven, 2) - 1;
        for _ in 0..4 {
            driven.append(&run("a"), &"x".repeat(200));
        }
        drop(driven);
        let driven = Driven::open(&disk.power_loss(Survival::Torn));
        assert!(driven.log.damage().iter().all(|damage| damage.segment == 3), "seed {seed}");
        let read = |from| driven.log.read(&run("a"), Seq(from), ReadLimit::default());
        let mut next = 1;
        loop {
            match read(next) {
                Ok(page) if page.records.is_empty() => break,
                Ok(page) => next += page.records.len() as u64,
                Err(ReadError::Corrupt { .. }) => break,
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        assert!(next > whole as u64, "seed {seed}: {next} of {whole}");
    }
}

#[test]
fn an_index_lists_the_runs_that_were_open_at_its_segments_end() {
    let disk = FaultyDisk::new(1);
    let driven = at_level_os(&disk);
    driven.create(&run("a"));
    driven.create(&run("old"));
    fill(&driven, 1);
    driven.settle();
    // The second segment is full, and only in the third one the run ends.
    fill(&driven, 1);
    driven.commit(vec![closing(&run("old"), "end")]).expect("closed");
    driven.settle();
    assert_eq!(driven.log.store.table().sealed.len(), 2);
    drop(driven);
    let driven = Driven::open(&disk.power_loss(Survival::Nothing));
    assert!(!driven.log.info(&run("old")).expect("found").tail.closed, "the end is lost");
    let mut open = driven.log.open_runs();
    open.sort_unstable();
    assert_eq!(open, [run("a"), run("old")]);
}
