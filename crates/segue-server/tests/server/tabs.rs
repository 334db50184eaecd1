//! Many clients of one run.

use serde_json::json;

use crate::support::{Host, Setup, host, seqs, text, text_lines, texts};

#[tokio::test]
async fn d11_a_slow_reader_of_2000_events_gets_all_of_them() {
    let host = host().await;
    let run = host.run("push").await;
    let mut slow = host.attach(&run, "", None).await;
    let mut quick = host.attach(&run, "", None).await;
    let body = text_lines(0..2000).replace("\"p\"", "\"p\",\"x\":\"0123456789abcdef\"");
    host.lines(&run, body, &[]).await;
    host.finish(&run).await;
    // The quick one is done before the slow one has read a single event.
    let expected = quick.rest().await;
    assert_eq!(expected.len(), 2004);
    assert_eq!(slow.rest().await, expected);
    host.end().await;
}

#[tokio::test]
async fn d12_two_producers_are_seen_in_one_order_by_all() {
    let host = host().await;
    let run = host.run("push").await;
    let (mut one, mut two) = (host.attach(&run, "", None).await, host.attach(&run, "", None).await);
    let part =
        |name: &str, n: u64| json!({"type": "text.delta", "part": name, "text": n.to_string()});
    let produce = async |name: &str| {
        for n in 0..50 {
            assert_eq!(host.append(&run, &part(name, n)).await.status, 200);
        }
    };
    tokio::join!(produce("worker"), produce("ticker"));
    host.finish(&run).await;
    let log = host.log(&run).await;
    assert_eq!(one.rest().await, log);
    assert_eq!(two.rest().await, log);
    for name in ["worker", "ticker"] {
        let own: Vec<_> = log.iter().filter(|event| event["part"] == name).cloned().collect();
        assert_eq!(texts(&own), (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    host.end().await;
}

#[tokio::test]
async fn g01_two_tabs_see_the_same_ids_and_both_end() {
    let host = host().await;
    let run = host.run("push").await;
    let (mut one, mut two) = (host.attach(&run, "", None).await, host.attach(&run, "", None).await);
    host.append_texts(&run, 0..10).await;
    host.finish(&run).await;
    one.rest().await;
    two.rest().await;
    let ids = |sse: &crate::support::Sse| {
        sse.seen.iter().filter_map(|block| block.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&one), ids(&two));
    assert_eq!(ids(&one).len(), 14);
    host.end().await;
}

#[tokio::test]
async fn g02_a_tab_that_joins_late_gets_all_and_the_first_nothing_twice() {
    let host = host().await;
    let run = host.run("push").await;
    let mut first = host.attach(&run, "", None).await;
    host.append_texts(&run, 0..5).await;
    let begun = first.take(7).await;
    let mut second = host.attach(&run, "", None).await;
    host.append_texts(&run, 5..8).await;
    host.finish(&run).await;
    let log = host.log(&run).await;
    assert_eq!(second.rest().await, log);
    assert_eq!([begun, first.rest().await].concat(), log);
    host.end().await;
}

#[tokio::test]
async fn g03_a_tab_that_is_killed_is_freed_and_the_other_goes_on() {
    let host = host().await;
    let run = host.run("push").await;
    let mut first = host.attach(&run, "", None).await;
    let mut second = host.attach(&run, "", None).await;
    first.take(1).await;
    second.take(1).await;
    host.until_clients(&run, 2).await;
    drop(first);
    host.until_clients(&run, 1).await;
    host.append_texts(&run, 0..2).await;
    host.finish(&run).await;
    assert_eq!(seqs(&second.rest().await), (2..=6).collect::<Vec<_>>());
    host.until_clients(&run, 0).await;
    host.end().await;
}

#[tokio::test]
async fn g04_a_tab_that_comes_back_does_not_disturb_the_other() {
    let host = host().await;
    let run = host.run("push").await;
    let mut stays = host.attach(&run, "", None).await;
    let mut leaves = host.attach(&run, "", None).await;
    host.append_texts(&run, 0..3).await;
    leaves.take(3).await;
    let id = leaves.seen.iter().rev().find_map(|block| block.id.clone());
    drop(leaves);
    host.append_texts(&run, 3..6).await;
    let mut back = host.attach(&run, "", id.as_deref()).await;
    host.finish(&run).await;
    let log = host.log(&run).await;
    assert_eq!(stays.rest().await, log);
    assert_eq!(back.rest().await, log[3..]);
    host.end().await;
}

#[tokio::test]
async fn g05_a_stop_in_one_tab_is_a_normal_ending_in_the_other() {
    let host = host().await;
    let run = host.run("waits").await;
    let mut tab = host.attach(&run, "", None).await;
    tab.take(1).await;
    let reply = host.post(&format!("/v1/runs/{run}/stop"), &json!({"wait": 20})).await;
    assert_eq!(reply.json(), json!({"stopped": true, "status": "stopped"}));
    let events = tab.rest().await;
    let last = events.last().expect("a terminal");
    assert_eq!((&last["type"], &last["reason"]), (&json!("run.stopped"), &json!("user")));
    assert_eq!(texts(&events), ["0 "]);
    host.end().await;
}

#[tokio::test]
async fn g06_a_client_that_came_and_left_changes_nothing_for_the_next() {
    let host = host().await;
    let run = host.run("push").await;
    for _ in 0..5 {
        let mut passer_by = host.attach(&run, "", None).await;
        passer_by.take(1).await;
    }
    host.append_texts(&run, 0..3).await;
    host.finish(&run).await;
    assert_eq!(host.attach(&run, "", None).await.rest().await, host.log(&run).await);
    host.end().await;
}

#[tokio::test]
async fn clients_of_every_fan_out_thread_see_the_same() {
    let mut setup = Setup::default();
    setup.options.fan_out_threads = 3;
    let host = Host::start(setup).await;
    let run = host.run("push").await;
    let mut tabs = Vec::new();
    for _ in 0..20 {
        tabs.push(host.attach(&run, "", None).await);
    }
    for n in 0..20 {
        host.append(&run, &text(&format!("{n} "))).await;
    }
    host.finish(&run).await;
    let log = host.log(&run).await;
    for mut tab in tabs {
        assert_eq!(tab.rest().await, log);
    }
    host.end().await;
}
