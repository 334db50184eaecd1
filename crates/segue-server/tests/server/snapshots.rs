//! Snapshots and gaps: what a client gets that cannot or does not want to have all.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Host, Reply, Setup, Sse, host, read, seqs, text_lines, texts};

/// A run with five texts after its start, still open; its last seq is 7.
async fn open_run(host: &Host) -> String {
    let run = host.run("push").await;
    host.append_texts(&run, 0..5).await;
    run
}

/// A server whose runs keep about eight events.
async fn capped() -> Host {
    Host::start(Setup { run_cap: Some(400), ..Setup::default() }).await
}

/// All text of a snapshot's message.
fn said(snapshot: &Value) -> String {
    let parts = snapshot["message"]["parts"].as_array().expect("parts");
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

async fn lines(host: &Host, run: &str, query: &str) -> Reply {
    let path = format!("/v1/runs/{run}/events{query}");
    read(host.request(Method::GET, &path).header("accept", "application/x-ndjson")).await
}

/// The gap and the snapshot with which a stream begins.
async fn gap_and_snapshot(sse: &mut Sse) -> (Value, Value) {
    let gap = sse.frame().await.expect("open");
    assert_eq!((gap.id.as_ref(), gap.event.as_deref()), (None, Some("control.gap")));
    let snapshot = sse.frame().await.expect("open");
    assert_eq!(snapshot.event.as_deref(), Some("control.snapshot"));
    let (gap, snapshot) = (gap.json(), snapshot.json());
    assert_eq!(gap["from_seq"], snapshot["from_seq"]);
    (gap, snapshot)
}

#[tokio::test]
async fn a_snapshot_is_followed_by_what_comes_after_it() {
    let host = host().await;
    let run = open_run(&host).await;
    let mut sse = host.attach(&run, "?from=snapshot", None).await;
    let frame = sse.frame().await.expect("open");
    assert_eq!(frame.id, Some(format!("{run}:7")));
    assert_eq!(frame.event.as_deref(), Some("control.snapshot"));
    let snapshot = frame.json();
    assert_eq!((&snapshot["type"], &snapshot["seq"]), (&json!("control.snapshot"), &json!(7)));
    assert_eq!((snapshot["from_seq"].as_u64(), said(&snapshot)), (Some(1), "0 1 2 3 4 ".into()));
    let message = &snapshot["message"];
    assert_eq!((&message["run_id"], &message["status"]), (&json!(run), &json!("streaming")));
    assert_eq!(message["parts"][0]["open"], true);
    host.append_texts(&run, 5..6).await;
    host.finish(&run).await;
    assert_eq!(sse.rest().await, host.log(&run).await[7..]);
    host.end().await;
}

#[tokio::test]
async fn f17_a_drop_right_after_a_snapshot_goes_on_behind_it() {
    let host = host().await;
    let run = open_run(&host).await;
    let mut sse = host.attach(&run, "?from=snapshot&event=none", None).await;
    let frame = sse.frame().await.expect("open");
    assert_eq!((frame.event, &frame.id), (None, &Some(format!("{run}:7"))));
    drop(sse);
    host.append_texts(&run, 5..6).await;
    // As a browser does it: its URL again, with the id that it has seen.
    let mut sse = host.attach(&run, "?from=snapshot&event=none", frame.id.as_deref()).await;
    assert_eq!(sse.event().await.expect("open")["seq"], 8);
    host.end().await;
}

#[tokio::test]
async fn of_an_ended_run_the_terminal_follows_and_then_the_end() {
    let host = host().await;
    let run = open_run(&host).await;
    host.finish(&run).await;
    let log = host.log(&run).await;
    let mut sse = host.attach(&run, "?from=snapshot", None).await;
    let snapshot = sse.event().await.expect("open");
    assert_eq!(sse.rest().await, log[8..]);
    let both = [vec![snapshot.clone()], log[8..].to_vec()].concat();
    assert_eq!(lines(&host, &run, "?from=snapshot").await.lines(), both);
    let page = host.get(&format!("/v1/runs/{run}/events?from=snapshot")).await.json();
    assert_eq!((&page["snapshot"], &page["data"]), (&snapshot, &json!(log[8..])));
    assert_eq!((&page["closed"], &page["next"]), (&json!(true), &Value::Null));
    let over = host.attach(&run, "?from=snapshot", Some(&format!("{run}:9"))).await;
    assert_eq!((over.status(), over.header("segue-run-status")), (204, Some("finished")));
    host.end().await;
}

#[tokio::test]
async fn a_page_goes_on_from_its_snapshot() {
    let host = host().await;
    let run = open_run(&host).await;
    let page = host.get(&format!("/v1/runs/{run}/events?from=snapshot")).await.json();
    assert_eq!((&page["data"], &page["closed"]), (&json!([]), &json!(false)));
    assert_eq!(page["next"], format!("{run}:7"));
    host.append_texts(&run, 5..7).await;
    let next = host.get(&format!("/v1/runs/{run}/events?after={run}:7")).await.json();
    assert_eq!(seqs(next["data"].as_array().expect("a list")), [8, 9]);
    let stored = lines(&host, &run, "?from=snapshot&live=false").await.lines();
    assert_eq!((stored.len(), &stored[0]["seq"]), (1, &json!(9)));
    host.end().await;
}

#[tokio::test]
async fn a_snapshot_of_20000_events_is_under_a_twentieth_of_their_replay() {
    let host = host().await;
    let run = host.run("push").await;
    host.lines(&run, text_lines(0..20_000), &[]).await;
    host.finish(&run).await;
    let (replay, from_snapshot) =
        (lines(&host, &run, "").await, lines(&host, &run, "?from=snapshot").await);
    let (bytes, of) = (from_snapshot.text.len(), replay.text.len());
    assert!(bytes * 20 < of, "{bytes} of {of} bytes");
    assert_eq!(said(&from_snapshot.lines()[0]), texts(&replay.lines()).concat());
    host.end().await;
}

#[tokio::test]
async fn a_message_over_the_cap_is_cut_marked_and_linked() {
    let host = host().await;
    let run = host.run("push").await;
    let big = "x".repeat(900_000);
    for part in ["a", "b"] {
        let delta = json!({"type": "text.delta", "part": part, "text": big});
        assert_eq!(host.append(&run, &delta).await.status, 200);
    }
    let stored = lines(&host, &run, "?from=snapshot&live=false").await;
    assert!(stored.text.len() <= (1 << 20) + 200, "{}", stored.text.len());
    let snapshot = &stored.lines()[0];
    assert_eq!((&snapshot["truncated"], snapshot.get("omitted")), (&json!(2), None));
    assert!(snapshot["message"]["parts"][1]["truncated"].as_u64() > Some(300_000));
    let link = snapshot["link"].as_str().expect("a link");
    let whole = host.get(link).await.json();
    assert_eq!(whole["data"][2]["text"], big);
    host.end().await;
}

#[tokio::test]
async fn h01_what_is_over_the_cap_is_gone_from_memory() {
    let host = capped().await;
    let run = open_run(&host).await;
    host.append_texts(&run, 5..2000).await;
    let page = host.get(&format!("/v1/runs/{run}/events?from=last:2000")).await.json();
    let kept = page["data"].as_array().expect("a list").len();
    assert!((1..30).contains(&kept), "{kept} events are kept");
    host.end().await;
}

#[tokio::test]
async fn h02_a_run_over_its_cap_begins_with_one_gap_and_says_what_is_left() {
    let host = capped().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..40).await;
    let mut sse = host.attach(&run, "", None).await;
    let (gap, snapshot) = gap_and_snapshot(&mut sse).await;
    assert_eq!((&gap["type"], &gap["why"]), (&json!("control.gap"), &json!("trimmed")));
    let first = gap["from_seq"].as_u64().expect("a seq");
    assert!(first > 1 && snapshot["seq"] == 42);
    let left: Vec<String> = (first - 3..40).map(|n| format!("{n} ")).collect();
    assert_eq!(said(&snapshot), left.concat(), "no tail is passed off as the whole");
    host.append_texts(&run, 40..41).await;
    assert_eq!(sse.event().await.expect("open")["seq"], 43);
    host.end().await;
}

#[tokio::test]
async fn h05_a_cursor_in_what_is_kept_gets_no_notice() {
    let host = capped().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..40).await;
    for (query, header) in [(String::new(), Some("40")), (format!("?after={run}:40"), None)] {
        let header = header.map(|seq| format!("{run}:{seq}"));
        let mut sse = host.attach(&run, &query, header.as_deref()).await;
        assert_eq!(seqs(&sse.take(2).await), [41, 42]);
    }
    host.end().await;
}

#[tokio::test]
async fn h06_a_cursor_before_what_is_kept_goes_on_where_the_client_asks() {
    let host = capped().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..40).await;
    let mut sse = host.attach(&run, "", Some(&format!("{run}:3"))).await;
    let (gap, _) = gap_and_snapshot(&mut sse).await;
    let refused = host.get(&format!("/v1/runs/{run}/events?after={run}:3")).await;
    let available = refused.problem(410, "cursor_trimmed")["available_from"].clone();
    assert_eq!((&available, &gap["why"]), (&gap["from_seq"], &json!("trimmed")));
    let from = available.as_u64().expect("a seq");
    let mut sse = host.attach(&run, &format!("?after={run}:{}", from - 1), None).await;
    assert_eq!(sse.event().await.expect("open")["seq"], from);
    host.end().await;
}

#[tokio::test]
async fn j10_a_trimmed_cursor_is_gone_and_told_where_the_snapshot_is() {
    let host = capped().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..40).await;
    let refused = host.get(&format!("/v1/runs/{run}/events?after={run}:1")).await;
    let problem = refused.problem(410, "cursor_trimmed");
    let link = problem["snapshot"].as_str().expect("a link");
    let page = host.get(link).await.json();
    assert_eq!(page["snapshot"]["from_seq"], problem["available_from"]);
    host.end().await;
}

#[tokio::test]
async fn h09_a_page_of_exactly_the_cap_is_whole_and_one_more_is_the_next() {
    let host = host().await;
    let run = host.run("push").await;
    host.lines(&run, text_lines(0..998), &[]).await;
    let path = format!("/v1/runs/{run}/events");
    let page = host.get(&path).await.json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1000));
    host.append_texts(&run, 998..999).await;
    let page = host.get(&format!("{path}?limit=100000")).await.json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1000));
    let next = page["next"].as_str().expect("more");
    let page = host.get(&format!("{path}?after={next}")).await.json();
    assert_eq!(seqs(page["data"].as_array().expect("a list")), [1001]);
    host.end().await;
}

#[tokio::test]
async fn h13_pages_forward_and_back_stay_the_same_while_the_run_grows() {
    let host = host().await;
    let run = host.run("push").await;
    host.append_texts(&run, 0..20).await;
    let page = async |after: u64| {
        let path = format!("/v1/runs/{run}/events?limit=5&after={run}:{after}");
        let page = host.get(&path).await.json();
        (page["data"].clone(), page["next"].clone())
    };
    let mut forward = Vec::new();
    for after in [0, 5, 10, 15] {
        forward.push(page(after).await);
        host.append_texts(&run, 0..3).await;
    }
    for (after, seen) in [15, 10, 5, 0].into_iter().zip(forward.into_iter().rev()) {
        assert_eq!(seqs(seen.0.as_array().expect("a list"))[0], after + 1, "exclusive");
        assert_eq!(seen.1, format!("{run}:{}", after + 5));
        assert_eq!(page(after).await, seen);
        host.append_texts(&run, 0..3).await;
    }
    host.end().await;
}

#[tokio::test]
async fn q07_control_frames_are_marked_and_never_stored_or_taken() {
    let host = host().await;
    let run = open_run(&host).await;
    let mut sse = host.attach(&run, "", Some("junk")).await;
    let (gap, snapshot) = gap_and_snapshot(&mut sse).await;
    for frame in [&gap, &snapshot] {
        assert!(frame["type"].as_str().is_some_and(|name| name.starts_with("control.")));
        assert_eq!(frame.get("text"), None);
        host.append(&run, &json!({"type": frame["type"]})).await.problem(400, "forged_event");
    }
    let log = host.log(&run).await;
    assert!(log.iter().all(|event| !event["type"].to_string().contains("control.")));
    host.end().await;
}

#[tokio::test]
async fn h12_gaps_and_snapshots_are_counted() {
    let host = host().await;
    let run = open_run(&host).await;
    drop(host.attach(&run, "", Some("junk")).await);
    let metrics = read(host.request(Method::GET, "/metrics")).await.text;
    let counted = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    assert!(counted("segue_gaps_total{why=\"malformed\"}") >= 1.0, "{metrics}");
    assert!(counted("segue_snapshots_total") >= 1.0);
    host.end().await;
}

#[tokio::test]
async fn clients_of_one_snapshot_see_the_same() {
    let host = host().await;
    let run = open_run(&host).await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(host.attach(&run, "?from=snapshot", None).await);
    }
    host.append_texts(&run, 5..8).await;
    for sse in &mut sessions {
        let snapshot = sse.event().await.expect("open");
        let rest = sse.take(3).await;
        assert_eq!(seqs(&rest), [8, 9, 10]);
        assert_eq!(said(&snapshot) + &texts(&rest).concat(), "0 1 2 3 4 5 6 7 ");
    }
    host.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_between_a_snapshot_and_what_follows_it_nothing_is_lost_or_doubled() {
    const LAST: u64 = 4_000;
    let host = host().await;
    let run = host.run("push").await;
    let appends = async {
        for n in 0..LAST / 100 {
            host.lines(&run, text_lines(n * 100..(n + 1) * 100), &[]).await;
        }
    };
    let joins = async {
        let mut tabs = Vec::new();
        for n in 0..40 {
            host.append_texts(&run, LAST + n..LAST + n + 1).await;
            tabs.push(host.attach(&run, "?from=snapshot", None).await);
        }
        tabs
    };
    let (mut tabs, ()) = tokio::join!(joins, appends);
    host.finish(&run).await;
    let whole = texts(&host.log(&run).await).concat();
    for sse in &mut tabs {
        let snapshot = sse.event().await.expect("open");
        let rest = sse.rest().await;
        let first = snapshot["seq"].as_u64().expect("a seq") + 1;
        assert_eq!(seqs(&rest), (first..first + rest.len() as u64).collect::<Vec<_>>());
        assert_eq!(said(&snapshot) + &texts(&rest).concat(), whole);
    }
    host.end().await;
}
