//! `segue push`: a producer from outside, cut and retried.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Home, Running, Server, text_of, until};

fn lines(numbers: std::ops::Range<u32>) -> String {
    let event = |n| json!({"type": "text.delta", "part": "p", "text": format!("{n} ")});
    numbers.map(|number| event(number).to_string() + "\n").collect()
}

fn said(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| number.to_string() + " ").collect()
}

fn is_dense(journal: &[Value]) -> bool {
    (1u64..).zip(journal).all(|(seq, event)| event["seq"] == seq)
}

#[test]
fn a_producer_that_is_cut_and_starts_over_appears_once() {
    let home = Home::new();
    let server = Server::start(&home);
    let args = ["push", "--run", "r", "--producer", "me"];
    let mut first = Running::spawn(home.segue(&args).stdin(Stdio::piped()));
    first.write(&lines(0..300));
    until("half is there", || (server.text("r") == said(0..300)).then_some(()));
    first.write(&lines(300..500));
    first.signal(Signal::KILL);
    first.wait();

    // Its pipe ends, whoever wrote it: without a word of its own the run stays open for the rest.
    assert_eq!(home.run(&args, &lines(0..700)).code, Some(0));
    assert_eq!(server.run("r")["status"], "running");

    let args = ["push", "--run", "r", "--producer", "me", "--finish"];
    let second = home.run(&args, &lines(0..1_000));
    assert_eq!(second.code, Some(0), "{second:?}");
    let journal = server.journal("r");
    assert_eq!(text_of(&journal), said(0..1_000));
    assert!(is_dense(&journal));
    assert_eq!(journal.last().unwrap()["type"], "run.finished");
}

#[test]
fn any_program_that_prints_lines_of_json_is_a_producer() {
    let home = Home::new();
    let server = Server::start(&home);
    let line = r#"{"type":"text.delta","part":"p","text":"x"}"#;
    let script = format!("seq 1 100 | while read i; do echo '{line}'; done | $0 push --run r");
    let segue = env!("CARGO_BIN_EXE_segue");
    let ended = Running::spawn(home.command("sh").args(["-c", &script, segue])).wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(text_of(&server.journal("r")), "x".repeat(100));
    assert_eq!(server.run("r")["status"], "finished");
}

#[test]
fn a_producer_that_sends_the_same_again_adds_only_what_is_new() {
    let home = Home::new();
    let server = Server::start(&home);
    let mut push = Running::spawn(
        home.segue(&["push", "--run", "r", "--producer", "me"]).stdin(Stdio::piped()),
    );
    push.write(&lines(0..50));
    until("it is there", || (server.text("r") == said(0..50)).then_some(()));
    push.close_input();
    assert_eq!(push.wait().code, Some(0));
    // The same again adds nothing, and what is new goes on.
    let again = home.run(&["push", "--run", "r", "--producer", "me"], &lines(0..60));
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(text_of(&server.journal("r")), said(0..60));
}

#[test]
fn a_stop_reaches_a_producer_that_has_nothing_to_say() {
    let home = Home::new();
    let server = Server::start(&home);
    let mut push = Running::spawn(home.segue(&["push", "--run", "r"]).stdin(Stdio::piped()));
    push.write(&lines(0..1));
    until("it is there", || (server.text("r") == said(0..1)).then_some(()));
    let answer = server.post("/v1/runs/r/stop", &json!({}));
    assert_eq!(answer.json()["stopped"], true);
    let ended = push.wait();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let journal = server.journal("r");
    assert_eq!(text_of(&journal), said(0..1));
    assert_eq!(journal.last().unwrap()["type"], "run.stopped");
}
