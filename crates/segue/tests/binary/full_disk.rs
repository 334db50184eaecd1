//! A full disk: a small file system of the server's own.

use serde_json::json;

use crate::support::{Home, Server, until};

/// Mounts 48 MiB over the data folder in a mount namespace that only the server is in.
const SCRIPT: &str = "mkdir -p \"$1\" && mount -t tmpfs -o size=48m,mode=700 tmpfs \"$1\" && \
    exec \"$0\" serve --listen 127.0.0.1:0";

fn on_a_small_disk(home: &Home) -> Server {
    let mut command = home.command("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, env!("CARGO_BIN_EXE_segue")]);
    command.arg(home.data()).env("SEGUE_SEGMENT_MIB", "4");
    Server::of(&mut command)
}

#[test]
fn i07_a_full_disk_refuses_new_work_and_keeps_what_was_acknowledged() {
    let home = Home::new();
    let server = on_a_small_disk(&home);
    let run = server.start_run("s", &json!({"agent": "push"}));
    let event = json!({"type": "data", "name": "n", "value": "x".repeat(1 << 20)});
    let path = format!("/v1/runs/{run}/events");
    let mut acknowledged = 0;
    let refusal = until("the disk is full", || {
        let answer = server.post(&path, &event);
        if answer.status == 200 {
            acknowledged = answer.json()["last_seq"].as_u64().unwrap();
        }
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refusal.status, refusal.code().as_str()), (507, "disk_full"));
    assert!(acknowledged > 5, "{acknowledged}");

    // What is small may still fit behind the last large event, until that is full as well.
    let input = "x".repeat(64 << 10);
    let mut sessions = 0..1_000;
    let refused = until("no run can be started", || {
        let path = format!("/v1/sessions/s{}/runs", sessions.next()?);
        let answer = server.post(&path, &json!({"agent": "push", "input": input}));
        (answer.status != 202).then_some(answer)
    });
    assert_eq!((refused.status, refused.code().as_str()), (507, "disk_full"));
    // The reserve is for this: a run still ends.
    let stopped = server.post(&format!("/v1/runs/{run}/stop"), &json!({"wait": 30}));
    assert_eq!(stopped.json(), json!({"stopped": true, "status": "stopped"}));
    let journal = server.journal(&run);
    assert!(journal.len() as u64 > acknowledged);
    assert!((1u64..).zip(&journal).all(|(seq, event)| event["seq"] == seq));
    assert_eq!(journal.last().unwrap()["type"], "run.stopped");
}
