//! A server in the background that has nothing to do.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::support::{Home, is_alive, until};

const ROUNDS: u32 = 8;
const HOMES: u32 = 3;

fn segue(home: &Home, args: &[&str]) -> std::process::Output {
    let mut command = home.segue(args);
    command.env("SEGUE_BACKGROUND_IDLE_S", "1").output().unwrap()
}

/// Until a server that has been left alone since now has about a second behind it.
#[expect(clippy::disallowed_methods, reason = "the race is about a moment, nothing waits for it")]
fn pass(time: Duration) {
    let since = Instant::now();
    until("the moment has come", || (since.elapsed() >= time).then_some(()));
}

fn text(output: &std::process::Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap())
}

/// Comes again and again about when the server ends.
fn rounds(shift: u32) -> u32 {
    let home = Home::new();
    let mut last = None;
    for round in 0..ROUNDS {
        let said = format!("round {round}\n");
        let output = segue(&home, &["exec", "--", "echo", "round", &round.to_string()]);
        assert_eq!(text(&output), (Some(0), said.clone()), "{output:?}");
        let err = String::from_utf8(output.stderr).unwrap();
        let run = err.lines().find_map(|line| line.strip_prefix("run ")).unwrap().to_owned();
        if let Some((run, said)) = last.replace((run, said)) {
            pass(Duration::from_millis(u64::from(960 + 40 * round + shift)));
            let output = segue(&home, &["attach", &run]);
            assert_eq!(text(&output), (Some(0), said), "{output:?}");
        }
        pass(Duration::from_millis(u64::from(1270 - 40 * round + shift)));
    }
    until("the server has ended", || {
        home.server_pid().is_none_or(|pid| !is_alive(pid)).then_some(())
    });
    let log = fs::read_to_string(home.data().join("server.log")).unwrap();
    assert!(!log.contains("in use"), "{log}");
    u32::try_from(log.matches("nothing to do").count()).unwrap()
}

#[test]
fn n07_who_comes_while_the_server_ends_is_served_or_finds_a_fresh_one() {
    let homes: Vec<_> = (0..HOMES).map(|home| thread::spawn(move || rounds(13 * home))).collect();
    let ends: u32 = homes.into_iter().map(|home| home.join().unwrap()).sum();
    assert!(ends > HOMES, "servers ended in between: {ends}");
}

#[test]
fn n07_a_run_keeps_the_server_although_nobody_is_there() {
    let home = Home::new();
    let script = "until [ -e go ]; do sleep 0.02; done; echo ended";
    let mut exec = home.segue(&["exec", "--", "sh", "-c", script]);
    let exec = crate::support::Running::spawn(exec.env("SEGUE_BACKGROUND_IDLE_S", "1"));
    let run = exec.err_line("it has an id", |line| line.strip_prefix("run ").map(str::to_owned));
    drop(exec);
    let server = home.server_pid().unwrap();
    pass(Duration::from_millis(2500));
    assert!(is_alive(server));
    fs::write(home.path().join("go"), "").unwrap();
    let output = segue(&home, &["attach", &run]);
    assert_eq!(text(&output), (Some(0), "ended\n".to_owned()), "{output:?}");
    until("the server has ended", || (!is_alive(server)).then_some(()));
}
