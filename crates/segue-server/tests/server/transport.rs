//! Heads, heartbeats, framing, dead peers.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpSocket};

use crate::support::{
    Host, Setup, Sse, host,
    raw::{Raw, status},
    seqs, text_lines,
};

fn quick_heartbeat() -> Setup {
    let mut setup = Setup::default();
    setup.options.heartbeat = Duration::from_millis(20);
    setup
}

fn attach(run: &str) -> String {
    format!(
        "GET /v1/runs/{run}/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n"
    )
}

#[tokio::test]
async fn p01_silence_is_filled_with_comments_that_move_no_cursor() {
    let host = Host::start(quick_heartbeat()).await;
    let run = host.run("push").await;
    let mut sse = host.attach(&run, "", None).await;
    sse.take(1).await;
    for _ in 0..3 {
        let beat = sse.block().await.expect("open");
        assert_eq!((beat.comments, beat.id), (vec!["hb".to_owned()], None));
    }
    host.append_texts(&run, 0..1).await;
    assert_eq!(seqs(&sse.take(2).await), [2, 3]);
    host.end().await;
}

#[tokio::test]
async fn p02_heartbeats_fill_the_wait_for_the_first_token_and_stop_at_the_end() {
    let host = Host::start(quick_heartbeat()).await;
    let run = host.run("waits").await;
    let mut sse = host.attach(&run, "", None).await;
    sse.take(1).await;
    assert!(sse.block().await.expect("open").is_comment());
    host.post(&format!("/v1/runs/{run}/stop"), &serde_json::json!({})).await;
    let events = sse.rest().await;
    let last = sse.seen.last().expect("a terminal");
    assert_eq!(last.json(), *events.last().expect("a terminal"));
    host.end().await;
}

#[tokio::test]
async fn p03_the_head_says_that_it_is_a_stream_and_comes_at_once() {
    let host = host().await;
    let run = host.run("push").await;
    let path = format!("?after={run}:1");
    let mut sse = host.attach(&run, &path, None).await;
    assert_eq!(sse.status(), 200);
    assert_eq!(sse.header("content-type"), Some("text/event-stream"));
    assert_eq!(sse.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(sse.header("x-accel-buffering"), Some("no"));
    assert_eq!((sse.header("connection"), sse.header("content-length")), (None, None));
    let first = sse.block().await.expect("open");
    assert_eq!((first.comments.len(), first.retry.as_deref()), (1, Some("2000")));
    host.end().await;
}

#[tokio::test]
async fn p04_a_peer_that_takes_nothing_is_cut_and_freed() {
    let host = slow_client_host().await;
    let run = long_run(&host).await;
    let dead = slow_client(&host, &run).await;
    host.until_clients(&run, 1).await;
    host.until_clients(&run, 0).await;
    assert!(host.get("/metrics").await.text.contains("segue_connections_cut_total"));
    drop(dead);
    // Who closes or resets in order is freed too.
    let mut gone = host.attach(&run, &format!("?after={run}:1"), None).await;
    gone.block().await;
    host.until_clients(&run, 1).await;
    drop(gone);
    host.until_clients(&run, 0).await;
    host.end().await;
}

#[tokio::test]
async fn h11_a_slow_client_is_cut_and_its_cursor_loses_nothing() {
    let host = slow_client_host().await;
    let run = long_run(&host).await;
    let mut slow = slow_client(&host, &run).await;
    host.until_clients(&run, 1).await;
    host.until_clients(&run, 0).await;
    let patient = host.beside().await;
    let text = slow.rest().await;
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    // The last frame may be cut in the middle; the one before is whole.
    let ids: Vec<&str> = ids.collect();
    let last = ids[ids.len() - 2];
    let (_, seq) = last.rsplit_once(':').expect("a cursor");
    let seq: usize = seq.parse().expect("a number");
    host.finish(&run).await;
    let back = patient.attach(&run, "", Some(last)).await.rest().await;
    assert_eq!(back, patient.log(&run).await[seq..]);
    patient.end().await;
    host.end().await;
}

async fn slow_client_host() -> Host {
    let mut setup = Setup::default();
    setup.options.write_deadline = Duration::from_millis(100);
    Host::start(setup).await
}

/// A run whose log is larger than what sockets buffer.
async fn long_run(host: &Host) -> String {
    let run = host.run("push").await;
    let filler = "x".repeat(2_000);
    let body = text_lines(0..4_000).replace(" \"}", &format!("{filler}\"}}"));
    host.lines(&run, body, &[]).await;
    run
}

/// Asks for the run and takes next to nothing of it.
async fn slow_client(host: &Host, run: &str) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(host.address).await.expect("the server listens");
    stream.write_all(attach(run).as_bytes()).await.expect("the server reads");
    Raw(stream)
}

#[tokio::test]
async fn p06_http_1_and_http_2_carry_the_same_frames() {
    let host = host().await;
    let run = host.run("push").await;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let url = host.url(&format!("/v1/runs/{run}/events"));
    let mut one = host.attach(&run, "", None).await;
    let mut two = Sse::open(&h2, &url, None).await;
    let mut three = Sse::open(&h2, &url, None).await;
    assert_eq!(two.status(), 200);
    // Also while streams are open on the connection, requests that write are answered on it.
    for n in 0..5 {
        let request = h2.post(&url).json(&crate::support::text(&format!("{n} ")));
        assert_eq!(crate::support::read(request).await.status, 200);
    }
    host.lines(&run, text_lines(5..500), &[]).await;
    host.finish(&run).await;
    one.rest().await;
    two.rest().await;
    three.rest().await;
    let frames =
        |sse: &Sse| sse.seen.iter().filter(|b| b.data.is_some()).cloned().collect::<Vec<_>>();
    assert_eq!(frames(&one), frames(&two));
    assert_eq!(frames(&one), frames(&three));
    assert_eq!(frames(&one).len(), 504);
    host.end().await;
}

#[tokio::test]
async fn a_connection_serves_on_after_a_stream() {
    let host = host().await;
    let run = host.run("push").await;
    host.finish(&run).await;
    let open = host.run("push").await;
    let mut raw = Raw::open(host.address).await;
    let body = "{\"type\":\"text.delta\",\"part\":\"p\",\"text\":\"x\"}";
    for n in 0..3 {
        raw.send(attach(&run)).await;
        assert!(raw.read_until("\r\n0\r\n\r\n").await.contains("run.finished"));
        raw.send(format!(
            "POST /v1/runs/{open}/events HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let answer = raw.read_until("}").await;
        assert_eq!(status(&answer), "200", "{n}: {answer}");
    }
    drop(raw);
    host.end().await;
}

#[tokio::test]
async fn odd_requests_do_not_disturb_the_others() {
    let host = host().await;
    let run = host.run("push").await;
    let mut sse = host.attach(&run, "", None).await;
    for odd in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "\0\0\0",
        "GET / HTTP/9\r\n\r\n",
    ] {
        let mut raw = Raw::open(host.address).await;
        raw.send(odd).await;
        raw.0.shutdown().await.expect("open");
        raw.rest().await;
    }
    host.append_texts(&run, 0..1).await;
    assert_eq!(sse.take(3).await.len(), 3);
    host.end().await;
}
