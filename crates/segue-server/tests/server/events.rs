//! Replay and live: each event once, in order.

use serde_json::json;

use crate::support::{host, seqs, text, texts};

#[tokio::test]
async fn f01_what_was_stored_before_the_attach_comes_once() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..3).await;
    let mut sse = host.attach(&run, &format!("?after={run}:1"), None).await;
    host.finish(&run).await;
    let events = sse.rest().await;
    assert_eq!(seqs(&events), (2..=7).collect::<Vec<_>>());
    assert_eq!(texts(&events), ["0 ", "1 ", "2 "]);
    host.end().await;
}

#[tokio::test]
async fn f02_what_is_appended_while_a_client_attaches_comes_once() {
    let host = host().await;
    for _ in 0..10 {
        let run = host.run("push").await;
        host.append_texts(&run, 0..2).await;
        let appending = async {
            host.append_texts(&run, 2..12).await;
            host.finish(&run).await;
        };
        let attaching = async { host.attach(&run, "", None).await.rest().await };
        let ((), events) = tokio::join!(appending, attaching);
        assert_eq!(events, host.log(&run).await);
    }
    host.end().await;
}

#[tokio::test]
async fn f03_between_a_page_and_the_attach_nothing_is_lost() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..2).await;
    let page = host.get(&format!("/v1/runs/{run}/events")).await.json();
    host.append_texts(&run, 2..4).await;
    let next = page["next"].as_str().expect("the run is open");
    let mut sse = host.attach(&run, &format!("?after={next}"), None).await;
    host.append_texts(&run, 4..5).await;
    host.finish(&run).await;
    let mut events = page["data"].as_array().expect("a list").clone();
    events.extend(sse.rest().await);
    assert_eq!(events, host.log(&run).await);
    host.end().await;
}

#[tokio::test]
async fn f04_equal_content_is_not_a_duplicate() {
    let host = host().await;
    let run = host.run("push").await;
    host.append(&run, &json!([text("same"), text("same")])).await;
    host.append(&run, &text("same")).await;
    host.finish(&run).await;
    let events = host.attach(&run, "", None).await.rest().await;
    assert_eq!(texts(&events), ["same", "same", "same"]);
    host.end().await;
}

#[tokio::test]
async fn f05_the_cursors_own_event_is_not_sent_again() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..5).await;
    for seq in 1..=6 {
        let mut sse = host.attach(&run, "", Some(&format!("{run}:{seq}"))).await;
        assert_eq!(sse.event().await.expect("open")["seq"], seq + 1);
    }
    host.end().await;
}

#[tokio::test]
async fn f06_at_the_tail_of_a_running_run_only_news_come() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..1).await;
    let mut sse = host.attach(&run, &format!("?after={run}:3"), None).await;
    host.append_texts(&run, 1..2).await;
    assert_eq!(sse.event().await.expect("open")["text"], "1 ");
    host.end().await;
}

#[tokio::test]
async fn f07_the_final_cursor_of_an_ended_run_is_told_the_end() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..1).await;
    host.append(&run, &json!({"type": "run.finished", "finish_reason": "length"})).await;
    let last = format!("{run}:5");
    for (query, header) in [(format!("?after={last}"), None), (String::new(), Some(last.as_str()))]
    {
        let mut sse = host.attach(&run, &query, header).await;
        assert_eq!(sse.status(), 204);
        assert_eq!(sse.header("segue-run-status"), Some("finished"));
        assert_eq!(sse.header("segue-run-reason"), Some("length"));
        assert_eq!(sse.header("segue-last-seq"), Some("5"));
        assert_eq!(sse.block().await, None);
    }
    let page = host.get(&format!("/v1/runs/{run}/events?after={last}")).await.json();
    assert_eq!(page, json!({"data": [], "next": null, "closed": true, "status": "finished"}));
    let path = format!("/v1/runs/{run}/events?after={last}");
    let lines = host.request(reqwest::Method::GET, &path).header("accept", "application/x-ndjson");
    let lines = crate::support::read(lines).await;
    assert_eq!((lines.status, lines.text.as_str()), (200, ""));
    host.end().await;
}

#[tokio::test]
async fn f08_with_only_the_terminal_left_it_comes_and_the_stream_closes() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..1).await;
    host.finish(&run).await;
    let mut sse = host.attach(&run, "", Some(&format!("{run}:4"))).await;
    let events = sse.rest().await;
    assert_eq!(seqs(&events), [5]);
    assert_eq!(events[0]["type"], "run.finished");
    host.end().await;
}

#[tokio::test]
async fn f09_an_end_that_was_stored_before_it_was_read_comes_after_the_tail() {
    let host = host().await;
    let run = host.run("push").await;
    let mut sse = host.attach(&run, "", None).await;
    let batch = json!([text("a"), text("b"), {"type": "run.finished"}]);
    assert_eq!(host.append(&run, &batch).await.status, 200);
    let events = sse.rest().await;
    assert_eq!(texts(&events), ["a", "b"]);
    assert_eq!(events.last().expect("a terminal")["type"], "run.finished");
    host.end().await;
}

#[tokio::test]
async fn f10_a_new_run_of_the_session_has_its_own_events() {
    let host = host().await;
    let mut logs = Vec::new();
    for n in 0..2 {
        let reply = host.post("/v1/sessions/same/runs", &json!({"agent": "push"})).await;
        let run = reply.json()["id"].as_str().expect("an id").to_owned();
        let mut sse = host.attach(&run, "", None).await;
        host.append_texts(&run, n..n + 2).await;
        host.finish(&run).await;
        let events = sse.rest().await;
        assert!(events.iter().all(|event| event["run_id"] == run.as_str()));
        logs.push((run, events));
    }
    assert_eq!(seqs(&logs[0].1), seqs(&logs[1].1));
    assert_eq!(
        (texts(&logs[0].1), texts(&logs[1].1)),
        (vec!["0 ".into(), "1 ".into()], vec!["1 ".to_owned(), "2 ".to_owned()])
    );
    host.end().await;
}

#[tokio::test]
async fn f11_without_a_cursor_the_whole_run_comes() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..5).await;
    let mut sse = host.attach(&run, "", None).await;
    let begun = sse.take(7).await;
    assert_eq!((&begun[0]["type"], &begun[0]["seq"]), (&json!("run.started"), &json!(1)));
    assert!(sse.seen.iter().all(|block| block.data.is_some() || block.id.is_none()));
    host.finish(&run).await;
    let late = host.attach(&run, "", None).await.rest().await;
    assert_eq!(late, host.log(&run).await);
    host.end().await;
}

#[tokio::test]
async fn f12_live_only_tells_where_it_begins() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..2).await;
    let mut sse = host.attach(&run, "?from=tail", None).await;
    let opening = sse.block().await.expect("open");
    let place = sse.block().await.expect("open");
    assert!(opening.is_comment());
    assert_eq!((place.id, place.data), (Some(format!("{run}:4")), None));
    host.append_texts(&run, 2..3).await;
    assert_eq!(sse.event().await.expect("open")["text"], "2 ");
    let mut last = host.attach(&run, "?from=last:2", None).await;
    assert_eq!(texts(&last.take(2).await), ["1 ", "2 "]);
    host.end().await;
}

#[tokio::test]
async fn f13_a_client_that_comes_back_at_every_event_sees_the_log() {
    let host = host().await;
    let run = host.run("push").await;
    let batch: Vec<_> = (0..500).map(|n| text(&format!("{n} "))).collect();
    host.append(&run, &batch.into()).await;
    host.finish(&run).await;
    let log = host.log(&run).await;
    let begin = random_number();
    let mut random = begin;
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    while seen.len() < log.len() {
        let mut sse = host.attach(&run, "", cursor.as_deref()).await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let count = 1 + usize::try_from(random >> 60).expect("small");
        for _ in 0..count.min(log.len() - seen.len()) {
            let block = sse.frame().await.expect("more to come");
            seen.push(block.json());
            cursor = block.id;
        }
    }
    assert_eq!(seen, log, "seed {begin}");
    assert_eq!(host.attach(&run, "", cursor.as_deref()).await.status(), 204);
    host.end().await;
}

fn random_number() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    u64::from_le_bytes(bytes)
}

#[tokio::test]
async fn f15_each_frame_has_its_own_id_however_far_the_producer_is() {
    let host = host().await;
    let run = host.run("push").await;
    let mut sse = host.attach(&run, "", None).await;
    let batch: Vec<_> = (0..500).map(|n| text(&format!("{n} "))).collect();
    host.append(&run, &batch.into()).await;
    host.finish(&run).await;
    let mut count = 0;
    while let Some(block) = sse.frame().await {
        let event = block.json();
        count += 1;
        assert_eq!(block.id, Some(format!("{run}:{count}")));
        assert_eq!((event["seq"].as_u64(), &event["run_id"]), (Some(count), &json!(run)));
        assert_eq!(block.event.as_deref(), event["type"].as_str());
    }
    assert_eq!(count, 1 + 1 + 500 + 1 + 1);
    host.end().await;
}

#[tokio::test]
async fn f16_a_refused_append_leaves_no_frame_and_takes_no_id() {
    let host = host().await;
    let run = host.run("push").await;
    let mut sse = host.attach(&run, "", None).await;
    host.append_texts(&run, 0..1).await;
    let refused = json!([text("never"), {"type": "run.started"}]);
    host.append(&run, &refused).await.problem(400, "forged_event");
    host.append_texts(&run, 1..2).await;
    host.finish(&run).await;
    let events = sse.rest().await;
    assert_eq!(seqs(&events), (1..=6).collect::<Vec<_>>());
    assert_eq!(texts(&events), ["0 ", "1 "]);
    host.end().await;
}

#[tokio::test]
async fn f17_a_replay_that_was_cut_goes_on_after_its_last_frame() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..20).await;
    let mut first = host.attach(&run, "", None).await;
    first.take(8).await;
    let id = first.seen.iter().rev().find_map(|block| block.id.clone());
    drop(first);
    let mut second = host.attach(&run, "", id.as_deref()).await;
    assert_eq!(second.event().await.expect("open")["seq"], 9);
    host.end().await;
}

#[tokio::test]
async fn a_drop_before_the_first_event_resumes_where_the_attach_was() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..3).await;
    let mut sse = host.attach(&run, &format!("?after={run}:5"), None).await;
    sse.block().await;
    let id = sse.block().await.expect("open").id;
    assert_eq!(id, Some(format!("{run}:5")));
    drop(sse);
    host.append_texts(&run, 3..4).await;
    let mut again = host.attach(&run, "", id.as_deref()).await;
    assert_eq!(again.event().await.expect("open")["seq"], 6);
    host.end().await;
}

#[tokio::test]
async fn without_event_names_on_message_sees_all() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..1).await;
    host.finish(&run).await;
    let mut named = host.attach(&run, "", None).await;
    let mut plain = host.attach(&run, "?event=none", None).await;
    assert_eq!(named.rest().await, plain.rest().await);
    assert!(plain.seen.iter().all(|block| block.event.is_none()));
    let framed = |sse: &crate::support::Sse| {
        sse.seen.iter().filter(|block| block.data.is_some()).all(|block| block.event.is_some())
    };
    assert!(framed(&named));
    host.end().await;
}

#[tokio::test]
async fn lines_and_pages_show_the_same_events() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..10).await;
    host.finish(&run).await;
    let path = format!("/v1/runs/{run}/events");
    let lines = host.request(reqwest::Method::GET, &path).header("accept", "application/x-ndjson");
    let lines = crate::support::read(lines).await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let events = host.attach(&run, "", None).await.rest().await;
    assert_eq!(lines.lines(), events);
    let mut paged = Vec::new();
    let mut query = "limit=3".to_owned();
    loop {
        let page = host.get(&format!("{path}?{query}")).await.json();
        paged.extend(page["data"].as_array().expect("a list").clone());
        assert_eq!(page["status"], "finished");
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=3&after={next}");
    }
    assert_eq!(paged, events);
    host.end().await;
}

#[tokio::test]
async fn without_live_a_stream_ends_at_what_is_stored() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..3).await;
    let events = host.attach(&run, "?live=false", None).await.rest().await;
    assert_eq!(events, host.log(&run).await);
    host.end().await;
}

#[tokio::test]
async fn a_long_poll_answers_with_the_next_event() {
    let host = host().await;
    let run = host.run("push").await;
    let path = format!("/v1/runs/{run}/events?after={run}:1&wait=30");
    let appending = async {
        host.until_clients(&run, 1).await;
        host.append_texts(&run, 0..1).await;
    };
    let (page, ()) = tokio::join!(host.get(&path), appending);
    let page = page.json();
    assert_eq!(texts(page["data"].as_array().expect("a list")), ["0 "]);
    assert_eq!((&page["closed"], &page["status"]), (&json!(false), &json!("running")));
    let empty = host.get(&format!("/v1/runs/{run}/events?after={run}:3&wait=0")).await.json();
    assert_eq!((&empty["data"], &empty["next"]), (&json!([]), &json!(format!("{run}:3"))));
    host.end().await;
}

#[tokio::test]
async fn an_event_that_spans_lines_is_one_line_on_the_wire() {
    let host = host().await;
    let run = host.run("push").await;
    let body = "{\r\n  \"type\": \"data\",\n  \"name\": \"n\",\n  \"value\": \"a\\nb\"\n}";
    let request = host.request(reqwest::Method::POST, &format!("/v1/runs/{run}/events"));
    let request = request.header("content-type", "application/json").body(body);
    assert_eq!(crate::support::read(request).await.status, 200);
    let event = host.attach(&run, "", None).await.take(2).await.remove(1);
    assert_eq!((&event["name"], &event["value"]), (&json!("n"), &json!("a\nb")));
    host.end().await;
}
