//! Torn tails are cut, damage is named, and everything else is served.

use super::{
    AppendError, Bytes, Driven, Epoch, FaultyDisk, Journal, Part, ReadError, SEGMENT, Seq, append,
    options, run, segment, session,
};
use crate::{
    api::Position,
    disk::Disk,
    log::{check, layout::HEAD_BYTES},
    stream::StreamKind,
};
use std::{path::Path, sync::Arc};

/// Where the commits of a scanned file end.
fn commits_end(disk: &FaultyDisk, number: u64) -> usize {
    let live = disk.live(&segment(number));
    live.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn find(disk: &FaultyDisk, number: u64, text: &str) -> usize {
    let live = disk.live(&segment(number));
    let found = live.windows(text.len()).position(|window| window == text.as_bytes());
    found.expect("the text is in the file")
}

/// A log with two runs, the last commit of which is known.
fn two_runs() -> (FaultyDisk, usize) {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    driven.create(&run("b"));
    driven.append(&run("a"), "first of a");
    driven.append(&run("b"), "first of b");
    let before = commits_end(&disk, 1).next_multiple_of(8);
    driven.append(&run("a"), "last of a");
    (disk, before)
}

#[test]
fn i05_a_torn_last_record_is_cut_at_every_byte() {
    let (whole, before) = two_runs();
    let end = commits_end(&whole, 1);
    for cut in before..end {
        let disk = FaultyDisk::new(1);
        let (copy, _) = two_runs_on(&disk);
        assert_eq!(copy, end);
        disk.damage(&segment(1), cut, &vec![0; end - cut]);
        let driven = Driven::open(&disk);
        assert!(driven.log.damage().is_empty(), "cut at {cut}");
        assert_eq!(driven.read(&run("a")).expect("readable"), ["first of a"], "cut at {cut}");
        assert_eq!(driven.read(&run("b")).expect("readable"), ["first of b"]);
        assert_eq!(driven.append(&run("a"), "next"), 2);
        drop(driven);
        let driven = Driven::open(&disk);
        assert_eq!(driven.read(&run("a")).expect("readable"), ["first of a", "next"]);
    }
}

fn two_runs_on(disk: &FaultyDisk) -> (usize, usize) {
    let driven = Driven::open(disk);
    driven.create(&run("a"));
    driven.create(&run("b"));
    driven.append(&run("a"), "first of a");
    driven.append(&run("b"), "first of b");
    let before = commits_end(disk, 1);
    driven.append(&run("a"), "last of a");
    (commits_end(disk, 1), before)
}

#[test]
fn i05_a_torn_tail_of_other_bytes_is_cut() {
    let (disk, before) = two_runs();
    let end = commits_end(&disk, 1);
    disk.damage(&segment(1), before, &vec![0xa5; end - before + 100]);
    let driven = Driven::open(&disk);
    assert_eq!(driven.read(&run("a")).expect("readable"), ["first of a"]);
    assert_eq!(commits_end(&disk, 1).next_multiple_of(8), before, "the tail is zeros again");
}

#[test]
fn i06_a_flipped_byte_is_seen_and_other_streams_are_served() {
    let (disk, _) = two_runs();
    disk.damage(&segment(1), find(&disk, 1, "first of a"), b"F");
    let driven = Driven::open(&disk);
    assert_eq!(driven.log.damage().len(), 1);
    let read = |from| driven.log.read(&run("a"), Seq(from), crate::ReadLimit::default());
    assert!(matches!(read(1), Err(ReadError::Corrupt { seq: Seq(1), .. })));
    let page = read(2).expect("what is behind it is served");
    assert_eq!(page.records[0].bytes, Bytes::from("last of a"));
    assert_eq!(driven.read(&run("b")).expect("readable"), ["first of b"]);
    assert_eq!(driven.append(&run("a"), "next"), 3);
}

#[test]
fn i06_a_flipped_byte_is_seen_while_the_log_is_open() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    let texts = ["one", "two", "three"].map(Bytes::from);
    driven.commit(vec![Part::create(run("a"), Epoch(0), texts.to_vec())]).expect("created");
    disk.damage(&segment(1), find(&disk, 1, "two"), b"T");
    let first = driven.log.read(&run("a"), Seq(1), crate::ReadLimit::default());
    assert_eq!(first.expect("up to the damage").records.len(), 1);
    let second = driven.log.read(&run("a"), Seq(2), crate::ReadLimit::default());
    assert!(matches!(second, Err(ReadError::Corrupt { seq: Seq(2), .. })), "{second:?}");
}

#[test]
fn i06_a_lost_commit_is_named_and_its_seqs_are_corrupt() {
    let (disk, _) = two_runs();
    let at = find(&disk, 1, "first of a");
    // The commit's head and its part's head are gone: what it held cannot be told.
    disk.damage(&segment(1), at - 100, &[0; 100]);
    let driven = Driven::open(&disk);
    let [damage] = driven.log.damage() else { panic!("{:?}", driven.log.damage()) };
    assert_eq!((damage.first_commit, damage.last_commit), (3, 3));
    let read = |from| driven.log.read(&run("a"), Seq(from), crate::ReadLimit::default());
    assert!(matches!(read(1), Err(ReadError::Corrupt { seq: Seq(1), .. })));
    assert_eq!(read(2).expect("served").records.len(), 1);
    assert_eq!(driven.append(&run("a"), "next"), 3);
    drop(driven);
    let faults = check(Path::new("/data/segue"), &disk).expect("checked").faults;
    assert!(!faults.is_empty());
}

#[test]
fn every_flipped_byte_of_a_sealed_segment_is_seen_or_harmless() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    let mut expected = Vec::new();
    for id in ["a", "b"] {
        driven.create(&run(id));
    }
    while driven.log.store.table().sealed.is_empty() {
        let text = format!("record {}", expected.len());
        driven.append(&run("a"), &text);
        driven.append(&run("b"), &text);
        expected.push(text);
        driven.settle();
    }
    drop(driven);
    let image = disk.live(&segment(1));
    for at in (HEAD_BYTES..image.len()).step_by(7) {
        disk.damage(&segment(1), at, &[image[at] ^ 0x10]);
        let driven = Driven::open(&disk);
        for id in ["a", "b"] {
            match driven.read(&run(id)) {
                Ok(texts) => assert_eq!(texts, expected, "byte {at}"),
                Err(ReadError::Corrupt { .. }) => {}
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        drop(driven);
        disk.damage(&segment(1), at, &image[at..=at]);
        let now = disk.live(&segment(1));
        if now != image {
            // The index was made anew by the open; put the old one back.
            let file = disk.open(&segment(1)).expect("open");
            file.set_len(image.len() as u64).expect("set_len");
            disk.damage(&segment(1), 0, &image);
        }
    }
}

#[test]
fn a_lost_index_is_made_anew() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&session("s"));
    while driven.log.store.table().sealed.len() < 2 {
        driven.append(&session("s"), &"x".repeat(200));
        driven.settle();
    }
    let expected = driven.read(&session("s")).expect("readable");
    drop(driven);
    let image = disk.live(&segment(1));
    disk.damage(&segment(1), image.len() - 50, &[0xff; 50]);
    let driven = Driven::open(&disk);
    assert_eq!(driven.read(&session("s")).expect("readable"), expected);
    drop(driven);
    assert_eq!(disk.live(&segment(1)), image);
    assert_eq!(check(Path::new("/data/segue"), &disk).expect("checked").faults, []);
}

#[test]
fn payloads_that_look_like_commits_are_payloads() {
    let (disk, before) = two_runs();
    let end = commits_end(&disk, 1);
    let commit = Bytes::from(disk.live(&segment(1))[before..end].to_vec());
    let other = FaultyDisk::new(2);
    let driven = Driven::open(&other);
    driven.commit(vec![Part::create(run("a"), Epoch(0), vec![commit])]).expect("created");
    driven.append(&run("a"), "acknowledged");
    let payload = find(&other, 1, "last of a");
    drop(driven);
    // The commit around the payload is gone, so that its bytes are looked through for others.
    other.damage(&segment(1), HEAD_BYTES, &[0; 40]);
    assert!(payload > HEAD_BYTES);
    let driven = Driven::open(&other);
    assert!(matches!(driven.log.info(&run("b")), Err(ReadError::NotFound(_))));
    assert_eq!(driven.log.damage().len(), 1);
}

#[test]
fn check_finds_nothing_in_a_sound_journal() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::with(options(Arc::new(disk.clone()))).expect("open");
    driven.create(&run("a"));
    for n in 0..3 * SEGMENT / 100 {
        driven.append(&run("a"), &n.to_string());
        driven.settle();
    }
    driven.commit(vec![append(&run("a"), "last")]).expect("appended");
    let records = driven.next(&run("a")).0 - 1;
    drop(driven);
    let report = check(Path::new("/data/segue"), &disk).expect("checked");
    assert_eq!((report.records, report.faults.as_slice()), (records, [].as_slice()));
    assert_eq!(report.commits, records + 1);
}

#[test]
fn a_flipped_byte_of_an_index_is_found_at_open_and_the_index_made_anew() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&session("s"));
    driven.create(&run("r"));
    while driven.log.store.table().sealed.len() < 3 {
        driven.append(&session("s"), &"x".repeat(200));
        driven.settle();
    }
    let expected = driven.read(&session("s")).expect("readable");
    let trailers: Vec<_> =
        driven.log.store.table().sealed.iter().map(|sealed| sealed.trailer).collect();
    drop(driven);
    for (number, trailer) in (1..).zip(trailers) {
        let image = disk.live(&segment(number));
        let parts = [trailer.entries_at, trailer.extents_at, trailer.text_at, trailer.open_at];
        for at in parts.map(|at| at + 3) {
            let at = at as usize;
            disk.damage(&segment(number), at, &[image[at] ^ 1]);
            let faults = check(Path::new("/data/segue"), &disk).expect("checked").faults;
            assert!(!faults.is_empty(), "byte {at} of segment {number}");
            let driven = Driven::open(&disk);
            driven.settle();
            assert_eq!(driven.read(&session("s")).expect("readable"), expected);
            assert_eq!(driven.log.open_runs(), [run("r")]);
            let changed = driven.log.changed_since(Position(0), StreamKind::Session);
            assert_eq!(changed.expect("readable"), [session("s")]);
            drop(driven);
            let faults = check(Path::new("/data/segue"), &disk).expect("checked").faults;
            assert_eq!(faults, [], "byte {at} of segment {number}");
        }
    }
}

#[test]
fn damage_of_an_index_while_the_log_is_open_concerns_its_stream_alone() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    for id in ["lost", "kept"] {
        driven.create(&session(id));
    }
    driven.create(&run("filler"));
    while driven.log.store.table().sealed.len() < 2 {
        driven.append(&run("filler"), &"x".repeat(200));
        driven.settle();
    }
    let index = driven.log.store.table().sealed[0].trailer.entries_at as usize;
    let text = disk.live(&segment(1))[index..].windows(4).position(|four| four == b"lost");
    disk.damage(&segment(1), index + text.expect("the key is in the index"), b"L");
    let refused = driven.commit(vec![append(&session("lost"), "x")]);
    assert_eq!(refused, Err(AppendError::Unreadable(session("lost"))));
    driven.create(&session("new"));
    driven.append(&session("kept"), "x");
    let changed = driven.log.changed_since(Position(0), StreamKind::Session);
    let mut changed = changed.expect("readable");
    changed.sort_unstable();
    assert_eq!(changed, [session("kept"), session("new")]);
    assert!(driven.fatal.lock().expect("lock").is_empty());
}

#[test]
fn damage_at_the_end_of_a_full_segment_is_no_torn_tail() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    while driven.log.store.table().unsealed.len() < 2 {
        driven.append(&run("a"), &"x".repeat(200));
    }
    let last = driven.log.store.table().unsealed[0].commits.1;
    drop(driven);
    disk.damage(&segment(1), commits_end(&disk, 1) - 20, b"X");
    let faults = check(Path::new("/data/segue"), &disk).expect("checked").faults;
    assert!(!faults.is_empty());
    let driven = Driven::open(&disk);
    let [damage] = driven.log.damage() else { panic!("{:?}", driven.log.damage()) };
    let what = "its checksum is wrong";
    assert_eq!((damage.first_commit, damage.last_commit, damage.what), (last, last, what));
}

#[test]
fn check_takes_a_torn_tail_before_a_spare_for_one() {
    let (disk, _) = two_runs();
    let driven = Driven::open(&disk);
    driven.log.step_keeper();
    driven.append(&run("a"), &"z".repeat(500));
    drop(driven);
    assert!(disk.list(Path::new("/data/segue/journal")).expect("listed").len() > 2, "a spare");
    let end = commits_end(&disk, 1);
    disk.damage(&segment(1), end - 200, &[0; 200]);
    let report = check(Path::new("/data/segue"), &disk).expect("checked");
    assert_eq!(report.faults, []);
    assert!(Driven::open(&disk).log.damage().is_empty());
    assert_eq!(check(Path::new("/data/segue"), &disk).expect("checked"), report);
}
