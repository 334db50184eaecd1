use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const RUN: Incarnation = Incarnation(1);
const SSE: Encoding = Encoding(0);

fn block(first: u64, frames: &[&str]) -> FrameBlock {
    let mut end = 0;
    let ends = frames.iter().map(|frame| {
        end += u32::try_from(frame.len()).expect("small");
        end
    });
    FrameBlock { first: Seq(first), ends: ends.collect(), bytes: Bytes::from(frames.concat()) }
}

fn frames(bytes: &'static str, last: u64) -> Frames {
    Frames { bytes: Bytes::from_static(bytes.as_bytes()), last: Seq(last) }
}

#[test]
fn the_suffix_of_a_block_within_the_budget() {
    let cache = FrameCache::default();
    cache.put(RUN, SSE, block(5, &["aa", "bbb", "", "c"]));
    let get = |from, budget| cache.get(RUN, SSE, Seq(from), budget);
    assert_eq!(get(5, 100), Some(frames("aabbbc", 8)));
    assert_eq!(get(5, 5), Some(frames("aabbb", 7)));
    assert_eq!(get(5, 4), Some(frames("aa", 5)));
    assert_eq!(get(5, 0), Some(frames("aa", 5)));
    assert_eq!(get(6, 3), Some(frames("bbb", 7)));
    assert_eq!(get(7, 0), Some(frames("", 7)));
    assert_eq!(get(8, 1), Some(frames("c", 8)));
    assert_eq!((get(4, 9), get(9, 9)), (None, None));
}

#[test]
fn frames_share_the_bytes_of_their_block() {
    let cache = FrameCache::default();
    let block = block(1, &["aa", "bb"]);
    let kept = block.bytes.as_ptr();
    cache.put(RUN, SSE, block);
    let got = cache.get(RUN, SSE, Seq(2), 10).expect("cached");
    assert_eq!(got.bytes.as_ptr() as usize, kept as usize + 2);
}

#[test]
fn streams_and_encodings_are_apart() {
    let cache = FrameCache::default();
    cache.put(RUN, SSE, block(1, &["sse"]));
    cache.put(RUN, Encoding(1), block(1, &["lines"]));
    cache.put(Incarnation(2), SSE, block(1, &["other"]));
    assert_eq!(cache.get(RUN, SSE, Seq(1), 9), Some(frames("sse", 1)));
    assert_eq!(cache.get(RUN, Encoding(1), Seq(1), 9), Some(frames("lines", 1)));
    assert_eq!(cache.get(Incarnation(2), SSE, Seq(1), 9), Some(frames("other", 1)));
    cache.forget(RUN);
    assert_eq!(cache.get(RUN, SSE, Seq(1), 9), None);
    assert_eq!(cache.get(RUN, Encoding(1), Seq(1), 9), None);
    assert_eq!(cache.get(Incarnation(2), SSE, Seq(1), 9), Some(frames("other", 1)));
    cache.clear();
    assert_eq!((cache.get(Incarnation(2), SSE, Seq(1), 9), cache.bytes()), (None, 0));
}

#[test]
fn of_blocks_that_begin_alike_the_longer_stays() {
    let cache = FrameCache::default();
    cache.put(RUN, SSE, block(1, &["a"]));
    cache.put(RUN, SSE, block(1, &["a", "b", "c"]));
    let full = cache.bytes();
    cache.put(RUN, SSE, block(1, &["a", "b"]));
    assert_eq!(cache.get(RUN, SSE, Seq(1), 9), Some(frames("abc", 3)));
    assert_eq!(cache.bytes(), full);
}

#[test]
fn the_block_used_longest_ago_goes_first() {
    let cost = block(1, &["x"]).cost();
    let cache = FrameCache::new(3 * cost);
    for first in 1..=3 {
        cache.put(RUN, SSE, block(first, &["x"]));
    }
    assert!(cache.get(RUN, SSE, Seq(1), 1).is_some());
    cache.put(RUN, SSE, block(4, &["x"]));
    let kept: Vec<_> = (1..=4).filter(|seq| cache.get(RUN, SSE, Seq(*seq), 1).is_some()).collect();
    assert_eq!(kept, [1, 3, 4]);
    assert_eq!(cache.bytes(), 3 * cost);
}

#[test]
fn what_does_not_fit_or_not_add_up_is_not_kept() {
    let cache = FrameCache::new(BLOCK_OVERHEAD + 100);
    cache.put(RUN, SSE, block(1, &["x"]));
    cache.put(RUN, SSE, block(2, &["x".repeat(200).as_str()]));
    cache.put(RUN, SSE, FrameBlock { ends: [5].into(), ..block(3, &["abc"]) });
    cache.put(RUN, SSE, FrameBlock { ends: [2, 1, 3].into(), ..block(3, &["abc"]) });
    cache.put(RUN, SSE, FrameBlock { ends: [].into(), ..block(3, &[]) });
    assert!(cache.get(RUN, SSE, Seq(1), 9).is_some());
    for seq in [2, 3] {
        assert_eq!(cache.get(RUN, SSE, Seq(seq), 9), None);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { stream: u64, first: u64, count: u64 },
    Get { stream: u64, from: u64, budget: usize },
    Forget(u64),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u64, 1..40u64, 1..12u64)
            .prop_map(|(stream, first, count)| Step::Put { stream, first, count }),
        8 => (0..3u64, 1..50u64, 0..60usize)
            .prop_map(|(stream, from, budget)| Step::Get { stream, from, budget }),
        1 => (0..3u64).prop_map(Step::Forget),
    ]
}

/// Every record has one frame, as the pure function that an encoder is.
fn frame(stream: u64, seq: u64) -> String {
    format!("{stream}:{seq};").repeat(usize::try_from(seq % 3).expect("small"))
}

proptest! {
    /// Whatever is put and evicted, a get gives exactly the frames from where it asked on, and
    /// what is kept stays within the budget and is counted.
    #[test]
    fn a_get_gives_what_was_put(steps in prop::collection::vec(a_step(), 1..200)) {
        let budget = 6 * BLOCK_OVERHEAD;
        let cache = FrameCache::new(budget);
        let mut put: BTreeMap<u64, std::collections::BTreeSet<u64>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put { stream, first, count } => {
                    let texts: Vec<_> =
                        (first..first + count).map(|seq| frame(stream, seq)).collect();
                    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
                    cache.put(Incarnation(stream), SSE, block(first, &texts));
                    put.entry(stream).or_default().extend(first..first + count);
                }
                Step::Get { stream, from, budget } => {
                    let Some(got) = cache.get(Incarnation(stream), SSE, Seq(from), budget) else {
                        continue;
                    };
                    prop_assert!(got.last.0 >= from);
                    let known = put.get(&stream).cloned().unwrap_or_default();
                    prop_assert!((from..=got.last.0).all(|seq| known.contains(&seq)));
                    let expected: String =
                        (from..=got.last.0).map(|seq| frame(stream, seq)).collect();
                    prop_assert_eq!(&got.bytes[..], expected.as_bytes());
                    prop_assert!(got.bytes.len() <= budget || got.last == Seq(from));
                }
                Step::Forget(stream) => {
                    cache.forget(Incarnation(stream));
                    put.remove(&stream);
                }
            }
            prop_assert!(cache.bytes() <= budget);
        }
        (0..3).for_each(|stream| cache.forget(Incarnation(stream)));
        prop_assert_eq!(cache.bytes(), 0);
    }
}
