//! Opening: locks, formats, what is durable when, what is read, how often is synced.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use super::{
    Driven, Durability, FaultyDisk, Journal, Log, LogOptions, OpenError, append, options, run,
    segment, session,
};
use crate::{
    conformance::ManualClock,
    disk::{CountingDisk, Disk, Survival},
    log::check,
    stream::StreamKind,
};

fn real(dir: &Path) -> LogOptions {
    let clock = Arc::new(ManualClock::new(1_000));
    LogOptions::new(dir.join("data"), clock, Arc::new(|why| panic!("the log failed: {why}")))
}

#[test]
fn i14_a_second_open_of_a_folder_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let first = Log::open(real(dir.path())).expect("open");
    assert!(matches!(Log::open(real(dir.path())), Err(OpenError::Locked(_))));
    let checked = check(&dir.path().join("data"), &crate::disk::RealDisk);
    assert!(matches!(checked, Err(OpenError::Locked(_))));
    first.close();
    Log::open(real(dir.path())).expect("the first one let go");
}

#[test]
fn i22_files_are_private_to_the_owner() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Log::open(real(dir.path())).expect("open");
    log.close();
    let data = dir.path().join("data");
    let mut seen = 0;
    for path in [data.clone(), data.join("journal")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
        for entry in fs::read_dir(&path).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 3, "LOCK, FORMAT and a segment");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[test]
fn i12_a_newer_format_is_refused_by_name() {
    let disk = FaultyDisk::new(1);
    drop(Driven::open(&disk));
    let format = Path::new("/data/segue/journal/FORMAT");
    let image = disk.live(format);
    disk.damage(format, 8, &[2]);
    let refused = Driven::with(options(Arc::new(disk.clone()))).err().expect("refused");
    assert!(matches!(refused, OpenError::Newer { found: 2, .. }), "{refused}");
    disk.damage(format, 0, b"garbage!");
    let refused = Driven::with(options(Arc::new(disk.clone()))).err().expect("refused");
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
    disk.remove(format).expect("removed");
    let refused = Driven::with(options(Arc::new(disk.clone()))).err().expect("refused");
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
    let file = disk.create(format).expect("created");
    file.write_at(&image, 0).expect("written");
    disk.damage(&segment(1), 8, &[9]);
    let refused = Driven::with(options(Arc::new(disk.clone()))).err().expect("refused");
    assert!(matches!(refused, OpenError::Newer { found: 9, .. }), "{refused}");
}

#[test]
fn i10_the_first_append_is_durable_with_its_file_and_folders() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    driven.append(&run("a"), "one");
    drop(driven);
    let driven = Driven::open(&disk.power_loss(Survival::Nothing));
    assert_eq!(driven.read(&run("a")).expect("readable"), ["one"]);
}

#[test]
fn i09_the_syncs_are_those_of_the_level() {
    for (durability, per_commit, at_close) in [(Durability::Disk, 1, 0), (Durability::Os, 0, 1)] {
        let disk = Arc::new(CountingDisk::new(Arc::new(FaultyDisk::new(1))));
        let mut options = options(disk.clone());
        options.durability = durability;
        options.segment_bytes = 1 << 20;
        let driven = Driven::with(options).expect("open");
        driven.create(&run("a"));
        let before = disk.counts();
        for n in 0..10 {
            driven.append(&run("a"), &n.to_string());
        }
        let after = disk.counts();
        assert_eq!(after.writes - before.writes, 10, "one write a commit");
        assert_eq!(after.syncs - before.syncs, 10 * per_commit);
        assert_eq!(after.dir_syncs, before.dir_syncs);
        let tickets: Vec<_> =
            (0..50).map(|n: u32| driven.submit(vec![append(&run("a"), &n.to_string())])).collect();
        driven.writer.lock().expect("lock").step();
        for ticket in tickets {
            ticket.wait().expect("appended");
        }
        let grouped = disk.counts();
        assert_eq!(grouped.writes - after.writes, 1, "what is queued commits together");
        assert_eq!(grouped.syncs - after.syncs, per_commit);
        driven.log.close();
        driven.writer.lock().expect("lock").step();
        assert_eq!(disk.counts().syncs - grouped.syncs, at_close);
    }
}

/// Bytes written by an append of so many to an open log, level `disk` or not.
fn written(driven: &Driven, disk: &CountingDisk, bytes: usize) -> u64 {
    let before = disk.counts().written;
    driven.append(&run("a"), &"x".repeat(bytes));
    disk.counts().written - before
}

#[test]
fn a_small_commit_writes_zeros_ahead_and_a_large_one_does_not() {
    const WINDOW: u64 = 256 << 10;
    for durability in [Durability::Disk, Durability::Os] {
        let disk = Arc::new(CountingDisk::new(Arc::new(FaultyDisk::new(1))));
        let mut options = options(disk.clone());
        options.durability = durability;
        options.segment_bytes = 3 * WINDOW;
        let driven = Driven::with(options.clone()).expect("open");
        let before = disk.counts().written;
        driven.create(&run("a"));
        let first = disk.counts().written - before;
        if durability == Durability::Os {
            assert!(first < 200, "nothing is synced: {first}");
            continue;
        }
        assert!((WINDOW - 200..=WINDOW).contains(&first), "to the window's end: {first}");
        assert!(written(&driven, &disk, 10) < 200, "the blocks are there");
        let large = written(&driven, &disk, 240 << 10);
        assert!(large < (240 << 10) + 200, "its bytes are not doubled: {large}");
        let crossing = written(&driven, &disk, 20 << 10);
        assert!(
            crossing > 20 << 10 && crossing < WINDOW + (20 << 10),
            "the next window: {crossing}"
        );
        assert!(written(&driven, &disk, 10) < 200);
        drop(driven);
        let driven = Driven::with(options).expect("open");
        assert!(
            written(&driven, &disk, 10) > 1 << 10,
            "after an open nobody knows what is written"
        );
        assert_eq!(driven.read(&run("a")).expect("readable").len(), 5);
    }
}

#[test]
fn i11_opening_reads_no_sealed_records_and_appending_rereads_nothing() {
    let faulty = FaultyDisk::new(1);
    let mut sizes = options(Arc::new(faulty.clone()));
    sizes.segment_bytes = 64 << 10;
    let driven = Driven::with(sizes.clone()).expect("open");
    driven.create(&session("s"));
    let mut finished = 0;
    while driven.log.store.table().sealed.len() < 20 {
        let key = run(&finished.to_string());
        driven.create(&key);
        driven.commit(vec![super::closing(&key, &"x".repeat(4_000))]).expect("closed");
        driven.settle();
        finished += 1;
    }
    drop(driven);
    let disk = Arc::new(CountingDisk::new(Arc::new(faulty)));
    sizes.disk = disk.clone();
    let driven = Driven::with(sizes).expect("open");
    let read = disk.counts().read;
    assert!(read < 4 * (64 << 10), "read {read} bytes of 20 segments of 64 KiB");
    assert!(driven.log.store.table().streams().count() < 20, "finished runs are not in memory");
    let before = disk.counts();
    driven.append(&session("s"), "one");
    let first = disk.counts();
    driven.append(&session("s"), "two");
    let second = disk.counts();
    assert!(first.read - before.read < 20 * 8192, "a stream is looked up by its hash");
    assert_eq!(second.read, first.read, "and is known then");
    driven.append(&session("s"), "six");
    let third = disk.counts();
    assert_eq!(third.written - second.written, second.written - first.written);
    let last = run(&(finished - 1).to_string());
    assert_eq!(driven.read(&last).expect("readable").len(), 1);
    assert_eq!(driven.read(&run("0")).expect("readable").len(), 1);
}

#[test]
fn changes_are_found_in_sealed_segments_too() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    for id in ["a", "b", "c"] {
        driven.create(&session(id));
    }
    let mut positions = Vec::new();
    while driven.log.store.table().sealed.len() < 3 {
        let id = ["a", "b"][positions.len() % 2];
        driven.append(&session(id), &"x".repeat(300));
        positions.push(driven.log.position());
        driven.settle();
    }
    drop(driven);
    let driven = Driven::open(&disk);
    let changed = |since| {
        let found = driven.log.changed_since(since, StreamKind::Session);
        let mut found: Vec<String> =
            found.expect("readable").iter().map(|key| key.id().to_owned()).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(changed(crate::Position(0)), ["a", "b", "c"]);
    assert_eq!(changed(positions[0]), ["a", "b"]);
    assert_eq!(changed(driven.log.position()), [""; 0]);
    assert_eq!(changed(positions[positions.len() - 2]).len(), 1);
}

#[test]
fn a_torn_creation_of_a_segment_is_forgotten() {
    // Every change of the first open, lost at each step in turn.
    let probe = FaultyDisk::new(1);
    drop(Driven::open(&probe));
    for step in 0..probe.steps() {
        let disk = FaultyDisk::new(step);
        disk.crash_at(step);
        assert!(Driven::with(options(Arc::new(disk.clone()))).is_err(), "step {step}");
        let disk = disk.power_loss(Survival::Torn);
        let driven = Driven::open(&disk);
        driven.create(&run("a"));
        assert_eq!(driven.append(&run("a"), "one"), 1);
    }
}

/// A journal with sealed segments.
fn sealed(disk: &FaultyDisk, segments: usize) {
    let driven = Driven::open(disk);
    driven.create(&session("s"));
    while driven.log.store.table().sealed.len() < segments {
        driven.append(&session("s"), &"x".repeat(200));
        driven.settle();
    }
}

#[test]
fn segments_of_another_journal_are_refused_and_left_alone() {
    let disk = FaultyDisk::new(1);
    sealed(&disk, 2);
    let other = FaultyDisk::new(2);
    drop(Driven::open(&other));
    let format = Path::new("/data/segue/journal/FORMAT");
    disk.damage(format, 0, &other.live(format));
    let before = [1, 2, 3].map(|number| disk.live(&segment(number)));
    let refused = Driven::with(options(Arc::new(disk.clone()))).err().expect("refused");
    assert!(refused.to_string().contains("another journal"), "{refused}");
    assert_eq!([1, 2, 3].map(|number| disk.live(&segment(number))), before);
}

#[test]
fn a_segment_under_another_number_is_refused_and_left_alone() {
    let disk = FaultyDisk::new(1);
    sealed(&disk, 1);
    let image = disk.live(&segment(1));
    disk.rename(&segment(1), &segment(9)).expect("renamed");
    let refused = Driven::with(options(Arc::new(disk.clone()))).err().expect("refused");
    assert!(refused.to_string().contains("the number in its head"), "{refused}");
    assert_eq!(disk.live(&segment(9)), image);
}

#[test]
fn a_damaged_head_over_bytes_that_are_no_commits_is_refused_and_left_alone() {
    let disk = FaultyDisk::new(1);
    drop(Driven::open(&disk));
    disk.damage(&segment(1), 20, &[0xff]);
    disk.damage(&segment(1), 1_000, b"something");
    let image = disk.live(&segment(1));
    let refused = Driven::with(options(Arc::new(disk.clone()))).err().expect("refused");
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
    assert_eq!(disk.live(&segment(1)), image);
    // Over nothing it is made anew.
    disk.damage(&segment(1), 1_000, &[0; 9]);
    let driven = Driven::open(&disk);
    driven.create(&run("a"));
    assert_ne!(disk.live(&segment(1))[20], 0xff);
}

#[test]
fn a_missing_first_segment_is_named() {
    let disk = FaultyDisk::new(1);
    sealed(&disk, 3);
    disk.remove(&segment(1)).expect("removed");
    let faults = check(Path::new("/data/segue"), &disk).expect("checked").faults;
    assert!(faults.iter().any(|fault| fault.what.contains("commits 1 to")), "{faults:?}");
    let driven = Driven::open(&disk);
    let [damage] = driven.log.damage() else { panic!("{:?}", driven.log.damage()) };
    assert_eq!((damage.segment, damage.first_commit), (2, 1));
}

#[test]
fn a_stream_that_is_nowhere_costs_no_reads() {
    let faulty = FaultyDisk::new(1);
    sealed(&faulty, 5);
    let disk = Arc::new(CountingDisk::new(Arc::new(faulty)));
    let driven = Driven::with(options(disk.clone())).expect("open");
    let before = disk.counts().reads;
    for n in 0..50 {
        driven.create(&run(&n.to_string()));
    }
    assert!(driven.log.info(&run("unknown")).is_err());
    assert_eq!(disk.counts().reads, before);
}

#[test]
fn folders_above_the_data_folder_are_made_and_durable() {
    let disk = FaultyDisk::new(1);
    let mut options = options(Arc::new(disk.clone()));
    options.dir = "/a/b/c".into();
    let driven = Driven::with(options.clone()).expect("open");
    driven.create(&run("a"));
    drop(driven);
    let disk = disk.power_loss(Survival::Nothing);
    assert_eq!(disk.list(Path::new("/a/b/c")).expect("listed"), ["journal"]);
    options.disk = Arc::new(disk);
    assert!(Driven::with(options).expect("open").log.info(&run("a")).is_ok());
}
