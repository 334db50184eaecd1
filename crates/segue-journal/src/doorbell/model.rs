//! Every interleaving of writer, reader and clients that come and go, by a model checker.
//!
//! A lost wake-up is a reader that waits for ever, which the checker reports as a deadlock.

use std::future::poll_fn;

use loom::{future::block_on, sync::Arc, thread};
use segue_core::Seq;

use super::{Doorbell, Listener, Shard};
use crate::{
    api::{Position, Tail},
    stream::{StreamKey, StreamKind},
    sync::{AtomicBool, AtomicU64, Ordering},
};

/// What a journal has published of one stream, and its doorbell.
struct Journal {
    published: AtomicU64,
    doorbell: Doorbell,
}

/// Every interleaving with at most two preemptions: nearly all such bugs need no more, and three
/// take minutes instead of seconds.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

fn key() -> StreamKey {
    StreamKey::parse("default/r/a").expect("well-formed")
}

/// `next << 1 | closed`.
fn unpack(packed: u64) -> Tail {
    Tail { next: Seq(packed >> 1), closed: packed & 1 == 1 }
}

impl Journal {
    fn new() -> Arc<Self> {
        let published = AtomicU64::new(1 << 1);
        Arc::new(Self { published, doorbell: Doorbell::new(Position(0)) })
    }

    /// A commit: publishes, then rings.
    fn commit(&self, number: u64, tail: u64) {
        self.published.store(tail, Ordering::Release);
        self.doorbell.ringing(Position(number)).ring_key(&key(), unpack(tail));
    }

    fn append_and_close(&self) {
        self.commit(1, 2 << 1);
        self.commit(2, (3 << 1) | 1);
    }

    fn attach(&self, shard: &Shard) -> Listener {
        let tail = || Ok::<_, ()>(unpack(self.published.load(Ordering::Acquire)));
        self.doorbell.listen(&key(), shard, tail).expect("never fails")
    }
}

/// Drives the shard and waits for the listener, as a fan-out thread does.
fn wait(shard: &Shard, listener: &Listener) {
    block_on(poll_fn(|cx| {
        while shard.poll_ring(cx).is_ready() {
            shard.pump();
        }
        listener.poll_rung(cx)
    }));
}

/// Reads to the end. Gives the tails that it saw.
fn follow(shard: &Shard, listener: &Listener) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        listener.hear();
        let tail = listener.tail();
        seen.push(tail.next.0);
        if tail.closed {
            return seen;
        }
        wait(shard, listener);
    }
}

#[test]
fn f19_no_wake_up_is_lost_between_append_attach_and_finish() {
    check(|| {
        let journal = Journal::new();
        let writer = journal.clone();
        let writing = thread::spawn(move || writer.append_and_close());
        let shard = journal.doorbell.shard();
        let seen = follow(&shard, &journal.attach(&shard));
        assert!(seen.is_sorted(), "a tail went back: {seen:?}");
        assert_eq!(seen.last(), Some(&3));
        writing.join().expect("no panic");
    });
}

#[test]
fn f19_a_reader_that_leaves_takes_no_ring_from_the_others() {
    check(|| {
        let journal = Journal::new();
        let shard = journal.doorbell.shard();
        let (stays, leaves) = (journal.attach(&shard), journal.attach(&shard));
        let writer = journal.clone();
        let writing = thread::spawn(move || writer.commit(1, (2 << 1) | 1));
        drop(leaves);
        assert_eq!(follow(&shard, &stays).last(), Some(&2));
        writing.join().expect("no panic");
    });
}

#[test]
fn f19_the_last_to_leave_does_not_take_the_bell_from_who_comes() {
    check(|| {
        let journal = Journal::new();
        let shard = journal.doorbell.shard();
        let leaves = journal.attach(&shard);
        let other = journal.clone();
        let leaving = thread::spawn(move || drop(leaves));
        let writing = thread::spawn(move || other.commit(1, (2 << 1) | 1));
        assert_eq!(follow(&shard, &journal.attach(&shard)).last(), Some(&2));
        leaving.join().expect("no panic");
        writing.join().expect("no panic");
    });
}

#[test]
fn f19_who_waits_for_a_commit_hears_of_all_that_it_changed() {
    check(|| {
        let journal = Journal::new();
        let follower = journal.doorbell.follow(&[StreamKind::Run]);
        let writer = journal.clone();
        let writing = thread::spawn(move || writer.append_and_close());
        block_on(follower.heard(Position(2)));
        assert_eq!(follower.take(), [key()]);
        writing.join().expect("no panic");
    });
}

#[test]
fn f19_a_ring_during_a_pump_is_not_lost() {
    check(|| {
        let journal = Journal::new();
        let shard = journal.doorbell.shard();
        let listener = journal.attach(&shard);
        let writer = journal.clone();
        let writing = thread::spawn(move || writer.append_and_close());
        let (reader, done) = (journal.clone(), Arc::new(AtomicBool::new(false)));
        let is_done = done.clone();
        // Apart from its driver, so that it may look in the middle of a pump.
        let reading = thread::spawn(move || {
            while !hears_of_the_end(&listener) {
                block_on(listener.rung());
            }
            done.store(true, Ordering::Release);
            reader.doorbell.ringing(Position(0)).ring_all();
            listener
        });
        while !is_done.load(Ordering::Acquire) {
            block_on(shard.rung());
            shard.pump();
        }
        // Until here it listens: who left is not rung.
        drop(reading.join().expect("no panic"));
        writing.join().expect("no panic");
    });
}

fn hears_of_the_end(listener: &Listener) -> bool {
    listener.hear();
    listener.tail().closed
}
