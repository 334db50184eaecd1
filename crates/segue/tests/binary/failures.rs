//! Every failure in words: what is wrong, and what to do.

use std::fs;

use crate::support::{Home, Server};

/// Runs `segue ARGS`, which fails with `code` and says all of `words`.
fn fails(home: &Home, args: &[&str], code: i32, words: &[&str]) {
    let ended = home.run(args, "");
    assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    for word in words {
        assert!(ended.err.contains(word), "{args:?} does not say {word:?}: {ended:?}");
    }
}

#[test]
fn no_server_and_no_data() {
    let home = Home::new();
    fails(
        &home,
        &["runs", "--server", "http://127.0.0.1:1"],
        1,
        &["no server answers at http://127.0.0.1:1"],
    );
    fails(&home, &["runs", "--server", "nonsense"], 2, &["http://HOST"]);
    fails(&home, &["runs", "--data", "absent"], 1, &["there is no data folder absent", "--data"]);
    fs::create_dir(home.path().join("empty")).unwrap();
    fails(&home, &["sessions", "--data", "empty"], 1, &["empty holds no data of Segue"]);
    assert!(!home.path().join("absent").exists());
}

#[test]
fn a_folder_of_another_version() {
    let home = Home::new();
    Server::start(&home).kill();
    let format = home.data().join("journal/FORMAT");
    let mut bytes = fs::read(&format).unwrap();
    bytes[8] = 9;
    fs::write(&format, &bytes).unwrap();
    let log = home.data().join("server.log").display().to_string();
    fails(&home, &["runs"], 1, &["has format 9, this program reads up to", &log]);
}

#[test]
fn an_agent_that_is_not_there() {
    let home = Home::new();
    let _server = Server::start(&home);
    fails(&home, &["chat", "--agent", "dmo"], 1, &["did you mean demo?"]);
    fails(&home, &["chat", "--agent", "gpt"], 1, &["[agents.gpt]", "demo"]);
}

#[test]
fn a_token_that_is_wrong_or_missing() {
    let home = Home::new();
    let server = Server::start(&home);
    let url = format!("http://{}", server.address);
    fails(&home, &["runs", "--token", "wrong"], 1, &["bad_token", "leave out --token"]);
    fails(&home, &["exec", "--server", &url, "true"], 1, &["admin_only", "segue token"]);
    fails(&home, &["token", "--rotate"], 1, &["stop it first"]);
    let token = home.run(&["token"], "");
    let named = ["exec", "--server", &url, "--token", token.out.trim(), "echo", "in"];
    let ended = home.run(&named, "");
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "in\n"), "{ended:?}");
    server.kill();
    let rotated = home.run(&["token", "--rotate"], "");
    assert_eq!((rotated.code, rotated.out.len()), (Some(0), 65), "{rotated:?}");
    assert_ne!(rotated.out, token.out);
    assert_eq!(home.run(&["token"], "").out, rotated.out);
}

#[test]
fn a_port_in_use() {
    let (home, other) = (Home::new(), Home::new());
    let server = Server::start(&home);
    let args = ["serve", "--listen", &server.address];
    fails(&other, &args, 1, &["another process listens on", &server.address, "--listen"]);
}

#[test]
fn a_run_that_is_not_there() {
    let home = Home::new();
    let _server = Server::start(&home);
    let data = home.data().display().to_string();
    fails(&home, &["attach", "nobody"], 1, &["nobody", "segue runs", &data]);
}

#[test]
fn a_key_that_is_missing() {
    let home = Home::new();
    let folder = home.path().join(".config/segue");
    fs::create_dir_all(&folder).unwrap();
    let agent = "[agents.gpt]\nkind = 'openai-chat'\nmodel = 'm'\napi_key_env = 'NO_SUCH_KEY'\n";
    fs::write(folder.join("segue.toml"), agent).unwrap();
    let words = ["segue.toml:4", "agents.gpt.api_key_env", "NO_SUCH_KEY"];
    fails(&home, &["chat", "--agent", "gpt"], 1, &words);
}
