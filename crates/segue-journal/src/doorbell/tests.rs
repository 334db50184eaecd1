use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::atomic::AtomicUsize,
    task::{Context, Poll, Wake},
    thread,
};

use super::*;

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counter {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn key(id: usize) -> StreamKey {
    StreamKey::parse(&format!("default/r/{id}")).expect("well-formed")
}

fn open(next: u64) -> Tail {
    Tail { next: Seq(next), closed: false }
}

fn listen(doorbell: &Doorbell, id: usize, shard: &Shard) -> Listener {
    let Ok(listener) = doorbell.listen(&key(id), shard, || Ok::<_, Infallible>(open(1)));
    listener
}

fn pending(listener: &Listener, counter: &Arc<Counter>) -> bool {
    let waker = Waker::from(Arc::clone(counter));
    listener.poll_rung(&mut Context::from_waker(&waker)).is_pending()
}

fn drive(shard: &Shard, counter: &Arc<Counter>) -> bool {
    let waker = Waker::from(Arc::clone(counter));
    shard.poll_ring(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn a_shard_is_woken_once_whatever_is_rung() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let driver = Arc::new(Counter::default());
    let listeners: Vec<_> = (0..50).map(|id| listen(&doorbell, id, &shard)).collect();
    assert!(!drive(&shard, &driver));
    let mut ringing = doorbell.ringing(Position(0));
    (0..50).for_each(|id| ringing.ring_key(&key(id), open(2)));
    assert_eq!(driver.count(), 0);
    drop(ringing);
    assert_eq!(driver.count(), 1);
    doorbell.ringing(Position(0)).ring_key(&key(7), open(3));
    assert_eq!(driver.count(), 1);
    assert!(drive(&shard, &driver));
    shard.pump();
    assert!(!drive(&shard, &driver));
    doorbell.ringing(Position(0)).ring_key(&key(7), open(4));
    assert_eq!(driver.count(), 2);
    assert_eq!(listeners[7].tail(), open(4));
}

#[test]
fn a_listener_is_woken_by_the_pump_and_stays_marked_until_it_hears() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let listener = listen(&doorbell, 1, &shard);
    let reader = Arc::new(Counter::default());
    assert!(pending(&listener, &reader));
    doorbell.ringing(Position(0)).ring_key(&key(1), open(2));
    doorbell.ringing(Position(0)).ring_key(&key(1), open(3));
    assert_eq!(reader.count(), 0);
    shard.pump();
    assert_eq!(reader.count(), 1);
    assert!(!pending(&listener, &reader));
    assert!(!pending(&listener, &reader));
    listener.hear();
    assert_eq!(listener.tail(), open(3));
    assert!(pending(&listener, &reader));
    shard.pump();
    assert_eq!(reader.count(), 1);
    doorbell.ringing(Position(0)).ring_key(&key(2), open(9));
    shard.pump();
    assert_eq!(reader.count(), 1);
}

#[test]
fn a_ring_after_hearing_and_before_waiting_is_not_lost() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let listener = listen(&doorbell, 1, &shard);
    listener.hear();
    doorbell.ringing(Position(0)).ring_key(&key(1), open(2));
    shard.pump();
    assert!(!pending(&listener, &Arc::new(Counter::default())));
}

#[test]
fn shards_are_woken_apart() {
    let doorbell = Doorbell::new(Position(0));
    let (one, two) = (doorbell.shard(), doorbell.shard());
    let (at_one, at_two) = (listen(&doorbell, 1, &one), listen(&doorbell, 1, &two.clone()));
    let reader = Arc::new(Counter::default());
    assert!(pending(&at_one, &reader) && pending(&at_two, &reader));
    doorbell.ringing(Position(0)).ring_key(&key(1), open(2));
    one.pump();
    assert_eq!(reader.count(), 1);
    two.pump();
    assert_eq!(reader.count(), 2);
}

#[test]
fn a_tail_never_goes_back() {
    let doorbell = Doorbell::new(Position(0));
    let listener = listen(&doorbell, 1, &doorbell.shard());
    let closed = Tail { next: Seq(5), closed: true };
    for (rung, tail) in
        [(open(4), open(4)), (open(3), open(4)), (closed, closed), (open(5), closed)]
    {
        doorbell.ringing(Position(0)).ring_key(&key(1), rung);
        assert_eq!(listener.tail(), tail);
    }
    doorbell.ringing(Position(0)).ring_deleted(&key(1));
    assert!(listener.deleted());
    doorbell.ringing(Position(0)).ring_key(&key(1), open(90));
    assert_eq!(listener.tail(), closed);
}

#[test]
fn streams_without_listeners_are_forgotten() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let listeners: Vec<_> = (0..1_000).map(|id| listen(&doorbell, id % 10, &shard)).collect();
    assert_eq!(doorbell.bells(), 10);
    let (left, gone): (Vec<_>, Vec<_>) =
        listeners.into_iter().enumerate().partition(|(index, _)| *index == 500);
    drop(gone);
    assert_eq!(doorbell.bells(), 1);
    doorbell.ringing(Position(0)).ring_key(&key(0), open(2));
    assert_eq!(left[0].1.tail(), open(2));
    drop(left);
    assert_eq!(doorbell.bells(), 0);
    let unknown = doorbell.listen(&key(1), &shard, || Err("unknown")).err();
    assert_eq!(unknown, Some("unknown"));
    assert_eq!(doorbell.bells(), 0);
}

#[test]
fn who_leaves_after_a_ring_leaves_nothing_to_pump() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let driver = Arc::new(Counter::default());
    for deleted in [false, true] {
        let listener = listen(&doorbell, 1, &shard);
        let mut ringing = doorbell.ringing(Position(0));
        if deleted {
            ringing.ring_deleted(&key(1));
        } else {
            ringing.ring_key(&key(1), open(2));
        }
        drop(ringing);
        assert!(drive(&shard, &driver));
        drop(listener);
        assert!(!drive(&shard, &driver), "deleted: {deleted}");
    }
}

#[test]
fn a_stream_of_the_same_name_has_another_bell() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let old = listen(&doorbell, 1, &shard);
    doorbell.ringing(Position(0)).ring_key(&key(1), open(8));
    doorbell.ringing(Position(0)).ring_deleted(&key(1));
    let new = listen(&doorbell, 1, &shard);
    assert_eq!((old.tail(), new.tail()), (open(8), open(1)));
    drop(old);
    assert_eq!(doorbell.bells(), 1);
    doorbell.ringing(Position(0)).ring_key(&key(1), open(2));
    assert_eq!(new.tail(), open(2));
}

#[test]
fn a_wake_may_drop_listeners() {
    struct Dropper(Mutex<Vec<Listener>>);
    impl Wake for Dropper {
        fn wake(self: Arc<Self>) {
            lock(&self.0).clear();
        }
    }
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let listeners = (0..3).map(|_| listen(&doorbell, 1, &shard)).collect();
    let dropper = Arc::new(Dropper(Mutex::new(listeners)));
    let waker = Waker::from(Arc::clone(&dropper));
    for listener in lock(&dropper.0).iter() {
        assert!(listener.poll_rung(&mut Context::from_waker(&waker)).is_pending());
    }
    doorbell.ringing(Position(0)).ring_key(&key(1), open(2));
    shard.pump();
    assert_eq!(doorbell.bells(), 0);
}

#[test]
fn ringing_all_wakes_everyone_without_news() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let listener = listen(&doorbell, 1, &shard);
    let follower = doorbell.follow(&[StreamKind::Session]);
    let woken = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(pending(&listener, &woken) && !drive(&shard, &woken));
    assert!(follower.poll_rung(&mut Context::from_waker(&waker)).is_pending());
    doorbell.ringing(Position(0)).ring_all();
    assert_eq!(woken.count(), 2);
    shard.pump();
    assert_eq!(woken.count(), 3);
    assert_eq!(listener.tail(), open(1));
    assert!(follower.poll_rung(&mut Context::from_waker(&waker)).is_ready());
    assert_eq!(follower.take(), []);
    assert!(follower.poll_rung(&mut Context::from_waker(&waker)).is_pending());
}

#[test]
fn a_follower_takes_each_stream_once_and_only_its_kinds() {
    let doorbell = Doorbell::new(Position(0));
    let follower = doorbell.follow(&[StreamKind::Run]);
    let sessions = StreamKey::parse("default/s/1").expect("well-formed");
    let woken = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(follower.poll_rung(&mut cx).is_pending());
    doorbell.ringing(Position(0)).ring_key(&sessions, open(2));
    assert_eq!(woken.count(), 0);
    for next in 2..5 {
        doorbell.ringing(Position(0)).ring_key(&key(1), open(next));
    }
    doorbell.ringing(Position(0)).ring_deleted(&key(2));
    assert_eq!(woken.count(), 1);
    let mut taken = follower.take();
    taken.sort();
    assert_eq!(taken, [key(1), key(2)]);
    assert!(follower.poll_rung(&mut cx).is_pending());
    drop(follower);
    assert_eq!(lock(&doorbell.registry).followers.len(), 0);
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// `SplitMix64`: reproducible choices for the stress below.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

const STREAMS: usize = 4;
const LAST: u64 = 400;

/// What a writer has published: one tail for each stream.
type Published = Mutex<[u64; STREAMS]>;

fn write(doorbell: &Doorbell, published: &Published, mut choices: Choices) {
    let mut tails = [1; STREAMS];
    while tails != [LAST; STREAMS] {
        let mut moved = Vec::new();
        for (id, tail) in tails.iter_mut().enumerate() {
            if *tail < LAST && choices.below(2) == 0 {
                *tail += 1;
                moved.push((id, *tail));
            }
        }
        *lock(published) = tails;
        let mut ringing = doorbell.ringing(Position(0));
        for (id, tail) in moved {
            ringing.ring_key(&key(id), Tail { next: Seq(tail), closed: tail == LAST });
        }
        if choices.below(4) == 0 {
            drop(ringing);
            thread::yield_now();
        }
    }
}

/// Follows a stream to its end, listening anew at random, and checks what it sees on the way.
fn follow_to_the_end(doorbell: &Doorbell, published: &Published, id: usize, mut choices: Choices) {
    let seed = choices.0;
    let shard = doorbell.shard();
    let start = || Ok::<_, Infallible>(Tail { next: Seq(lock(published)[id]), closed: false });
    let mut last = Seq::ZERO;
    'listen: loop {
        let Ok(listener) = doorbell.listen(&key(id), &shard, start);
        loop {
            listener.hear();
            let tail = listener.tail();
            assert!(tail.next >= last, "seed {seed}: the tail went back");
            assert!(tail.next.0 <= lock(published)[id], "seed {seed}: rung before published");
            last = tail.next;
            if last == Seq(LAST) {
                return;
            }
            if choices.below(8) == 0 {
                continue 'listen;
            }
            let mut cx = Context::from_waker(Waker::noop());
            while listener.poll_rung(&mut cx).is_pending() {
                block_on(shard.rung());
                shard.pump();
            }
        }
    }
}

#[test]
fn no_reader_misses_the_end_whatever_the_interleaving() {
    for seed in 0..40 {
        let doorbell = Doorbell::new(Position(0));
        let published = Mutex::new([1; STREAMS]);
        thread::scope(|scope| {
            let (doorbell, published) = (&doorbell, &published);
            for reader in 0..6 {
                let choices = Choices(seed * 100 + reader);
                let id = usize::try_from(reader).expect("small") % STREAMS;
                scope.spawn(move || follow_to_the_end(doorbell, published, id, choices));
            }
            scope.spawn(move || write(doorbell, published, Choices(seed)));
        });
        assert_eq!(doorbell.bells(), 0, "seed {seed}");
    }
}

#[tokio::test]
async fn many_readers_on_one_shard_all_wake() {
    let doorbell = Doorbell::new(Position(0));
    let shard = doorbell.shard();
    let woken = Arc::new(AtomicUsize::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (listener, woken) = (listen(&doorbell, 1, &shard), Arc::clone(&woken));
        readers.spawn(async move {
            while !listener.tail().closed {
                listener.rung().await;
                listener.hear();
                woken.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move {
        loop {
            shard.rung().await;
            shard.pump();
        }
    });
    doorbell.ringing(Position(0)).ring_key(&key(1), Tail { next: Seq(2), closed: true });
    while let Some(reader) = readers.join_next().await {
        reader.expect("no panic");
    }
    driver.shutdown().await;
    assert!(woken.load(Ordering::Relaxed) <= 1_000);
    assert_eq!(doorbell.bells(), 0);
}

#[test]
fn a_follower_hears_a_commit_once_all_before_it_are_rung() {
    let doorbell = Doorbell::new(Position(4));
    let follower = doorbell.follow(&[StreamKind::Run]);
    let woken = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut past = pin!(follower.heard(Position(4)));
    assert_eq!(past.as_mut().poll(&mut cx), Poll::Ready(Position(4)));
    let mut heard = pin!(follower.heard(Position(6)));
    assert!(heard.as_mut().poll(&mut cx).is_pending());
    drop(doorbell.ringing(Position(6)));
    assert!(heard.as_mut().poll(&mut cx).is_pending());
    let before = woken.count();
    let mut ringing = doorbell.ringing(Position(5));
    ringing.ring_key(&key(1), open(2));
    drop(ringing);
    assert!(woken.count() > before);
    assert_eq!(heard.as_mut().poll(&mut cx), Poll::Ready(Position(6)));
    assert_eq!(follower.take(), [key(1)]);
}
