use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Wake, Waker},
    thread,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{door::BATCH_OVERHEAD, *};
use crate::{api::Committed, stream::Epoch};

/// Bytes of a batch that weighs `units` of the small queues here.
fn weighing(units: usize) -> usize {
    units * UNIT - BATCH_OVERHEAD
}

const UNIT: usize = 1_000;

/// A queue of 64 units, of which a stream's share is 8.
fn small() -> Arc<Queue> {
    Queue::new(QueueLimits { capacity: 64 * UNIT, max_batch: 100 * UNIT })
}

fn stream(id: usize) -> StreamKey {
    StreamKey::parse(&format!("default/w/{id}")).expect("well-formed")
}

fn batch(id: usize, bytes: usize) -> Batch {
    let record = Bytes::from(vec![b'x'; bytes]);
    Batch { parts: vec![Part::append(stream(id), Epoch(0), vec![record])] }
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll(reserve: &mut Reserve<'_>) -> Option<Permit> {
    poll_with(reserve, Waker::noop())
}

fn poll_with(reserve: &mut Reserve<'_>, waker: &Waker) -> Option<Permit> {
    match Pin::new(reserve).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(permit) => Some(permit.expect("an open door")),
        Poll::Pending => None,
    }
}

fn permit(queue: &Arc<Queue>, id: usize, units: usize) -> Permit {
    poll(&mut queue.reserve(&stream(id), weighing(units))).expect("room")
}

fn drained(queue: &Queue) -> bool {
    held(&queue.door).is_empty()
}

#[test]
fn a_stream_holds_at_most_its_share() {
    let queue = small();
    let held: Vec<_> = (0..4).map(|_| permit(&queue, 1, 2)).collect();
    let mut fifth = queue.reserve(&stream(1), weighing(2));
    assert!(poll(&mut fifth).is_none());
    let other = permit(&queue, 2, 8);
    drop(held);
    assert!(poll(&mut fifth).is_some());
    drop((fifth, other));
    assert!(drained(&queue));
}

#[test]
fn a_batch_over_the_share_goes_when_its_stream_holds_nothing() {
    let queue = small();
    let small = permit(&queue, 1, 1);
    let mut large = queue.reserve(&stream(1), weighing(20));
    assert!(poll(&mut large).is_none());
    drop(small);
    assert!(poll(&mut large).is_some());
}

#[test]
fn a_batch_over_the_capacity_goes_alone() {
    let queue = small();
    let one = permit(&queue, 1, 1);
    let mut huge = queue.reserve(&stream(2), weighing(90));
    assert!(poll(&mut huge).is_none());
    drop(one);
    let alone = poll(&mut huge).expect("an empty queue");
    let mut next = queue.reserve(&stream(3), 0);
    assert!(poll(&mut next).is_none());
    drop(alone);
    assert!(poll(&mut next).is_some());
    let mut error = queue.reserve(&stream(1), 100 * UNIT + 1);
    let error = Pin::new(&mut error).poll(&mut Context::from_waker(Waker::noop()));
    let too_large = ReserveError::TooLarge { bytes: 100 * UNIT + 1, max: 100 * UNIT };
    assert_eq!(error.map(Result::err), Poll::Ready(Some(too_large)));
}

#[test]
fn a_large_waiter_is_not_starved_by_small_ones() {
    let queue = small();
    let mut held: Vec<_> = (0..60).map(|id| permit(&queue, id, 1)).collect();
    let mut large = queue.reserve(&stream(100), weighing(30));
    assert!(poll(&mut large).is_none());
    // Room for four, but whoever comes now stands behind.
    let mut late = queue.reserve(&stream(101), weighing(1));
    assert!(poll(&mut late).is_none());
    held.truncate(35);
    assert!(poll(&mut large).is_none() && poll(&mut late).is_none());
    held.truncate(34);
    let large = poll(&mut large).expect("room by now");
    assert!(poll(&mut late).is_none());
    drop(large);
    assert!(poll(&mut late).is_some());
}

#[test]
fn a_waiter_for_its_share_holds_up_nobody_else() {
    let queue = small();
    let own = permit(&queue, 1, 8);
    let mut blocked = queue.reserve(&stream(1), weighing(8));
    assert!(poll(&mut blocked).is_none());
    let mut others: Vec<_> = (2..9).map(|id| permit(&queue, id, 8)).collect();
    let mut later = queue.reserve(&stream(9), weighing(1));
    assert!(poll(&mut later).is_none());
    others.pop();
    assert!(poll(&mut blocked).is_none());
    let later = poll(&mut later).expect("room");
    drop((own, later));
    assert!(poll(&mut blocked).is_some());
}

#[test]
fn leaving_gives_up_the_place_and_what_was_given() {
    let queue = small();
    let full = permit(&queue, 1, 64);
    let (first_waker, second_waker) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let mut first = queue.reserve(&stream(2), weighing(40));
    let mut second = queue.reserve(&stream(3), weighing(40));
    let mut gone = queue.reserve(&stream(2), weighing(1));
    assert!(poll_with(&mut first, &Waker::from(first_waker.clone())).is_none());
    assert!(poll_with(&mut second, &Waker::from(second_waker.clone())).is_none());
    assert!(poll(&mut gone).is_none());
    drop(gone);
    drop(full);
    assert_eq!(first_waker.0.load(Ordering::Relaxed), 1);
    assert_eq!(second_waker.0.load(Ordering::Relaxed), 0);
    // Let in, but never polled again.
    drop(first);
    assert_eq!(second_waker.0.load(Ordering::Relaxed), 1);
    drop(poll(&mut second).expect("room"));
    drop(second);
    assert!(drained(&queue));
}

#[test]
fn take_keeps_the_order_and_the_limits() {
    let queue = small();
    let mut tickets = Vec::new();
    for (id, bytes) in [(1, 400), (2, 400), (3, 400), (4, 2_000), (5, 1), (6, 1)] {
        let permit = poll(&mut queue.reserve(&stream(id), bytes)).expect("room");
        tickets.push(queue.push(permit, batch(id, bytes)));
    }
    let (mut taken, mut rounds) = (Vec::new(), Vec::new());
    while queue.take(1_000, 2, &mut taken) {
        let ids = taken.drain(..).map(|one| one.permit.stream().id().to_owned());
        rounds.push(ids.collect::<Vec<_>>().join(" "));
    }
    assert_eq!(rounds, ["1 2", "3", "4", "5 6"]);
    assert!(drained(&queue));
}

#[test]
fn close_refuses_what_comes_and_keeps_what_is_there() {
    let queue = small();
    let (early, late) = (permit(&queue, 1, 1), permit(&queue, 1, 1));
    let mut waiting = queue.reserve(&stream(1), weighing(8));
    assert!(poll(&mut waiting).is_none());
    let queued = queue.push(early, batch(1, 1));
    queue.close("first reason");
    queue.close("second reason");
    let why = || "first reason".to_owned();
    let refused = queue.push(late, batch(1, 1));
    assert_eq!(refused.wait(), Err(AppendError::Poisoned(why())));
    for mut reserve in [waiting, queue.reserve(&stream(2), 1)] {
        let answer = Pin::new(&mut reserve).poll(&mut Context::from_waker(Waker::noop()));
        let poisoned = Poll::Ready(Some(ReserveError::Poisoned(why())));
        assert_eq!(answer.map(Result::err), poisoned);
    }
    assert!(queue.wait());
    let mut taken = Vec::new();
    assert!(queue.take(1, 1, &mut taken));
    assert!(!queue.wait());
    drop(taken);
    assert!(matches!(queued.wait(), Err(AppendError::Poisoned(_))));
    assert!(drained(&queue));
}

#[test]
fn a_sleeping_writer_is_woken_by_every_first_push() {
    let queue = small();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut taken, mut order) = (Vec::new(), Vec::new());
            while queue.wait() {
                queue.take(usize::MAX, 3, &mut taken);
                for one in taken.drain(..) {
                    order.push(one.batch.parts[0].bytes());
                    let position = crate::api::Position::default();
                    let done = Committed { position, parts: Vec::new(), duplicate: false };
                    drop(one.answer.give(Ok(done)));
                }
            }
            order
        });
        for bytes in 0..200 {
            let permit = poll(&mut queue.reserve(&stream(1), bytes)).expect("room");
            queue.push(permit, batch(1, bytes)).wait().expect("an answer");
        }
        queue.close("done");
        assert_eq!(writer.join().expect("no panic"), (0..200).collect::<Vec<_>>());
    });
}

/// Pushes so many batches, each of a stream of its own.
fn crowd(queue: &Arc<Queue>, count: usize) -> Vec<Ticket> {
    (0..count).map(|id| queue.push(permit(queue, id, 1), batch(id, 1))).collect()
}

#[test]
fn a_crowd_that_comes_back_is_taken_together_and_a_part_of_it_is_not_kept_waiting() {
    let queue = small();
    let mut taken = Vec::new();
    let mut take = || {
        assert!(queue.wait());
        queue.take(usize::MAX, usize::MAX, &mut taken);
        taken.drain(..).count()
    };
    drop(crowd(&queue, 2 * CROWD));
    assert_eq!(take(), 2 * CROWD);
    thread::scope(|scope| {
        // What is pushed while the writer waits may be taken in one or, on a slow machine, in more.
        let pushing = scope.spawn(|| drop(crowd(&queue, 2 * CROWD)));
        let mut left = 2 * CROWD;
        while left > 0 {
            left -= take();
        }
        pushing.join().expect("no panic");
    });
    drop(crowd(&queue, CROWD));
    assert_eq!(take(), CROWD);
    // Nobody else comes back: it is taken all the same, and then one alone at once.
    drop(crowd(&queue, 1));
    assert_eq!(take(), 1);
    drop(crowd(&queue, 1));
    assert_eq!(take(), 1);
    drop(crowd(&queue, CROWD));
    assert_eq!(take(), CROWD);
    queue.close("done");
    assert!(!queue.wait());
}

#[derive(Clone, Debug)]
enum Step {
    Come { stream: usize, units: usize },
    Leave(prop::sample::Index),
    Release(prop::sample::Index),
}

fn a_step() -> impl Strategy<Value = Step> {
    let units = prop_oneof![6 => 1..4usize, 2 => 4..16usize, 1 => 16..90usize];
    prop_oneof![
        5 => (0..5usize, units).prop_map(|(stream, units)| Step::Come { stream, units }),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        4 => any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

/// Polls every waiter, in order of arrival, and moves those let in to the held.
fn admit(
    waiting: &mut Vec<(usize, Reserve<'_>)>,
    holders: &mut Vec<(usize, Permit)>,
) -> Result<(), TestCaseError> {
    let mut refused: Vec<usize> = Vec::new();
    for (id, mut reserve) in std::mem::take(waiting) {
        match poll(&mut reserve) {
            Some(permit) => {
                prop_assert!(!refused.contains(&id), "overtaken within stream {id}");
                holders.push((id, permit));
            }
            None => {
                refused.push(id);
                waiting.push((id, reserve));
            }
        }
    }
    Ok(())
}

fn check_bounds(holders: &[(usize, Permit)]) -> Result<(), TestCaseError> {
    let mut streams: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (id, permit) in holders {
        streams.entry(*id).or_default().push(permit.bytes() + BATCH_OVERHEAD);
    }
    for held in streams.values() {
        prop_assert!(held.len() == 1 || held.iter().sum::<usize>() <= 8 * UNIT);
    }
    let total: usize = streams.values().flatten().sum();
    prop_assert!(holders.len() == 1 || total <= 64 * UNIT);
    Ok(())
}

proptest! {
    /// Bounds hold at every step, streams are served in order, and all get in at last.
    #[test]
    fn the_door_is_fair(steps in prop::collection::vec(a_step(), 1..120)) {
        let queue = small();
        let (mut waiting, mut holders) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Come { stream: id, units } => {
                    waiting.push((id, queue.reserve(&stream(id), weighing(units))));
                }
                Step::Leave(which) if !waiting.is_empty() => {
                    drop(waiting.remove(which.index(waiting.len())));
                }
                Step::Release(which) if !holders.is_empty() => {
                    drop(holders.remove(which.index(holders.len())));
                }
                Step::Leave(_) | Step::Release(_) => {}
            }
            admit(&mut waiting, &mut holders)?;
            check_bounds(&holders)?;
            prop_assert!(waiting.is_empty() || !holders.is_empty(), "nobody is let in");
        }
        while !holders.is_empty() {
            holders.remove(0);
            admit(&mut waiting, &mut holders)?;
            check_bounds(&holders)?;
        }
        prop_assert!(waiting.is_empty());
        drop(waiting);
        prop_assert!(drained(&queue));
    }
}
