//! Which cursor counts, and what a bad one is answered.

use serde_json::json;

use crate::support::{
    Host, host,
    raw::{Raw, status},
};

/// A run with five events after its start, still open; its last seq is 7.
async fn open_run(host: &Host) -> String {
    let run = host.run("push").await;
    host.append_texts(&run, 0..5).await;
    run
}

#[tokio::test]
async fn j02_of_query_and_header_the_later_position_wins() {
    let host = host().await;
    let run = open_run(&host).await;
    for (after, header) in [(2, 5), (5, 2)] {
        let query = format!("?after={run}:{after}");
        let mut sse = host.attach(&run, &query, Some(&format!("{run}:{header}"))).await;
        assert_eq!(sse.event().await.expect("open")["seq"], 6);
    }
    host.end().await;
}

#[tokio::test]
async fn j03_a_malformed_query_is_refused_and_the_header_not_consulted() {
    let host = host().await;
    let run = open_run(&host).await;
    let path = format!("/v1/runs/{run}/events?after=junk");
    let request = host.request(reqwest::Method::GET, &path);
    let request = request.header("accept", "text/event-stream");
    let reply = crate::support::read(request.header("last-event-id", format!("{run}:2"))).await;
    reply.problem(400, "bad_cursor");
    host.end().await;
}

#[tokio::test]
async fn j04_the_header_alone_is_used() {
    let host = host().await;
    let run = open_run(&host).await;
    let mut sse = host.attach(&run, "", Some(&format!("{run}:6"))).await;
    assert_eq!(sse.event().await.expect("open")["seq"], 7);
    let mut sse = host.attach(&run, "?from=start", Some(&format!("{run}:6"))).await;
    assert_eq!(sse.event().await.expect("open")["seq"], 7);
    host.end().await;
}

#[tokio::test]
async fn j05_odd_cursors_have_their_answers() {
    let host = host().await;
    let run = open_run(&host).await;
    for odd in ["", "-1", "0", "x", "%20", "r:1:2", "%D9%A1", "%00", "18446744073709551616"] {
        for cursor in [odd.to_owned(), format!("{run}:{odd}")] {
            let reply = host.get(&format!("/v1/runs/{run}/events?after={cursor}")).await;
            if cursor == format!("{run}:0") {
                assert_eq!(reply.status, 200);
            } else {
                let problem = reply.json();
                let code = problem["code"].as_str().expect("a problem");
                assert!(matches!(code, "bad_cursor" | "foreign_cursor"), "{cursor}: {problem}");
            }
        }
    }
    host.end().await;
}

#[tokio::test]
async fn j06_bad_run_ids_are_refused_before_anything_is_looked_up() {
    let host = host().await;
    let long = "x".repeat(10_240);
    for bad in ["%2F", "a%2Fb", "..%2F..%2Fetc", "%00", "a%00", &long, "a%20b", "%C3%A9"] {
        for suffix in ["", "/events"] {
            host.get(&format!("/v1/runs/{bad}{suffix}")).await.problem(400, "bad_id");
        }
        for suffix in ["/stop", "/events"] {
            let reply = host.post(&format!("/v1/runs/{bad}{suffix}"), &json!({})).await;
            reply.problem(400, "bad_id");
        }
        let reply = host.post(&format!("/v1/sessions/{bad}/runs"), &json!({})).await;
        reply.problem(400, "bad_id");
    }
    // What a library would not send.
    for bad in ["..", "%2E%2E", ".", "%2e", "%FF"] {
        let request = format!(
            "GET /v1/runs/{bad}/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        let answer = Raw::exchange(host.address, request).await;
        assert!(status(&answer) == "400" && answer.contains("\"bad_id\""), "{bad}: {answer}");
    }
    host.end().await;
}

#[tokio::test]
async fn j07_a_foreign_run_is_named_as_such_and_never_looked_up() {
    let host = host().await;
    let run = open_run(&host).await;
    let other = host.run("push").await;
    for foreign in [other.as_str(), "no-such-run"] {
        let reply = host.get(&format!("/v1/runs/{run}/events?after={foreign}:1")).await;
        let problem = reply.problem(409, "foreign_cursor");
        assert!(!problem.to_string().contains(foreign));
    }
    host.end().await;
}

#[tokio::test]
async fn j08_a_run_of_another_session_and_one_that_never_was_are_answered_alike() {
    let host = host().await;
    let run = open_run(&host).await;
    let other = host.run("push").await;
    let never = "n".repeat(other.len());
    let path = format!("/v1/runs/{run}/events");
    let after = async |cursor: &str| host.get(&format!("{path}?after={cursor}")).await;
    let answer = after(&format!("{other}:1")).await;
    assert_eq!(answer.problem(409, "foreign_cursor"), after(&format!("{never}:1")).await.json());
    let first = async |header: String| {
        let mut sse = host.attach(&run, "", Some(&header)).await;
        sse.event().await.expect("open")
    };
    assert_eq!(first(format!("{other}:1")).await, first(format!("{never}:1")).await);
    host.end().await;
}

#[tokio::test]
async fn j09_ahead_of_the_run_is_refused_and_the_terminal_not_lost() {
    let host = host().await;
    let run = open_run(&host).await;
    let reply = host.get(&format!("/v1/runs/{run}/events?after={run}:8")).await;
    assert_eq!(reply.problem(416, "cursor_ahead")["last_seq"], 7);
    host.finish(&run).await;
    let mut sse = host.attach(&run, "", Some(&format!("{run}:999"))).await;
    let events = sse.rest().await;
    assert_eq!((&events[0]["type"], &events[0]["why"]), (&json!("control.gap"), &json!("ahead")));
    assert_eq!((&events[1]["type"], &events[1]["seq"]), (&json!("control.snapshot"), &json!(8)));
    assert_eq!(events.last().expect("a terminal")["type"], "run.finished");
    host.end().await;
}

#[tokio::test]
async fn a_bad_header_takes_the_gap_path_in_every_form() {
    let host = host().await;
    let run = open_run(&host).await;
    host.finish(&run).await;
    let path = format!("/v1/runs/{run}/events");
    for (header, why) in [("junk", "malformed"), ("x:1", "foreign"), ("999", "malformed")] {
        let mut sse = host.attach(&run, "", Some(header)).await;
        let gap = sse.frame().await.expect("open");
        assert_eq!((gap.id.as_ref(), gap.event.as_deref()), (None, Some("control.gap")));
        assert_eq!((&gap.json()["why"], &gap.json()["from_seq"]), (&json!(why), &json!(1)));
        let snapshot = sse.frame().await.expect("open");
        assert_eq!(snapshot.id, Some(format!("{run}:8")));
        assert_eq!(snapshot.event.as_deref(), Some("control.snapshot"));
        let terminal = sse.rest().await;
        assert_eq!(terminal, host.log(&run).await[8..]);
        let request = host.request(reqwest::Method::GET, &path).header("last-event-id", header);
        let lines = request.try_clone().expect("no body").header("accept", "application/x-ndjson");
        let lines = crate::support::read(lines).await.lines();
        assert_eq!(lines, [vec![gap.json(), snapshot.json()], terminal.clone()].concat());
        let page = crate::support::read(request.header("accept", "application/json")).await.json();
        assert_eq!((&page["gap"], &page["snapshot"]), (&gap.json(), &snapshot.json()));
        assert_eq!((&page["data"], &page["closed"]), (&json!(terminal), &json!(true)));
    }
    host.end().await;
}

#[tokio::test]
async fn odd_queries_have_their_answers() {
    let host = host().await;
    let run = open_run(&host).await;
    for (query, code) in [
        ("from=snapshots", "bad_query"),
        ("from=middle", "bad_query"),
        ("from=last:x", "bad_query"),
        ("from=last:-1", "bad_query"),
        ("limit=0", "bad_query"),
        ("limit=x", "bad_query"),
        ("wait=soon", "bad_query"),
        ("from=start&from=tail", "bad_query"),
    ] {
        host.get(&format!("/v1/runs/{run}/events?{query}")).await.problem(400, code);
    }
    let both = format!("/v1/runs/{run}/events?from=start&after={run}:1");
    host.get(&both).await.problem(400, "bad_query");
    for query in ["wait=1", "limit=1", "live=maybe", "event=all"] {
        let request = host.request(reqwest::Method::GET, &format!("/v1/runs/{run}/events?{query}"));
        let reply = crate::support::read(request.header("accept", "text/event-stream")).await;
        reply.problem(400, "bad_query");
    }
    let request = host.request(reqwest::Method::GET, &format!("/v1/runs/{run}/events"));
    let reply = crate::support::read(request.header("accept", "text/html")).await;
    reply.problem(406, "not_acceptable");
    host.get("/v1/runs/nobody/events").await.problem(404, "not_found");
    host.end().await;
}
