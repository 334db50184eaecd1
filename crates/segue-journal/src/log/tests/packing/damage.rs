//! A cold store or a segment that is not what it should be, and a full disk.

use std::path::Path;

use super::*;
use crate::log::check::{Fault, Report, check_with};

const ALL: ReadLimit = ReadLimit { bytes: usize::MAX, records: usize::MAX };

#[test]
fn a_foreign_or_newer_cold_store_is_refused_and_left_alone() {
    let place = Place::new();
    pack_all(&place.open());
    let other = LogOptions { cold: place.cold(), ..options(Arc::new(FaultyDisk::new(2))) };
    assert!(matches!(Driven::with(other).err(), Some(OpenError::Unreadable { .. })));
    assert!(place.open().log.damage().is_empty());
    place.execute("UPDATE meta SET version = 2");
    let newer = Driven::with(place.options());
    assert!(matches!(newer.err(), Some(OpenError::Newer { found: 2, .. })));
    fs::write(place.cold(), "not a database, and longer than its head is").expect("written");
    let broken = Driven::with(place.options());
    assert!(matches!(broken.err(), Some(OpenError::Unreadable { .. })));
}

#[test]
fn a_lost_cold_store_is_named_as_damage() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    pack_all(&driven);
    drop(driven);
    fs::remove_file(place.cold()).expect("removed");
    let driven = place.open();
    assert_eq!(driven.log.damage()[0].first_commit, 1);
    driven.create(&session("t"));
}

#[test]
fn a_damaged_chunk_reads_as_corrupt_and_its_neighbours_as_they_are() {
    for damage in
        ["crc = crc + 1", "count = 1 << 62", "raw_bytes = 1 << 60", "body = x'00'", "codec = 9"]
    {
        a_chunk_is_damaged_by(damage);
    }
}

fn a_chunk_is_damaged_by(damage: &str) {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.create(&session("other"));
    driven.append(&session("other"), "sound");
    for n in 0..3 {
        driven.append(&session("s"), &format!("{n}").repeat(200_000));
    }
    pack_all(&driven);
    drop(driven);
    place.execute(&format!("UPDATE chunk SET {damage} WHERE id = 's' AND first_seq = 2"));
    let driven = place.open();
    let page = |from| driven.log.read(&session("s"), Seq(from), ALL);
    assert_eq!(page(1).expect("readable").records.len(), 1, "it ends before the damage");
    assert!(matches!(page(2), Err(ReadError::Corrupt { seq: Seq(2), .. })));
    assert_eq!(page(3).expect("readable").records.len(), 1);
    assert_eq!(driven.read(&session("other")).expect("readable"), ["sound"]);
    drop(driven);
    place.execute("DELETE FROM chunk WHERE id = 's' AND first_seq = 2");
    let driven = place.open();
    let absent = driven.log.read(&session("s"), Seq(2), ALL);
    assert!(matches!(absent, Err(ReadError::Corrupt { seq: Seq(2), .. })), "never a short page");
    drop(driven);
    place.execute("UPDATE stream SET next = next + 1 WHERE id = 's'");
    let driven = place.open();
    assert!(matches!(driven.log.info(&session("s")), Err(ReadError::Corrupt { .. })));
    let refused = driven.commit(vec![append(&session("s"), "more")]);
    assert_eq!(refused, Err(AppendError::Unreadable(session("s"))));
}

/// One damaged row is one stream that cannot be read: the journal opens, says so, and neither
/// serves that stream nor takes anything for it.
#[test]
fn a_damaged_row_of_a_stream_with_newer_commits_is_that_streams_damage() {
    for damage in ["next = next + 1", "crc = 1 << 40", "producers = x'00'"] {
        let place = Place::new();
        let driven = place.open();
        driven.create(&session("s"));
        driven.create(&session("gone"));
        driven.create(&session("other"));
        pack_all(&driven);
        driven.append(&session("s"), "two");
        driven.commit(vec![delete(&session("gone"))]).expect("deleted");
        driven.append(&session("s"), "three");
        driven.append(&session("other"), "sound");
        drop(driven);
        place.execute(&format!("UPDATE stream SET {damage} WHERE id IN ('s', 'gone')"));
        for opened in 0..2 {
            let driven = place.open();
            let named = driven.log.damage();
            assert_eq!(named.len(), usize::from(opened == 0), "{damage}: {named:?}");
            assert!(matches!(driven.log.info(&session("s")), Err(ReadError::Corrupt { .. })));
            let refused = driven.commit(vec![append(&session("s"), "more")]);
            assert_eq!(refused, Err(AppendError::Unreadable(session("s"))));
            assert_eq!(driven.read(&session("other")).expect("readable"), ["sound"]);
            let gone = driven.log.info(&session("gone"));
            assert_eq!(gone, Err(ReadError::NotFound(session("gone"))), "a deletion stands");
            pack_all(&driven);
        }
    }
}

/// A deletion takes everything of its name away, whatever the catalogue has of it.
#[test]
fn a_deleted_stream_whose_row_is_damaged_is_gone_for_good() {
    let place = Place::new();
    let driven = place.open();
    for id in ["gone", "anew"] {
        driven.create(&session(id));
        driven.append(&session(id), "old");
    }
    pack_all(&driven);
    driven.commit(vec![delete(&session("gone")), delete(&session("anew"))]).expect("deleted");
    driven.create(&session("anew"));
    driven.append(&session("anew"), "new");
    place.execute("UPDATE stream SET next = next + 1 WHERE id IN ('gone', 'anew')");
    pack_all(&driven);
    assert_eq!(driven.read(&session("anew")).expect("readable"), ["new"]);
    assert_eq!(place.rows("stream WHERE id = 'gone'"), 0);
    assert_eq!(place.rows("chunk WHERE id = 'gone'"), 0);
    assert_eq!((place.rows("chunk WHERE id = 'anew'"), place.rows("erase")), (1, 0));
    driven.create(&session("gone"));
}

#[test]
fn a_key_that_is_none_is_left_out_of_a_list() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.create(&session("bad"));
    pack_all(&driven);
    drop(driven);
    place.execute("UPDATE stream SET tenant = '' WHERE id = 'bad'");
    let driven = place.open();
    let changed = driven.log.changed_since(Position(0), StreamKind::Session).expect("readable");
    assert!(changed.contains(&session("s")), "{changed:?}");
}

/// A record that is damaged in its segment stays damaged, and its neighbours stay readable.
#[test]
fn damage_of_a_segment_is_carried_on_and_not_laundered() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    for text in ["first", "MARKED", "third"] {
        driven.append(&session("s"), text);
    }
    fill_segment(&driven);
    seal(&driven);
    let image = place.disk.live(&segment(1));
    let at = image.windows(6).position(|bytes| bytes == b"MARKED").expect("the record");
    place.disk.damage(&segment(1), at, b"m");
    pack(&driven);
    assert!(driven.log.store.table().sealed.is_empty());
    let page = |from| driven.log.read(&session("s"), Seq(from), ALL);
    assert_eq!(page(1).expect("readable").records.len(), 1);
    assert!(matches!(page(2), Err(ReadError::Corrupt { seq: Seq(2), .. })));
    assert_eq!(page(3).expect("readable").records[0].bytes, "third");
}

/// A segment whose index cannot be read is not packed, and not removed; the rest goes on.
#[test]
fn a_segment_that_cannot_be_packed_is_tried_again_later() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "one");
    fill_segment(&driven);
    seal(&driven);
    let entries = driven.log.store.table().sealed[0].trailer.entries_at as usize;
    let image = place.disk.live(&segment(1));
    place.disk.damage(&segment(1), entries + 16, &[image[entries + 16] ^ 1]);
    for _ in 0..3 {
        assert_eq!(driven.log.step_packer(), Step::Idle);
    }
    driven.append(&session("filler"), "goes on");
    place.disk.damage(&segment(1), entries + 16, &[image[entries + 16]]);
    assert_eq!(driven.log.step_packer(), Step::Idle, "not within a second");
    place.clock.advance(1_000);
    pack(&driven);
    assert!(driven.log.store.table().sealed.is_empty());
    assert_eq!(driven.read(&session("s")).expect("readable"), ["one"]);
}

/// The transaction that finds no room leaves nothing; nothing acknowledged is refused for it.
#[test]
fn a_full_disk_puts_packing_off_and_loses_nothing() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("s"));
    driven.append(&session("s"), "one");
    pack_all(&driven);
    driven.log.store.cold.limit_pages(1);
    driven.append(&session("s"), &noise(1));
    fill_segment(&driven);
    seal(&driven);
    for pause in [1_000, 2_000, 4_000] {
        pack(&driven);
        let left = driven.log.store.packing.pause.left(&*place.clock).expect("a pause");
        assert_eq!(left.as_millis(), pause);
        place.clock.advance(u64::try_from(pause).expect("small") - 1);
        assert_eq!(driven.log.step_packer(), Step::Idle);
        place.clock.advance(1);
        let wal = fs::metadata(place.dir.path().join("cold.db-wal")).expect("metadata");
        assert_eq!(wal.len(), 0, "what could not be packed keeps no room");
    }
    assert!(!driven.log.store.table().sealed.is_empty());
    assert_eq!(driven.read(&session("s")).expect("readable").len(), 2);
    driven.append(&session("s"), "three");
    driven.log.store.cold.limit_pages(1 << 30);
    let bytes = driven.log.store.table().sealed[0].bytes();
    place.disk.set_free(Some(2 * bytes - 1));
    assert_eq!(driven.log.step_packer(), Step::Idle, "not begun where it may not end");
    place.disk.set_free(None);
    place.clock.advance(64_000);
    pack(&driven);
    assert!(driven.log.store.table().sealed.is_empty());
    assert_eq!(driven.read(&session("s")).expect("readable").len(), 3);
}

fn checked(place: &Place) -> Report {
    check_with(Path::new("/data/segue"), &place.disk, &place.cold()).expect("checked")
}

#[test]
fn check_verifies_the_cold_store_and_names_what_is_wrong() {
    let place = Place::new();
    let driven = place.open();
    for id in ["a", "b", "c", "d"] {
        driven.create(&session(id));
        for n in 0..3 {
            driven.append(&session(id), &format!("{n}").repeat(150_000));
        }
    }
    driven.commit(vec![trim(&session("b"), 2)]).expect("trimmed");
    pack_all(&driven);
    driven.append(&session("a"), "hot");
    drop(driven);
    let before = checked(&place);
    assert_eq!((before.faults, before.chunks > 8), (Vec::new(), true));
    place.execute("DELETE FROM chunk WHERE id = 'a' AND first_seq = 2");
    place.execute("UPDATE chunk SET body = zeroblob(100) WHERE id = 'b' AND first_seq = 2");
    place.execute("UPDATE stream SET epoch = 7 WHERE id = 'c'");
    place.execute("UPDATE chunk SET incarnation = 1 WHERE id = 'd' AND first_seq = 3");
    let expected = [
        "cold.db: the row of default/s/c does not verify",
        "cold.db: default/s/a: 3 does not follow on",
        "cold.db: default/s/b: the chunk at 2 cannot be decompressed",
        "cold.db: default/s/b: 3 does not follow on",
        "cold.db: default/s/d: 3 is absent",
        "cold.db: 1 chunks belong to no stream",
    ];
    let found: Vec<String> = checked(&place).faults.iter().map(Fault::to_string).collect();
    for fault in expected {
        assert!(found.iter().any(|found| found.contains(fault)), "{fault}: {found:#?}");
    }
}

#[test]
fn check_names_a_stream_whose_row_is_lost() {
    let place = Place::new();
    let driven = place.open();
    driven.create(&session("lost"));
    pack_all(&driven);
    driven.append(&session("lost"), "one");
    drop(driven);
    assert_eq!(checked(&place).faults, []);
    place.execute("DELETE FROM stream WHERE id = 'lost'");
    let found: Vec<String> = checked(&place).faults.iter().map(Fault::to_string).collect();
    let expected = "default/s/lost: nothing says that it was created";
    assert!(found.iter().any(|found| found.contains(expected)), "{found:#?}");
}
