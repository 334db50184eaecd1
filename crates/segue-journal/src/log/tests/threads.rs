//! A thread that panics fails the log.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
};

use segue_core::{Clock, Timestamp};

use super::{
    AppendError, Batch, Committed, Driven, Epoch, FaultyDisk, Journal, Log, LogOptions, Part,
    ReadError, append, run, session,
};

/// A clock that breaks.
#[derive(Default)]
struct Broken(AtomicBool);

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::Relaxed), "the clock broke");
        Timestamp::from_millis(1)
    }
}

pub(super) fn push(log: &Log, part: Part) -> Result<Committed, AppendError> {
    let mut reserve = pin!(log.reserve(&part.stream, part.bytes()));
    let polled = reserve.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(permit)) = polled else { panic!("no room") };
    log.submit(permit, Batch { parts: vec![part] }).wait()
}

#[test]
fn a_panic_of_the_writer_fails_the_log_and_tells_the_process() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Arc::new(Broken::default());
    let (tell, told) = mpsc::sync_channel(1);
    let fatal = Arc::new(move |why: &str| drop(tell.send(why.to_owned())));
    let mut options = LogOptions::new(dir.path().join("data"), clock.clone(), fatal);
    options.segment_bytes = 64 << 10;
    let log = Log::open(options).expect("open");
    push(&log, Part::create(session("s"), Epoch(0), Vec::new())).expect("created");
    clock.0.store(true, Ordering::Relaxed);
    let lost = push(&log, append(&session("s"), "x"));
    assert!(matches!(lost, Err(AppendError::Poisoned(_))), "{lost:?}");
    assert_eq!(told.recv().expect("told"), "the writer panicked");
    assert!(matches!(log.info(&session("s")), Err(ReadError::Io(_))));
    log.close();
}

#[test]
fn a_panic_of_the_keeper_fails_the_log_and_tells_the_process() {
    let driven = Driven::open(&FaultyDisk::new(1));
    driven.create(&run("a"));
    let queued = driven.submit(vec![append(&run("a"), "x")]);
    driven.log.store.guard("the keeper panicked", || panic!("a chore broke"));
    driven.settle();
    assert!(matches!(queued.wait(), Err(AppendError::Poisoned(_))));
    assert_eq!(*driven.fatal.lock().expect("lock"), ["the keeper panicked"]);
}
