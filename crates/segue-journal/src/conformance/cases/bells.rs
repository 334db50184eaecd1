//! Bells: after the commit is visible, never before, and never missed.

use std::{
    collections::BTreeSet,
    task::{Context, Poll, Waker},
    thread,
};

use segue_core::Seq;

use crate::{
    Part,
    api::{ReadError, ReadLimit, Tail},
    conformance::{
        Fixture,
        support::{block_on, key, listen_until, part, run, wait},
    },
    stream::StreamKind,
};

const OPEN_AT_TWO: Tail = Tail { next: Seq(2), closed: false };

/// Whoever sees a tail can read up to it, while others append; and sees the end.
pub fn i03_a_tail_that_is_seen_can_be_read(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    let fixture = &*fixture;
    let journal = fixture.journal();
    let shard = journal.doorbell().shard();
    let listener = journal.listen(&stream, &shard).expect("a known stream");
    thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..200 {
                let part = part(&stream, &["x", "y"]);
                fixture.append(if index == 199 { part.closing() } else { part });
            }
        });
        let mut next = Seq::FIRST;
        loop {
            listener.hear();
            let tail = listener.tail();
            while next < tail.next {
                let page = journal.read(&stream, next, ReadLimit::default()).expect("readable");
                assert!(page.info.tail.next >= tail.next);
                assert_eq!(page.records.first().map(|record| record.seq), Some(next));
                next = page.records.last().map_or(next, |record| record.seq.next());
            }
            if tail.closed {
                break;
            }
            wait(&shard, &listener);
        }
        assert_eq!(next, Seq(401));
    });
}

/// A listener hears appends and the closing of its stream only.
pub fn listeners_hear_of_appends_and_of_the_end(fixture: &mut dyn Fixture) {
    let (a, b) = (run("a"), run("b"));
    fixture.create(&a, &[]);
    fixture.create(&b, &[]);
    let journal = fixture.journal();
    let shard = journal.doorbell().shard();
    let at_a = journal.listen(&a, &shard).expect("a known stream");
    let at_b = journal.listen(&b, &shard).expect("a known stream");
    fixture.append(part(&a, &["1"]));
    listen_until(&shard, &at_a, |tail| tail == OPEN_AT_TWO);
    fixture.append(part(&b, &["1"]).closing());
    listen_until(&shard, &at_b, |tail| tail == Tail { next: Seq(2), closed: true });
    assert_eq!(at_a.tail(), OPEN_AT_TWO);
    fixture.append(part(&a, &[]).closing());
    listen_until(&shard, &at_a, |tail| tail == Tail { next: Seq(2), closed: true });
}

/// A new listener knows the tail at once; of an unknown stream there is none.
pub fn a_listener_starts_at_the_tail(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1"]);
    fixture.reopen();
    let journal = fixture.journal();
    let shard = journal.doorbell().shard();
    let listener = journal.listen(&stream, &shard).expect("a known stream");
    assert_eq!((listener.stream(), listener.tail()), (&stream, OPEN_AT_TWO));
    assert!(!listener.deleted());
    let unknown = journal.listen(&run("b"), &shard).err();
    assert_eq!(unknown, Some(ReadError::NotFound(run("b"))));
}

/// A deletion rings too; the listener's tail stays, and a new stream of the name is not its own.
pub fn listeners_of_a_deleted_stream_are_rung(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1"]);
    let journal = fixture.journal();
    let shard = journal.doorbell().shard();
    let old = journal.listen(&stream, &shard).expect("a known stream");
    fixture.commit([Part::delete(&stream)]).expect("an allowed deletion");
    // The ring of the creation may come after its ack, and so after the listener.
    while !old.deleted() {
        wait(&shard, &old);
        old.hear();
    }
    assert_eq!(old.tail(), OPEN_AT_TWO);
    fixture.create(&stream, &["1", "2", "3"]);
    let new = journal.listen(&stream, &shard).expect("a known stream");
    listen_until(&shard, &new, |tail| tail.next == Seq(4));
    fixture.append(part(&stream, &["4"]));
    listen_until(&shard, &new, |tail| tail.next == Seq(5));
    assert_eq!(old.tail(), OPEN_AT_TWO);
}

/// A follower learns which streams of its kinds changed, also created and deleted ones.
pub fn followers_take_each_changed_stream_once(fixture: &mut dyn Fixture) {
    let journal = fixture.journal();
    let follower = journal.doorbell().follow(&[StreamKind::Session, StreamKind::Catalogue]);
    let mut cx = Context::from_waker(Waker::noop());
    let (s, t, c) = (key("s", "s"), key("s", "t"), key("c", "sessions"));
    fixture.create(&run("a"), &["1"]);
    assert_eq!(follower.poll_rung(&mut cx), Poll::Pending);
    fixture.create(&s, &["1"]);
    fixture.append(part(&s, &["2"]));
    fixture.create(&t, &[]);
    fixture.create(&c, &["1"]);
    fixture.commit([Part::delete(&t)]).expect("an allowed deletion");
    fixture.append(part(&c, &[]).closing());
    let mut changed = BTreeSet::new();
    // The last ring may come a little after its ack.
    while changed.len() < 3 {
        block_on(follower.rung());
        changed.extend(follower.take());
    }
    assert_eq!(changed, BTreeSet::from([c, s, t]));
}
