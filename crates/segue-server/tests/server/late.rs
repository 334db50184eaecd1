//! Clients that come at any time: while a run goes on, after its end, and again.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{Host, Setup, host, read, seqs, text, text_lines, texts};

/// The whole run as lines, from its first event to its end.
async fn lines_of(host: &Host, run: &str) -> String {
    let request = host.client.get(host.url(&format!("/v1/runs/{run}/events")));
    let reply = read(request.header("accept", "application/x-ndjson")).await;
    assert_eq!(reply.status, 200);
    // Heartbeats are blank lines; here there are none but the opening one.
    reply.text.trim_start().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f14_clients_that_join_at_random_points_all_see_the_same() {
    const CLIENTS: usize = 100;
    const CHUNKS: u64 = 100;
    const CHUNK: u64 = 100;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let host = host().await;
    let run = host.run("push").await;
    let (sent, progress) = watch::channel(0);
    let joins: Vec<u64> = (0..CLIENTS).map(|_| rng.u64(..=CHUNKS)).collect();
    let clients = join_all(joins.iter().map(|chunk| {
        let mut progress = progress.clone();
        let (host, run) = (&host, &run);
        async move {
            progress.wait_for(|sent| sent >= chunk).await.expect("the producer lives");
            lines_of(host, run).await
        }
    }));
    let producer = async {
        for chunk in 0..CHUNKS {
            let body = text_lines(chunk * CHUNK..(chunk + 1) * CHUNK);
            let last = host.lines(&run, body, &[]).await.lines().pop().expect("an ack");
            assert_eq!(last["acked_seq"], CHUNK - 1);
            sent.send_replace(chunk + 1);
        }
        host.finish(&run).await;
    };
    let (views, ()) = tokio::join!(clients, producer);
    let log = host.log(&run).await;
    assert_eq!(texts(&log).len() as u64, CHUNKS * CHUNK);
    for (client, lines) in views.iter().enumerate() {
        assert_eq!(*lines, views[0], "client {client}");
    }
    let first = views[0].lines().map(|line| serde_json::from_str(line).expect("json"));
    assert_eq!(first.collect::<Vec<Value>>(), log);
    host.end().await;
}

#[tokio::test]
async fn f18_without_files_all_is_delivered_from_memory() {
    let setup = Setup { run_cap: Some(1 << 20), ..Setup::default() };
    let host = Host::start(setup).await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..20).await;
    host.finish(&run).await;
    let events = host.attach(&run, "", None).await.rest().await;
    assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!((texts(&events).len(), events), (20, host.log(&run).await));
    host.end().await;
}

#[tokio::test]
async fn l03_who_comes_back_after_the_end_gets_all_as_often_as_it_comes() {
    let host = host().await;
    let run = host.run("push").await;
    let mut tab = host.attach(&run, "", None).await;
    host.append_texts(&run, 0..3).await;
    tab.take(2).await;
    drop(tab);
    host.finish(&run).await;
    let log = host.log(&run).await;
    for _ in 0..3 {
        assert_eq!(host.attach(&run, "", None).await.rest().await, log);
        let mut rest = host.attach(&run, "", Some(&format!("{run}:2"))).await;
        assert_eq!(rest.rest().await, log[2..]);
    }
    host.end().await;
}

#[tokio::test]
async fn h07_an_event_over_the_cap_is_refused_and_leaves_no_trace() {
    let mut setup = Setup::default();
    setup.settings.event_bytes = 1_000;
    let host = Host::start(setup).await;
    let run = host.run("push").await;
    let fits = |bytes: usize| text(&"x".repeat(bytes));
    let most = 1_000 - fits(0).to_string().len();
    host.append(&run, &fits(most + 1)).await.problem(413, "event_too_large");
    // A batch is taken whole or not at all.
    host.append(&run, &json!([fits(1), fits(most + 1)])).await.problem(413, "event_too_large");
    assert_eq!(seqs(&host.log(&run).await), [1]);
    assert_eq!(host.append(&run, &fits(most)).await.status, 200);
    host.finish(&run).await;
    let log = host.log(&run).await;
    assert_eq!(
        (texts(&log)[0].len(), log.last().expect("an end")["type"].as_str()),
        (most, Some("run.finished"))
    );
    host.end().await;
}
