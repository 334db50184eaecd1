//! Producers: each line once, whatever happens to the connections.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use proptest::prelude::*;
use segue_client::{ClientError, Identity, Produced, Producer, Timing};
use segue_core::ProducerId;
use tokio::{runtime::Runtime, sync::mpsc};

use crate::{
    client, quick, run,
    scripted::{Peer, Server},
};

fn identity() -> Identity {
    Identity { id: ProducerId::parse("p").unwrap(), epoch: 1 }
}

fn input(n: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::iter((0..n).map(|n| Ok(Bytes::from(format!("{{\"n\":{n}}}")))))
}

/// A journal of pushed lines by their numbers: takes the next, knows the earlier.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    /// Takes a line and gives its acknowledgement.
    fn take(&self, seq: u64, line: String, stop_requested: bool) -> String {
        let mut lines = self.0.lock().unwrap();
        assert!(seq <= lines.len() as u64, "a number was skipped");
        let duplicate = seq < lines.len() as u64;
        if duplicate {
            assert_eq!(lines[usize::try_from(seq).unwrap()], line, "a number was used twice");
        } else {
            lines.push(line);
        }
        let at = seq + 1;
        format!(
            "{{\"first_seq\":{at},\"last_seq\":{at},\"duplicate\":{duplicate},\
             \"stop_requested\":{stop_requested},\"acked_seq\":{seq}}}\n"
        )
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn first_seq(peer: &Peer) -> u64 {
    peer.header("producer-seq").unwrap().parse().unwrap()
}

/// Takes lines until `cut` of them were taken, and acknowledges all but those after `mute`.
async fn serve(journal: Journal, mut peer: Peer, cut: usize, mute: usize) {
    peer.open("application/x-ndjson").await;
    let mut seq = first_seq(&peer);
    for n in 0..cut {
        let Some(line) = peer.line().await else { return };
        if line.is_empty() {
            continue;
        }
        let ack = journal.take(seq, line, false);
        seq += 1;
        if n < mute {
            peer.send(ack).await;
        }
    }
}

async fn collect(producer: Producer) -> Result<Vec<Produced>, ClientError> {
    producer.collect::<Vec<_>>().await.into_iter().collect()
}

fn acked(items: &[Produced]) -> u64 {
    items.iter().fold(0, |most, item| match item {
        Produced::Acked { lines, .. } => most.max(*lines),
        _ => most,
    })
}

fn expected(n: u64) -> Vec<String> {
    (0..n).map(|n| format!("{{\"n\":{n}}}")).collect()
}

#[tokio::test]
async fn lines_are_pushed_while_acks_come() {
    let journal = Journal::default();
    let store = journal.clone();
    let server = Server::start(move |_, mut peer| {
        let journal = store.clone();
        async move {
            assert_eq!(peer.request_line(), "POST /v1/runs/r/events");
            assert_eq!(peer.header("content-type"), Some("application/x-ndjson"));
            assert_eq!(peer.header("producer-id"), Some("p"));
            assert_eq!(peer.header("producer-epoch"), Some("1"));
            peer.open("application/x-ndjson").await;
            let mut seq = first_seq(&peer);
            while let Some(line) = peer.line().await {
                let ack = journal.take(seq, line, false);
                peer.send(ack).await;
                seq += 1;
            }
        }
    })
    .await;
    // The next line is given only after the one before was acknowledged: the answer must be read
    // while the body is still open.
    let (lines, mut rest) = mpsc::channel(1);
    let input = stream::poll_fn(move |cx| rest.poll_recv(cx));
    let mut producer = client(&server).produce(run(), identity(), input);
    for n in 0..5 {
        lines.send(Ok(Bytes::from(format!("{{\"n\":{n}}}\r\n")))).await.unwrap();
        let item = producer.next().await.unwrap().unwrap();
        let Produced::Acked { lines, last_seq, .. } = item else { panic!("{item:?}") };
        assert_eq!((lines, last_seq.unwrap().0), (n + 1, n + 1));
    }
    drop(lines);
    assert!(producer.next().await.is_none());
    assert_eq!(journal.lines(), expected(5));
}

#[tokio::test]
async fn a_cut_before_the_ack_doubles_nothing() {
    let journal = Journal::default();
    let store = journal.clone();
    // Ten lines are taken, none is acknowledged, the connection is gone.
    let server = Server::start(move |index, peer| {
        let cut = if index == 0 { 10 } else { usize::MAX };
        serve(store.clone(), peer, cut, if index == 0 { 0 } else { usize::MAX })
    })
    .await;
    let items = collect(client(&server).produce(run(), identity(), input(20))).await.unwrap();
    assert_eq!((acked(&items), journal.lines()), (20, expected(20)));
    assert!(items.iter().any(|item| matches!(item, Produced::Reconnecting(_))));
    assert!(items.iter().any(|item| matches!(item, Produced::Acked { duplicate: true, .. })));
}

#[tokio::test]
async fn only_what_was_not_acknowledged_is_sent_again() {
    let firsts = Arc::new(Mutex::new(Vec::new()));
    let (seen, journal) = (Arc::clone(&firsts), Journal::default());
    let server = Server::start(move |index, peer| {
        seen.lock().unwrap().push(first_seq(&peer));
        serve(journal.clone(), peer, if index == 0 { 6 } else { usize::MAX }, usize::MAX)
    })
    .await;
    let mut producer = client(&server).produce(run(), identity(), input(9));
    while let Some(item) = producer.next().await {
        item.unwrap();
    }
    let firsts = firsts.lock().unwrap();
    assert_eq!(firsts[0], 0);
    assert!(firsts[1] <= 6, "{firsts:?}");
}

#[tokio::test]
async fn a_passing_refusal_is_waited_out() {
    let journal = Journal::default();
    let store = journal.clone();
    let server = Server::start(move |index, mut peer| {
        let journal = store.clone();
        async move {
            match index {
                0 => peer.problem("507 Insufficient Storage", "disk_full").await,
                1 => {
                    peer.open("application/x-ndjson").await;
                    peer.line().await;
                    peer.send("{\"error\":{\"code\":\"disk_full\",\"status\":507},\"line\":1}\n")
                        .await;
                }
                2 => {}
                _ => serve(journal, peer, usize::MAX, usize::MAX).await,
            }
        }
    })
    .await;
    let items = collect(client(&server).produce(run(), identity(), input(3))).await.unwrap();
    assert_eq!((acked(&items), journal.lines()), (3, expected(3)));
}

#[tokio::test]
async fn a_refusal_that_stays_is_the_end() {
    for (status, code) in
        [("409 Conflict", "run_ended"), ("403 Forbidden", "stale_epoch"), ("404 Not Found", "no")]
    {
        let server =
            Server::start(move |_, mut peer| async move { peer.problem(status, code).await }).await;
        let error = collect(client(&server).produce(run(), identity(), input(3))).await;
        let Err(ClientError::Problem(problem)) = error else { panic!("{error:?}") };
        assert_eq!(problem.code, code);
    }
}

#[tokio::test]
async fn a_bad_line_is_named() {
    let journal = Journal::default();
    let server = Server::start(move |_, mut peer| {
        let journal = journal.clone();
        async move {
            peer.open("application/x-ndjson").await;
            let line = peer.line().await.unwrap();
            peer.send(journal.take(0, line, false)).await;
            peer.send("{\"error\":{\"code\":\"bad_type\",\"status\":400},\"line\":2}\n").await;
        }
    })
    .await;
    let mut producer = client(&server).produce(run(), identity(), input(3));
    let first = producer.next().await.unwrap().unwrap();
    assert!(matches!(first, Produced::Acked { lines: 1, .. }));
    let error = producer.next().await.unwrap();
    let Err(ClientError::Line { line: 2, problem }) = error else { panic!("{error:?}") };
    assert_eq!(problem.code, "bad_type");
    assert!(producer.next().await.is_none());
}

#[tokio::test]
async fn a_stop_is_told_once() {
    let journal = Journal::default();
    let server = Server::start(move |_, mut peer| {
        let journal = journal.clone();
        async move {
            peer.open("application/x-ndjson").await;
            let mut seq = 0;
            while let Some(line) = peer.line().await {
                peer.send(journal.take(seq, line, true)).await;
                seq += 1;
            }
        }
    })
    .await;
    let items = collect(client(&server).produce(run(), identity(), input(5))).await.unwrap();
    let told = items.iter().filter(|item| **item == Produced::StopRequested).count();
    assert_eq!((told, acked(&items)), (1, 5));
}

#[tokio::test]
async fn a_quiet_producer_is_told_of_a_stop() {
    let inbox = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n\
                 : hello\n\nid: 1\nevent: stop\ndata: {\"reason\":\"user\"}\n\n";
    let server = Server::with_inbox(inbox, |_, mut peer| async move {
        peer.open("application/x-ndjson").await;
        peer.hold().await;
    })
    .await;
    let mut producer = client(&server).produce(run(), identity(), stream::pending());
    assert_eq!(producer.next().await.unwrap().unwrap(), Produced::StopRequested);
}

#[tokio::test]
async fn a_quiet_input_renews_the_lease_with_blank_lines() {
    let (blank, mut blanks) = mpsc::channel(8);
    let server = Server::start(move |_, mut peer| {
        let blank = blank.clone();
        async move {
            peer.open("application/x-ndjson").await;
            while let Some(line) = peer.line().await {
                blank.send(line).await.unwrap();
            }
        }
    })
    .await;
    let timing = Timing { renew: Duration::from_millis(2), ..quick() };
    let silent = stream::pending();
    let mut producer = client(&server).with_timing(timing).produce(run(), identity(), silent);
    let three = async {
        for _ in 0..3 {
            assert_eq!(blanks.recv().await.as_deref(), Some(""));
        }
    };
    tokio::select! {
        () = three => {}
        item = producer.next() => panic!("{item:?}"),
    }
}

#[tokio::test]
async fn a_server_that_does_not_acknowledge_is_left() {
    let journal = Journal::default();
    let store = journal.clone();
    let server = Server::start(move |index, mut peer| {
        let journal = store.clone();
        async move {
            if index == 0 {
                peer.hold().await;
            } else {
                serve(journal, peer, usize::MAX, usize::MAX).await;
            }
        }
    })
    .await;
    let timing = Timing { ack: Duration::from_millis(200), ..quick() };
    let producer = client(&server).with_timing(timing).produce(run(), identity(), input(2));
    assert_eq!(acked(&collect(producer).await.unwrap()), 2);
    assert_eq!(journal.lines(), expected(2));
}

#[tokio::test]
async fn the_input_is_read_no_further_than_the_buffer() {
    let (taken, line) = (Arc::new(Mutex::new(0)), Bytes::from(vec![b'x'; 1 << 20]));
    let count = Arc::clone(&taken);
    let endless = stream::repeat_with(move || {
        *count.lock().unwrap() += 1;
        Ok(line.clone())
    });
    let (read, mut reading) = mpsc::channel(1);
    let server = Server::start(move |_, mut peer| {
        let read = read.clone();
        async move {
            peer.open("application/x-ndjson").await;
            peer.line().await;
            read.send(()).await.unwrap();
            peer.hold().await;
        }
    })
    .await;
    let mut producer = client(&server).produce(run(), identity(), endless);
    tokio::select! {
        _ = reading.recv() => {}
        item = producer.next() => panic!("{item:?}"),
    }
    assert!(*taken.lock().unwrap() <= 5, "4 MiB, and the line that crosses it");
}

#[tokio::test]
async fn blank_lines_are_not_counted_and_broken_ones_not_sent() {
    let journal = Journal::default();
    let store = journal.clone();
    let server =
        Server::start(move |_, peer| serve(store.clone(), peer, usize::MAX, usize::MAX)).await;
    let lines = ["", "{\"n\":0}", "  ", "\r\n", "{\"n\":1}\n"].map(|line| Ok(Bytes::from(line)));
    let producer = client(&server).produce(run(), identity(), stream::iter(lines));
    assert_eq!(acked(&collect(producer).await.unwrap()), 2);
    assert_eq!(journal.lines(), expected(2));

    let two = stream::iter([Ok(Bytes::from("{}\n{}"))]);
    let error = collect(client(&server).produce(run(), identity(), two)).await;
    assert!(matches!(error, Err(ClientError::Unusable(_))), "{error:?}");
    let broken = stream::iter([Err(io::Error::other("gone"))]);
    let error = collect(client(&server).produce(run(), identity(), broken)).await;
    assert!(matches!(error, Err(ClientError::Input(_))), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever the cuts and the last acknowledgements before them fall.
    #[test]
    fn cut_anywhere_each_line_is_journaled_once(
        cuts in prop::collection::vec((0usize..30, 0usize..30), 0..8),
    ) {
        const LINES: u64 = 60;
        let journal = Journal::default();
        let store = journal.clone();
        let items = Runtime::new().unwrap().block_on(async {
            let server = Server::start(move |index, peer| {
                let (cut, mute) = cuts.get(index).copied().unwrap_or((usize::MAX, usize::MAX));
                serve(store.clone(), peer, cut, mute)
            })
            .await;
            collect(client(&server).produce(run(), identity(), input(LINES))).await
        });
        prop_assert_eq!(acked(&items.unwrap()), LINES);
        prop_assert_eq!(journal.lines(), expected(LINES));
    }
}
