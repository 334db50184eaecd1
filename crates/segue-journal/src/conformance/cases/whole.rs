//! The journal as a whole: order, the door, recovery's questions, the end.

use std::thread;

use segue_core::Seq;

use crate::{
    Part,
    api::{AppendError, Permit, ReserveError},
    conformance::{
        Fixture, model,
        support::{batch, block_on, key, part, poll_once, range, run},
    },
    stream::StreamKind,
};

/// Many writers to many streams: each acknowledged seq is given once, and holds what its writer
/// wrote.
pub fn i08_concurrent_appends_are_unique_and_gapless(fixture: &mut dyn Fixture) {
    const WRITERS: usize = 6;
    const BATCHES: usize = 60;
    let streams = [run("a"), run("b"), key("s", "c")];
    for stream in &streams {
        fixture.create(stream, &[]);
    }
    let shared = &*fixture;
    let write = |writer: usize| {
        let stream = &streams[writer % 2];
        let append = |index: usize| {
            let text = format!("{writer}-{index}");
            let parts = [part(stream, &[&text, &text]), part(&streams[2], &[&text])];
            let committed = shared.commit(parts).expect("an allowed batch");
            [(stream, range(&committed, 0)), (&streams[2], range(&committed, 1))]
                .map(|(stream, range)| (stream.clone(), range, text.clone()))
        };
        (0..BATCHES).flat_map(append).collect::<Vec<_>>()
    };
    let write = &write;
    let acks: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect()
    });
    for stream in &streams {
        let contents = fixture.contents(stream);
        let mut expected = vec![None; contents.len()];
        for (_, (first, last), text) in acks.iter().filter(|(of, ..)| of == stream) {
            for seq in *first..=*last {
                let index = usize::try_from(seq).expect("small") - 1;
                assert_eq!(expected[index].replace(text), None, "seq {seq} was given twice");
            }
        }
        let expected: Vec<_> = expected.into_iter().map(Option::<&String>::cloned).collect();
        assert_eq!(contents.into_iter().map(Some).collect::<Vec<_>>(), expected);
    }
}

/// Batches submitted one after the other, without waiting, get ascending seqs and positions.
pub fn the_order_of_submits_is_the_order_of_seqs(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    let submit = |index: u64| fixture.submit(batch([part(&stream, &[&index.to_string()])]));
    let tickets: Vec<_> = (1..=300).map(submit).collect();
    fixture.settle();
    let mut position = fixture.journal().info(&stream).map(|_| 0).expect("a known stream");
    for (index, ticket) in (1..).zip(tickets) {
        let committed = ticket.wait().expect("an allowed append");
        assert_eq!(range(&committed, 0), (index, index));
        assert!(committed.position.0 >= position);
        position = committed.position.0;
    }
    let expected: Vec<_> = (1..=300).map(|index: u64| index.to_string()).collect();
    assert_eq!(fixture.contents(&stream), expected);
}

/// What was submitted commits, whether or not anybody waits for the answer.
pub fn dropping_a_ticket_drops_only_the_answer(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    drop(fixture.submit(batch([part(&stream, &["1"])])));
    drop(fixture.submit(batch([part(&stream, &["no"]).expecting(9)])));
    assert_eq!(fixture.append(part(&stream, &["2"])), (2, 2));
    fixture.reopen();
    assert_eq!(fixture.contents(&stream), ["1", "2"]);
}

/// A stream that reserves all it gets leaves room for another, and goes on when it gives back.
pub fn no_stream_shuts_the_door_for_others(fixture: &mut dyn Fixture) {
    let (greedy, modest) = (run("a"), run("b"));
    let journal = fixture.journal();
    let mut held: Vec<Permit> = Vec::new();
    let mut waiting = loop {
        let mut reserve = journal.reserve(&greedy, 64 << 10);
        match poll_once(&mut reserve) {
            std::task::Poll::Ready(permit) => held.push(permit.expect("an open door")),
            std::task::Poll::Pending => break reserve,
        }
        assert!(held.len() < 100_000, "the door never closes");
    };
    let other = poll_once(&mut journal.reserve(&modest, 64 << 10));
    assert!(matches!(other, std::task::Poll::Ready(Ok(_))), "another stream is shut out");
    assert!(poll_once(&mut waiting).is_pending());
    held.pop();
    assert!(matches!(poll_once(&mut waiting), std::task::Poll::Ready(Ok(_))));
}

/// More than any batch may have is refused, not waited for.
pub fn what_can_never_fit_is_refused_at_the_door(fixture: &mut dyn Fixture) {
    let journal = fixture.journal();
    let error = block_on(journal.reserve(&run("a"), usize::MAX)).expect_err("too large");
    assert!(matches!(error, ReserveError::TooLarge { bytes: usize::MAX, .. }));
}

/// Recovery looks at runs, and only at those whose end is not written.
pub fn open_runs_are_those_not_closed(fixture: &mut dyn Fixture) {
    let (a, b, gone) = (run("a"), run("b"), run("gone"));
    for stream in [&a, &b, &gone, &key("s", "s"), &key("w", "w")] {
        fixture.create(stream, &["1"]);
    }
    fixture.append(part(&b, &["2"]).closing());
    fixture.commit([Part::delete(&gone)]).expect("an allowed deletion");
    for _ in 0..2 {
        assert_eq!(fixture.journal().open_runs(), std::slice::from_ref(&a));
        fixture.reopen();
    }
    fixture.append(part(&a, &[]).closing());
    assert_eq!(fixture.journal().open_runs(), []);
}

/// What a follower missed is found by position: every changed stream of the kind that exists.
pub fn changed_streams_are_found_by_kind_and_position(fixture: &mut dyn Fixture) {
    let (s, t, u) = (key("s", "s"), key("s", "t"), key("s", "u"));
    let start = fixture.journal().position();
    fixture.create(&s, &["1"]);
    fixture.create(&t, &["1"]);
    fixture.create(&run("a"), &["1"]);
    let later = fixture.journal().position();
    assert!(later > start);
    fixture.append(part(&s, &["2"]));
    fixture.create(&u, &[]);
    fixture.commit([Part::delete(&t)]).expect("an allowed deletion");
    for _ in 0..2 {
        let journal = fixture.journal();
        let changed = |since| {
            let mut found = journal.changed_since(since, StreamKind::Session).expect("readable");
            found.sort();
            found
        };
        assert_eq!(changed(start), [s.clone(), u.clone()]);
        let recent = changed(later);
        assert!(recent.contains(&s) && recent.contains(&u) && !recent.contains(&t));
        drop(journal);
        fixture.reopen();
    }
}

/// After the close nothing is taken; what was acknowledged before can still be read.
pub fn a_closed_journal_takes_nothing_more(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1"]);
    let journal = fixture.journal();
    let permit = block_on(journal.reserve(&stream, 1)).expect("an open door");
    let queued = fixture.submit(batch([part(&stream, &["2"])]));
    journal.close();
    fixture.settle();
    journal.close();
    fixture.settle();
    assert_eq!(range(&queued.wait().expect("what was queued is finished"), 0), (2, 2));
    let late = journal.submit(permit, batch([part(&stream, &["3"])])).wait();
    assert!(matches!(late, Err(AppendError::Poisoned(_))));
    let door = block_on(journal.reserve(&stream, 1));
    assert!(matches!(door, Err(ReserveError::Poisoned(_))));
    assert_eq!(journal.info(&stream).expect("a known stream").tail.next, Seq(3));
}

/// Random batches have the answers and the effects that a naive model gives them.
pub fn the_journal_agrees_with_its_model(fixture: &mut dyn Fixture) {
    model::check(fixture);
}
