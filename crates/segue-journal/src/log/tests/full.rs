//! A full disk refuses, keeps the reserve for what ends, and leaves no hole.

use std::{io, sync::Arc};

use super::{
    AppendError, Driven, FaultyDisk, Journal, Part, SEGMENT, Seq, Step, append, closing, options,
    run,
};
use crate::{conformance::ManualClock, disk::Survival};

#[test]
fn i07_a_full_disk_leaves_no_hole() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    assert_eq!(driven.append(&run("a"), "one"), 1);
    disk.fail_write(io::ErrorKind::StorageFull);
    let refused = driven.commit(vec![append(&run("a"), "never")]);
    assert_eq!(refused, Err(AppendError::DiskFull));
    assert_eq!(driven.next(&run("a")), Seq(2));
    assert_eq!(driven.append(&run("a"), "two"), 2);
    drop(driven);
    let driven = Driven::open(&disk);
    assert_eq!(driven.read(&run("a")).expect("readable"), ["one", "two"]);
    assert!(driven.log.damage().is_empty());
}

#[test]
fn i07_what_a_refused_commit_left_behind_is_not_taken_for_one() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    disk.fail_write(io::ErrorKind::StorageFull);
    let long = "x".repeat(1_000);
    let refused = driven.commit(vec![append(&run("a"), &long)]);
    assert_eq!(refused, Err(AppendError::DiskFull));
    drop(driven);
    let driven = Driven::open(&disk);
    assert!(driven.log.damage().is_empty());
    assert_eq!(driven.append(&run("a"), "one"), 1);
}

#[test]
fn any_other_failed_write_ends_the_log() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    disk.fail_write(io::ErrorKind::Other);
    let failed = driven.commit(vec![append(&run("a"), "never")]);
    assert!(matches!(failed, Err(AppendError::Poisoned(_))));
    assert_eq!(driven.fatal.lock().expect("lock").len(), 1);
}

/// Fills the disk with appends until one is refused.
fn fill(driven: &Driven, disk: &FaultyDisk) -> u64 {
    disk.set_free(Some(0));
    let mut accepted = 0;
    loop {
        match driven.commit(vec![append(&run("a"), &"x".repeat(100))]) {
            Ok(_) => accepted += 1,
            Err(AppendError::DiskFull) => return accepted,
            Err(other) => panic!("{other}"),
        }
        assert!(accepted < SEGMENT, "the disk never filled");
    }
}

#[test]
fn a_full_disk_keeps_its_reserve_for_what_ends() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    for id in ["a", "b"] {
        driven.create(&run(id));
    }
    assert!(fill(&driven, &disk) > 0);
    let tail = driven.next(&run("a"));
    driven.commit(vec![closing(&run("b"), "the end of b")]).expect("a terminal fits");
    assert_eq!(
        driven.commit(vec![append(&run("a"), &"x".repeat(100))]),
        Err(AppendError::DiskFull)
    );
    driven.commit(vec![closing(&run("a"), "the end of a")]).expect("a terminal fits");
    assert_eq!(driven.next(&run("a")), tail.next());
    drop(driven);
    let driven = Driven::open(&disk);
    assert_eq!(driven.read(&run("b")).expect("readable"), ["the end of b"]);
    assert!(driven.log.open_runs().is_empty());
}

#[test]
fn a_disk_with_room_again_takes_more() {
    let disk = FaultyDisk::new(1);
    let clock = Arc::new(ManualClock::new(1_000));
    let mut options = options(Arc::new(disk.clone()));
    options.clock = clock.clone();
    let driven = Driven::with(options).expect("open");
    driven.create(&run("a"));
    fill(&driven, &disk);
    let tail = driven.next(&run("a")).0;
    disk.set_free(Some(100 * SEGMENT));
    let steps = disk.steps();
    let early = driven.commit(vec![append(&run("a"), &"x".repeat(100))]);
    assert_eq!(early, Err(AppendError::DiskFull));
    assert_eq!(disk.steps(), steps, "no segment is tried again within a second");
    clock.advance(1_000);
    assert_eq!(driven.append(&run("a"), "more"), tail);
    for _ in 0..100 {
        driven.append(&run("a"), &"x".repeat(100));
        driven.settle();
    }
    assert_eq!(driven.read(&run("a")).expect("readable").len() as u64, tail + 100);
}

#[test]
fn a_disk_full_at_open_serves_and_refuses() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    fill(&driven, &disk);
    let expected = driven.read(&run("a")).expect("readable");
    drop(driven);
    let driven = Driven::open(&disk);
    assert_eq!(driven.read(&run("a")).expect("readable"), expected);
    let more = driven.commit(vec![append(&run("a"), &"x".repeat(100))]);
    assert_eq!(more, Err(AppendError::DiskFull));
    driven.commit(vec![closing(&run("a"), "interrupted")]).expect("recovery's terminal fits");
}

#[test]
fn a_batch_larger_than_a_segment_goes_alone() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    let large = "x".repeat(3 * usize::try_from(SEGMENT).expect("small"));
    let parts: Vec<Part> = vec![append(&run("a"), "before"), append(&run("a"), &large)];
    for part in parts {
        driven.commit(vec![part]).expect("appended");
    }
    driven.append(&run("a"), "after");
    driven.settle();
    let expected = vec!["before".to_owned(), large, "after".to_owned()];
    assert_eq!(driven.read(&run("a")).expect("readable"), expected);
    drop(driven);
    let driven = Driven::open(&disk);
    assert_eq!(driven.read(&run("a")).expect("readable"), expected);
}

#[test]
fn i07_a_sync_that_finds_no_room_ends_the_log_and_what_it_refused_stays_in_doubt() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let disk = FaultyDisk::new(1);
        let driven = Driven::open(&disk);
        driven.create(&run("a"));
        disk.fail_nth_sync(0, kind);
        let failed = driven.commit(vec![append(&run("a"), "in doubt")]);
        assert!(matches!(failed, Err(AppendError::Poisoned(_))), "{kind}: {failed:?}");
        assert_eq!(driven.fatal.lock().expect("lock").len(), 1);
        let later = driven.commit(vec![append(&run("a"), "later")]);
        assert!(matches!(later, Err(AppendError::Poisoned(_))));
    }
}

#[test]
fn i07_an_index_whose_sync_finds_no_room_ends_the_log_and_nothing_acknowledged_vanishes() {
    // The first of the two syncs of a sealing, and the second.
    for before in [0, 1] {
        let disk = FaultyDisk::new(1);
        let driven = Driven::open(&disk);
        driven.create(&run("a"));
        let mut acknowledged = Vec::new();
        while driven.log.store.table().unsealed.len() < 2 {
            let text = format!("{}{}", acknowledged.len(), "x".repeat(300));
            driven.append(&run("a"), &text);
            acknowledged.push(text);
        }
        // There is a spare, so that the keeper's next chore is the sealing.
        driven.log.store.make_spare().expect("a spare");
        disk.fail_nth_sync(before, io::ErrorKind::StorageFull);
        assert_eq!(driven.log.step_keeper(), Step::Closed);
        let later = driven.commit(vec![append(&run("a"), "later")]);
        assert!(matches!(later, Err(AppendError::Poisoned(_))));
        assert_eq!(driven.fatal.lock().expect("lock").len(), 1);
        drop(driven);
        disk.restart();
        for disk in [disk.clone(), disk.power_loss(Survival::Nothing)] {
            let driven = Driven::open(&disk);
            assert_eq!(driven.read(&run("a")).expect("readable"), acknowledged);
            assert!(driven.log.damage().is_empty());
        }
    }
}

#[test]
fn a_large_end_is_refused_so_that_the_small_ones_fit() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    for id in ["a", "b", "c"] {
        driven.create(&run(id));
    }
    fill(&driven, &disk);
    let large = driven.commit(vec![closing(&run("b"), &"x".repeat(400))]);
    assert_eq!(large, Err(AppendError::DiskFull));
    for id in ["b", "c"] {
        driven.commit(vec![closing(&run(id), "the end, and what a terminal says")]).expect("fits");
    }
}
