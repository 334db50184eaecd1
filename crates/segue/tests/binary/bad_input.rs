//! What is wrong gets an answer of its own, and what was acknowledged stays.

use serde_json::{Value, json};

use crate::support::{Answer, Home, Request, Server, get, post, text_of, until};

/// A server with an open push run `open` and an ended run `ended`.
struct Table {
    server: Server,
    _home: Home,
}

impl Table {
    fn new() -> Self {
        let home = Home::new();
        let server = Server::start(&home);
        server.start_run("s", &json!({"agent": "push", "run_id": "open"}));
        server.start_run("t", &json!({"agent": "push", "run_id": "ended"}));
        for run in ["open", "ended"] {
            server.append(run, &json!({"type": "text.delta", "part": "p", "text": "kept"}));
        }
        server.finish("ended");
        Self { server, _home: home }
    }

    fn append(&self, body: &impl ToString) -> Request {
        post(&self.server.address, "/v1/runs/open/events", body)
    }

    fn start(&self, body: &impl ToString) -> Request {
        post(&self.server.address, "/v1/sessions/u/runs", body)
    }

    fn get(&self, path: &str) -> Request {
        get(&self.server.address, path)
    }
}

impl Drop for Table {
    /// What was acknowledged stays, and the server serves.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(text_of(&self.server.journal("open")).starts_with("kept"));
            assert_eq!(text_of(&self.server.journal("ended")), "kept");
            assert_eq!(self.server.get("/readyz").status, 200);
        }
    }
}

fn check(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
}

#[test]
fn malformed_bodies_are_named() {
    let table = Table::new();
    for body in ["{", "", "[1", "nul", "{\"type\":\"data\"} x", "\u{0}"] {
        let request = table.append(&"x").body(body).header("content-type", "application/json");
        check(&request.send(), 400, "malformed");
    }
    check(&table.start(&"{\"agent\": 7}").send(), 400, "malformed");
    check(&table.start(&"{\"agent\":\"demo\",\"more\":1}").send(), 400, "malformed");
    check(&table.start(&"[]").send(), 400, "malformed");
}

#[test]
fn events_of_the_wrong_shape_are_named() {
    let table = Table::new();
    for body in [
        json!({"type": "text.delta", "part": "p", "text": 1}),
        json!({"type": "text.delta"}),
        json!({"type": 1}),
        json!({}),
        json!({"type": "Not A Type"}),
        json!([{"type": "data", "name": "n"}, {"type": "usage", "input": "1", "output": 1}]),
    ] {
        check(&table.append(&body).send(), 400, "bad_event");
    }
    assert_eq!(text_of(&table.server.journal("open")), "kept");
}

#[test]
fn forged_types_and_fields_are_refused() {
    let table = Table::new();
    for name in [
        "run.started",
        "run.stopped",
        "run.interrupted",
        "approval.resolved",
        "input.received",
        "control.gap",
    ] {
        check(&table.append(&json!({"type": name})).send(), 400, "forged_event");
    }
    for field in ["seq", "at", "run_id"] {
        let event = json!({"type": "data", "name": "n", field: 1});
        check(&table.append(&event).send(), 400, "forged_event");
    }
}

#[test]
fn an_event_over_the_cap_is_refused() {
    let table = Table::new();
    let text = "x".repeat(16 << 20);
    let event = json!({"type": "text.delta", "part": "p", "text": text});
    check(&table.append(&event).send(), 413, "event_too_large");
    let line = table.append(&event).header("content-type", "application/x-ndjson");
    let answer = line.send();
    let last: Value = serde_json::from_str(answer.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "event_too_large", "{last}");
    assert_eq!(last["line"], 1, "{last}");
}

#[test]
fn a_body_that_stops_half_way_keeps_its_whole_lines() {
    let table = Table::new();
    let line = "{\"type\":\"text.delta\",\"part\":\"p\",\"text\":\" whole\"}\n";
    let half = "{\"type\":\"text.delta\",\"part\":\"p\",\"text\":\" half";
    let lines = table.append(&format!("{line}{half}"));
    lines.header("content-type", "application/x-ndjson").announcing(1 << 20).try_send().ok();
    let text = || text_of(&table.server.journal("open"));
    until("the whole line is there", || (text() == "kept whole").then_some(()));
    // Of an atomic body nothing is taken.
    table.append(&line.trim_end()).announcing(1 << 20).try_send().ok();
    assert_eq!(text(), "kept whole");
}

#[test]
fn unknown_runs_and_paths_are_not_found() {
    let table = Table::new();
    for path in ["/v1/runs/none", "/v1/runs/none/events", "/v1/runs/none/control", "/v1/blobs/x"] {
        check(&table.get(path).send(), 404, "not_found");
    }
    let append = post(&table.server.address, "/v1/runs/none/events", &json!({"type": "warning"}));
    assert_eq!(append.send().status, 400);
    let end = json!({"type": "run.finished"});
    check(&post(&table.server.address, "/v1/runs/none/events", &end).send(), 404, "not_found");
    let stop = post(&table.server.address, "/v1/runs/none/stop", &"{}").send();
    assert_eq!((stop.status, &stop.json()["status"]), (200, &json!("pending")));
    let wrong = post(&table.server.address, "/v1/runs/open", &"{}");
    check(&wrong.send(), 405, "method_not_allowed");
}

#[test]
fn j06_bad_ids_are_refused_whatever_they_hold() {
    let table = Table::new();
    let long = "x".repeat(10_240);
    for id in ["a%2Fb", "%2e%2e", "..%2F..%2Fetc", "a%00b", "a:1", "%ff", &long] {
        let answer = table.get(&format!("/v1/runs/{id}/events")).send();
        check(&answer, 400, "bad_id");
    }
    for id in ["a/b", "..", "a\u{0}b", &long, ""] {
        let answer = table.start(&json!({"agent": "push", "run_id": id})).send();
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
}

#[test]
fn j05_bad_cursors_are_told_apart() {
    let table = Table::new();
    let events = |query: &str| table.get(&format!("/v1/runs/open/events?{query}")).send();
    for cursor in ["x", "open", "open:", "open:-1", "open:1x", "open:99999999999999999999", ""] {
        check(&events(&format!("after={cursor}")), 400, "bad_cursor");
    }
    check(&events("after=ended:1"), 409, "foreign_cursor");
    check(&events("after=open:1000"), 416, "cursor_ahead");
    check(&events("after=open:1&from=tail"), 400, "bad_query");
    check(&events("from=nowhere"), 400, "bad_query");
}

#[test]
fn an_ended_run_takes_nothing_more() {
    let table = Table::new();
    let event = json!({"type": "text.delta", "part": "p", "text": "late"});
    check(&post(&table.server.address, "/v1/runs/ended/events", &event).send(), 409, "run_ended");
}

#[test]
fn a_stale_producer_and_a_gap_are_refused() {
    let table = Table::new();
    let send = |epoch: &str, seq: &str| {
        let event = json!({"type": "data", "name": "n"});
        let request = table.append(&event).header("producer-id", "p");
        request.header("producer-epoch", epoch).header("producer-seq", seq).send()
    };
    assert_eq!(send("2", "0").status, 200);
    check(&send("1", "0"), 403, "stale_epoch");
    check(&send("2", "5"), 409, "producer_gap");
    check(&send("x", "0"), 400, "bad_header");
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let table = Table::new();
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        check(&table.get("/v1/runs").header("host", host).send(), 421, "bad_host");
    }
    for origin in ["http://evil.example", "null", "https://localhost"] {
        check(&table.get("/v1/runs").header("origin", origin).send(), 403, "bad_origin");
    }
    let own = format!("http://{}", table.server.address);
    assert_eq!(table.get("/v1/runs").header("origin", &own).send().status, 200);
}

#[test]
fn bodies_have_a_type_and_forms_have_to_be_acceptable() {
    let table = Table::new();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let request = table.append(&"{}").header("content-type", kind);
        check(&request.send(), 415, "bad_content_type");
    }
    let request = table.get("/v1/runs/open/events").header("accept", "image/png");
    check(&request.send(), 406, "not_acceptable");
}

#[test]
fn the_admin_scope_needs_the_token() {
    let table = Table::new();
    let body = json!({"source": {"kind": "process", "command": ["true"]}});
    check(&table.start(&body).send(), 403, "admin_only");
    let wrong = table.start(&body).header("authorization", "Bearer wrong");
    check(&wrong.send(), 401, "bad_token");
}

#[test]
fn starts_that_cannot_be_are_named() {
    let table = Table::new();
    check(&table.start(&json!({"agent": "nobody"})).send(), 400, "unknown_agent");
    check(&table.start(&json!({"agent": "push", "run_id": "open"})).send(), 409, "run_exists");
    let busy = post(&table.server.address, "/v1/sessions/s/runs", &json!({"agent": "push"}));
    check(&busy.send(), 409, "session_busy");
    check(&table.start(&json!({"agent": "push", "policy": "overtake"})).send(), 400, "malformed");
}
