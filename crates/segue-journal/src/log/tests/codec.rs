//! What is written is what is read; what is changed is seen.

use proptest::prelude::*;

use super::{Bytes, Epoch, Seq, StreamKey, run, session};
use crate::{
    api::ProducerClaim,
    log::{
        commit::{
            COMMIT_HEAD, CommitBuffer, CommitHead, Extent, Flags, PartFacts, Parts, RecordSeed,
            part_bound,
        },
        layout::{JournalId, Seed, u32_len},
    },
    stream::Incarnation,
};
use segue_core::{ProducerId, Timestamp};

fn at() -> Timestamp {
    Timestamp::from_millis(5)
}

fn seed() -> Seed {
    Seed::of(JournalId([3; 16]), 9)
}

prop_compose! {
    fn claim()(id in "[a-z]{1,20}", numbers in any::<(u64, u64, u64)>()) -> ProducerClaim {
        let (epoch, first_seq, last_seq) = numbers;
        ProducerClaim { id: ProducerId::parse(&id).expect("an id"), epoch, first_seq, last_seq }
    }
}

prop_compose! {
    fn part()(
        id in "[a-z]{1,40}",
        is_run in any::<bool>(),
        numbers in (any::<u64>(), any::<u64>(), 1..u64::MAX / 2),
        close in any::<bool>(),
        producer in proptest::option::of(claim()),
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
    ) -> (PartFacts, Vec<Bytes>) {
        let stream: StreamKey = if is_run { run(&id) } else { session(&id) };
        let flags = Flags::default()
            .with(Flags::CLOSE, close)
            .with(Flags::PRODUCER, producer.is_some());
        let facts = PartFacts {
            stream,
            incarnation: Incarnation(numbers.0),
            epoch: Epoch(numbers.1),
            flags,
            first_seq: Seq(numbers.2),
            records: u32_len(records.len()),
            producer,
        };
        (facts, records.into_iter().map(Bytes::from).collect())
    }
}

/// A commit's bytes and its extents.
fn encode(parts: &[(PartFacts, Vec<Bytes>)]) -> (Vec<u8>, Vec<Extent>) {
    let (mut buffer, mut extents) = (CommitBuffer::default(), Vec::new());
    buffer.begin();
    for (facts, records) in parts {
        let record_seed = RecordSeed::of(&facts.stream, facts.incarnation);
        buffer.part(seed(), at(), facts, (record_seed, records), |extent| extents.push(extent));
    }
    buffer.finish(seed(), 77, at());
    (buffer.with_zeros(0).to_vec(), extents)
}

proptest! {
    #[test]
    fn a_commit_reads_back_as_it_was_written(parts in proptest::collection::vec(part(), 1..5)) {
        let (bytes, extents) = encode(&parts);
        let head = CommitHead::decode(&bytes, seed()).expect("a head");
        prop_assert_eq!((head.number, head.at, head.total()), (77, at(), bytes.len() as u64));
        let body = &bytes[COMMIT_HEAD..];
        prop_assert!(head.is_body(body));
        let read: Vec<_> = Parts::new(&head, body, 0, seed()).verify().collect();
        prop_assert!(read.iter().all(|part| part.sound));
        let facts: Vec<_> = read.iter().map(|part| part.facts.clone()).collect();
        let expected: Vec<_> = parts.iter().map(|(facts, _)| facts.clone()).collect();
        prop_assert_eq!(facts, expected);
        let found: Vec<_> = read.into_iter().flat_map(|part| part.extents).collect();
        prop_assert_eq!(found, extents);
        let bound: usize = parts
            .iter()
            .map(|(facts, records)| {
                let frames: usize = records.iter().map(|record| record.len() + 8).sum();
                part_bound(&facts.stream, facts.producer.as_ref()) + frames
            })
            .sum();
        prop_assert!(bytes.len() <= COMMIT_HEAD + bound + 7);
    }

    #[test]
    fn a_changed_byte_is_seen(parts in proptest::collection::vec(part(), 1..4), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (mut bytes, _) = encode(&parts);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let whole = CommitHead::decode(&bytes, seed())
            .is_some_and(|head| head.is_body(&bytes[COMMIT_HEAD..]));
        prop_assert!(!whole);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), parts in proptest::collection::vec(part(), 1..3)) {
        let (commit, _) = encode(&parts);
        let head = CommitHead::decode(&commit, seed()).expect("a head");
        let body = &commit[COMMIT_HEAD..];
        let n = bytes.len().min(body.len());
        bytes[..n].copy_from_slice(&body[..n]);
        let read = Parts::new(&head, &bytes, 0, seed()).verify().count();
        prop_assert!(read <= parts.len());
    }
}

#[test]
fn another_segments_commit_is_none() {
    let facts = PartFacts {
        stream: run("a"),
        incarnation: Incarnation(1),
        epoch: Epoch(0),
        flags: Flags::CREATE,
        first_seq: Seq::FIRST,
        records: 0,
        producer: None,
    };
    let (bytes, _) = encode(&[(facts, Vec::new())]);
    assert!(CommitHead::decode(&bytes, seed()).is_some());
    for other in [Seed::of(JournalId([3; 16]), 8), Seed::of(JournalId([4; 16]), 9)] {
        assert!(CommitHead::decode(&bytes, other).is_none());
    }
}

#[test]
fn a_large_part_has_several_extents() {
    let records: Vec<Bytes> = (0..100).map(|_| Bytes::from(vec![7; 5_000])).collect();
    let facts = PartFacts {
        stream: run("a"),
        incarnation: Incarnation(1),
        epoch: Epoch(0),
        flags: Flags::CREATE,
        first_seq: Seq::FIRST,
        records: 100,
        producer: None,
    };
    let (_, extents) = encode(&[(facts, records)]);
    assert!(extents.len() > 5);
    assert!(extents.windows(2).all(|pair| pair[0].end() == pair[1].first));
    assert!(extents.iter().all(|extent| extent.bytes < (64 << 10) + 5_008));
    assert_eq!(extents.last().map(Extent::end), Some(Seq(101)));
}
