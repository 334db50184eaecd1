//! What producers may append, and what they are told.

use serde_json::{Value, json};

use crate::support::{Host, Setup, host, raw::Raw, seqs, text, text_lines, texts};

fn producer<'a>(epoch: &'a str, seq: &'a str) -> [(&'a str, &'a str); 3] {
    [("producer-id", "p1"), ("producer-epoch", epoch), ("producer-seq", seq)]
}

async fn numbered(
    host: &Host,
    run: &str,
    epoch: u64,
    seq: u64,
    body: &Value,
) -> crate::support::Reply {
    let request = host.request(reqwest::Method::POST, &format!("/v1/runs/{run}/events"));
    let request = request.header("producer-id", "p1").header("producer-epoch", epoch);
    crate::support::read(request.header("producer-seq", seq).json(body)).await
}

#[tokio::test]
async fn an_array_is_one_batch() {
    let host = host().await;
    let run = host.run("push").await;
    let reply = host.append(&run, &json!([text("a"), text("b")])).await;
    assert_eq!(reply.json(), json!({"first_seq": 2, "last_seq": 4, "stop_requested": false}));
    let refused = host.append(&run, &json!([text("c"), {"type": "Bad"}])).await;
    assert_eq!(refused.problem(400, "bad_event")["index"], 1);
    assert_eq!(texts(&host.log(&run).await), ["a", "b"]);
    host.end().await;
}

#[tokio::test]
async fn a_retry_gets_the_original_answer_also_after_the_end() {
    let host = host().await;
    let run = host.run("push").await;
    let first = numbered(&host, &run, 0, 0, &text("a")).await.json();
    let end = json!([text("b"), {"type": "run.finished"}]);
    let last = numbered(&host, &run, 0, 1, &end).await.json();
    assert_eq!((&first["first_seq"], &last["last_seq"]), (&json!(2), &json!(6)));
    let again = numbered(&host, &run, 0, 1, &end).await;
    assert_eq!(again.status, 200);
    let again = again.json();
    assert_eq!((&again["duplicate"], &again["last_seq"]), (&json!(true), &json!(6)));
    host.append(&run, &text("late")).await.problem(409, "run_ended");
    numbered(&host, &run, 0, 2, &text("late")).await.problem(409, "run_ended");
    assert_eq!(texts(&host.log(&run).await), ["a", "b"]);
    host.end().await;
}

#[tokio::test]
async fn numbers_that_do_not_follow_on_are_refused() {
    let host = host().await;
    let run = host.run("push").await;
    assert_eq!(numbered(&host, &run, 1, 0, &text("a")).await.status, 200);
    let gap = numbered(&host, &run, 1, 5, &text("b")).await.problem(409, "producer_gap");
    assert_eq!((&gap["expected"], &gap["received"]), (&json!(1), &json!(5)));
    let stale = numbered(&host, &run, 0, 1, &text("b")).await.problem(403, "stale_epoch");
    assert_eq!(stale["producer_epoch"], 1);
    assert_eq!(numbered(&host, &run, 2, 0, &text("b")).await.status, 200);
    host.end().await;
}

#[tokio::test]
async fn producer_headers_go_together() {
    let host = host().await;
    let run = host.run("push").await;
    for skip in 0..3 {
        let headers = producer("0", "0");
        let some: Vec<_> = (0..3).filter(|n| *n != skip).map(|n| headers[n]).collect();
        host.lines(&run, text_lines(0..1), &some).await.problem(400, "bad_header");
    }
    host.end().await;
}

#[tokio::test]
async fn bad_bodies_have_their_answers() {
    let host = host().await;
    let run = host.run("push").await;
    let send = async |media: &str, body: &'static str| {
        let request = host.request(reqwest::Method::POST, &format!("/v1/runs/{run}/events"));
        crate::support::read(request.header("content-type", media).body(body)).await
    };
    let json = "application/json";
    send(json, "{\"type\":").await.problem(400, "malformed");
    send(json, "").await.problem(400, "malformed");
    send(json, "[]").await.problem(400, "malformed");
    send(json, "{\"type\":\"data\",\"name\":\"n\",\"name\":\"m\"}").await.problem(400, "malformed");
    send(json, "{\"type\":1}").await.problem(400, "bad_event");
    send(json, "{\"type\":\"text.delta\",\"part\":\"p\"}").await.problem(400, "bad_event");
    send(json, "{\"type\":\"control.gap\"}").await.problem(400, "forged_event");
    send(json, "{\"type\":\"data\",\"name\":\"n\",\"seq\":1}").await.problem(400, "forged_event");
    send("text/plain", "{}").await.problem(415, "bad_content_type");
    host.append("nobody", &text("a")).await.problem(404, "not_found");
    let lines = host.lines("nobody", text_lines(0..1), &[]).await;
    lines.problem(404, "not_found");
    let waiting = host.run("waits").await;
    host.append(&waiting, &text("a")).await.problem(409, "not_push");
    assert_eq!(seqs(&host.log(&run).await), [1]);
    host.end().await;
}

#[tokio::test]
async fn caps_are_told_apart() {
    let mut setup = Setup::default();
    setup.options.body_bytes = 4_000;
    setup.settings.event_bytes = 1_000;
    let host = Host::start(setup).await;
    let run = host.run("push").await;
    let long = text(&"x".repeat(1_500));
    host.append(&run, &long).await.problem(413, "event_too_large");
    let many: Vec<_> = (0..100).map(|_| text("0123456789")).collect();
    host.append(&run, &many.into()).await.problem(413, "body_too_large");
    let body = format!("{}{long}\n", text_lines(0..2));
    let lines = host.lines(&run, body, &[]).await.lines();
    let error = lines.last().expect("an error");
    assert_eq!((&error["error"]["code"], &error["line"]), (&json!("event_too_large"), &json!(3)));
    // An NDJSON body as a whole has no cap.
    let answers = host.lines(&run, text_lines(2..200), &[]).await.lines();
    assert!(answers.last().expect("an ack").get("error").is_none());
    assert_eq!(texts(&host.log(&run).await).len(), 200);
    host.end().await;
}

#[tokio::test]
async fn lines_are_acknowledged_cumulatively() {
    let host = host().await;
    let run = host.run("push").await;
    let reply = host.lines(&run, text_lines(0..3000), &producer("0", "0")).await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let acks = reply.lines();
    let numbers: Vec<u64> = acks.iter().map(|ack| ack["acked_seq"].as_u64().expect("n")).collect();
    assert!(numbers.is_sorted());
    let last = acks.last().expect("an ack");
    assert_eq!((&last["acked_seq"], &last["first_seq"]), (&json!(2999), &json!(2)));
    assert_eq!(last["last_seq"], 3002);
    let expected: Vec<String> = (0..3000).map(|n| format!("{n} ")).collect();
    assert_eq!(texts(&host.log(&run).await), expected);
    host.end().await;
}

#[tokio::test]
async fn one_answer_at_the_end_if_that_is_preferred() {
    let host = host().await;
    let run = host.run("push").await;
    let headers = [("prefer", "ack=final")];
    let reply = host.lines(&run, text_lines(0..2500), &headers).await;
    assert_eq!(reply.header("preference-applied"), Some("ack=final"));
    let answers = reply.lines();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0]["acked_seq"], 2499);
    host.end().await;
}

#[tokio::test]
async fn a_retry_that_overlaps_is_stored_once() {
    let host = host().await;
    let run = host.run("push").await;
    host.lines(&run, text_lines(0..1700), &producer("0", "0")).await;
    // The same numbers from the middle on, and beyond: other batches than the first time.
    let reply = host.lines(&run, text_lines(500..4000), &producer("0", "500")).await;
    assert_eq!(reply.lines().last().expect("an ack")["acked_seq"], 3999);
    let all = host.lines(&run, text_lines(0..4000), &producer("0", "0")).await.lines();
    assert_eq!(all.last().expect("an ack")["duplicate"], true);
    let expected: Vec<String> = (0..4000).map(|n| format!("{n} ")).collect();
    assert_eq!(texts(&host.log(&run).await), expected);
    let gap = host.lines(&run, text_lines(0..2), &producer("0", "9000")).await.lines();
    assert_eq!(gap[0]["error"]["code"], "producer_gap");
    assert_eq!((&gap[0]["error"]["expected"], &gap[0]["line"]), (&json!(4000), &json!(1)));
    host.end().await;
}

#[tokio::test]
async fn producers_that_disturb_each_other_are_each_stored_once_and_in_order() {
    disturb_each_other(host().await).await;
}

/// Three producers that retry with overlaps, and one whose appends are refused.
pub(crate) async fn disturb_each_other(host: Host) {
    let run = host.run("push").await;
    let produce = async |name: &str| {
        let line = |n: u64| json!({"type": "text.delta", "part": name, "text": n.to_string()});
        for (from, to) in [(0, 700), (300, 2_000), (1_200, 2_500)] {
            let body: String = (from..to).map(|n| line(n).to_string() + "\n").collect();
            let seq = from.to_string();
            let headers = [("producer-id", name), ("producer-epoch", "0"), ("producer-seq", &*seq)];
            let answers = host.lines(&run, body, &headers).await.lines();
            assert_eq!(answers.last().expect("an ack")["acked_seq"], to - 1, "{name}");
        }
    };
    // Refusals in between make the engine's copy of the run's open parts stale.
    let disturb = async || {
        for _ in 0..60 {
            numbered(&host, &run, 0, 999, &text("never")).await.problem(409, "producer_gap");
        }
    };
    tokio::join!(produce("one"), produce("two"), produce("three"), disturb());
    let log = host.log(&run).await;
    assert_eq!(seqs(&log), (1..=log.len() as u64).collect::<Vec<_>>());
    for name in ["one", "two", "three"] {
        let own: Vec<_> = log.iter().filter(|event| event["part"] == name).cloned().collect();
        assert_eq!(texts(&own), (0..2_500).map(|n| n.to_string()).collect::<Vec<_>>(), "{name}");
    }
    host.end().await;
}

#[tokio::test]
async fn the_first_bad_line_ends_it_and_the_lines_before_stay() {
    let host = host().await;
    let run = host.run("push").await;
    let body =
        format!("{}\n\n{{\"type\":\"run.stopped\"}}\n{}", text_lines(0..2), text_lines(2..4));
    let answers = host.lines(&run, body, &[]).await.lines();
    let error = answers.last().expect("an error");
    assert_eq!((&error["error"]["code"], &error["line"]), (&json!("forged_event"), &json!(5)));
    assert_eq!(texts(&host.log(&run).await), ["0 ", "1 "]);
    host.end().await;
}

#[tokio::test]
async fn a_terminal_line_ends_the_run() {
    let host = host().await;
    let run = host.run("push").await;
    let body = format!("{}{{\"type\":\"run.finished\"}}\n{}", text_lines(0..2), text_lines(2..3));
    let answers = host.lines(&run, body, &[]).await.lines();
    let error = answers.last().expect("an error");
    assert_eq!((&error["error"]["code"], &error["line"]), (&json!("run_ended"), &json!(4)));
    let log = host.log(&run).await;
    assert_eq!(texts(&log), ["0 ", "1 "]);
    assert_eq!(log.last().expect("a terminal")["type"], "run.finished");
    host.end().await;
}

#[tokio::test]
async fn a_body_without_a_last_line_end_is_whole() {
    let host = host().await;
    let run = host.run("push").await;
    let body = text_lines(0..2).trim_end().to_owned();
    host.lines(&run, body, &[]).await;
    assert_eq!(texts(&host.log(&run).await), ["0 ", "1 "]);
    host.end().await;
}

#[tokio::test]
async fn a_body_that_stops_half_way_loses_its_unfinished_line_only() {
    let host = host().await;
    let run = host.run("push").await;
    let mut watcher = host.attach(&run, "", None).await;
    watcher.take(1).await;
    let mut raw = Raw::open(host.address).await;
    let body = text_lines(0..3);
    raw.send(format!(
        "POST /v1/runs/{run}/events HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n",
        body.len()
    ))
    .await;
    // A whole event but for its line end.
    let unfinished = text("never").to_string();
    raw.send(format!("{:x}\r\n{unfinished}\r\n", unfinished.len())).await;
    raw.read_until("\"acked_seq\":2").await;
    drop(raw);
    assert_eq!(texts(&watcher.take(4).await), ["0 ", "1 ", "2 "]);
    host.finish(&run).await;
    assert_eq!(texts(&watcher.rest().await), Vec::<String>::new());
    host.end().await;
}

#[tokio::test]
async fn lines_are_stored_while_the_body_is_still_open() {
    let host = host().await;
    let run = host.run("push").await;
    let mut watcher = host.attach(&run, "", None).await;
    let mut raw = Raw::open(host.address).await;
    raw.send(format!(
        "POST /v1/runs/{run}/events HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    ))
    .await;
    watcher.take(1).await;
    for n in 0..5 {
        let line = text_lines(n..n + 1);
        raw.send(format!("{:x}\r\n{line}\r\n", line.len())).await;
        let expected = if n == 0 { 2 } else { 1 };
        assert_eq!(texts(&watcher.take(expected).await), [format!("{n} ")]);
        raw.read_until(&format!("\"acked_seq\":{n}")).await;
    }
    host.end().await;
}

#[tokio::test]
async fn a_stop_is_told_to_who_appends() {
    let mut setup = Setup::default();
    setup.settings.grace = std::time::Duration::from_secs(20);
    let host = Host::start(setup).await;
    let run = host.run("push").await;
    host.post(&format!("/v1/runs/{run}/stop"), &json!({})).await;
    let reply = host.append(&run, &text("last words")).await;
    assert_eq!(reply.json()["stop_requested"], true);
    let lines = host.lines(&run, text_lines(0..1), &[]).await.lines();
    assert_eq!(lines.last().expect("an ack")["stop_requested"], true);
    host.finish(&run).await;
    let log = host.log(&run).await;
    assert_eq!(log.last().expect("a terminal")["type"], "run.stopped");
    host.end().await;
}
