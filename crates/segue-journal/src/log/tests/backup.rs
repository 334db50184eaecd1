//! A copy that is made while the journal is written to.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::{Epoch, Journal, Log, LogOptions, Part, append, run, threads::push};
use crate::{
    api::{BackupError, ReadLimit},
    conformance::{ManualClock, support::block_on},
    disk::RealDisk,
    log::check,
};
use segue_core::Seq;

/// What the cold store gives its pages back by stays as it was set.
fn auto_vacuum(data: &Path) -> i64 {
    let cold = rusqlite::Connection::open(data.join("cold.db")).expect("a database");
    cold.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).expect("a number")
}

fn open(data: &Path) -> Arc<Log> {
    let clock = Arc::new(ManualClock::new(1_000));
    let fatal = Arc::new(|why: &str| panic!("{why}"));
    let mut options = LogOptions::new(data.to_owned(), clock, fatal);
    options.segment_bytes = 64 << 10;
    options.hot_bytes = 128 << 10;
    Log::open(options).expect("open")
}

/// The numbers that a stream has, from 1.
fn count(log: &Log, stream: u64) -> u64 {
    let (key, mut next) = (run(&stream.to_string()), Seq::FIRST);
    loop {
        let page = log.read(&key, next, ReadLimit::default()).expect("readable");
        let Some(last) = page.records.last() else { return next.prev().0 };
        for record in &page.records {
            assert!(record.bytes.starts_with(format!("{} ", record.seq).as_bytes()));
        }
        next = last.seq.next();
    }
}

#[test]
fn a_backup_is_what_was_acknowledged_and_can_be_opened() {
    const STREAMS: u64 = 3;
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(&dir.path().join("data"));
    for stream in 0..STREAMS {
        push(&log, Part::create(run(&stream.to_string()), Epoch(0), Vec::new())).expect("created");
    }
    let stop = AtomicBool::new(false);
    let acked: Vec<AtomicU64> = (0..STREAMS).map(|_| AtomicU64::new(0)).collect();
    let backups = thread::scope(|scope| {
        for stream in 0..STREAMS {
            let (log, stop, acked) = (&log, &stop, &acked);
            scope.spawn(move || {
                let filler = "x".repeat(700);
                while !stop.load(Ordering::Relaxed) {
                    let number =
                        acked[usize::try_from(stream).expect("small")].load(Ordering::Relaxed) + 1;
                    let text = format!("{number} {filler}");
                    push(log, append(&run(&stream.to_string()), &text)).expect("appended");
                    acked[usize::try_from(stream).expect("small")].store(number, Ordering::Release);
                }
            });
        }
        let mut backups: Vec<(PathBuf, Vec<u64>)> = Vec::new();
        for number in 0..6 {
            // Until enough was written that something is packed between two.
            let before: u64 = acked.iter().map(|one| one.load(Ordering::Acquire)).sum();
            while acked.iter().map(|one| one.load(Ordering::Acquire)).sum::<u64>() < before + 300 {
                thread::yield_now();
            }
            let to = dir.path().join(format!("backup{number}"));
            let known = acked.iter().map(|one| one.load(Ordering::Acquire)).collect();
            let bytes = block_on(log.backup(to.clone())).expect("a backup");
            assert!(bytes > 0);
            backups.push((to, known));
        }
        stop.store(true, Ordering::Relaxed);
        backups
    });
    assert_eq!(
        block_on(log.backup(backups[0].0.clone())),
        Err(BackupError::Exists(backups[0].0.clone()))
    );
    let full = dir.path().join("file");
    std::fs::write(&full, "").expect("a file");
    let refused = block_on(log.backup(full.join("below")));
    assert!(matches!(refused, Err(BackupError::Io { .. })), "{refused:?}");
    log.close();
    assert_eq!(block_on(log.backup(dir.path().join("late"))), Err(BackupError::Closed));
    assert!(backups.last().is_some_and(|(to, _)| to.join("cold.db").exists()), "it was packed");
    assert_eq!(auto_vacuum(&backups[5].0), auto_vacuum(&dir.path().join("data")));
    for (to, known) in backups {
        let report = check(&to, &RealDisk).expect("readable");
        assert_eq!(report.faults, []);
        let copy = open(&to);
        assert_eq!(copy.damage(), []);
        for (stream, known) in (0..STREAMS).zip(known) {
            assert!(count(&copy, stream) >= known, "{}", to.display());
            // It goes on as a journal of its own.
            let text = format!("{} on", count(&copy, stream) + 1);
            push(&copy, append(&run(&stream.to_string()), &text)).expect("appended");
        }
        copy.close();
    }
}
