//! The guard alone, without a server.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
};

use crate::support::{gone, pids};

/// A guard with these arguments, whose standard input stays open.
fn guard(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_segue-test-guard"))
        .arg("__guard")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the guard starts")
}

/// The exit code of a guard, its standard input open to the end.
fn code(args: &[&str]) -> Option<i32> {
    let mut guard = guard(args);
    // `wait` would close it.
    let stdin = guard.stdin.take();
    let code = guard.wait().expect("it ends").code();
    drop(stdin);
    code
}

#[test]
fn a_guard_exits_as_its_command_does() {
    assert_eq!(code(&["--", "true"]), Some(0));
    assert_eq!(code(&["--", "sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["--", "sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["--", "/no/such/program"]), Some(127));
    assert_eq!(code(&["--cwd", "/no/such/folder", "--", "true"]), Some(127));
    assert_eq!(code(&["true"]), Some(64));
    assert_eq!(code(&[]), Some(64));
}

#[tokio::test]
async fn a_guard_whose_input_ends_ends_its_command() {
    let script = "trap '' TERM; echo pid=$$.; setsid sh -c 'echo pid=$$.; exec sleep 1000'";
    let mut guard = guard(&["--grace-ms", "100", "--", "sh", "-c", script]);
    let mut stdout = guard.stdout.take().expect("piped");
    let mut text = String::new();
    let mut byte = [0; 1];
    while pids(&text).len() < 2 {
        stdout.read_exact(&mut byte).expect("the command goes on");
        text.push(char::from(byte[0]));
    }
    drop(guard.stdin.take());
    let status = guard.wait().expect("it ends");
    assert!(!status.success());
    gone(&pids(&text)).await;
}
