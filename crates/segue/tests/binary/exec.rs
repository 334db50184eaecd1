//! `segue exec`, leaving, coming back, stopping; and what is left of the processes.

use std::os::unix::process::CommandExt as _;

use rustix::process::Signal;

use crate::support::{Home, Running, Server, is_alive, signal, text_of, until};

fn lines(count: usize) -> String {
    (1..=count).map(|number| "line ".to_owned() + &number.to_string() + "\n").collect()
}

fn exec(home: &Home, script: &str) -> (Running, String) {
    let mut command = home.segue(&["exec", "--", "sh", "-c", script]);
    // A group of its own, as a shell gives to each command line.
    let running = Running::spawn(command.process_group(0));
    let run =
        running.err_line("the run has an id", |line| line.strip_prefix("run ").map(str::to_owned));
    (running, run)
}

fn attach(home: &Home, run: &str) -> Running {
    Running::spawn(&mut home.segue(&["attach", run]))
}

fn has_line(running: &Running, wanted: &str) {
    running.line(wanted, |line| (line == wanted).then_some(()));
}

fn pid_in(running: &Running, name: &str) -> u32 {
    running.line(name, |line| line.strip_prefix(name)?.trim().parse().ok())
}

fn are_gone(pids: &[u32]) {
    until("the processes are gone", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

#[test]
fn a_run_outlives_the_terminal_and_each_who_comes_back_sees_every_line_once() {
    let home = Home::new();
    let (mut first, run) = exec(&home, "for i in $(seq 1 200); do echo line $i; sleep 0.02; done");
    has_line(&first, "line 5");
    first.interrupt();
    let left = first.wait();
    assert_eq!(left.code, Some(130), "{left:?}");
    assert!(left.err.contains(&format!("segue attach {run}")), "{left:?}");
    assert!(!left.out.contains("line 200"), "it was left in the middle");

    let mut terminals = [attach(&home, &run), attach(&home, &run)];
    for terminal in &mut terminals {
        let ended = terminal.wait();
        assert_eq!((ended.code, ended.out), (Some(0), lines(200)));
    }
    // And once more when it is over.
    assert_eq!(attach(&home, &run).wait().out, lines(200));
}

#[test]
fn k01_a_stop_ends_every_terminal_with_a_stopped_ending_and_the_processes_are_gone() {
    let home = Home::new();
    let script = "echo shell $$; sleep 1000 & echo child $!; i=0; \
        while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    let (mut first, run) = exec(&home, script);
    let mut second = attach(&home, &run);
    has_line(&second, "line 3");
    let pids = [pid_in(&second, "shell"), pid_in(&second, "child")];

    let stopped = home.run(&["stop", "--wait", &run], "");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    for terminal in [&mut first, &mut second] {
        let ended = terminal.wait();
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.err.contains("stopped (user)"), "{ended:?}");
    }
    are_gone(&pids);
}

#[test]
fn no_process_outlives_a_killed_server() {
    let home = Home::new();
    let script = "trap '' TERM HUP INT; echo shell $$; sleep 1000 & echo child $!; \
        setsid sh -c 'echo other $$; exec sleep 1000' & wait";
    let (terminal, _) = exec(&home, script);
    let names = ["shell", "child", "other"];
    let pids = names.map(|name| pid_in(&terminal, name));
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let server = home.server_pid().expect("a server was started");
    signal(server, Signal::KILL);
    are_gone(&pids);
}

#[test]
fn n02_a_shutdown_ends_runs_and_their_processes_and_tells_the_clients() {
    let home = Home::new();
    let server = Server::start(&home);
    let (mut terminal, run) = exec(&home, "echo shell $$; sleep 1000");
    let shell = pid_in(&terminal, "shell");
    let address = server.address.clone();
    let ended = server.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    are_gone(&[shell]);
    let ended = terminal.wait();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.err.contains("stopped (shutdown)"), "{ended:?}");
    let again = Server::start_at(&home, &address);
    assert_eq!(again.run(&run)["reason"], "shutdown");
}

#[test]
fn an_attached_terminal_rides_over_a_restart_of_the_server() {
    let home = Home::new();
    let server = Server::start(&home);
    let (mut terminal, run) =
        exec(&home, "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done");
    has_line(&terminal, "line 5");
    let address = server.address.clone();
    server.kill();
    let server = Server::start_at(&home, &address);
    let ended = terminal.wait();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("interrupted (restart)"), "{ended:?}");
    assert_eq!(ended.out, text_of(&server.journal(&run)));
    assert_eq!(ended.out, lines(ended.out.lines().count()));
}

#[test]
fn a_command_that_is_not_there_ends_its_run_with_a_reason() {
    let home = Home::new();
    let mut running = Running::spawn(&mut home.segue(&["exec", "--", "no-such-command-anywhere"]));
    let ended = running.wait();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("no-such-command-anywhere"), "{ended:?}");
}

#[test]
fn e05_a_command_that_fails_fails_its_run_and_the_output_stays() {
    let home = Home::new();
    let (mut running, run) = exec(&home, "echo before; echo why >&2; exit 3");
    let ended = running.wait();
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "before\n"), "{ended:?}");
    assert!(ended.err.contains("why"), "{ended:?}");
    assert_eq!(attach(&home, &run).wait().out, "before\n");
}
