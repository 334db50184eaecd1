//! At a terminal: colours, chat, Ctrl-C and Ctrl-D.

use std::fs;

use serde_json::json;

use crate::support::{Home, Server, Terminal, until};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
/// What the line editor writes when it is ready for a line.
const READY: &str = "\x1b[?2004h";

/// A home whose agents are `short`, which answers in Markdown, and `long`, which waits in the
/// middle until the file `go` is there.
fn home() -> Home {
    let home = Home::new();
    let folder = home.path().join(".config/segue");
    fs::create_dir_all(&folder).unwrap();
    let events = [
        json!({"type": "reasoning.delta", "part": "r", "text": "hm"}),
        json!({"type": "tool_call.started", "call_id": "c", "name": "look"}),
        json!({"type": "tool_call.input_end", "call_id": "c", "input": {"a": 1}}),
        json!({"type": "tool_result", "call_id": "c", "output": "found"}),
        json!({"type": "text.delta", "part": "t", "text": "# Title\nsome **bold** \x1b[2Jwords\n"}),
        json!({"type": "run.finished"}),
    ];
    let lines = events.map(|event| json!({"delay_ms": 0, "event": event}).to_string() + "\n");
    fs::write(home.path().join("short.ndjson"), lines.concat()).unwrap();
    let text = format!(
        "[agents.short]\nkind = 'replay'\nfile = '{0}/short.ndjson'\n\
         [agents.fails]\nkind = 'process'\ncommand = ['false']\n\
         [agents.long]\nkind = 'process'\ncwd = '{0}'\n\
         command = ['sh', '-c', 'echo begun; until [ -e go ]; do sleep 0.02; done; echo ended']\n",
        home.path().display()
    );
    fs::write(folder.join("segue.toml"), text).unwrap();
    home
}

fn chat(home: &Home, args: &[&str]) -> Terminal {
    let mut line = vec!["chat", "--session", "s"];
    line.extend_from_slice(args);
    Terminal::run(&home.segue(&line), home)
}

/// The only run of the session.
fn status(home: &Home) -> String {
    let listed = home.run(&["runs", "--json"], "");
    let run: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    run["status"].as_str().unwrap().to_owned()
}

#[test]
fn an_answer_is_shown_readable_and_the_session_when_one_comes_back() {
    let home = home();
    let mut terminal = chat(&home, &["--agent", "short"]);
    terminal.shows(READY);
    terminal.press("hello\r");
    terminal.shows_times(READY, 2);
    let seen = [
        "\x1b[2m\u{2502} hm\x1b[0m",
        "\x1b[32m\u{2713}\x1b[0m \x1b[1mlook\x1b[0m",
        "found",
        "\x1b[1;4mTitle\x1b[0m",
        "some \x1b[1mbold\x1b[0m \u{241b}[2Jwords",
    ];
    for text in seen {
        terminal.shows(text);
    }
    terminal.press(CTRL_D);
    assert_eq!(terminal.wait(), Some(0));
    terminal.shows("segue chat --session s");

    // The agent is the session's last one.
    let mut back = chat(&home, &[]);
    back.shows_times(READY, 1);
    for text in seen.iter().chain(&["agent short", "> hello"]) {
        back.shows(text);
    }
    back.press("/nothing\r");
    back.shows("there is no command /nothing");
    back.shows_times(READY, 2);
    back.press("/quit\r");
    assert_eq!(back.wait(), Some(0));
}

#[test]
fn ctrl_c_stops_the_answer_and_the_chat_goes_on() {
    let home = home();
    let mut terminal = chat(&home, &["--agent", "long"]);
    terminal.shows(READY);
    terminal.press("work\r");
    terminal.shows("begun");
    terminal.press(CTRL_C);
    terminal.shows("stopped (user)");
    terminal.shows_times(READY, 2);
    terminal.press(CTRL_D);
    assert_eq!(terminal.wait(), Some(0));
    assert_eq!(status(&home), "stopped");
}

#[test]
fn ctrl_d_leaves_the_answer_running_and_coming_back_shows_it_whole() {
    let home = home();
    let mut terminal = chat(&home, &["--agent", "long"]);
    terminal.shows(READY);
    terminal.press("work\r");
    terminal.shows("begun");
    terminal.press(CTRL_D);
    assert_eq!(terminal.wait(), Some(0));
    assert_eq!(status(&home), "running");

    let mut back = chat(&home, &[]);
    back.shows("> work");
    back.shows("begun");
    back.press("typed ahead");
    fs::write(home.path().join("go"), "").unwrap();
    back.shows("ended");
    back.shows(READY);
    back.shows("typed ahead");
    assert_eq!(status(&home), "finished");
    back.press(CTRL_C);
    back.shows_times(READY, 2);
    back.press(CTRL_D);
    assert_eq!(back.wait(), Some(0));
}

#[test]
fn a_chat_in_a_pipe_answers_each_line_and_ends_as_its_last_answer_did() {
    let home = home();
    let ended = home.run(&["chat", "--agent", "short"], "one\ntwo\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out, "# Title\nsome **bold** \x1b[2Jwords\n".repeat(2));
    let failed = home.run(&["chat", "--agent", "fails"], "one\n");
    assert_eq!(failed.code, Some(1), "{failed:?}");
}

#[test]
fn colours_can_be_refused() {
    let home = home();
    let server = Server::start(&home);
    let run = server.start_run("s", &json!({"agent": "short"}));
    until("it has ended", || server.run(&run).get("ended_at").cloned());
    let mut refused = home.segue(&["attach", &run]);
    refused.env("NO_COLOR", "1");
    for command in [refused, home.segue(&["attach", "--no-color", &run])] {
        let mut terminal = Terminal::run(&command, &home);
        assert_eq!(terminal.wait(), Some(0));
        terminal.shows("words");
        let screen = terminal.screen();
        assert!(!screen.contains('\x1b') && screen.contains("some **bold** "), "{screen:?}");
    }
    let mut terminal = Terminal::run(&home.segue(&["attach", &run]), &home);
    assert_eq!(terminal.wait(), Some(0));
    terminal.shows("\x1b[1;4mTitle");
}
