//! What an append to one stream may do.

use segue_core::{Clock, Seq};

use crate::{
    api::{AppendError, Tail},
    conformance::{
        Fixture,
        support::{batch, block_on, part, range, run},
    },
    stream::Epoch,
};

/// Seqs are dense from 1, over batches of any size, and each record keeps its bytes.
pub fn i01_seqs_are_dense_from_one(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1", "2"]);
    assert_eq!(fixture.append(part(&stream, &["3"])), (3, 3));
    assert_eq!(fixture.append(part(&stream, &["4", "5", ""])), (4, 6));
    assert_eq!(fixture.contents(&stream), ["1", "2", "3", "4", "5", ""]);
}

/// A record's time is that of its commit, also when the clock goes back.
pub fn records_keep_the_time_of_their_commit(fixture: &mut dyn Fixture) {
    let stream = run("a");
    let mut times = Vec::new();
    for (index, millis) in [1_000, 2_500, 700].into_iter().enumerate() {
        fixture.clock().set(millis);
        let mut part = part(&stream, &["x"]);
        if index == 0 {
            part = part.creating();
        }
        let committed = fixture.commit([part]).expect("an allowed append");
        assert_eq!(committed.parts[0].at, fixture.clock().now());
        times.push(fixture.clock().now());
    }
    fixture.reopen();
    let read: Vec<_> = fixture.read_all(&stream).iter().map(|record| record.at).collect();
    assert_eq!(read, times);
}

/// A stream created without records is open at 1.
pub fn a_new_stream_is_empty_at_one(fixture: &mut dyn Fixture) {
    let stream = run("a");
    assert_eq!(fixture.append(part(&stream, &[]).creating()), (1, 0));
    let info = fixture.journal().info(&stream).expect("a known stream");
    assert_eq!(info.available_from, Seq::FIRST);
    assert_eq!(info.tail, Tail { next: Seq::FIRST, closed: false });
    assert_eq!(fixture.contents(&stream), Vec::<String>::new());
}

/// Creating needs a free name, everything else a known one.
pub fn unknown_and_existing_streams_are_told_apart(fixture: &mut dyn Fixture) {
    let stream = run("a");
    let unknown = AppendError::NotFound(stream.clone());
    assert_eq!(fixture.refusal(part(&stream, &["x"])), unknown);
    assert_eq!(fixture.refusal(crate::Part::trim(&stream, 1)), unknown);
    assert_eq!(fixture.refusal(crate::Part::delete(&stream)), unknown);
    assert!(fixture.is_unknown(&stream));
    fixture.create(&stream, &["x"]);
    let exists = AppendError::Exists(stream.clone());
    assert_eq!(fixture.refusal(part(&stream, &["y"]).creating()), exists);
    assert_eq!(fixture.refusal(part(&stream, &["y"]).creating().at_epoch(9)), exists);
    assert_eq!(fixture.contents(&stream), ["x"]);
}

/// Refusals leave no hole: the next append gets the next seq.
pub fn a_refused_batch_takes_no_seq(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.append(part(&stream, &["1"]).creating().at_epoch(3));
    let position = fixture.journal().position();
    fixture.refusal(part(&stream, &["no"]).at_epoch(2));
    fixture.refusal(part(&stream, &["no"]).at_epoch(3).expecting(1));
    fixture.refusal(part(&stream, &["no"]).at_epoch(3).claiming("p", 0, 1, 1));
    assert_eq!(fixture.append(part(&stream, &["2"]).at_epoch(3)), (2, 2));
    assert!(fixture.journal().position() > position);
    assert_eq!(fixture.contents(&stream), ["1", "2"]);
}

/// Epoch, duplicate, closed, expected seq: of several reasons the first is told.
pub fn checks_run_in_order(fixture: &mut dyn Fixture) {
    let stream = run("a");
    let first = part(&stream, &["1"]).creating().at_epoch(1).claiming("p", 0, 0, 0);
    fixture.append(first);
    fixture.append(part(&stream, &[]).at_epoch(1).closing());
    let all_wrong = part(&stream, &["1"]).claiming("p", 0, 0, 0).expecting(9);
    let stale = AppendError::StaleEpoch { current: Epoch(1) };
    assert_eq!(fixture.refusal(all_wrong.clone()), stale);
    let committed = fixture.commit([all_wrong.at_epoch(1)]).expect("a duplicate");
    assert!(committed.duplicate);
    let new = part(&stream, &["2"]).at_epoch(1).expecting(9);
    let gap = AppendError::ProducerGap { expected: 1, received: 5 };
    assert_eq!(fixture.refusal(new.clone().claiming("p", 0, 5, 5)), gap);
    assert_eq!(fixture.refusal(new), AppendError::Closed { next: Seq(2) });
}

/// An expected seq that is not the tail is refused with the tail.
pub fn an_expected_seq_must_be_the_tail(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.append(part(&stream, &["1"]).creating().expecting(1));
    for expected in [0, 1, 3] {
        let error = fixture.refusal(part(&stream, &["no"]).expecting(expected));
        assert_eq!(error, AppendError::Unexpected { expected: Seq(expected), next: Seq(2) });
    }
    assert_eq!(fixture.append(part(&stream, &["2"]).expecting(2)), (2, 2));
    let other = part(&run("b"), &["1"]).creating().expecting(2);
    let unexpected = AppendError::Unexpected { expected: Seq(2), next: Seq(1) };
    assert_eq!(fixture.refusal(other), unexpected);
    assert!(fixture.is_unknown(&run("b")));
}

/// Closing comes with the last records; after it nothing is taken, and nothing is lost.
pub fn a_closed_stream_takes_nothing_more(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1"]);
    assert_eq!(fixture.append(part(&stream, &["2"]).closing()), (2, 2));
    for again in [false, true] {
        if again {
            fixture.reopen();
        }
        assert_eq!(fixture.tail(&stream), Tail { next: Seq(3), closed: true });
        let closed = AppendError::Closed { next: Seq(3) };
        assert_eq!(fixture.refusal(part(&stream, &["no"])), closed);
        assert_eq!(fixture.refusal(part(&stream, &[])), closed);
        assert_eq!(fixture.refusal(part(&stream, &[]).closing()), closed);
        assert_eq!(fixture.contents(&stream), ["1", "2"]);
    }
}

/// A higher epoch is taken over with any part, and a lower one is refused from then on.
pub fn a_raised_epoch_fences_the_writers_before(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["1"]);
    fixture.append(part(&stream, &[]).at_epoch(4));
    let stale = AppendError::StaleEpoch { current: Epoch(4) };
    assert_eq!(fixture.refusal(part(&stream, &["no"])), stale);
    assert_eq!(fixture.refusal(crate::Part::delete(&stream).at_epoch(3)), stale);
    assert_eq!(fixture.append(part(&stream, &["2"]).at_epoch(5)), (2, 2));
    fixture.reopen();
    let stale = AppendError::StaleEpoch { current: Epoch(5) };
    assert_eq!(fixture.refusal(part(&stream, &["no"]).at_epoch(4)), stale);
    assert_eq!(fixture.journal().info(&stream).expect("a known stream").epoch, Epoch(5));
}

/// A batch that is larger than what was reserved for it is refused; so the door cannot be cheated.
pub fn a_batch_over_its_permit_is_refused(fixture: &mut dyn Fixture) {
    let stream = run("a");
    let journal = fixture.journal();
    let permit = block_on(journal.reserve(&stream, 3)).expect("an open door");
    assert_eq!((permit.bytes(), permit.stream()), (3, &stream));
    let ticket = journal.submit(permit, batch([part(&stream, &["12", "34"]).creating()]));
    fixture.settle();
    assert_eq!(ticket.wait(), Err(AppendError::TooLarge { bytes: 4, max: 3 }));
    let permit = block_on(journal.reserve(&stream, 4)).expect("an open door");
    let ticket = journal.submit(permit, batch([part(&stream, &["12", "34"]).creating()]));
    fixture.settle();
    assert_eq!(range(&ticket.wait().expect("an allowed append"), 0), (1, 2));
}
