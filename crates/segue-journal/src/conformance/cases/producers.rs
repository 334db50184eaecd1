//! Idempotent producers.

use segue_core::Seq;

use crate::{
    api::{AppendError, ProducerState},
    conformance::{
        Fixture,
        support::{part, range, run},
    },
    stream::Epoch,
};

/// The same claim again: the same positions, marked, and nothing is written.
pub fn a_retry_gets_the_original_answer(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &["0"]);
    let claimed = || part(&stream, &["1", "2"]).claiming("p", 0, 0, 1);
    assert_eq!(fixture.append(claimed()), (2, 3));
    for _ in 0..3 {
        let again = fixture.commit([claimed()]).expect("a duplicate");
        assert!(again.duplicate);
        assert_eq!(range(&again, 0), (2, 3));
        assert!(fixture.journal().position() >= again.position);
    }
    assert_eq!(fixture.append(part(&stream, &["3"]).claiming("p", 0, 2, 2)), (4, 4));
    assert_eq!(fixture.contents(&stream), ["0", "1", "2", "3"]);
}

/// So it is after the stream closed and after a restart.
pub fn a_retry_gets_the_original_answer_after_close_and_reopen(fixture: &mut dyn Fixture) {
    let stream = run("a");
    let claimed = || part(&stream, &["1", "2"]).creating().claiming("p", 7, 0, 1).closing();
    assert_eq!(fixture.append(claimed()), (1, 2));
    for _ in 0..3 {
        let again = fixture.commit([claimed()]).expect("a duplicate");
        assert!(again.duplicate);
        assert_eq!(range(&again, 0), (1, 2));
        fixture.reopen();
    }
    assert_eq!(fixture.contents(&stream), ["1", "2"]);
}

/// Numbers begin at 0, leave nothing out and do not straddle what is known.
pub fn numbers_that_do_not_follow_on_are_refused(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    let gap = |expected, received| AppendError::ProducerGap { expected, received };
    let claimed = |first, last| part(&stream, &["x", "y", "z"]).claiming("p", 0, first, last);
    assert_eq!(fixture.refusal(claimed(1, 3)), gap(0, 1));
    assert_eq!(fixture.append(claimed(0, 2)), (1, 3));
    assert_eq!(fixture.refusal(claimed(4, 6)), gap(3, 4));
    assert_eq!(fixture.refusal(claimed(2, 4)), gap(3, 2));
    assert_eq!(fixture.refusal(claimed(5, 3)), gap(3, 5));
    assert_eq!(fixture.refusal(claimed(2, 1)), gap(3, 2));
    assert_eq!(fixture.append(claimed(3, 3)), (4, 6));
    let other = part(&stream, &["o"]).claiming("q", 0, 1, 1);
    assert_eq!(fixture.refusal(other), gap(0, 1));
}

/// A producer's newer epoch restarts its numbers and fences its older one; the stream's epoch
/// stays.
pub fn a_new_producer_epoch_begins_at_zero(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    fixture.append(part(&stream, &["1"]).claiming("p", 2, 0, 0));
    let stale = AppendError::StaleProducer { current: 2 };
    assert_eq!(fixture.refusal(part(&stream, &["no"]).claiming("p", 1, 1, 1)), stale);
    let gap = AppendError::ProducerGap { expected: 0, received: 1 };
    assert_eq!(fixture.refusal(part(&stream, &["no"]).claiming("p", 3, 1, 1)), gap);
    assert_eq!(fixture.append(part(&stream, &["2"]).claiming("p", 3, 0, 0)), (2, 2));
    let stale = AppendError::StaleProducer { current: 3 };
    assert_eq!(fixture.refusal(part(&stream, &["1"]).claiming("p", 2, 0, 0)), stale);
    assert_eq!(fixture.journal().info(&stream).expect("a known stream").epoch, Epoch(0));
}

/// A producer may say what adds nothing: its numbers are accepted without records. Who only wants
/// to ask expects a seq that is never the tail.
pub fn a_claim_without_records_counts(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    let empty = |seq| part(&stream, &[]).claiming("p", 0, seq, seq);
    let ask = |seq| empty(seq).expecting(0);
    let unexpected = |next| AppendError::Unexpected { expected: Seq::ZERO, next: Seq(next) };
    assert_eq!(fixture.refusal(ask(0)), unexpected(1));
    let nothing = fixture.commit([empty(0)]).expect("an allowed batch");
    assert_eq!((nothing.duplicate, range(&nothing, 0)), (false, (1, 0)));
    let known = fixture.commit([ask(0)]).expect("a duplicate");
    assert_eq!((known.duplicate, range(&known, 0)), (true, (1, 0)));
    fixture.append(part(&stream, &["1"]).claiming("p", 0, 1, 1));
    let known = fixture.commit([ask(1)]).expect("a duplicate");
    assert_eq!((known.duplicate, range(&known, 0)), (true, (1, 1)));
    assert_eq!(fixture.refusal(ask(2)), unexpected(2));
    assert_eq!(fixture.append(part(&stream, &["2"]).claiming("p", 0, 2, 2)), (2, 2));
}

/// One known claim makes the batch a duplicate: the other parts are not applied again.
pub fn a_duplicate_part_applies_nothing_of_its_batch(fixture: &mut dyn Fixture) {
    let (a, b) = (run("a"), run("b"));
    fixture.create(&b, &[]);
    let parts = || [part(&a, &["a1"]).creating().claiming("p", 0, 0, 0), part(&b, &["b1", "b2"])];
    let first = fixture.commit(parts()).expect("an allowed batch");
    assert_eq!((range(&first, 0), range(&first, 1)), ((1, 1), (1, 2)));
    let again = fixture.commit(parts()).expect("a duplicate");
    assert!(again.duplicate);
    assert_eq!(again.parts.len(), 2);
    assert_eq!(range(&again, 0), (1, 1));
    let [one, two] = parts();
    let turned = fixture.commit([two, one]).expect("a duplicate");
    assert!(turned.duplicate);
    assert_eq!(range(&turned, 1), (1, 1));
    assert_eq!(fixture.contents(&a), ["a1"]);
    assert_eq!(fixture.contents(&b), ["b1", "b2"]);
}

/// The state that would refuse a retry may be the original's work, so a duplicate is told first;
/// but a stale writer learns that it is stale.
pub fn a_duplicate_beats_all_but_a_stale_epoch(fixture: &mut dyn Fixture) {
    let (a, b) = (run("a"), run("b"));
    fixture.create(&b, &["b1"]);
    let parts = || {
        let ends = part(&a, &["a1"]).creating().expecting(1).claiming("p", 0, 0, 0).closing();
        [part(&b, &["b2"]).expecting(2), ends]
    };
    fixture.commit(parts()).expect("an allowed batch");
    assert!(fixture.commit(parts()).expect("a duplicate").duplicate);
    fixture.append(part(&b, &[]).at_epoch(1));
    let stale = AppendError::StaleEpoch { current: Epoch(1) };
    assert_eq!(fixture.commit(parts()), Err(stale));
}

/// Within one batch there is no original to answer with.
pub fn the_same_claim_twice_in_a_batch_is_refused(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    let claimed = || part(&stream, &["x"]).claiming("p", 0, 0, 0);
    let gap = AppendError::ProducerGap { expected: 1, received: 0 };
    assert_eq!(fixture.commit([claimed(), claimed()]), Err(gap));
    assert_eq!(fixture.contents(&stream), Vec::<String>::new());
    assert_eq!(fixture.append(claimed()), (1, 1));
}

/// What is remembered commits with the data, is listed, and outlives closing and restarts.
pub fn producers_are_listed_and_kept(fixture: &mut dyn Fixture) {
    let stream = run("a");
    fixture.create(&stream, &[]);
    assert_eq!(fixture.journal().producers(&stream), Ok(Vec::new()));
    fixture.append(part(&stream, &["1", "2"]).claiming("p", 4, 0, 9));
    fixture.append(part(&stream, &["3"]).claiming("q", 0, 0, 0));
    fixture.append(part(&stream, &["4"]).claiming("p", 4, 10, 10).closing());
    for _ in 0..2 {
        let mut known = fixture.journal().producers(&stream).expect("a known stream");
        known.sort_by(|one, other| one.0.cmp(&other.0));
        let names: Vec<_> = known.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(names, ["p", "q"]);
        let state =
            |epoch, last_seq, at| ProducerState { epoch, last_seq, range: (Seq(at), Seq(at)) };
        assert_eq!(known[0].1, state(4, 10, 4));
        assert_eq!(known[1].1, state(0, 0, 3));
        fixture.reopen();
    }
    assert!(fixture.journal().producers(&run("none")).is_err());
}
