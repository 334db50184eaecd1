//! Batches over several streams.

use segue_core::Seq;

use crate::{
    Part,
    api::AppendError,
    conformance::{
        Fixture,
        support::{key, part, range, run},
    },
};

/// All parts commit together, each with its own positions, and stay together.
pub fn a_batch_commits_whole_over_streams(fixture: &mut dyn Fixture) {
    let (a, b) = (run("a"), key("s", "b"));
    fixture.create(&b, &["b1"]);
    let parts = [part(&a, &["a1", "a2"]).creating().closing(), part(&b, &["b2"])];
    let committed = fixture.commit(parts).expect("an allowed batch");
    assert_eq!((range(&committed, 0), range(&committed, 1)), ((1, 2), (2, 2)));
    assert!(fixture.journal().position() >= committed.position);
    fixture.reopen();
    assert_eq!(fixture.contents(&a), ["a1", "a2"]);
    assert_eq!(fixture.contents(&b), ["b1", "b2"]);
    assert!(fixture.tail(&a).closed && !fixture.tail(&b).closed);
}

/// One refused part refuses the batch, wherever it stands: nothing is created, appended, closed,
/// trimmed, deleted or remembered.
pub fn a_refused_part_refuses_all(fixture: &mut dyn Fixture) {
    let (a, b, new) = (run("a"), run("b"), run("new"));
    fixture.create(&a, &["a1"]);
    fixture.create(&b, &["b1", "b2"]);
    let bad = || part(&a, &["no"]).expecting(7);
    let others = || {
        vec![
            part(&new, &["no"]).creating(),
            part(&a, &["no"]).claiming("p", 0, 0, 0),
            part(&a, &["no"]).at_epoch(0).claiming("p", 0, 1, 1),
            Part::trim(&b, 2),
            Part::delete(&b),
            part(&b, &["no"]).creating().closing(),
        ]
    };
    for place in 0..=others().len() {
        let mut parts = others();
        parts.insert(place, bad());
        let error = fixture.commit(parts).expect_err("a refused batch");
        assert!(matches!(error, AppendError::Unexpected { .. }), "{place}: {error}");
    }
    fixture.append(part(&a, &["a2"]).claiming("p", 0, 0, 0));
    for _ in 0..2 {
        assert!(fixture.is_unknown(&new));
        assert_eq!(fixture.contents(&a), ["a1", "a2"]);
        assert_eq!(fixture.contents(&b), ["b1", "b2"]);
        fixture.reopen();
    }
}

/// A stream may occur several times, and each part sees what the ones before it did.
pub fn later_parts_see_earlier_ones(fixture: &mut dyn Fixture) {
    let a = run("a");
    let parts = [
        part(&a, &["1"]).creating().claiming("p", 0, 0, 0),
        part(&a, &["2", "3"]).expecting(2).claiming("p", 0, 1, 2),
        Part::trim(&a, 2),
        part(&a, &["4"]).at_epoch(2).closing(),
    ];
    let committed = fixture.commit(parts).expect("an allowed batch");
    let ranges: Vec<_> = (0..4).map(|index| range(&committed, index)).collect();
    assert_eq!(ranges, [(1, 1), (2, 3), (4, 3), (4, 4)]);
    assert_eq!(fixture.contents(&a), ["2", "3", "4"]);
    let b = run("b");
    let parts = [part(&b, &[]).creating().closing(), part(&b, &["no"])];
    assert_eq!(fixture.commit(parts), Err(AppendError::Closed { next: Seq(1) }));
    let parts = [part(&b, &[]).creating(), part(&b, &[]).creating()];
    assert_eq!(fixture.commit(parts), Err(AppendError::Exists(b.clone())));
    let parts = [part(&b, &[]).creating(), Part::delete(&b), part(&b, &["no"])];
    assert_eq!(fixture.commit(parts), Err(AppendError::NotFound(b.clone())));
    assert!(fixture.is_unknown(&b));
}

/// Deleting and creating in one batch gives another stream of the same name.
pub fn a_stream_can_be_replaced_in_one_batch(fixture: &mut dyn Fixture) {
    let a = run("a");
    fixture.append(part(&a, &["old", "old"]).creating().claiming("p", 3, 0, 1));
    let old = fixture.journal().info(&a).expect("a known stream").incarnation;
    let new = part(&a, &["new"]).creating().claiming("p", 0, 0, 0);
    let committed = fixture.commit([Part::delete(&a), new]).expect("an allowed batch");
    assert_eq!(range(&committed, 1), (1, 1));
    for _ in 0..2 {
        assert_eq!(fixture.contents(&a), ["new"]);
        assert_ne!(fixture.journal().info(&a).expect("a known stream").incarnation, old);
        let producers = fixture.journal().producers(&a).expect("a known stream");
        assert_eq!(producers.iter().map(|(_, state)| state.epoch).collect::<Vec<_>>(), [0]);
        fixture.reopen();
    }
}
