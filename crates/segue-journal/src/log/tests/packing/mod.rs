//! Packing: what leaves the segments is found in the cold store, whatever happens meanwhile.

mod crash;
mod damage;
mod erase;
mod release;
mod threads;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::{
    Driven, Epoch, FaultyDisk, Journal, LogOptions, Op, OpenError, Part, Random, ReadError, Seq,
    Step, append, closing, options, run, segment, session,
};
use crate::{
    AppendError, ReadLimit,
    api::{Position, ProducerClaim},
    conformance::ManualClock,
    stream::{StreamKey, StreamKind},
};
use segue_core::ProducerId;

/// A disk in memory with the cold store beside it.
struct Place {
    disk: FaultyDisk,
    dir: TempDir,
    clock: Arc<ManualClock>,
    hot_bytes: u64,
}

impl Place {
    /// Everything that is sealed is packed.
    fn new() -> Self {
        Self {
            disk: FaultyDisk::new(1),
            dir: tempfile::tempdir().expect("tempdir"),
            clock: Arc::new(ManualClock::new(1_000)),
            hot_bytes: 0,
        }
    }

    fn cold(&self) -> PathBuf {
        self.dir.path().join("cold.db")
    }

    fn options(&self) -> LogOptions {
        let mut options = options(Arc::new(self.disk.clone()));
        options.clock = self.clock.clone();
        options.hot_bytes = self.hot_bytes;
        options.cold = self.cold();
        options
    }

    fn open(&self) -> Driven {
        Driven::with(self.options()).expect("an open log")
    }

    /// The table `name` of the cold store has this many rows.
    fn rows(&self, name: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.cold()).expect("cold.db");
        let sql = format!("SELECT count(*) FROM {name}");
        connection.query_row(&sql, [], |row| row.get(0)).expect("a count")
    }

    fn execute(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.cold()).expect("cold.db");
        assert!(connection.execute(sql, []).expect("executed") > 0, "{sql} changes something");
    }
}

/// Appends until all that there is now is in a segment that is full.
fn fill_segment(driven: &Driven) {
    let filler = session("filler");
    if driven.log.info(&filler).is_err() {
        driven.create(&filler);
    }
    let unsealed = || driven.log.store.table().unsealed.len();
    let before = unsealed();
    while unsealed() == before {
        driven.append(&filler, &"x".repeat(300));
    }
}

fn seal(driven: &Driven) {
    while driven.log.step_keeper() == Step::Worked {}
}

fn pack(driven: &Driven) {
    while driven.log.step_packer() == Step::Worked {}
}

/// All that there is now is in the cold store, and nowhere else.
fn pack_all(driven: &Driven) {
    fill_segment(driven);
    seal(driven);
    pack(driven);
    assert!(driven.log.store.table().sealed.is_empty());
}

fn in_memory(driven: &Driven) -> usize {
    driven.log.store.table().streams().count()
}

fn delete(stream: &StreamKey) -> Part {
    Part { stream: stream.clone(), op: Op::Delete, epoch: Epoch(0) }
}

fn trim(stream: &StreamKey, before: u64) -> Part {
    Part { stream: stream.clone(), op: Op::Trim { before: Seq(before) }, epoch: Epoch(0) }
}

/// Text that does not compress much.
fn noise(seed: u64) -> String {
    let random = Random::new(seed);
    let letter = |_| char::from(b'!' + u8::try_from(random.below(90)).expect("small"));
    (0..60_000).map(letter).collect()
}

#[test]
fn l01_a_finished_run_that_is_cold_costs_no_memory_and_answers_as_before() {
    let place = Place::new();
    let driven = place.open();
    let id = ProducerId::parse("p").expect("an id");
    let claim = ProducerClaim { id, epoch: 3, first_seq: 0, last_seq: 0 };
    driven.create(&run("a"));
    let mut first = append(&run("a"), "one");
    if let Op::Append { producer, .. } = &mut first.op {
        *producer = Some(claim);
    }
    let original = driven.commit(vec![first.clone()]).expect("appended");
    driven.commit(vec![closing(&run("a"), "end")]).expect("closed");
    let before = (driven.log.info(&run("a")), driven.log.producers(&run("a")));
    for _ in 0..2 {
        pack_all(&driven);
        assert!(driven.log.store.table().hot(&run("a")).is_none());
        assert_eq!((driven.log.info(&run("a")), driven.log.producers(&run("a"))), before);
        assert_eq!(driven.read(&run("a")).expect("readable"), ["one", "end"]);
        let again = driven.commit(vec![first.clone()]).expect("the original answer");
        assert!(again.duplicate);
        assert_eq!(again.parts[0].first_seq, original.parts[0].first_seq);
        let create = driven.commit(vec![Part::create(run("a"), Epoch(0), Vec::new())]);
        assert_eq!(create, Err(AppendError::Exists(run("a"))));
        let late = driven.commit(vec![append(&run("a"), "late")]);
        assert_eq!(late, Err(AppendError::Closed { next: Seq(3) }));
    }
    assert_eq!(driven.log.info(&run("never")), Err(ReadError::NotFound(run("never"))));
}

#[test]
fn l02_who_listens_to_a_finished_run_reads_on_while_it_is_packed() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&run("a"));
    for n in 1..=4 {
        driven.append(&run("a"), &n.to_string());
    }
    let shard = driven.log.doorbell().shard();
    let listener = driven.log.listen(&run("a"), &shard).expect("listening");
    let next = |from| {
        let page = driven.log.read(&run("a"), Seq(from), ReadLimit { bytes: 1, records: 1 });
        page.expect("readable").records[0].bytes.clone()
    };
    assert_eq!(next(1), "1");
    fill_segment(&driven);
    seal(&driven);
    assert_eq!(next(2), "2");
    driven.log.step_packer();
    assert_eq!(next(3), "3");
    pack(&driven);
    assert_eq!(next(4), "4");
    driven.commit(vec![closing(&run("a"), "end")]).expect("closed");
    pack_all(&driven);
    listener.hear();
    assert!(listener.tail().closed);
    assert_eq!(next(5), "end");
    let again = driven.log.listen(&run("a"), &shard).expect("who left can come back");
    assert_eq!(again.tail(), listener.tail());
}

#[test]
fn l09_ten_thousand_finished_runs_leave_memory_flat() {
    let place = Place::new();
    let mut options = place.options();
    options.segment_bytes = 256 << 10;
    let driven = Driven::with(options.clone()).expect("open");
    let mut most = 0;
    for hundred in 0..100 {
        let end = |n| {
            let key = run(&format!("{hundred}-{n}"));
            [Part::create(key.clone(), Epoch(0), Vec::new()), closing(&key, "the end")]
        };
        driven.commit((0..100).flat_map(end).collect()).expect("committed");
        driven.settle();
        pack(&driven);
        most = most.max(in_memory(&driven));
    }
    pack_all(&driven);
    assert!(in_memory(&driven) <= 1, "but what is in the segment that is written");
    assert!(most < 3_000, "never more than a few segments of them, {most}");
    assert!(place.rows("stream") >= 10_000);
    drop(driven);
    let driven = Driven::with(options).expect("open");
    assert!(in_memory(&driven) <= 1);
    assert_eq!(driven.read(&run("41-7")).expect("readable"), ["the end"]);
}

#[test]
fn h10_a_page_near_the_end_of_a_stream_over_all_tiers_is_found() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    let mut expected = Vec::new();
    for n in 0..60 {
        let text = format!("{n}:{}", "y".repeat(n * 5));
        driven.append(&session("s"), &text);
        expected.push(text);
        match n {
            10 | 20 | 30 => pack_all(&driven),
            40 => {
                fill_segment(&driven);
                seal(&driven);
            }
            _ => {}
        }
    }
    assert!(!driven.log.store.table().sealed.is_empty(), "one segment is sealed and not packed");
    for _ in 0..2 {
        assert_eq!(driven.read(&session("s")).expect("readable"), expected);
        for from in 1..=60u64 {
            let limit = ReadLimit { bytes: 1_000, records: 7 };
            let page = driven.log.read(&session("s"), Seq(from), limit).expect("readable");
            let text = &expected[usize::try_from(from).expect("small") - 1];
            assert_eq!(page.records[0].seq, Seq(from));
            assert_eq!(page.records[0].bytes, text.as_bytes());
        }
        pack_all(&driven);
    }
}

/// The hot tier is bounded, an open run that lasts for ever among thousands of short ones
/// notwithstanding, and its records end up in a few chunks.
#[test]
fn a_long_run_among_short_ones_does_not_pin_segments() {
    let mut place = Place::new();
    place.hot_bytes = 4 * super::SEGMENT;
    let driven = place.open();
    driven.create(&run("long"));
    let mut expected = Vec::new();
    for n in 0..200 {
        let text = format!("{n}");
        driven.append(&run("long"), &text);
        expected.push(text);
        for short in 0..3 {
            let key = run(&format!("{n}-{short}"));
            driven.create(&key);
            driven.commit(vec![closing(&key, &"x".repeat(300))]).expect("closed");
        }
        driven.settle();
        pack(&driven);
        assert!(driven.log.store.table().hot_bytes() <= place.hot_bytes);
    }
    assert_eq!(driven.read(&run("long")).expect("readable"), expected);
    assert!(place.rows("stream") > 500);
    let sql = "chunk WHERE id = 'long'";
    assert!(place.rows(sql) <= 10, "{} chunks", place.rows(sql));
    drop(driven);
    let driven = place.open();
    assert_eq!(driven.log.open_runs(), [run("long")]);
    assert_eq!(driven.read(&run("long")).expect("readable"), expected);
    let create = driven.commit(vec![Part::create(run("7-1"), Epoch(0), Vec::new())]);
    assert_eq!(create, Err(AppendError::Exists(run("7-1"))));
}

#[test]
fn large_records_make_chunks_of_their_own() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    let lengths = [10, 100_000, 300_000, 5, 200_000, 70_000];
    let texts: Vec<String> = lengths.map(|n| format!("{n}").repeat(n / 5)).into();
    for text in &texts {
        driven.append(&session("s"), text);
    }
    pack_all(&driven);
    assert_eq!(driven.read(&session("s")).expect("readable"), texts);
    assert_eq!(place.rows("chunk WHERE raw_bytes > 256 * 1024 AND count > 1"), 0);
}

#[test]
fn open_runs_and_changed_streams_come_from_the_catalogue() {
    let place = Place::new();
    let driven = place.open();
    for key in [run("open"), run("done"), run("gone"), session("s"), session("gone")] {
        driven.create(&key);
    }
    driven.commit(vec![closing(&run("done"), "end")]).expect("closed");
    pack_all(&driven);
    driven.commit(vec![delete(&run("gone")), delete(&session("gone"))]).expect("deleted");
    let middle = driven.log.position();
    driven.create(&session("later"));
    driven.append(&session("filler"), "changed as well");
    for _ in 0..2 {
        let changed = |since| {
            let mut found = driven.log.changed_since(since, StreamKind::Session).expect("readable");
            found.sort();
            found
        };
        assert_eq!(changed(Position(0)), [session("filler"), session("later"), session("s")]);
        assert_eq!(changed(middle), [session("filler"), session("later")]);
        pack_all(&driven);
    }
    drop(driven);
    assert_eq!(place.open().log.open_runs(), [run("open")]);
}

#[test]
fn a_segment_that_is_packed_and_still_there_is_removed_at_open() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "one");
    fill_segment(&driven);
    seal(&driven);
    assert_eq!(driven.log.step_packer(), Step::Worked, "the transaction, and not yet the name");
    assert_eq!(driven.read(&session("s")).expect("readable"), ["one"], "it is in both");
    drop(driven);
    assert!(!place.disk.live(&segment(1)).is_empty());
    let driven = place.open();
    assert_eq!(driven.read(&session("s")).expect("readable"), ["one"]);
    assert_eq!(driven.append(&session("s"), "two"), 2);
    assert!(driven.log.damage().is_empty());
    let names = crate::disk::Disk::list(&place.disk, segment(1).parent().expect("a folder"));
    assert!(!names.expect("a list").contains(&"0000000000000001.seg".to_owned()));
}

#[test]
fn i22_the_cold_store_is_private_to_the_owner() {
    let place = Place::new();
    let driven = place.open();
    assert!(!place.cold().exists(), "no file before something is packed");
    pack_all(&driven);
    let mut seen = 0;
    for entry in fs::read_dir(place.dir.path()).expect("a folder") {
        let mode = entry.and_then(|entry| entry.metadata()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its log and the log's index");
}
