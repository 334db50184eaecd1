//! The store by itself: chunks, rows, erasures.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segue_core::{ProducerId, Seq, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::{
    api::{Position, ProducerState, StreamInfo, Tail},
    state::StreamState,
    stream::{Epoch, Incarnation, StreamKey, StreamKind},
};

const ONE: Incarnation = Incarnation(1);

fn store() -> (TempDir, Cold) {
    let dir = tempfile::tempdir().expect("tempdir");
    let cold = Cold::open(&dir.path().join("cold.db"), [7; 16]).expect("open");
    (dir, cold)
}

fn key(letter: &str, id: &str) -> StreamKey {
    StreamKey::parse(&format!("default/{letter}/{id}")).expect("a key")
}

/// A frame of the test's own: its length, then as many bytes that its seq gives.
fn frame(seq: u64, len: usize) -> Vec<u8> {
    let mut frame = u32::try_from(len).expect("small").to_le_bytes().to_vec();
    frame.extend((0..len).map(|n| (seq + n as u64).to_le_bytes()[0]));
    frame
}

fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    Some(4 + usize::try_from(len).ok()?)
}

fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_000 + seq)
}

/// Packs records of these lengths, which follow on from `next`, as one segment's.
fn pack(cold: &Cold, stream: &StreamKey, next: u64, lengths: &[usize]) {
    let packed = cold.write(|changes| {
        let mut chunker = Chunker::new(changes, stream, ONE);
        chunker.reopen(Seq::FIRST, Seq(next), lengths.iter().sum::<usize>() + 4 * lengths.len())?;
        for (seq, len) in (next..).zip(lengths) {
            chunker.push(Seq(seq), at(seq), &frame(seq, *len))?;
        }
        chunker.finish()
    });
    packed.map_err(|error: ColdError| error.to_string()).expect("packed");
}

fn chunks(cold: &Cold, stream: &StreamKey) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    cold.each_chunk(stream, ONE, |chunk| chunks.push(chunk.expect("sound"))).expect("readable");
    chunks
}

fn row(stream: &StreamKey, changed: u64) -> Row {
    let info = StreamInfo {
        incarnation: Incarnation(u64::MAX - 3),
        epoch: Epoch(u64::MAX),
        available_from: Seq(3),
        tail: Tail { next: Seq(9), closed: changed.is_multiple_of(2) },
    };
    let producer = ProducerState { epoch: 4, last_seq: 5, range: (Seq(6), Seq(7)) };
    let producers = BTreeMap::from([(ProducerId::parse("p").expect("an id"), producer)]);
    let state = StreamState { info, producers };
    Row { stream: stream.clone(), state, changed, cold_until: Seq(8) }
}

fn put(cold: &Cold, rows: &[Row]) {
    cold.write::<_, ColdError>(|changes| rows.iter().try_for_each(|row| changes.put(row)))
        .expect("put");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever is packed in whatever pieces is found by each of its seqs, as it was; chunks have
    /// the lengths that they should, and those that are short are few.
    #[test]
    fn records_are_found_in_chunks_of_the_right_size(
        pieces in prop::collection::vec(
            prop::collection::vec(prop_oneof![20 => 0..2_000usize, 1 => 100_000..300_000usize], 1..40),
            1..25,
        ),
    ) {
        let (_dir, cold) = store();
        let stream = key("r", "a");
        let (mut next, mut lengths) = (1, vec![0]);
        for piece in &pieces {
            pack(&cold, &stream, next, piece);
            next += piece.len() as u64;
            lengths.extend(piece);
        }
        for seq in 1..next {
            let chunk = cold.chunk(&stream, ONE, Seq(seq)).expect("readable").expect("found");
            let found = chunk.records(frame_len).find(|(found, ..)| found.0 == seq);
            let (_, time, bytes) = found.expect("in the chunk");
            let len = lengths[usize::try_from(seq).expect("small")];
            prop_assert_eq!((time, &bytes[..]), (at(seq), &frame(seq, len)[..]));
        }
        prop_assert_eq!(cold.chunk(&stream, ONE, Seq(next)).expect("readable"), None);
        let chunks = chunks(&cold, &stream);
        prop_assert!(chunks.iter().all(|chunk| chunk.raw.len() <= 256 << 10 || chunk.count == 1));
        let short = chunks.iter().rev().take_while(|chunk| chunk.raw.len() < 64 << 10);
        prop_assert!(short.count() <= 14);
    }
}

/// One tiny record in each segment: the worst there is for what is written again.
#[test]
fn what_is_written_again_is_bounded() {
    const RECORDS: u64 = 640;
    let (_dir, cold) = store();
    let stream = key("r", "a");
    let (mut written, mut before, mut raw) = (0, 0, 0);
    for seq in 1..=RECORDS {
        pack(&cold, &stream, seq, &[100]);
        let last = chunks(&cold, &stream).last().expect("a chunk").raw.len();
        written += last;
        raw += 112;
        before = last.max(before);
    }
    assert!(chunks(&cold, &stream).len() <= 12);
    assert!(before > 32 << 10, "they are put together");
    assert!(written < 16 * raw, "{written} bytes are written for {raw}");
}

#[test]
fn rows_are_kept_as_they_are_and_found_by_kind_and_change() {
    let (dir, cold) = store();
    assert_eq!(cold.find(&key("r", "a")).expect("readable"), None, "before there is a file");
    let rows = [row(&key("r", "a"), 5), row(&key("r", "b"), 6), row(&key("s", "a"), 7)];
    put(&cold, &rows);
    cold.write::<_, ColdError>(|changes| changes.set_packed(Packed { segment: 2, commit: 9 }))
        .expect("set");
    drop(cold);
    let cold = Cold::open(&dir.path().join("cold.db"), [7; 16]).expect("again");
    for row in &rows {
        assert_eq!(cold.find(&row.stream).expect("readable").as_ref(), Some(row));
    }
    assert_eq!(cold.open_runs().expect("readable"), [rows[0].clone()]);
    let changed = |since, kind| cold.changed_since(Position(since), kind).expect("readable");
    assert_eq!(changed(5, StreamKind::Run), [key("r", "b")]);
    assert_eq!(changed(0, StreamKind::Session), [key("s", "a")]);
    assert_eq!(changed(9, StreamKind::Session), []);
    assert_eq!(cold.packed(), Packed { segment: 2, commit: 9 });
    assert_eq!(cold.faults().expect("readable"), [""; 0]);
}

#[test]
fn a_transaction_that_fails_changes_nothing() {
    let (_dir, cold) = store();
    put(&cold, &[row(&key("r", "a"), 1)]);
    let failed = cold.write(|changes| {
        changes.put(&row(&key("r", "b"), 2))?;
        changes.set_packed(Packed { segment: 1, commit: 1 })?;
        Err::<(), _>(ColdError::Foreign)
    });
    assert!(matches!(failed, Err(ColdError::Foreign)));
    assert_eq!(cold.find(&key("r", "b")).expect("readable"), None);
    assert_eq!(cold.packed(), Packed::default());
}

#[test]
fn an_erasure_never_reaches_what_stays() {
    let (_dir, cold) = store();
    let stream = key("r", "a");
    pack(&cold, &stream, 1, &[150_000, 150_000, 150_000]);
    let mut row = row(&stream, 1);
    (row.state.info.incarnation, row.state.info.available_from) = (ONE, Seq(1));
    put(&cold, &[row]);
    let erase = |incarnation, before| {
        let stream = stream.clone();
        cold.write::<_, ColdError>(|changes| {
            changes.erase(&Erasure { stream, incarnation, before })?;
            changes.drop_chunks()
        })
        .expect("erased")
    };
    assert_eq!(erase(Incarnation(2), None), 0, "of another stream of its name");
    assert_eq!(erase(ONE, Some(Seq(3))), 2);
    assert_eq!(erase(ONE, Some(Seq(2))), 0, "it never begins earlier again");
    assert_eq!(chunks(&cold, &stream)[0].first, Seq(3));
    assert_eq!(erase(ONE, None), 1);
    assert!(!cold.has_erasures().expect("readable"));
    let info = cold.find(&stream).expect("readable").expect("it stays").state.info;
    assert_eq!(info.available_from, info.tail.next);
}

/// What a segment's removal relies on, and what keeps the file small: neither can be seen in a test
/// whose file always survives.
#[test]
fn a_commit_is_synced_and_free_pages_can_be_given_back() {
    let (dir, cold) = store();
    put(&cold, &[row(&key("r", "a"), 1)]);
    for cold in [cold, Cold::open(&dir.path().join("cold.db"), [7; 16]).expect("again")] {
        let writer = held(&cold.writer);
        let connection = writer.as_ref().expect("it was written to");
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        assert_eq!(number("synchronous").expect("a number"), 2, "full");
        assert_eq!(number("auto_vacuum").expect("a number"), 2, "incremental");
        let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
        assert_eq!(mode, Ok("wal".to_owned()));
    }
}
