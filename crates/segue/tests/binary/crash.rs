//! `kill -9` of the server in the middle of work.

use serde_json::{Value, json};

use crate::support::{Home, Server, text_of, until};

/// What a client held when the server was killed.
struct Held {
    run: String,
    events: Vec<Value>,
}

impl Held {
    fn cursor(&self) -> String {
        let seq = self.events.last().map_or(0, |event| event["seq"].as_u64().unwrap());
        format!("{}:{seq}", self.run)
    }
}

#[test]
fn i04_killed_amid_a_hundred_runs_nothing_acknowledged_is_lost_and_each_ends_once() {
    let home = Home::new();
    let server = Server::start(&home);
    let demo = json!({"agent": "demo", "params": {"speed": 2}});
    let push = json!({"agent": "push"});
    let mut runs: Vec<Held> = Vec::new();
    for number in 0..100 {
        let body = if number % 4 == 0 { &push } else { &demo };
        let run = server.start_run(&format!("s{number}"), body);
        runs.push(Held { run, events: Vec::new() });
    }
    let mut acknowledged = vec![0; runs.len()];
    for round in 0..5 {
        for number in (0..runs.len()).step_by(4) {
            let text = format!("{round} ");
            let event = json!({"type": "text.delta", "part": "p", "text": text});
            acknowledged[number] = server.append(&runs[number].run, &event);
        }
    }
    until("every run has spoken", || {
        for held in runs.iter_mut().filter(|held| held.events.len() < 5) {
            held.events = server.journal(&held.run);
        }
        runs.iter().all(|held| held.events.len() >= 5).then_some(())
    });
    let address = server.address.clone();
    server.kill();

    let server = Server::start_at(&home, &address);
    for (held, acknowledged) in runs.iter().zip(acknowledged) {
        check_after_crash(&server, held, acknowledged);
    }
    let busy = server.get("/v1/runs?status=running").json();
    assert_eq!(busy["data"], json!([]));
}

fn check_after_crash(server: &Server, held: &Held, acknowledged: u64) {
    let journal = server.journal(&held.run);
    assert_eq!(journal[..held.events.len()], held.events[..], "{}", held.run);
    assert!(journal.len() as u64 > acknowledged);
    assert!((1u64..).zip(&journal).all(|(seq, event)| event["seq"] == seq));
    let rest = server.journal_after(&held.run, &held.cursor());
    assert_eq!(rest[..], journal[held.events.len()..], "the cursor still works");
    let is_terminal = |event: &&Value| {
        let name = event["type"].as_str().unwrap();
        name.starts_with("run.") && name != "run.started"
    };
    let terminals: Vec<&Value> = journal.iter().filter(is_terminal).collect();
    assert_eq!(terminals.len(), 1);
    assert_eq!(terminals[0], journal.last().unwrap());
    assert_eq!(terminals[0]["type"], "run.interrupted");
    assert_eq!(server.run(&held.run)["status"], "interrupted");
    if acknowledged > 0 {
        assert_eq!(text_of(&journal), "0 1 2 3 4 ");
    }
}

#[test]
fn i16_a_finished_run_is_the_same_after_a_restart() {
    let home = Home::new();
    let server = Server::start(&home);
    let run = server.start_run("s", &json!({"agent": "demo", "params": {"speed": 0}}));
    until("it has ended", || server.run(&run).get("ended_at").cloned());
    let (journal, view) = (server.journal(&run), server.run(&run));
    server.kill();
    let server = Server::start(&home);
    assert_eq!(server.journal(&run), journal);
    assert_eq!(server.run(&run), view);
}
