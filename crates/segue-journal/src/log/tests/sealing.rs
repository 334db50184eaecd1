//! Sealing: what leaves memory is found on disk, whatever happens meanwhile.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
};

use super::{
    Driven, Epoch, FaultyDisk, Journal, Op, Part, Random, ReadError, SEGMENT, Seq, Step, append,
    closing, run, segment, session,
};
use crate::{
    api::{Batch, ProducerClaim, ReadLimit},
    conformance::ManualClock,
    log::{Durability, Log, LogOptions},
    stream::StreamKey,
};
use segue_core::ProducerId;

/// Appends until one more segment is full, without sealing it.
fn fill_segment(driven: &Driven, stream: &StreamKey) {
    let before = driven.log.store.table().unsealed.len();
    while driven.log.store.table().unsealed.len() == before {
        driven.append(stream, &"x".repeat(150));
    }
}

fn seal_all(driven: &Driven) {
    while driven.log.step_keeper() == Step::Worked {}
    assert_eq!(driven.log.store.table().unsealed.len(), 1);
}

#[test]
fn finished_runs_and_sessions_leave_memory_open_runs_stay() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    for key in [run("open"), run("done"), session("s"), run("filler")] {
        driven.create(&key);
    }
    driven.commit(vec![closing(&run("done"), "end")]).expect("closed");
    for _ in 0..3 {
        fill_segment(&driven, &run("filler"));
    }
    seal_all(&driven);
    fill_segment(&driven, &run("filler"));
    seal_all(&driven);
    let in_memory = |key| driven.log.store.table().hot(&key).is_some();
    assert!(in_memory(run("open")));
    assert!(!in_memory(run("done")));
    assert!(!in_memory(session("s")));
    assert!(driven.log.info(&run("done")).expect("found").tail.closed);
    let refused = driven.commit(vec![append(&run("done"), "late")]);
    assert!(matches!(refused, Err(crate::AppendError::Closed { next: Seq(2) })));
    assert_eq!(driven.append(&session("s"), "again"), 1);
    drop(driven);
    let driven = Driven::open(&disk);
    let mut open = driven.log.open_runs();
    open.sort_unstable();
    assert_eq!(open, [run("filler"), run("open")]);
}

#[test]
fn a_stream_over_many_segments_reads_as_one() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&session("s"));
    driven.create(&run("filler"));
    let mut expected = Vec::new();
    for n in 0..40 {
        let text = format!("{n}:{}", "y".repeat(n * 7));
        driven.append(&session("s"), &text);
        expected.push(text);
        driven.append(&run("filler"), &"x".repeat(600));
        if n % 7 == 0 {
            driven.log.step_keeper();
        }
    }
    for open in [true, false] {
        assert_eq!(driven.read(&session("s")).expect("readable"), expected);
        let limit = ReadLimit { bytes: usize::MAX, records: usize::MAX };
        let whole = driven.log.read(&session("s"), Seq(1), limit).expect("readable");
        assert_eq!(whole.records.len(), 40, "one page over all segments");
        for from in 1..=40u64 {
            let page =
                driven.log.read(&session("s"), Seq(from), ReadLimit { bytes: 1, records: 9 });
            assert_eq!(page.expect("readable").records[0].seq, Seq(from));
        }
        if open {
            seal_all(&driven);
        }
    }
    drop(driven);
    assert_eq!(Driven::open(&disk).read(&session("s")).expect("readable"), expected);
}

#[test]
fn a_deleted_stream_stays_deleted_and_its_name_begins_anew() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&session("s"));
    driven.create(&run("filler"));
    driven.append(&session("s"), "old");
    fill_segment(&driven, &run("filler"));
    seal_all(&driven);
    let delete = Part { stream: session("s"), op: Op::Delete, epoch: Epoch(0) };
    driven.commit(vec![delete]).expect("deleted");
    let unknown = |driven: &Driven| {
        assert!(matches!(driven.read(&session("s")), Err(ReadError::NotFound(_))));
    };
    unknown(&driven);
    fill_segment(&driven, &run("filler"));
    seal_all(&driven);
    fill_segment(&driven, &run("filler"));
    seal_all(&driven);
    unknown(&driven);
    drop(driven);
    let driven = Driven::open(&disk);
    unknown(&driven);
    driven.create(&session("s"));
    assert_eq!(driven.read(&session("s")).expect("readable"), [""; 0]);
    assert_eq!(driven.append(&session("s"), "new"), 1);
    fill_segment(&driven, &run("filler"));
    seal_all(&driven);
    drop(driven);
    assert_eq!(Driven::open(&disk).read(&session("s")).expect("readable"), ["new"]);
}

#[test]
fn producers_are_remembered_by_the_index() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("filler"));
    let claim = |first_seq, last_seq| ProducerClaim {
        id: ProducerId::parse("p").expect("an id"),
        epoch: 3,
        first_seq,
        last_seq,
    };
    let claiming = |mut part: Part, claimed| {
        if let Op::Append { producer, create, .. } = &mut part.op {
            (*producer, *create) = (Some(claimed), false);
        }
        part
    };
    driven.create(&run("a"));
    let first = claiming(append(&run("a"), "one"), claim(0, 0));
    let original = driven.commit(vec![first.clone()]).expect("appended");
    driven.commit(vec![closing(&run("a"), "end")]).expect("closed");
    for _ in 0..2 {
        fill_segment(&driven, &run("filler"));
        seal_all(&driven);
    }
    assert!(driven.log.store.table().hot(&run("a")).is_none());
    let again = driven.commit(vec![first]).expect("the original answer");
    assert!(again.duplicate);
    let range =
        |committed: &crate::Committed| (committed.parts[0].first_seq, committed.parts[0].last_seq);
    assert_eq!(range(&again), range(&original));
}

#[test]
fn an_index_has_the_state_at_its_segments_end() {
    let disk = FaultyDisk::new(1);
    let driven = Driven::open(&disk);
    driven.create(&run("filler"));
    driven.create(&run("a"));
    driven.append(&run("a"), "in the first segment");
    fill_segment(&driven, &run("filler"));
    // Only now, when it has gone on in the second, is the first segment sealed.
    driven.append(&run("a"), "in the second");
    driven.commit(vec![closing(&run("a"), "end")]).expect("closed");
    driven.create(&run("later"));
    seal_all(&driven);
    let sealed = driven.log.store.table().sealed.last().cloned().expect("one is sealed");
    let entry = sealed.find(&run("a")).expect("readable").expect("found");
    let state = entry.state.expect("not deleted");
    assert_eq!((state.info.tail.next, state.info.tail.closed), (Seq(2), false));
    assert!(sealed.find(&run("later")).expect("readable").is_none());
    assert!(sealed.find(&run("never")).expect("readable").is_none());
    let entries = sealed.entries().expect("readable");
    for entry in entries.iter().flatten() {
        let found = sealed.find(&entry.stream).expect("readable");
        assert_eq!(found.as_ref(), Some(entry));
    }
}

#[test]
fn many_streams_are_found_in_an_index_of_any_size() {
    for n in [1usize, 2, 63, 64, 65, 1_000, 5_000] {
        let disk = FaultyDisk::new(1);
        let mut options = super::options(std::sync::Arc::new(disk.clone()));
        options.segment_bytes = 1 << 20;
        let driven = Driven::with(options).expect("open");
        let key = |id: usize| session(&format!("s{id}"));
        let create = |id| Part::create(key(id), Epoch(id as u64), Vec::new());
        driven.commit((0..n).map(create).collect()).expect("created");
        driven.create(&run("filler"));
        while driven.log.store.table().unsealed.len() == 1 {
            driven.append(&run("filler"), &"x".repeat(60_000));
        }
        seal_all(&driven);
        for id in 0..n {
            assert!(driven.log.store.table().hot(&key(id)).is_none());
            let info = driven.log.info(&key(id)).expect("found");
            assert_eq!(info.epoch, Epoch(id as u64));
        }
        assert!(driven.log.info(&session("other")).is_err());
    }
}

/// Random appends and pages against a list, with sealing, reopening and readers in between.
#[test]
fn random_work_reads_back_in_pages_of_any_size() {
    for seed in 0..20 {
        let random = Random::new(seed);
        let disk = FaultyDisk::new(seed);
        let mut driven = Driven::open(&disk);
        let mut model: BTreeMap<StreamKey, Vec<String>> = BTreeMap::new();
        for step in 0..300 {
            let key = session(&random.below(6).to_string());
            match random.below(20) {
                0 => {
                    drop(driven);
                    driven = Driven::open(&disk);
                }
                1..4 => drop(driven.log.step_keeper()),
                4..9 => check_page(&driven, &model, &key, &random, &format!("seed {seed} {step}")),
                _ => {
                    let text = "z".repeat(usize::try_from(random.below(500)).expect("small"));
                    if !model.contains_key(&key) {
                        driven.create(&key);
                    }
                    let texts = model.entry(key.clone()).or_default();
                    assert_eq!(driven.append(&key, &text), texts.len() as u64 + 1);
                    texts.push(text);
                }
            }
        }
        assert!(!driven.log.store.table().sealed.is_empty());
        assert_ne!(disk.live(&segment(1)).len() as u64, SEGMENT, "it is cut behind its index");
    }
}

fn check_page(
    driven: &Driven,
    model: &BTreeMap<StreamKey, Vec<String>>,
    key: &StreamKey,
    random: &Random,
    note: &str,
) {
    let Some(texts) = model.get(key).filter(|texts| !texts.is_empty()) else { return };
    let skip = usize::try_from(random.below(texts.len() as u64)).expect("small");
    let limit = ReadLimit {
        bytes: usize::try_from(random.below(3_000)).expect("small"),
        records: 1 + usize::try_from(random.below(20)).expect("small"),
    };
    let page = driven.log.read(key, Seq(skip as u64 + 1), limit).expect("readable");
    let mut bytes = 0;
    let fits = |(n, text): &(usize, &String)| {
        bytes += text.len();
        *n == 0 || (*n < limit.records && bytes <= limit.bytes)
    };
    let expected: Vec<&String> =
        texts[skip..].iter().enumerate().take_while(fits).map(|(_, text)| text).collect();
    let found: Vec<_> = page.records.iter().map(|record| record.bytes.clone()).collect();
    assert_eq!(found.len(), expected.len(), "{note}: {limit:?}");
    assert!(found.iter().zip(expected).all(|(found, text)| found == text.as_bytes()), "{note}");
}

/// Writers, readers, the keeper, all at once: a reader sees each stream dense, and never an error.
#[test]
fn readers_see_no_seam_while_segments_are_sealed() {
    const APPENDS: u64 = 400;
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Arc::new(ManualClock::new(1_000));
    let fatal = Arc::new(|why: &str| panic!("the log failed: {why}"));
    let mut options = LogOptions::new(dir.path().join("data"), clock, fatal);
    options.segment_bytes = 16 << 10;
    options.durability = Durability::Os;
    let log = Log::open(options.clone()).expect("open");
    let keys = ["a", "b", "c"].map(session);
    for key in &keys {
        push(&log, Part::create(key.clone(), Epoch(0), Vec::new()));
    }
    thread::scope(|scope| {
        for key in &keys {
            let log = &log;
            scope.spawn(move || {
                for n in 1..=APPENDS {
                    let last = if n == APPENDS { closing } else { append };
                    push(log, last(key, &format!("{n}:{}", "x".repeat(100))));
                }
            });
            scope.spawn(move || while !read_through(log, key) {});
        }
    });
    assert!(log.store.table().sealed.len() > 2);
    log.close();
    let log = Log::open(options).expect("open");
    for key in &keys {
        assert!(read_through(&log, key));
    }
}

fn push(log: &Log, part: Part) {
    let mut reserve = pin!(log.reserve(&part.stream, part.bytes()));
    let polled = reserve.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(permit)) = polled else { panic!("no room") };
    log.submit(permit, Batch { parts: vec![part] }).wait().expect("appended");
}

/// Reads all there is from the start; whether that was the whole stream.
fn read_through(log: &Log, key: &StreamKey) -> bool {
    let mut from = Seq::FIRST;
    loop {
        let limit = ReadLimit { bytes: 3_000, records: 40 };
        let page = log.read(key, from, limit).expect("readable");
        if page.records.is_empty() {
            assert_eq!(from, page.info.tail.next);
            return page.info.tail.closed;
        }
        for record in &page.records {
            assert_eq!(record.seq, from);
            assert!(record.bytes.starts_with(format!("{}:", from.0).as_bytes()));
            from = from.next();
        }
    }
}
