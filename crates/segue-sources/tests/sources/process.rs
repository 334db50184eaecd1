//! Commands as real processes, under a real guard.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use segue_core::{Inbound, RunError, Source, StopSignal};
use segue_sources::process::ProcessLimits;
use serde_json::{Value, json};

use crate::support::{
    Stop, command, event, fields, gone, guard_pid, input, is_alive, next, pids, resource, rest,
    shell, text, until,
};

/// The whole of an undisturbed run.
async fn run(source: &impl Source) -> Vec<Inbound> {
    rest(&mut source.start(input(Value::Null), StopSignal::never())).await
}

fn failure(given: &[Inbound]) -> &RunError {
    match given.last() {
        Some(Inbound::Failed(error)) => error,
        other => panic!("no failure at the end but {other:?}"),
    }
}

fn is_finished(given: &[Inbound]) -> bool {
    matches!(given.last(), Some(Inbound::Finished { .. }))
}

fn limits(grace: Duration) -> ProcessLimits {
    ProcessLimits { grace, ..ProcessLimits::default() }
}

/// Kills with -9, as a user or the system would.
fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("it is there");
}

#[tokio::test]
async fn text_output_is_one_part_and_exit_0_is_finished() {
    let given = run(&shell("printf 'h\\303\\251'; printf 'llo\\n'", "text")).await;
    assert!(matches!(given.first(), Some(Inbound::Resource(_))), "{given:?}");
    assert_eq!(fields(&given, "text.start").len(), 1);
    assert_eq!(text(&given, "text.delta"), "h\u{e9}llo\n");
    assert_eq!(fields(&given, "text.end").len(), 1);
    let Some(Inbound::Finished { finish_reason, usage: None }) = given.last() else {
        panic!("{given:?}")
    };
    assert_eq!(finish_reason.as_deref(), Some("stop"));
}

#[tokio::test]
async fn a_lot_of_text_arrives_whole() {
    let given = run(&shell("seq 1 200000", "text")).await;
    let mut expected = (1..=200_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
    expected.push('\n');
    assert!(text(&given, "text.delta") == expected, "the text differs");
    assert!(is_finished(&given));
}

#[tokio::test]
async fn ndjson_output_is_events_and_the_commands_own_end_counts() {
    let script = r#"
        echo '{"type":"log","text":"one"}'
        echo
        echo 'not json'
        echo '{"type":"run.finished","finish_reason":"length","usage":{"input":1}}'
        exit 3"#;
    let given = run(&shell(script, "ndjson")).await;
    assert_eq!(text(&given, "log"), "one");
    assert_eq!(given.iter().filter(|inbound| matches!(inbound, Inbound::Progress)).count(), 1);
    assert_eq!(fields(&given, "warning")[0]["code"], "bad_line");
    let Some(Inbound::Finished { finish_reason, usage: Some(_) }) = given.last() else {
        panic!("{given:?}")
    };
    assert_eq!(finish_reason.as_deref(), Some("length"));
}

#[tokio::test]
async fn a_command_that_said_its_end_and_stays_is_ended() {
    let script = r#"echo '{"type":"log","text":"pid='$$'."}'; echo '{"type":"run.finished"}'
        echo '{"type":"log","text":"late"}'; exec sleep 1000"#;
    let source = shell(script, "ndjson").with_limits(limits(Duration::from_millis(200)));
    let given = run(&source).await;
    assert!(is_finished(&given), "{given:?}");
    let log = text(&given, "log");
    assert!(!log.contains("late"));
    assert!(!is_alive(pids(&log)[0]), "the run ends after the command");
}

#[tokio::test]
async fn no_event_of_text_is_over_the_cap() {
    let source = shell("head -c 20000 /dev/zero", "text")
        .with_limits(ProcessLimits { event_bytes: 1000, ..ProcessLimits::default() });
    let given = run(&source).await;
    assert_eq!(text(&given, "text.delta"), "\0".repeat(20_000));
    assert!(given.iter().filter_map(event).all(|event| event.json().len() <= 1000));
}

#[tokio::test]
async fn q01_a_command_that_says_that_it_failed_has_failed() {
    let line = r#"echo '{"type":"run.failed","error":{"code":"quota","message":"no more"}}'"#;
    let given = run(&shell(line, "ndjson")).await;
    assert_eq!(failure(&given), &RunError::new("quota", "no more"));
}

#[tokio::test]
async fn sse_output_is_events() {
    let script =
        r#"printf 'data: {"type":"log","text":"one"}\n\ndata: {"type":"run.finished"}\n\n'"#;
    let given = run(&shell(script, "sse")).await;
    assert_eq!(text(&given, "log"), "one");
    assert!(is_finished(&given));
}

#[tokio::test]
async fn a_line_over_the_cap_fails_the_run_and_ends_the_command() {
    let script = "echo pid=$$. >&2; echo '{\"type\":\"log\",\"text\":\"before\"}'; \
                  head -c 100000 /dev/zero; sleep 1000";
    let source = shell(script, "ndjson")
        .with_limits(ProcessLimits { event_bytes: 1000, ..ProcessLimits::default() });
    let given = run(&source).await;
    assert!(text(&given, "log").contains("before"));
    assert_eq!(failure(&given).code, "line_too_long");
    gone(&pids(&text(&given, "log"))).await;
}

#[tokio::test]
async fn standard_error_is_log_events_up_to_its_cap() {
    let script = "seq 1 1000 >&2; echo done";
    let source = shell(script, "text")
        .with_limits(ProcessLimits { stderr_bytes: 10, ..ProcessLimits::default() });
    let given = run(&source).await;
    let lines: Vec<Value> =
        fields(&given, "log").iter().map(|fields| fields["text"].clone()).collect();
    assert_eq!(lines, ["1", "2", "3", "4", "5"]);
    assert!(fields(&given, "log").iter().all(|fields| fields["stream"] == "stderr"));
    let warnings = fields(&given, "warning");
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0]["code"], "stderr_truncated");
    assert_eq!(text(&given, "text.delta"), "done\n");
    assert!(is_finished(&given));
}

#[tokio::test]
async fn exits_are_told_apart() {
    let code = run(&shell("exit 7", "text")).await;
    assert_eq!(failure(&code), &RunError::new("exit_status", "the command exited with code 7"));
    let code = run(&shell("exit 143", "text")).await;
    assert!(failure(&code).message.ends_with("code 143"));
    let signal = run(&shell("kill -15 $$", "text")).await;
    assert!(failure(&signal).message.ends_with("signal 15"));
}

#[tokio::test]
async fn q08_a_command_that_does_not_exist_is_named_and_nothing_else_is() {
    let given = run(&command(&json!({"command": ["no-such-program", "--secret"]}))).await;
    assert_eq!(given.len(), 1);
    let expected = "the command \"no-such-program\" could not be started: there is no such program";
    assert_eq!(failure(&given), &RunError::new("spawn_failed", expected));

    let file = tempfile::NamedTempFile::new().expect("a file");
    let given = run(&command(&json!({"command": [file.path()]}))).await;
    assert!(failure(&given).message.ends_with("it may not be executed"));

    let given = run(&command(&json!({"command": ["true"], "cwd": "/no/such/folder"}))).await;
    assert_eq!(failure(&given).code, "spawn_failed");
    assert!(!failure(&given).message.contains("/no/such/folder"));
}

#[tokio::test]
async fn a_guard_that_does_not_exist_fails_the_run() {
    let spec = serde_json::from_value(json!({"command": ["true"]})).expect("valid");
    let source = segue_sources::ProcessSource::new(spec, "/no/such/guard".into()).expect("valid");
    let given = run(&source).await;
    assert_eq!(failure(&given).code, "spawn_failed");
    assert!(!failure(&given).message.contains("/no/such/guard"));
}

#[tokio::test]
async fn the_environment_the_folder_and_the_input_are_what_was_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("it exists");
    let source = command(&json!({
        "command": ["sh", "-c", "env; pwd; echo in=$(wc -c)"],
        "env": {"MINE": "1", "TZ": "Mars"},
        "cwd": folder,
    }));
    let given = text(&run(&source).await, "text.delta");
    let lines: Vec<&str> = given.lines().collect();
    assert!(lines.contains(&"MINE=1") && lines.contains(&"TZ=Mars"), "{given}");
    assert!(lines.contains(&folder.to_str().expect("text")), "{given}");
    assert!(lines.contains(&"in=0"), "{given}");
    assert!(lines.iter().any(|line| line.starts_with("PATH=")), "{given}");
    assert!(!given.contains("CARGO"), "{given}");
}

#[tokio::test]
async fn k01_a_stop_lets_the_command_have_its_last_words() {
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let (stop, signal) = Stop::new();
    let mut stream = shell(script, "text").start(input(Value::Null), signal);
    let begun = until(&mut stream, "ready").await;
    stop.pull();
    let given = rest(&mut stream).await;
    assert_eq!(text(&given, "text.delta"), "bye\n");
    assert_eq!(fields(&given, "text.end").len(), 1);
    assert!(matches!(given.last(), Some(Inbound::Event(_))), "no end of its own: {given:?}");
    gone(&[guard_pid(&resource(&begun))]).await;
}

#[tokio::test]
async fn an_end_that_the_command_says_after_a_stop_is_given() {
    let script = r#"trap 'echo "{\"type\":\"run.finished\"}"; exit 0' TERM
        echo '{"type":"log","text":"ready"}'; while :; do sleep 0.01; done"#;
    let (stop, signal) = Stop::new();
    let mut stream = shell(script, "ndjson").start(input(Value::Null), signal);
    until(&mut stream, "ready").await;
    stop.pull();
    assert!(is_finished(&rest(&mut stream).await));
}

#[tokio::test]
async fn k01_what_does_not_listen_to_term_is_killed_after_the_grace() {
    let script = "trap '' TERM; echo pid=$$. ready; while :; do sleep 1; done";
    let (stop, signal) = Stop::new();
    let source = shell(script, "text").with_limits(limits(Duration::from_millis(200)));
    let mut stream = source.start(input(Value::Null), signal);
    let begun = until(&mut stream, "ready").await;
    stop.pull();
    let given = rest(&mut stream).await;
    assert!(!given.iter().any(|inbound| matches!(inbound, Inbound::Failed(_))), "{given:?}");
    let command = pids(&text(&begun, "text.delta"));
    assert_eq!(command.len(), 1);
    assert!(!is_alive(command[0]), "the stream ends after the command");
}

/// Starts processes that leave the group, the session, their parent and their environment, and
/// prints their pids.
const SCATTER: &str = "
    sh -c 'echo pid=$$.; exec sleep 1000' &
    setsid sh -c 'echo pid=$$.; exec sleep 1000' &
    (setsid sh -c 'setsid sh -c \"echo pid=\\$\\$.; exec sleep 1000\" & echo pid=$$.; wait' &)
    (env -i sh -c 'echo pid=$$.; exec sleep 1000' &)
    sh -c 'trap \"\" TERM HUP; echo pid=$$.; while :; do sleep 1000; done' &
";

/// Reads until `SCATTER` has told all its pids.
async fn scattered(stream: &mut segue_core::InboundStream) -> (Vec<i32>, String) {
    let mut given = Vec::new();
    while pids(&text(&given, "text.delta")).len() < 6 {
        given.push(next(stream).await.expect("the run goes on"));
    }
    (pids(&text(&given, "text.delta")), resource(&given))
}

#[tokio::test]
async fn a_stop_also_ends_what_left_the_group_and_the_session() {
    let (stop, signal) = Stop::new();
    let source =
        shell(&format!("{SCATTER} wait"), "text").with_limits(limits(Duration::from_millis(200)));
    let mut stream = source.start(input(Value::Null), signal);
    let (pids, _) = scattered(&mut stream).await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    stop.pull();
    rest(&mut stream).await;
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "the stream ends after all of them");
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let go = folder.path().join("go");
    let wait = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
    let source = shell(&format!("{SCATTER} {wait}"), "text");
    let mut stream = source.start(input(Value::Null), StopSignal::never());
    let (pids, _) = scattered(&mut stream).await;
    std::fs::write(go, "").expect("written");
    assert!(is_finished(&rest(&mut stream).await));
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "the run ends after all of them");
}

#[tokio::test]
async fn a_drop_in_the_middle_leaves_nothing() {
    let source =
        shell(&format!("{SCATTER} wait"), "text").with_limits(limits(Duration::from_millis(200)));
    let mut stream = source.start(input(Value::Null), StopSignal::never());
    let (mut pids, resource) = scattered(&mut stream).await;
    drop(stream);
    pids.push(guard_pid(&resource));
    gone(&pids).await;
}

#[tokio::test]
async fn a_guard_that_is_killed_fails_the_run_and_leaves_nothing() {
    let source = shell(&format!("{SCATTER} wait"), "text");
    let mut stream = source.start(input(Value::Null), StopSignal::never());
    let (pids, resource) = scattered(&mut stream).await;
    kill(guard_pid(&resource));
    let given = rest(&mut stream).await;
    assert_eq!(failure(&given).code, "guard_lost");
    gone(&pids).await;
}

/// A service manager sends TERM to every process of a service.
#[tokio::test]
async fn a_guard_outlives_a_term() {
    let script = "echo pid=$$.; until [ -e $GO ]; do sleep 0.01; done; echo done";
    let folder = tempfile::tempdir().expect("a folder");
    let go = folder.path().join("go");
    let source = command(&json!({"command": ["sh", "-c", script], "env": {"GO": go}}));
    let mut stream = source.start(input(Value::Null), StopSignal::never());
    let begun = until(&mut stream, r".\n").await;
    let guard = Pid::from_raw(guard_pid(&resource(&begun))).expect("a pid");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(guard, signal).expect("it is there");
    }
    std::fs::write(go, "").expect("written");
    let given = rest(&mut stream).await;
    assert_eq!(text(&given, "text.delta"), "done\n");
    assert!(is_finished(&given), "{given:?}");
}

/// The server and the guard are killed at once, and a later server recovers.
#[tokio::test]
async fn i15_release_ends_what_a_killed_guard_left() {
    let source = shell(&format!("{SCATTER} wait"), "text");
    let mut stream = source.start(input(Value::Null), StopSignal::never());
    let (pids, resource) = scattered(&mut stream).await;
    kill(guard_pid(&resource));
    gone(&[guard_pid(&resource)]).await;
    // Nobody polls the stream any more, as if its server were gone.
    source.release(&resource).await;
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "they are gone when it returns");
}

#[tokio::test]
async fn release_spares_a_process_that_only_has_the_same_pid() {
    let (stop, signal) = Stop::new();
    let source = shell("echo pid=$$.; exec sleep 1000", "text");
    let mut stream = source.start(input(Value::Null), signal);
    let begun = until(&mut stream, r".\n").await;
    let name = resource(&begun);
    let fields: Vec<u64> = name.split(':').skip(1).map(|n| n.parse().expect("a number")).collect();
    let [guard, guard_start, command, command_start] = fields[..] else { panic!("{name}") };
    let other = format!("process:{guard}:{}:{command}:{}", guard_start - 1, command_start + 1);
    source.release(&other).await;
    assert!(is_alive(guard_pid(&name)) && is_alive(pids(&text(&begun, "text.delta"))[0]));
    stop.pull();
    rest(&mut stream).await;
}

/// A reader that does not read holds the command up, in bounded memory.
#[tokio::test]
async fn backpressure_reaches_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = folder.path().join("count");
    let script = format!(
        "i=0; while [ $i -lt 200 ]; do head -c 65536 /dev/zero | tr '\\0' x; i=$((i+1)); \
         echo $i > {}; done",
        count.display()
    );
    let mut stream = shell(&script, "text").start(input(Value::Null), StopSignal::never());
    let begun = until(&mut stream, "xxx").await;
    let written = || -> u32 {
        let text = std::fs::read_to_string(&count).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    };
    // The command is asleep on its full pipe when the writer of the pipe is.
    let command = guard_pid(&resource(&begun));
    let asleep = async {
        while !blocked_on_pipe(command) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asleep).await.expect("it blocks");
    assert!(written() < 10, "{} x 64 KiB written without a reader", written());
    let given = rest(&mut stream).await;
    assert_eq!(written(), 200);
    let bytes = text(&begun, "text.delta").len() + text(&given, "text.delta").len();
    assert_eq!(bytes, 200 * 65536);
}

/// Whether some process of this session sleeps in a write to a pipe.
fn blocked_on_pipe(session: i32) -> bool {
    let entries = std::fs::read_dir("/proc").expect("linux");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().any(|pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let in_session = stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.split(' ').nth(3) == Some(&session.to_string()));
        let at = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        in_session && at.contains("pipe_write")
    })
}
