//! The data folder: private, locked, and told apart when it is not ours.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;

use crate::support::{Home, Server, until};

fn some_runs(server: &Server) -> Vec<String> {
    let demo = json!({"agent": "demo", "params": {"speed": 0}});
    let runs: Vec<String> = (0..3).map(|n| server.start_run(&format!("s{n}"), &demo)).collect();
    for run in &runs {
        until("it has ended", || server.run(run).get("ended_at").cloned());
    }
    runs
}

fn modes(folder: &Path, found: &mut Vec<(String, u32)>) {
    found.push((folder.display().to_string(), folder.metadata().unwrap().permissions().mode()));
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modes(&path, found);
        } else {
            found.push((path.display().to_string(), path.metadata().unwrap().permissions().mode()));
        }
    }
}

#[test]
fn i22_every_file_is_0600_and_every_folder_0700() {
    let home = Home::new();
    let server = Server::start(&home);
    some_runs(&server);
    let mut found = Vec::new();
    modes(&home.data(), &mut found);
    assert!(found.len() > 5, "{found:?}");
    for (path, mode) in found {
        let expected = if Path::new(&path).is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & 0o777, expected, "{path}");
    }
}

#[test]
fn i14_a_second_process_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let server = Server::start(&home);
    let second = home.run(&["serve", "--listen", "127.0.0.1:0"], "");
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("in use"), "{second:?}");
    let check = home.run(&["check"], "");
    assert_eq!(check.code, Some(1), "{check:?}");
    assert_eq!(some_runs(&server).len(), 3);
}

/// Starts a server that has to refuse its folder, and gives what it said.
fn refused(home: &Home) -> String {
    let ended = home.run(&["serve", "--listen", "127.0.0.1:0"], "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.err
}

#[test]
fn a_folder_of_a_newer_format_is_refused_and_left_alone() {
    let home = Home::new();
    Server::start(&home).kill();
    let format = home.data().join("journal/FORMAT");
    let mut bytes = fs::read(&format).unwrap();
    bytes[8] = 9;
    fs::write(&format, &bytes).unwrap();
    let said = refused(&home);
    assert!(said.contains("has format 9, this program reads up to 1"), "{said}");
    assert_eq!(fs::read(&format).unwrap(), bytes);
}

#[test]
fn a_folder_that_is_not_a_journal_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.data().join("journal")).unwrap();
    fs::write(home.data().join("journal/FORMAT"), "something else altogether, and of some length")
        .unwrap();
    let said = refused(&home);
    assert!(said.contains("FORMAT") || said.contains("format"), "{said}");
}

#[test]
fn a_data_folder_that_is_a_file_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.data().parent().unwrap()).unwrap();
    fs::write(home.data(), "a file").unwrap();
    let said = refused(&home);
    assert!(said.contains("cannot create the data folder"), "{said}");
}

#[test]
fn damage_is_named_by_check_and_views_are_rebuilt() {
    let home = Home::new();
    let server = Server::start(&home);
    let runs = some_runs(&server);
    let before = server.get("/v1/runs").json();
    server.kill();
    for file in ["views.db", "views.db-wal", "views.db-shm"] {
        fs::remove_file(home.data().join(file)).ok();
    }
    let rebuilt = home.run(&["check", "--rebuild"], "");
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let server = Server::start(&home);
    assert_eq!(server.get("/v1/runs").json(), before);
    server.kill();

    let segment = home.data().join("journal/0000000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let run = runs[0].as_bytes();
    let at = bytes.windows(run.len()).position(|found| found == run).unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let checked = home.run(&["check"], "");
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.err.contains("segment 1"), "{checked:?}");
}
