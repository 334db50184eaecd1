//! Models over HTTP, as they are configured: an upstream that answers what was recorded of each API.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use serde_json::{Value, json};

use crate::support::{Home, Server, until};

/// Kind, path, media type and recorded answer of each API.
const APIS: [(&str, &str, &str, &str); 5] = [
    (
        "openai-chat",
        "/chat/completions",
        "text/event-stream",
        include_str!("../../../segue-sources/tests/sources/fixtures/openai-chat.sse"),
    ),
    (
        "openai-responses",
        "/responses",
        "text/event-stream",
        include_str!("../../../segue-sources/tests/sources/fixtures/openai-responses.sse"),
    ),
    (
        "anthropic",
        "/messages",
        "text/event-stream",
        include_str!("../../../segue-sources/tests/sources/fixtures/anthropic.sse"),
    ),
    (
        "gemini",
        "/models/m:streamGenerateContent",
        "text/event-stream",
        include_str!("../../../segue-sources/tests/sources/fixtures/gemini.sse"),
    ),
    (
        "ollama",
        "/chat",
        "application/x-ndjson",
        include_str!("../../../segue-sources/tests/sources/fixtures/ollama.ndjson"),
    ),
];

const KEY: &str = "sk-0123456789-secret";

/// Answers every request by its path; gives the address.
fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || answer(socket));
        }
    });
    address
}

/// A request whose key is wrong gets an error that repeats the right one.
fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let found = APIS.iter().find(|(_, path, ..)| head.starts_with(&format!("POST /v1{path}")));
    let (status, media, body) = match found {
        Some((_, _, media, body)) if head.contains(KEY) => ("200 OK", *media, (*body).to_owned()),
        _ => {
            let body = json!({"error": {"message": format!("the key is not {KEY}")}});
            ("401 Unauthorized", "application/json", body.to_string())
        }
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {media}\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())?;
    // What it still sends is read, so that closing resets nothing.
    socket.shutdown(std::net::Shutdown::Write)?;
    std::io::copy(&mut socket, &mut std::io::sink()).map(drop)
}

fn configured(home: &Home, address: &str) -> String {
    let agent = |(kind, ..): &(&str, &str, &str, &str)| {
        format!(
            "[agents.{kind}]\nkind = \"{kind}\"\nbase_url = \"http://{address}/v1\"\n\
             model = \"m\"\napi_key_env = \"MODEL_KEY\"\n\n"
        )
    };
    let file = home.path().join("segue.toml");
    fs::write(&file, APIS.iter().map(agent).collect::<String>()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Everything in this folder and below, as one text.
fn all_bytes(folder: &std::path::Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all += &all_bytes(&path);
        } else {
            all += &String::from_utf8_lossy(&fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn every_kind_of_model_answers_and_no_key_is_kept_or_shown() {
    let home = Home::new();
    let file = configured(&home, &upstream());
    let mut command = home.segue(&["serve", "--listen", "127.0.0.1:0", "--config", &file]);
    let server = Server::of(command.env("MODEL_KEY", KEY));
    let agents = server.get("/v1/agents").json();
    for (kind, ..) in APIS {
        let listed = json!({"name": kind, "kind": kind, "default": false});
        assert!(agents["data"].as_array().unwrap().contains(&listed), "{agents}");
        let run = server.start_run("s", &json!({"agent": kind, "input": "hi", "policy": "queue"}));
        let ended = until("it has ended", || {
            let run = server.run(&run);
            run.get("ended_at").is_some().then_some(run)
        });
        assert_eq!(ended["status"], "finished", "{kind}: {ended}");
        let page = server.get(&format!("/v1/runs/{run}/events?live=false")).json();
        let events = page["data"].as_array().unwrap();
        let text = |event: &Value| match event["type"].as_str() {
            Some("text.delta") => event["text"].as_str().map(str::to_owned),
            _ => None,
        };
        let said: String = events.iter().filter_map(text).collect();
        assert_eq!(said, "Gr\u{fc}\u{df}e dich", "{kind}: {page}");
    }
    let ended = server.terminate();
    assert!(!format!("{ended:?}").contains(KEY));
    assert!(!all_bytes(home.path()).contains(KEY));
}

#[test]
fn a_model_that_refuses_is_a_failed_run_without_the_key() {
    let home = Home::new();
    let file = configured(&home, &upstream());
    let mut command = home.segue(&["serve", "--listen", "127.0.0.1:0", "--config", &file]);
    // The upstream wants another key than this part of it.
    let server = Server::of(command.env("MODEL_KEY", &KEY[..13]));
    let run = server.start_run("s", &json!({"agent": "openai-chat", "input": "hi"}));
    let ended = until("it has ended", || {
        let run = server.run(&run);
        run.get("ended_at").is_some().then_some(run)
    });
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("failed"), &json!("upstream_unauthorized"))
    );
    assert!(!ended.to_string().contains(&KEY[..13]), "{ended}");
}

#[test]
fn the_settings_in_force_are_shown_with_their_origins_and_without_keys() {
    let home = Home::new();
    let file = configured(&home, "127.0.0.1:1");
    let args = ["config", "--json", "--config", &file, "--durability", "os"];
    let output =
        home.segue(&args).env("MODEL_KEY", KEY).env("SEGUE_HOT_MIB", "7").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !out.contains(KEY), "{out}");
    let settings: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| {
        let setting = settings.iter().find(|setting| setting["key"] == key);
        setting.map(|setting| (setting["value"].clone(), setting["origin"].clone())).unwrap()
    };
    assert_eq!(of("durability"), (json!("os"), json!("--durability")));
    assert_eq!(of("hot_mib"), (json!(7), json!("SEGUE_HOT_MIB")));
    assert_eq!(of("cache_mib"), (json!(64), json!("default")));
    assert_eq!(of("agents.openai-chat.model"), (json!("m"), json!(format!("{file}:4"))));
    assert_eq!(of("agents.openai-chat.api_key_env").0, json!("MODEL_KEY"));
}
