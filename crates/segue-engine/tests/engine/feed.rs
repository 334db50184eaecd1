//! The broker: two promises, their counts, and what is told of losses.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use segue_engine::{Feed, FeedCounts, FeedOptions, Heard, Subscription};
use tokio::{task::JoinSet, time::Instant};

const PATIENCE: Duration = Duration::from_millis(50);

fn feed<T>(capacity: usize) -> Feed<T> {
    Feed::new(FeedOptions { capacity, patience: PATIENCE })
}

/// What can be heard without waiting.
fn heard<T>(subscription: &mut Subscription<T>) -> Vec<Heard<T>> {
    std::iter::from_fn(|| subscription.next().now_or_never().flatten()).collect()
}

fn values<T>(values: impl IntoIterator<Item = T>) -> Vec<Heard<T>> {
    values.into_iter().map(Heard::Value).collect()
}

#[tokio::test(start_paused = true)]
async fn d01_publishing_to_nobody_neither_waits_nor_fails() {
    let (feed, start) = (feed(1), Instant::now());
    feed.publish(1);
    assert_eq!(feed.publish_must_deliver(2).await, 0);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(feed.counts(), FeedCounts { published: 2, ..FeedCounts::default() });
    assert_eq!(heard(&mut feed.subscribe()), [], "what was before is not heard");
}

#[tokio::test(start_paused = true)]
async fn d02_every_subscriber_gets_each_value_once_in_order() {
    for subscribers in [1, 2, 5, 10] {
        let feed = feed(20);
        let mut subscribed: Vec<_> = (0..subscribers).map(|_| feed.subscribe()).collect();
        assert_eq!(feed.subscribers(), subscribers);
        for n in 0..20 {
            if n % 3 == 0 {
                assert_eq!(feed.publish_must_deliver(n).await, 0);
            } else {
                feed.publish(n);
            }
        }
        for subscription in &mut subscribed {
            assert_eq!(heard(subscription), values(0..20));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d03_a_full_subscriber_loses_alone_and_learns_how_many() {
    let feed = feed(4);
    let (mut slow, mut quick) = (feed.subscribe(), feed.subscribe());
    let mut all = Vec::new();
    for n in 0..10 {
        feed.publish(n);
        all.extend(heard(&mut quick));
    }
    assert_eq!(all, values(0..10));
    assert_eq!(feed.counts(), FeedCounts { published: 10, dropped: 6, missed: 0 });
    assert_eq!(slow.next().await, Some(Heard::Value(0)));
    feed.publish(10);
    let mut expected = values(1..4);
    expected.extend([Heard::Lost(6), Heard::Value(10)]);
    assert_eq!(heard(&mut slow), expected);
}

#[tokio::test(start_paused = true)]
async fn d04_must_deliver_waits_for_a_full_subscriber_and_gives_up() {
    let feed = feed(1);
    let mut stuck = feed.subscribe();
    feed.publish(0);
    let start = Instant::now();
    assert_eq!(feed.publish_must_deliver(1).await, 1);
    assert!((PATIENCE..PATIENCE * 10).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(feed.counts(), FeedCounts { published: 2, dropped: 0, missed: 1 });
    assert_eq!(heard(&mut stuck), [Heard::Value(0), Heard::Lost(1)]);
}

#[tokio::test(start_paused = true)]
async fn d05_all_stuck_subscribers_are_waited_for_at_the_same_time() {
    let feed = feed(1);
    let stuck: Vec<_> = (0..20).map(|_| feed.subscribe()).collect();
    feed.publish(0);
    let mut healthy = feed.subscribe();
    let start = Instant::now();
    let delivery = feed.publish_must_deliver(1);
    assert_eq!(healthy.next().await, Some(Heard::Value(1)));
    assert_eq!(start.elapsed(), Duration::ZERO, "the healthy one is not delayed");
    assert_eq!(delivery.await, stuck.len());
    assert!(start.elapsed() < PATIENCE * 2, "{:?}", start.elapsed());
    assert_eq!(feed.counts().missed, 20);
}

#[tokio::test(start_paused = true)]
async fn d06_an_active_reader_gets_all_that_must_be_delivered() {
    let feed = feed(1);
    let subscription = feed.subscribe();
    let reader = async { subscription.take(10).collect::<Vec<_>>().await };
    let publisher = async {
        for n in 0..10 {
            assert_eq!(feed.publish_must_deliver(n).await, 0);
        }
    };
    let (read, ()) = tokio::join!(reader, publisher);
    assert_eq!(read, values(0..10));
    assert_eq!(feed.counts(), FeedCounts { published: 10, dropped: 0, missed: 0 });
}

#[tokio::test(start_paused = true)]
async fn d07_a_publisher_that_is_cancelled_has_told_every_healthy_subscriber() {
    let feed = feed(1);
    let (mut stuck, mut slow) = (feed.subscribe(), feed.subscribe());
    feed.publish(0);
    let mut quick: Vec<_> = (0..3).map(|_| feed.subscribe()).collect();
    let publisher = tokio::time::timeout(PATIENCE / 2, feed.publish_must_deliver(1));
    assert!(publisher.await.is_err(), "it was cancelled while it waited");
    for subscription in &mut quick {
        assert_eq!(heard(subscription), values([1]));
    }
    assert_eq!(heard(&mut slow), values([0, 1]), "it was in time");
    tokio::time::advance(PATIENCE).await;
    assert_eq!(heard(&mut stuck), [Heard::Value(0), Heard::Lost(1)]);
    assert_eq!(feed.counts().missed, 1);
    // Not even asked whether it is through.
    drop(feed.publish_must_deliver(2));
    assert_eq!(heard(&mut quick[0]), values([2]));
}

/// A value that panics when it is cloned, once it is told to.
#[derive(Debug)]
struct Fragile(Arc<AtomicBool>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Ordering::Relaxed), "a fragile value");
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn d08_a_subscriber_that_goes_or_panics_is_gone_and_the_others_are_served() {
    let feed = feed(1);
    let (first, mut last) = (feed.subscribe(), feed.subscribe());
    let mut panicking = feed.subscribe();
    feed.publish(1);
    let reader = async move {
        panicking.next().await;
        panic!("it was told to");
    };
    assert!(AssertUnwindSafe(reader).catch_unwind().await.is_err());
    assert_eq!(feed.subscribers(), 2);
    let start = Instant::now();
    let delivery = feed.publish_must_deliver(2);
    drop(first);
    assert_eq!(heard(&mut last), values([1, 2]));
    assert_eq!(delivery.await, 0, "who has gone has missed nothing");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(feed.subscribers(), 1);
}

#[tokio::test(start_paused = true)]
async fn d08_a_value_that_panics_leaves_the_feed_whole() {
    let feed = feed(4);
    let mut subscription = feed.subscribe();
    let (bad, good) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    assert!(catch_unwind(AssertUnwindSafe(|| feed.publish(Fragile(bad)))).is_err());
    feed.publish(Fragile(good));
    assert_eq!(heard(&mut subscription).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn d09_after_the_end_nothing_is_heard_and_nothing_fails() {
    let feed = feed(1);
    let (mut subscription, mut waiting) = (feed.subscribe(), feed.subscribe());
    feed.publish(1);
    let delivery = feed.publish_must_deliver(2);
    assert_eq!(heard(&mut waiting), values([1, 2]));
    let end = async {
        feed.shutdown();
        feed.shutdown();
    };
    assert_eq!(tokio::join!(waiting.next(), end).0, None, "who waits is woken");
    assert_eq!(delivery.await, 0);
    assert_eq!(heard(&mut subscription), values([1, 2]), "what was on its way is heard");
    feed.publish(3);
    assert_eq!(feed.publish_must_deliver(4).await, 0);
    assert_eq!(subscription.next().await, None);
    assert_eq!(feed.subscribe().next().await, None);
    assert_eq!(feed.counts().published, 2);
}

#[tokio::test(start_paused = true)]
async fn d09_a_feed_ends_with_its_last_publisher() {
    let feed = feed(1);
    let mut subscription = feed.subscribe();
    let other = feed.clone();
    drop(feed);
    other.publish(1);
    drop(other);
    assert_eq!(subscription.next().await, Some(Heard::Value(1)));
    assert_eq!(subscription.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d10_subscribers_that_leave_while_something_is_published_harm_nobody() {
    let feed = feed(2);
    let mut witness = feed.subscribe();
    let leave = |feed: Feed<u64>| async move {
        for _ in 0..1000 {
            let mut subscription = feed.subscribe();
            subscription.next().now_or_never();
            tokio::task::yield_now().await;
        }
    };
    let mut tasks = JoinSet::new();
    (0..4).for_each(|_| drop(tasks.spawn(leave(feed.clone()))));
    let publisher = feed.clone();
    tasks.spawn(async move {
        for n in 0..1000 {
            // Who has no room leaves soon, or the witness reads.
            publisher.publish_must_deliver(n).await;
        }
    });
    let mut next = 0;
    while next < 1000 {
        match witness.next().await.expect("the feed goes on") {
            Heard::Value(value) => {
                assert_eq!(value, next);
                next += 1;
            }
            Heard::Lost(lost) => next += lost,
        }
    }
    tasks.join_all().await;
    assert_eq!(feed.subscribers(), 1);
    assert_eq!(feed.counts().published, 1000);
}

#[tokio::test(start_paused = true)]
async fn d13_a_question_is_delivered_or_its_loss_is_told() {
    let feed = feed(2);
    let mut saturated = feed.subscribe();
    feed.publish("text");
    feed.publish("text");
    assert_eq!(feed.publish_must_deliver("may I?").await, 1);
    assert_eq!(feed.counts(), FeedCounts { published: 3, dropped: 0, missed: 1 });
    let asked = feed.publish_must_deliver("and now?");
    let mut told = vec![saturated.next().await.unwrap()];
    assert_eq!(asked.await, 0);
    told.extend(heard(&mut saturated));
    let text = Heard::Value("text");
    // It knows that it has to look for what it has not heard.
    assert_eq!(told, [text, text, Heard::Lost(1), Heard::Value("and now?")]);
}
