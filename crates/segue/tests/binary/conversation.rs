//! A conversation as a user has it: over kills, and into another server.

use serde_json::{Value, json};

use crate::support::{Home, Server, get, post};

/// Asks and is answered by `segue push`.
fn turn(home: &Home, server: &Server, number: usize, more: &Value) -> Value {
    let mut body = json!({"agent": "push", "run_id": format!("r{number}")});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let run = server.post("/v1/sessions/talk/runs", &body).json();
    answer(home, number);
    run
}

fn answer(home: &Home, number: usize) {
    let delta = |text: &str| json!({"type": "text.delta", "part": "p", "text": text}).to_string();
    let lines = [delta(&format!("answer {number}")), delta(" is whole\n")].join("\n") + "\n";
    let run = format!("r{number}");
    let args = ["push", "--run", &run, "--producer", "me", "--finish"];
    assert_eq!(home.run(&args, &lines).code, Some(0));
}

fn messages(home: &Home, args: &[&str]) -> Vec<Value> {
    let args = [&["messages", "--json", "--limit", "0"], args].concat();
    let listed = home.run(&args, "");
    assert_eq!(listed.code, Some(0), "{listed:?}");
    listed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(messages: &[Value]) -> Vec<String> {
    let text = |message: &Value| message["parts"][0]["text"].as_str().unwrap().trim().to_owned();
    messages.iter().map(text).collect()
}

#[test]
fn ten_turns_over_two_kills_are_the_same_conversation_everywhere() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let address = server.address.clone();
    for number in 1..=10 {
        turn(&home, &server, number, &json!({"input": format!("question {number}")}));
        if number == 3 || number == 7 {
            server.kill();
            server = Server::start_at(&home, &address);
        }
    }
    let said = messages(&home, &["talk"]);
    let wanted: Vec<_> =
        (1..=10).flat_map(|n| [format!("question {n}"), format!("answer {n} is whole")]).collect();
    assert_eq!(texts(&said), wanted);

    let found = messages(&home, &["--search", "\"answer 7\""]);
    assert_eq!((found.len(), &found[0]["message_id"]), (1, &said[13]["id"]));
    // The last answer again, and on from it.
    turn(&home, &server, 11, &json!({"replaces": said[19]["id"]}));
    let text = json!({"type": "text.delta", "part": "p", "text": "!"}).to_string() + "\n";
    let body = json!({"agent": "push", "run_id": "r12", "continue": "r11"});
    let on = server.post("/v1/sessions/talk/runs", &body).json();
    assert_eq!(
        home.run(&["push", "--run", "r12", "--producer", "me", "--finish"], &text).code,
        Some(0)
    );
    let now = messages(&home, &["talk"]);
    assert_eq!((now.len(), &now[19]["id"]), (20, &on["message_id"]));
    assert_eq!(texts(&now)[19], "answer 11 is whole");
    assert_eq!(messages(&home, &["talk", "--superseded"]).len(), 21);

    let fork = server.post("/v1/sessions/talk/fork", &json!({"at": said[5]["id"], "id": "fork"}));
    assert_eq!(fork.status, 201);
    assert_eq!(texts(&messages(&home, &["fork"])), &wanted[..6]);

    let file = home.path().join("talk.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(home.run(&["export", "talk", "--output", file], "").code, Some(0));
    let other = Home::new();
    let there = Server::start(&other);
    assert_eq!(other.run(&["import", file], "").code, Some(0));
    assert_eq!(messages(&other, &["talk"]), now);
    assert_eq!(messages(&other, &["--search", "answer"]).len(), 10);
    for path in ["/v1/runs?limit=100", "/v1/runs/r7/events", "/v1/sessions/talk"] {
        let shown = |server: &Server| get(&server.address, path).send().text();
        assert_eq!(shown(&there), shown(&server), "{path}");
    }
    let again = other.run(&["import", file], "");
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("the session talk exists already"), "{}", again.err);
    // And over a restart of the other one, without its views.
    let address = there.address.clone();
    there.kill();
    std::fs::remove_file(other.data().join("views.db")).unwrap();
    let there = Server::start_at(&other, &address);
    assert_eq!(messages(&other, &["talk"]), now);
    let refused = post(&there.address, "/v1/import", &"{}").send();
    assert_eq!(refused.status, 403);
}

#[test]
fn a_backup_is_made_beside_a_server_that_goes_on_and_can_be_served() {
    let home = Home::new();
    let server = Server::start(&home);
    turn(&home, &server, 1, &json!({"input": "one"}));
    server.start_run("open", &json!({"agent": "push", "run_id": "open"}));
    server.append("open", &json!({"type": "text.delta", "part": "p", "text": "half"}));
    let other = Home::new();
    let to = other.data();
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let to = to.to_str().unwrap();
    let made = home.run(&["backup", to], "");
    assert_eq!(made.code, Some(0), "{made:?}");
    turn(&home, &server, 2, &json!({"input": "two"}));
    let again = home.run(&["backup", to], "");
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("exists already"), "{}", again.err);
    assert_eq!(other.run(&["check", "--data", to], "").code, Some(0));
    let copy = Server::start(&other);
    assert_eq!(texts(&messages(&other, &["talk"])), ["one", "answer 1 is whole"]);
    assert_eq!(
        (&copy.run("open")["status"], copy.text("open")),
        (&json!("interrupted"), "half".into())
    );
    assert_eq!(server.run("open")["status"], "running");
    let refused = server.post("/v1/backup", &json!({"to": "/tmp/x"}));
    assert_eq!((refused.status, refused.code().as_str()), (403, "admin_only"));
}

#[test]
fn i21_half_an_answer_is_in_its_message_after_a_restart() {
    let home = Home::new();
    let server = Server::start(&home);
    server.start_run("talk", &json!({"agent": "push", "run_id": "r", "input": "question"}));
    server.append("r", &json!({"type": "text.delta", "part": "p", "text": "half"}));
    let address = server.address.clone();
    server.kill();
    let server = Server::start_at(&home, &address);
    let said = messages(&home, &["talk"]);
    assert_eq!(texts(&said), ["question", "half"]);
    assert_eq!(said[1]["status"], "interrupted");
    assert_eq!(server.get("/v1/search?q=half").json()["data"][0]["message_id"], said[1]["id"]);
}
