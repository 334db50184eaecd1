//! Attachments: exactly once over any cut, and when to give up.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use proptest::prelude::*;
use segue_client::{Attached, Attachment, Client, ClientError, Timing, TransportError};
use segue_core::{Event, EventRecord, Seq, Timestamp};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{
    client, cursor, quick, run,
    scripted::{Server, frame, frames},
};

/// What an attachment yields, in words. Losses are told apart by `lost`.
async fn words(mut attachment: Attachment) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(item) = attachment.next().await {
        words.push(match item {
            Ok(Attached::Event(event)) => event.seq.to_string(),
            Ok(Attached::Gap(gap)) => format!("gap after {}", gap.after),
            Ok(Attached::Snapshot(snapshot)) => {
                let fold = snapshot.fold().expect("a known form");
                format!("{} parts to {}", fold.message().parts.len(), snapshot.seq)
            }
            Ok(Attached::Control { name, .. }) => name,
            Ok(Attached::Reconnecting(_)) => "lost".to_owned(),
            Ok(Attached::Ended(ended)) => {
                let reason = ended.reason.unwrap_or_default();
                format!("{} {reason} at {}", ended.status.as_str(), ended.last_seq)
            }
            Err(error) => format!("error: {error}"),
        });
    }
    words
}

/// The events of a run of `last`, in words, and its end.
fn whole(last: u64) -> Vec<String> {
    let events = (1..=last).map(|seq| seq.to_string());
    events.chain([format!("finished  at {last}")]).collect()
}

fn without_losses(mut words: Vec<String>) -> Vec<String> {
    words.retain(|word| word != "lost");
    words
}

#[tokio::test]
async fn f05_a_cursor_is_sent_and_what_it_covers_is_not_shown() {
    let server = Server::start(|_, mut peer| async move {
        assert_eq!(peer.request_line(), "GET /v1/runs/r/events?after=r%3A2");
        assert_eq!(peer.header("accept"), Some("text/event-stream"));
        assert_eq!(peer.header("last-event-id"), None);
        // A server that repeats the cursor's own event.
        peer.stream(frame(2, 4) + &frames(2, 4)).await;
    })
    .await;
    let words = words(client(&server).attach(run(), Some(cursor("r:2")))).await;
    assert_eq!(words, ["3", "4", "finished  at 4"]);
}

#[tokio::test]
async fn f05_a_confirmed_cursor_resumes_by_its_header() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let server = Server::start(move |index, mut peer| {
        let header = peer.header("last-event-id").map(str::to_owned);
        record.lock().unwrap().push((peer.request_line().contains("after="), header));
        async move {
            match index {
                0 => {}
                1 => peer.stream("id: r:2\n\n").await,
                _ => peer.stream(frames(2, 3)).await,
            }
        }
    })
    .await;
    let words = words(client(&server).attach(run(), Some(cursor("r:2")))).await;
    assert_eq!(without_losses(words), ["3", "finished  at 3"]);
    let header = Some("r:2".to_owned());
    assert_eq!(*seen.lock().unwrap(), [(true, None), (true, None), (false, header)]);
}

#[tokio::test]
async fn f06_a_cursor_at_the_tail_gets_only_what_is_new() {
    let server = Server::start(|_, mut peer| async move {
        peer.stream(": hello\n\nid: r:3\n\n: hb\n\n").await;
        peer.send(frame(4, 4)).await;
    })
    .await;
    let words = words(client(&server).attach(run(), Some(cursor("r:3")))).await;
    assert_eq!(words, ["4", "finished  at 4"]);
}

#[tokio::test]
async fn f07_a_cursor_at_the_end_of_an_ended_run_ends_at_once() {
    let server = Server::start(|_, mut peer| async move {
        peer.send(
            "HTTP/1.1 204 No Content\r\nsegue-run-status: stopped\r\n\
             segue-run-reason: user\r\nsegue-last-seq: 9\r\n\r\n",
        )
        .await;
    })
    .await;
    let words = words(client(&server).attach(run(), Some(cursor("r:9")))).await;
    assert_eq!(words, ["stopped user at 9"]);
}

#[tokio::test]
async fn f08_a_terminal_behind_a_cut_is_still_learned() {
    // The connection breaks when the terminal's frame is all but complete.
    let server = Server::start(|index, mut peer| async move {
        let body = frames(peer.last_event_id(), 3);
        let cut = if index == 0 { body.len() - 1 } else { body.len() };
        peer.stream(&body[..cut]).await;
    })
    .await;
    let words = words(client(&server).attach(run(), None)).await;
    assert_eq!(words, ["1", "2", "lost", "3", "finished  at 3"]);
}

#[tokio::test]
async fn f09_an_end_without_a_terminal_is_a_drop() {
    let server = Server::start(|index, mut peer| async move {
        let end = [frames(0, 9), frames(2, 9)][index].find(&frame(3 + index as u64 * 2, 9));
        let body = frames(peer.last_event_id(), 9);
        match index {
            0 => peer.stream(&body[..end.unwrap()]).await,
            _ => peer.stream(body).await,
        }
    })
    .await;
    let words = words(client(&server).attach(run(), None)).await;
    let mut expect = whole(9);
    expect.insert(2, "lost".to_owned());
    assert_eq!(words, expect);
}

#[tokio::test]
async fn p08_the_cursor_is_kept_over_every_kind_of_loss() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let server = Server::start(move |index, mut peer| {
        record.lock().unwrap().push(peer.header("last-event-id").map(str::to_owned));
        async move {
            match index {
                0 => peer.stream(frames(0, 9) .split_inclusive("\n\n").take(2).collect::<String>()).await,
                1 => peer.problem("503 Service Unavailable", "draining").await,
                2 => peer.problem("500 Internal Server Error", "internal").await,
                3 => {}
                4 => peer.stream(frame(3, 9)).await, // a hole
                5 => peer.stream("id: other:2\ndata: {}\n\n").await,
                6 => peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nff\r\nid: ").await,
                7 => peer.send("no http at all\r\n\r\n").await,
                8 => peer.stream(": hello\nretry: 2\n\n").await,
                9 => peer.problem("429 Too Many Requests", "slow_down").await,
                _ => peer.stream(frames(1, 3)).await,
            }
        }
    })
    .await;
    let words = words(client(&server).attach(run(), None)).await;
    let mut expect = vec!["1".to_owned()];
    expect.extend(vec!["lost".to_owned(); 10]);
    expect.extend(whole(3).split_off(1));
    assert_eq!(words, expect);
    let mut cursors = vec![None];
    cursors.extend(vec![Some("r:1".to_owned()); 10]);
    assert_eq!(*seen.lock().unwrap(), cursors);
    assert_eq!(server.most_open(), 1, "one transport per stream");
}

#[tokio::test]
async fn p08_attempts_count_up_and_start_over_with_a_frame() {
    let server = Server::start(|index, mut peer| async move {
        match index {
            3 => peer.stream(frame(1, 2)).await,
            5 => peer.stream(frame(2, 2)).await,
            _ => {}
        }
    })
    .await;
    let attempts: Vec<u32> = client(&server)
        .attach(run(), None)
        .filter_map(|item| async move {
            match item.unwrap() {
                Attached::Reconnecting(reconnecting) => Some(reconnecting.attempt),
                _ => None,
            }
        })
        .collect()
        .await;
    assert_eq!(attempts, [1, 2, 3, 1, 2]);
}

#[tokio::test]
async fn p08_it_gives_up_only_on_gone_and_other_refusals() {
    for (status, code) in [
        ("404 Not Found", "run_not_found"),
        ("410 Gone", "cursor_trimmed"),
        ("400 Bad Request", "bad_cursor"),
        ("401 Unauthorized", "unauthorized"),
        ("409 Conflict", "foreign_cursor"),
        ("416 Range Not Satisfiable", "cursor_ahead"),
        ("421 Misdirected Request", "host"),
    ] {
        let server =
            Server::start(move |_, mut peer| async move { peer.problem(status, code).await }).await;
        let items: Vec<_> = client(&server).attach(run(), None).collect().await;
        let [Err(ClientError::Problem(problem))] = &items[..] else { panic!("{items:?}") };
        assert_eq!(problem.code, code);
    }
}

#[tokio::test]
async fn p08_a_server_that_is_away_is_tried_again() {
    // A port below 1024 that nobody listens on.
    let nobody = Client::new("http://127.0.0.1:1", None).unwrap().with_timing(quick());
    let mut attachment = nobody.attach(run(), None);
    for attempt in 1..5 {
        let Some(Ok(Attached::Reconnecting(lost))) = attachment.next().await else { panic!() };
        assert_eq!(lost.attempt, attempt);
        assert!(lost.why.contains("refused"), "{}", lost.why);
    }
}

#[tokio::test]
async fn p08_a_deadline_ends_the_attempts() {
    let server = Server::start(|_, _| async {}).await;
    let timing = Timing { give_up_after: Some(Duration::ZERO), ..quick() };
    let items: Vec<_> = client(&server).with_timing(timing).attach(run(), None).collect().await;
    assert!(matches!(&items[..], [Err(ClientError::Transport(_))]), "{items:?}");
}

#[tokio::test]
async fn h11_a_stream_that_falls_silent_is_taken_up_elsewhere() {
    let server = Server::start(|index, mut peer| async move {
        if index == 0 {
            peer.stream(frame(1, 3)).await;
            peer.hold().await;
        } else {
            peer.stream(frames(peer.last_event_id(), 3)).await;
        }
    })
    .await;
    let timing = Timing { idle: Duration::from_millis(200), ..quick() };
    let words = words(client(&server).with_timing(timing).attach(run(), None)).await;
    assert_eq!(words, ["1", "lost", "2", "3", "finished  at 3"]);
}

#[tokio::test]
async fn h11_a_connection_cut_for_slowness_loses_nothing() {
    // Larger than the sockets' buffers: the server's write stalls until the client reads, and
    // the server cuts the connection in the middle of a frame.
    const LAST: u64 = 60_000;
    let connections = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&connections);
    let server = Server::start(move |index, mut peer| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            let body = frames(peer.last_event_id(), LAST);
            let cut = if index < 3 { body.len() / 3 } else { body.len() };
            peer.stream(&body[..cut]).await;
        }
    })
    .await;
    let words = words(client(&server).attach(run(), None)).await;
    assert_eq!(without_losses(words), whole(LAST));
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

/// A snapshot to `seq`, as a server writes it.
fn snapshot(seq: u64) -> String {
    let mut fold = segue_core::Fold::new(&run(), Seq::FIRST);
    let event = json!({"type": "text.delta", "part": "p", "text": "x"});
    let record = EventRecord::decode(EventRecord::encode(&Event::build(&event))).unwrap();
    for seq in (1..=seq).map(Seq) {
        fold.apply(seq, Timestamp::default(), &record).unwrap();
    }
    let mut frame = serde_json::to_value(&fold).unwrap();
    (frame["type"], frame["run_id"]) = (json!("control.snapshot"), json!("r"));
    format!("id: r:{seq}\nevent: control.snapshot\ndata: {frame}\n\n")
}

#[tokio::test]
async fn q07_a_gap_and_its_snapshot_are_shown_as_such_and_nothing_twice() {
    let server = Server::start(|index, mut peer| async move {
        let gap = "event: control.gap\ndata: {\"why\":\"trimmed\"}\n\n";
        match index {
            0 => peer.stream(frame(3, 9) + gap).await,
            1 => {
                assert_eq!(peer.last_event_id(), 3);
                peer.stream(format!("{gap}{}{}", snapshot(6), frame(6, 9))).await;
            }
            _ => peer.stream(frames(peer.last_event_id(), 8)).await,
        }
    })
    .await;
    let words = words(client(&server).attach(run(), Some(cursor("r:2")))).await;
    let expect = ["3", "gap after 3", "gap after 3", "1 parts to 6", "7", "8", "finished  at 8"];
    assert_eq!(without_losses(words), expect);
}

#[tokio::test]
async fn a_run_is_followed_from_its_snapshot() {
    let server = Server::start(|index, mut peer| async move {
        match index {
            0 | 1 => {
                assert_eq!(peer.request_line(), "GET /v1/runs/r/events?from=snapshot");
                assert_eq!(peer.header("last-event-id"), None);
                let begun = if index == 0 { ": segue\n\n".to_owned() } else { snapshot(4) };
                peer.stream(begun).await;
            }
            _ => {
                assert_eq!(peer.request_line(), "GET /v1/runs/r/events");
                peer.stream(frames(peer.last_event_id(), 6)).await;
            }
        }
    })
    .await;
    let words = words(client(&server).attach_from_snapshot(run())).await;
    assert_eq!(without_losses(words), ["1 parts to 4", "5", "6", "finished  at 6"]);
}

#[tokio::test]
async fn every_terminal_tells_status_and_reason() {
    for (kind, fields, expect) in [
        ("run.stopped", r#""reason":"user""#, "stopped user at 1"),
        ("run.failed", r#""error":{"code":"boom","message":"m"}"#, "failed boom at 1"),
        ("run.interrupted", r#""cause":"restart""#, "interrupted restart at 1"),
    ] {
        let server = Server::start(move |_, mut peer| async move {
            peer.stream(format!(
                "id: r:1\ndata: {{\"seq\":1,\"at\":\"2026-11-20T12:00:00Z\",\"run_id\":\"r\",\
                 \"type\":\"{kind}\",{fields}}}\n\n"
            ))
            .await;
        })
        .await;
        assert_eq!(words(client(&server).attach(run(), None)).await, ["1", expect]);
    }
}

#[tokio::test]
async fn a_cursor_of_another_run_asks_nobody() {
    let server = Server::start(|_, _| async { panic!("nobody was to be asked") }).await;
    let items: Vec<_> = client(&server).attach(run(), Some(cursor("other:1"))).collect().await;
    assert!(matches!(&items[..], [Err(ClientError::Unusable(_))]), "{items:?}");
    assert_eq!(server.most_open(), 0);
}

#[tokio::test]
async fn another_kind_of_server_is_told_from_a_lost_one() {
    let server =
        Server::start(|_, mut peer| async move { peer.answer("200 OK", "text/html", "hi").await })
            .await;
    let items: Vec<_> = client(&server).attach(run(), None).collect().await;
    assert!(matches!(&items[..], [Err(ClientError::Unusable(_))]), "{items:?}");
}

#[tokio::test]
async fn silence_before_the_head_is_a_loss_too() {
    let server = Server::start(|_, mut peer| async move { peer.hold().await }).await;
    let timing =
        Timing { idle: Duration::from_millis(20), give_up_after: Some(Duration::ZERO), ..quick() };
    let items: Vec<_> = client(&server).with_timing(timing).attach(run(), None).collect().await;
    let [Err(ClientError::Transport(TransportError::Idle(_)))] = &items[..] else {
        panic!("{items:?}")
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever the connections are cut: all events, once, in order.
    #[test]
    fn f17_cut_at_any_byte_each_event_comes_once(cuts in prop::collection::vec(0usize..4_000, 0..12)) {
        const LAST: u64 = 40;
        let got = Runtime::new().unwrap().block_on(async {
            let server = Server::start(move |index, mut peer| {
                let cut = cuts.get(index).copied().unwrap_or(usize::MAX);
                async move {
                    let body = frames(peer.last_event_id(), LAST);
                    peer.stream(&body[..cut.min(body.len())]).await;
                }
            })
            .await;
            words(client(&server).attach(run(), None)).await
        });
        prop_assert_eq!(without_losses(got), whole(LAST));
    }
}
