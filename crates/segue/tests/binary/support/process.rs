//! Processes of the binary, in a home of their own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Answer, get, post, until};

/// The home folder of a user who has nothing yet.
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The data folder that commands use unless told otherwise.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join(".local/share/segue")
    }

    /// `segue ARGS` for this user. Nothing of the test's own environment but the search path.
    pub(crate) fn segue(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_segue"));
        command.args(args);
        command
    }

    /// Another program for this user.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.path());
        command.current_dir(self.path());
        command
    }

    /// Runs `segue ARGS` to its end with `input`.
    pub(crate) fn run(&self, args: &[&str], input: &str) -> Ended {
        let mut running = Running::spawn(self.segue(args).stdin(Stdio::piped()));
        let mut stdin = running.child.stdin.take().unwrap();
        // A command that wants no input may be gone already.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        running.wait()
    }

    /// The process that serves the data folder by its own account.
    pub(crate) fn server_pid(&self) -> Option<u32> {
        let text = fs::read(self.data().join("server.json")).ok()?;
        let server: Value = serde_json::from_slice(&text).ok()?;
        u32::try_from(server["pid"].as_u64()?).ok()
    }
}

impl Drop for Home {
    /// A background server does not outlive the test that started it.
    fn drop(&mut self) {
        if let Some(pid) = self.server_pid().filter(|pid| super::is_alive(*pid)) {
            signal(pid, Signal::KILL);
        }
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A command that runs; killed with the value.
pub(crate) struct Running {
    child: Child,
    out: Heard,
    err: Heard,
}

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Heard::of(child.stdout.take().unwrap());
        let err = Heard::of(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// What it has written to standard output so far.
    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    pub(crate) fn err(&self) -> String {
        self.err.text()
    }

    /// Waits for a line of standard output that `wanted` makes something of.
    pub(crate) fn line<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        until(what, || self.out().lines().find_map(&wanted))
    }

    /// The same of standard error.
    pub(crate) fn err_line<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        until(what, || self.err().lines().find_map(&wanted))
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, what: Signal) {
        signal(self.pid(), what);
    }

    /// Ctrl-C: as a terminal does, to the whole group of a command that has one of its own.
    pub(crate) fn interrupt(&self) {
        kill_process_group(pid_of(self.pid()), Signal::INT).unwrap();
    }

    /// Writes to its standard input, which was piped. One that has ended hears nothing.
    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).ok();
    }

    /// Closes its standard input.
    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Ended {
        let status: ExitStatus = until("it ends", || self.child.try_wait().unwrap());
        until("its outputs end", || (self.out.is_over() && self.err.is_over()).then_some(()));
        Ended { code: status.code(), out: self.out(), err: self.err() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

pub(crate) fn signal(pid: u32, what: Signal) {
    kill_process(pid_of(pid), what).unwrap();
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// An output that is read as it comes.
struct Heard(Arc<Mutex<(String, bool)>>);

impl Heard {
    fn of(from: impl Read + Send + 'static) -> Self {
        let heard = Arc::new(Mutex::new((String::new(), false)));
        let theirs = Arc::clone(&heard);
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                theirs.lock().unwrap().0.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            theirs.lock().unwrap().1 = true;
        });
        Self(heard)
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().0.clone()
    }

    fn is_over(&self) -> bool {
        self.0.lock().unwrap().1
    }
}

/// A `segue serve` that answers.
pub(crate) struct Server {
    running: Running,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Server {
    /// On a free port, over the home's data folder.
    pub(crate) fn start(home: &Home) -> Self {
        Self::of(&mut home.segue(&["serve", "--listen", "127.0.0.1:0"]))
    }

    /// At the address that a server of this home had before.
    pub(crate) fn start_at(home: &Home, address: &str) -> Self {
        Self::of(&mut home.segue(&["serve", "--listen", address]))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut running = Running::spawn(command);
        let address = until("the server says where it is", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {}", running.err());
            let out = running.out();
            let line = out.lines().find_map(|line| line.strip_prefix("Segue is at http://"));
            line.map(|line| line.trim_end_matches('/').to_owned())
        });
        Self { running, address }
    }

    /// What it printed.
    pub(crate) fn greeting(&self) -> String {
        until("the greeting is whole", || {
            let out = self.running.out();
            out.ends_with("\n\n").then_some(out)
        })
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.running.signal(Signal::KILL);
        self.running.wait();
    }

    /// SIGTERM, and waits until it has shut down.
    pub(crate) fn terminate(mut self) -> Ended {
        self.running.signal(Signal::TERM);
        self.running.wait()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        get(&self.address, path).header("accept", "application/json").send()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        post(&self.address, path, body).send()
    }

    /// Starts a run and gives its id.
    pub(crate) fn start_run(&self, session: &str, body: &Value) -> String {
        let answer = self.post(&format!("/v1/sessions/{session}/runs"), body);
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Appends events as one batch; gives the last seq.
    pub(crate) fn append(&self, run: &str, events: &Value) -> u64 {
        let answer = self.post(&format!("/v1/runs/{run}/events"), events);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["last_seq"].as_u64().unwrap()
    }

    pub(crate) fn run(&self, run: &str) -> Value {
        self.get(&format!("/v1/runs/{run}")).json()
    }

    /// All events that the journal has of a run now.
    pub(crate) fn journal(&self, run: &str) -> Vec<Value> {
        self.journal_after(run, &format!("{run}:0"))
    }

    /// Those after a cursor.
    pub(crate) fn journal_after(&self, run: &str, cursor: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = Some(cursor.to_owned());
        while let Some(cursor) = after {
            let page = self.get(&format!("/v1/runs/{run}/events?after={cursor}")).json();
            let data = page["data"].as_array().unwrap_or_else(|| panic!("no page: {page}"));
            events.extend_from_slice(data);
            after = page["next"].as_str().filter(|_| !data.is_empty()).map(str::to_owned);
        }
        events
    }

    /// The text of a run so far; nothing while there is no such run.
    pub(crate) fn text(&self, run: &str) -> String {
        let is_there = self.get(&format!("/v1/runs/{run}")).status == 200;
        if is_there { text_of(&self.journal(run)) } else { String::new() }
    }

    /// Ends a push run.
    pub(crate) fn finish(&self, run: &str) {
        self.append(run, &json!({"type": "run.finished"}));
    }
}

/// The text that events say.
pub(crate) fn text_of(events: &[Value]) -> String {
    let deltas = events.iter().filter(|event| event["type"] == "text.delta");
    deltas.filter_map(|event| event["text"].as_str()).collect()
}
