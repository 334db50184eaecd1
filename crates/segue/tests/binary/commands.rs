//! The rest of the command line: lists, refusals, exit codes.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Home, Server, until};

#[test]
fn runs_are_listed_as_lines_of_json() {
    let home = Home::new();
    let server = Server::start(&home);
    let run = server.start_run("s", &json!({"agent": "demo", "params": {"speed": 0}}));
    until("it has ended", || server.run(&run).get("ended_at").cloned());
    let listed = home.run(&["runs", "--json"], "");
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let line: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((&line["id"], &line["status"]), (&json!(run), &json!("finished")));
}

#[test]
fn a_run_that_is_not_there_is_told_with_where_to_look() {
    let home = Home::new();
    let _server = Server::start(&home);
    for command in ["attach", "stop"] {
        let ended = home.run(&[command, "no-such-run"], "");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("no-such-run"), "{ended:?}");
        assert_eq!(ended.err.contains("segue runs"), command == "attach", "{ended:?}");
    }
}

#[test]
fn no_color_and_no_progress_go_into_a_pipe() {
    let home = Home::new();
    let server = Server::start(&home);
    let run = server.start_run("s", &json!({"agent": "demo", "params": {"speed": 0}}));
    let ended = home.run(&["attach", &run], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.out.contains('\u{1b}') && !ended.err.contains('\u{1b}'), "{ended:?}");
}

#[test]
fn any_address_but_loopback_is_refused() {
    let home = Home::new();
    let ended = home.run(&["serve", "--listen", "0.0.0.0:0"], "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("loopback"), "{ended:?}");
}

#[test]
fn a_wrong_setting_is_named_with_its_file_line_and_key() {
    let home = Home::new();
    let file = home.path().join("segue.toml");
    fs::write(&file, "listen = \"127.0.0.1:0\"\n\ndurability = \"maybe\"\n").unwrap();
    let ended = home.run(&["serve", "--config", file.to_str().unwrap()], "");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("segue.toml:3: durability"), "{ended:?}");
}

#[test]
fn a_configured_agent_runs_by_its_name() {
    let home = Home::new();
    let file = home.path().join("segue.toml");
    let text = "listen = \"127.0.0.1:0\"\n[agents.hello]\nkind = \"process\"\n\
        command = [\"echo\", \"hello\"]\n";
    fs::write(&file, text).unwrap();
    let server = Server::of(&mut home.segue(&["serve", "--config", file.to_str().unwrap()]));
    let run = server.start_run("s", &json!({"agent": "hello"}));
    let ended = home.run(&["attach", &run], "");
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "hello\n"), "{ended:?}");
}
