//! What is trimmed and deleted goes from the cold store, and its room comes back.

use super::*;

#[test]
fn o05_an_erased_name_begins_anew_and_nothing_of_the_old_one_is_found() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "old");
    driven.append(&session("s"), "old too");
    pack_all(&driven);
    driven.commit(vec![delete(&session("s"))]).expect("deleted");
    assert_eq!(driven.read(&session("s")), Err(ReadError::NotFound(session("s"))));
    driven.create(&session("s"));
    assert_eq!(driven.append(&session("s"), "new"), 1);
    for _ in 0..2 {
        assert_eq!(driven.read(&session("s")).expect("readable"), ["new"]);
        pack_all(&driven);
    }
    assert_eq!(place.rows("chunk WHERE id = 's'"), 1);
    assert_eq!(place.rows("erase"), 0);
    drop(driven);
    assert_eq!(place.open().read(&session("s")).expect("readable"), ["new"]);
}

#[test]
fn l04_an_erasure_of_an_old_stream_leaves_the_new_one_of_its_name() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "old");
    pack_all(&driven);
    driven.commit(vec![delete(&session("s"))]).expect("deleted");
    let erasures = driven.log.store.packing.take_erasures();
    assert_eq!(erasures.len(), 1);
    driven.create(&session("s"));
    driven.append(&session("s"), "new");
    pack_all(&driven);
    // Only now, and twice.
    for erasure in [erasures.clone(), erasures].concat() {
        driven.log.store.packing.erase(erasure);
        pack(&driven);
    }
    assert_eq!(driven.read(&session("s")).expect("readable"), ["new"]);
    assert_eq!((place.rows("chunk WHERE id = 's'"), place.rows("erase")), (1, 0));
}

#[test]
fn o08_an_erasure_that_was_cut_short_goes_on_after_a_restart() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.create(&session("other"));
    driven.append(&session("other"), "stays");
    let text = "y".repeat(200_000);
    for _ in 0..90 {
        driven.append(&session("s"), &text);
    }
    pack_all(&driven);
    assert_eq!(place.rows("chunk WHERE id = 's'"), 90);
    driven.commit(vec![delete(&session("s"))]).expect("deleted");
    assert_eq!(driven.log.step_packer(), Step::Worked, "one bounded step");
    assert_eq!(place.rows("chunk WHERE id = 's'"), 26, "the rest is left to later steps");
    assert_eq!(place.rows("erase"), 1, "and is noted");
    drop(driven);
    let driven = place.open();
    assert_eq!(driven.read(&session("s")), Err(ReadError::NotFound(session("s"))));
    pack(&driven);
    assert_eq!((place.rows("chunk WHERE id = 's'"), place.rows("erase")), (0, 0));
    assert_eq!(driven.read(&session("other")).expect("readable"), ["stays"]);
}

/// What a crash left unsaid is said by the deletion's own segment when that is packed.
#[test]
fn o03_a_deletion_whose_erasure_was_never_asked_for_is_erased_by_packing() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "old");
    driven.create(&session("t"));
    for _ in 0..3 {
        driven.append(&session("t"), &"z".repeat(200_000));
    }
    pack_all(&driven);
    driven.commit(vec![delete(&session("s")), trim(&session("t"), 3)]).expect("committed");
    drop(driven);
    let driven = place.open();
    assert_eq!(driven.log.step_packer(), Step::Idle, "nothing is known of it");
    assert_eq!(place.rows("stream WHERE id = 's'"), 1);
    pack_all(&driven);
    assert_eq!((place.rows("stream WHERE id = 's'"), place.rows("chunk WHERE id = 's'")), (0, 0));
    assert_eq!(place.rows("chunk WHERE id = 't'"), 1);
    let trimmed = driven.log.read(&session("t"), Seq(1), ReadLimit::default());
    assert_eq!(trimmed, Err(ReadError::Trimmed { available_from: Seq(3) }));
    assert_eq!(driven.read(&session("t")).expect("readable").len(), 1);
}

/// Deleted before it was packed: its records are not moved at all.
#[test]
fn what_newer_segments_say_to_be_dead_is_not_moved() {
    let mut place = Place::new();
    place.hot_bytes = u64::MAX;
    let driven = place.open();
    for id in ["gone", "anew", "trimmed"] {
        driven.create(&session(id));
        driven.append(&session(id), "old");
        driven.append(&session(id), "old too");
    }
    fill_segment(&driven);
    driven.commit(vec![delete(&session("gone")), delete(&session("anew"))]).expect("deleted");
    driven.create(&session("anew"));
    driven.append(&session("anew"), "new");
    driven.commit(vec![trim(&session("trimmed"), 2)]).expect("trimmed");
    fill_segment(&driven);
    seal(&driven);
    drop(driven);
    place.hot_bytes = 0;
    let driven = place.open();
    driven.log.step_packer();
    assert_eq!(place.rows("stream WHERE id IN ('gone', 'anew')"), 0);
    assert_eq!(place.rows("chunk WHERE id = 'trimmed' AND first_seq = 2 AND count = 1"), 1);
    for _ in 0..2 {
        assert_eq!(driven.read(&session("anew")).expect("readable"), ["new"]);
        assert_eq!(driven.read(&session("trimmed")).expect("readable"), ["old too"]);
        assert_eq!(driven.read(&session("gone")), Err(ReadError::NotFound(session("gone"))));
        pack(&driven);
    }
}

#[test]
fn l08_space_comes_back_after_a_trim_and_a_deletion_and_old_cursors_are_told() {
    let place = Place::new();
    let driven = place.open();
    for id in ["a", "b"] {
        driven.create(&session(id));
        for n in 0..40 {
            driven.append(&session(id), &noise(n));
        }
    }
    pack_all(&driven);
    let size = || {
        // The write-ahead log is cut when it is moved into the file.
        assert!(place.open().log.store.cold.settle().expect("settled"));
        fs::metadata(place.cold()).expect("metadata").len()
    };
    drop(driven);
    let full = size();
    let driven = place.open();
    driven.commit(vec![delete(&session("a")), trim(&session("b"), 39)]).expect("committed");
    pack(&driven);
    drop(driven);
    let left = size();
    assert!(left < full / 5, "{left} of {full} bytes are left");
    let driven = place.open();
    for _ in 0..2 {
        let read = |id| driven.log.read(&session(id), Seq(7), ReadLimit::default());
        assert_eq!(read("a"), Err(ReadError::NotFound(session("a"))));
        assert_eq!(read("b"), Err(ReadError::Trimmed { available_from: Seq(39) }));
        assert_eq!(driven.read(&session("b")).expect("readable"), [noise(38), noise(39)]);
        pack_all(&driven);
    }
}

#[test]
fn an_erasure_that_fails_is_tried_again_and_does_not_keep_packing() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "one");
    pack_all(&driven);
    let trigger = "CREATE TRIGGER no BEFORE DELETE ON chunk WHEN old.id = 's' \
                   BEGIN SELECT RAISE(ABORT, 'no'); END";
    let connection = rusqlite::Connection::open(place.cold()).expect("cold.db");
    connection.execute_batch(trigger).expect("made");
    driven.commit(vec![delete(&session("s"))]).expect("deleted");
    assert_eq!(driven.log.step_packer(), Step::Idle);
    let paused = |pause: &crate::log::pause::Pause| pause.left(&*place.clock).is_some();
    let packing = &driven.log.store.packing;
    assert_eq!((paused(&packing.pause), paused(&packing.erasing)), (false, true));
    driven.create(&session("other"));
    fill_segment(&driven);
    connection.execute_batch("DROP TRIGGER no").expect("dropped");
    assert_eq!(place.rows("chunk WHERE id = 's'"), 1);
    place.clock.advance(1_000);
    // Only what was asked for, before the deletion's own segment is sealed.
    assert_eq!(driven.log.step_packer(), Step::Worked);
    assert_eq!(place.rows("chunk WHERE id = 's'"), 0);
    connection.execute_batch(trigger).expect("made");
    driven.log.store.packing.erasing.begin(&*place.clock, true);
    seal(&driven);
    pack(&driven);
    assert!(driven.log.store.table().sealed.is_empty());
    assert!(paused(&packing.erasing), "what was packed does not end it");
    packing.erasing.end();
    packing.pause.begin(&*place.clock, true);
    connection.execute_batch("DROP TRIGGER no").expect("dropped");
    pack(&driven);
    assert!(paused(&packing.pause), "nor does an erasure end packing's");
}

/// A hot tier that is full goes before any number of erasures.
#[test]
fn a_full_hot_tier_is_packed_before_anything_is_erased() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "one");
    pack_all(&driven);
    driven.commit(vec![delete(&session("s"))]).expect("deleted");
    fill_segment(&driven);
    seal(&driven);
    let packed = driven.log.store.cold.packed().segment;
    assert_eq!(driven.log.step_packer(), Step::Worked);
    assert_eq!(driven.log.store.cold.packed().segment, packed + 1);
}
