//! What a person with `curl` sees.

use serde_json::json;

use crate::support::{Home, Running, Server, until};

fn curl(home: &Home, arguments: &[&str]) -> String {
    let mut running = Running::spawn(home.command("curl").args(["-sS", "-N"]).args(arguments));
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out
}

/// The data of each frame.
fn data(frames: &str) -> Vec<&str> {
    frames.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

#[test]
fn f05_last_event_id_at_any_event_goes_on_at_the_next_one() {
    let home = Home::new();
    let server = Server::start(&home);
    let run = server.start_run("s", &json!({"agent": "demo", "params": {"speed": 0}}));
    let url = format!("http://{}/v1/runs/{run}/events", server.address);
    let whole = curl(&home, &[&url]);
    let all = data(&whole);
    assert!(all.last().unwrap().contains(r#""type":"run.finished""#));
    for seq in (0..all.len()).step_by(13) {
        let cursor = format!("Last-Event-ID: {run}:{seq}");
        let rest = curl(&home, &["-H", &cursor, &url]);
        assert_eq!(data(&rest), all[seq..], "after {seq}");
    }
    let cursor = format!("Last-Event-ID: {run}:{}", all.len());
    let status = curl(&home, &["-o", "/dev/null", "-w", "%{http_code}", "-H", &cursor, &url]);
    assert_eq!(status, "204");
}

#[test]
fn the_three_printed_commands_work_as_printed() {
    let home = Home::new();
    let server = Server::start(&home);
    let greeting = server.greeting();
    let commands: Vec<&str> = greeting.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let [start, watch, exec] = commands[..] else { panic!("not three: {greeting}") };
    let shell = |line: &str| Running::spawn(home.command("sh").args(["-c", line]));

    let started = shell(start).wait();
    assert_eq!(started.code, Some(0), "{started:?}");
    assert!(started.out.contains(r#""agent":"demo""#), "{started:?}");

    let mut watching = shell(watch);
    watching.line("the demo speaks", |line| line.contains("text.delta").then_some(()));
    let run = watch.split('/').nth(5).unwrap();
    server.post(&format!("/v1/runs/{run}/stop"), &json!({}));
    let watched = watching.wait();
    assert_eq!(watched.code, Some(0), "{}", watched.err);
    assert!(watched.out.contains("event: run.stopped"), "{}", watched.out);

    let ran = shell(exec).wait();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 20, "{ran:?}");
}

#[test]
fn p06_http_2_with_prior_knowledge_gives_the_same_frames() {
    let home = Home::new();
    let server = Server::start(&home);
    let run = server.start_run("s", &json!({"agent": "demo", "params": {"speed": 0}}));
    until("it has ended", || server.run(&run).get("ended_at").cloned());
    let url = format!("http://{}/v1/runs/{run}/events", server.address);
    let one = curl(&home, &["--http1.1", &url]);
    let two = curl(&home, &["--http2-prior-knowledge", &url]);
    assert_eq!(one, two);
    assert_eq!(data(&one).len(), server.journal(&run).len());
}
