//! Writers, readers, the keeper and the packer, all at once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::{Batch, Log, api::Page, conformance::support::block_on, log::Durability};

fn open(dir: &TempDir) -> (Arc<Log>, LogOptions) {
    let clock = Arc::new(ManualClock::new(1_000));
    let fatal = Arc::new(|why: &str| panic!("the log failed: {why}"));
    let mut options = LogOptions::new(dir.path().join("data"), clock, fatal);
    options.segment_bytes = 16 << 10;
    options.hot_bytes = 32 << 10;
    options.durability = Durability::Os;
    (Log::open(options.clone()).expect("open"), options)
}

fn push(log: &Log, part: Part) {
    let permit = block_on(log.reserve(&part.stream, part.bytes())).expect("an open door");
    log.submit(permit, Batch { parts: vec![part] }).wait().expect("committed");
}

fn page(log: &Log, key: &StreamKey, from: Seq) -> Result<Page, ReadError> {
    log.read(key, from, ReadLimit { bytes: 3_000, records: 40 })
}

/// Reads from the start to the tail, each record checked; whether that was the whole stream.
fn read_through(log: &Log, key: &StreamKey) -> Result<bool, ReadError> {
    let mut from = Seq::FIRST;
    loop {
        let page = page(log, key, from)?;
        if page.records.is_empty() {
            assert_eq!(from, page.info.tail.next);
            return Ok(page.info.tail.closed);
        }
        for record in &page.records {
            assert_eq!(record.seq, from);
            assert!(record.bytes.starts_with(format!("{}:", from.0).as_bytes()));
            from = from.next();
        }
    }
}

fn text(n: u64) -> String {
    format!("{n}:{}", "x".repeat(100))
}

/// A reader sees each stream dense, and never an error, whatever tier its place moves to.
#[test]
fn readers_see_no_seam_while_segments_are_packed() {
    const APPENDS: u64 = 1_500;
    let dir = tempfile::tempdir().expect("tempdir");
    let (log, options) = open(&dir);
    let keys = ["a", "b", "c"].map(run);
    for key in &keys {
        push(&log, Part::create(key.clone(), Epoch(0), Vec::new()));
    }
    thread::scope(|scope| {
        for key in &keys {
            let log = &log;
            scope.spawn(move || {
                for n in 1..=APPENDS {
                    let last = if n == APPENDS { closing } else { append };
                    push(log, last(key, &text(n)));
                }
            });
            scope.spawn(move || while !read_through(log, key).expect("readable") {});
        }
    });
    assert!(log.store.cold.packed().segment > 5);
    log.close();
    assert!(dir.path().join("data/cold.db").exists());
    let log = Log::open(options).expect("open");
    for key in &keys {
        assert!(read_through(&log, key).expect("readable"));
    }
}

/// A stream is deleted under its readers while everything around it is packed: each of them gets
/// all of it or is told that it is gone, never a part that looks whole.
#[test]
fn l05_attaches_race_deletions_and_get_all_or_gone() {
    const ROUNDS: u64 = 1_000;
    let dir = tempfile::tempdir().expect("tempdir");
    let (log, _) = open(&dir);
    for round in 0..ROUNDS {
        let key = session(&format!("s{}", round % 3));
        let mut create = append(&key, &text(1));
        if let Op::Append { create, .. } = &mut create.op {
            *create = true;
        }
        push(&log, create);
        (2..6).for_each(|n| push(&log, append(&key, &text(n))));
        push(&log, closing(&key, &text(6)));
        thread::scope(|scope| {
            let readers = [(); 2].map(|()| scope.spawn(|| read_through(&log, &key)));
            push(&log, delete(&key));
            for reader in readers {
                match reader.join().expect("no panic") {
                    Ok(whole) => assert!(whole, "round {round}"),
                    Err(error) => assert_eq!(error, ReadError::NotFound(key.clone())),
                }
            }
        });
    }
    assert!(log.store.cold.packed().segment > 5);
    log.close();
}

#[test]
fn o07_deletions_do_not_disturb_appends_elsewhere() {
    const APPENDS: u64 = 800;
    let dir = tempfile::tempdir().expect("tempdir");
    let (log, options) = open(&dir);
    let done = AtomicBool::new(false);
    push(&log, Part::create(run("a"), Epoch(0), Vec::new()));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let key = session("s");
                push(&log, Part::create(key.clone(), Epoch(0), Vec::new()));
                (1..20).for_each(|n| push(&log, append(&key, &text(n))));
                push(&log, trim(&key, 10));
                push(&log, delete(&key));
            }
        });
        (1..APPENDS).for_each(|n| push(&log, append(&run("a"), &text(n))));
        done.store(true, Ordering::Relaxed);
    });
    push(&log, closing(&run("a"), &text(APPENDS)));
    log.close();
    let log = Log::open(options).expect("open");
    assert!(read_through(&log, &run("a")).expect("readable"));
    assert_eq!(log.info(&session("s")), Err(ReadError::NotFound(session("s"))));
    log.close();
    let report = crate::log::check(&dir.path().join("data"), &crate::disk::RealDisk);
    assert_eq!(report.expect("checked").faults, []);
}

#[test]
fn a_full_hot_tier_holds_the_writer_until_a_segment_is_packed() {
    let place = Place::new();
    let driven = place.open();
    fill_segment(&driven);
    seal(&driven);
    let store = &driven.log.store;
    store.packing.threaded.store(true, Ordering::Relaxed);
    assert!(store.packing.chores.wait(None), "sealing wakes the packer");
    thread::scope(|scope| {
        let writer = scope.spawn(|| store.wait_for_packer());
        assert!(store.packing.chores.wait(None), "and so does a writer that waits");
        assert!(!writer.is_finished());
        pack(&driven);
        writer.join().expect("it goes on");
    });
    assert!(store.table().sealed.is_empty());
}

#[test]
fn a_packer_that_cannot_work_holds_nobody() {
    let place = Place::new();
    let driven = place.open();
    fill_segment(&driven);
    seal(&driven);
    let store = &driven.log.store;
    store.packing.threaded.store(true, Ordering::Relaxed);
    store.packing.pause.begin(&*place.clock, true);
    store.wait_for_packer();
    driven.log.close();
    store.packing.pause.end();
    store.wait_for_packer();
    assert_eq!(store.table().sealed.len(), 1);
}

#[test]
fn closing_does_not_wait_for_a_segment_to_be_packed() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    fill_segment(&driven);
    seal(&driven);
    driven.log.store.packing.chores.stop();
    assert_eq!(driven.log.step_packer(), Step::Idle);
    assert_eq!(driven.log.store.cold.packed().segment, 0, "and nothing of it is there");
    assert_eq!(driven.log.store.packing.pause.left(&*place.clock), None, "it did not fail");
    drop(driven);
    let driven = place.open();
    pack(&driven);
    assert_eq!(driven.log.store.cold.packed().segment, 1);
}

/// The log fails while the writer waits for the packer: what it took is not acknowledged.
#[test]
fn nothing_is_acknowledged_by_a_writer_that_waited_while_the_log_failed() {
    let place = Place::new();
    let driven = place.open();
    fill_segment(&driven);
    seal(&driven);
    let store = &driven.log.store;
    store.packing.threaded.store(true, Ordering::Relaxed);
    assert!(store.packing.chores.wait(None), "sealing wakes the packer");
    let created = session("filler");
    thread::scope(|scope| {
        let filling = scope.spawn(|| {
            loop {
                let text = "x".repeat(300);
                if let Err(error) = driven.commit(vec![append(&created, &text)]) {
                    return error;
                }
            }
        });
        assert!(store.packing.chores.wait(None), "the writer waits");
        let position = driven.log.position();
        store.fail("a sync of the cold store failed");
        store.packing.tell_writer();
        assert!(matches!(filling.join().expect("no panic"), AppendError::Poisoned(_)));
        assert_eq!(driven.log.position(), position, "nor is anything published");
    });
}
