//! The guard: a process between the server and a command, whose only purpose is that the command
//! and all that it starts end when the server says so or dies.
//!
//! It leads a session of its own, so no signal to the server's group reaches it, and puts the
//! command into a group of its own, so no signal to that group reaches it either. As a child
//! subreaper it inherits every descendant whose parent ends, so it has no child left exactly when
//! nothing of the command is left.
//!
//! TERM, INT and HUP do nothing to it: a service manager sends them to every process of a service
//! at once, and the guard is the one that has to stay.
//!
//! Standard input is its end of the socket to the server. Standard output and standard error are
//! the command's, passed on.

use std::{
    env,
    ffi::OsString,
    io::{self, ErrorKind, Read},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process_group, set_child_subreaper,
        setsid, wait,
    },
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{
    survivor::mark_of,
    tree::{self, Process},
    wire::{Order, Refusal, Word},
};

/// The exit code for arguments that are no order.
const USAGE: u8 = 64;
/// The exit code when the command could not be started.
const NOT_STARTED: u8 = 127;
/// What a shell adds to the number of the signal that ended a command.
const BY_SIGNAL: i32 = 128;

/// How often, and in what distance, what does not die is killed again.
const KILLS: u32 = 50;
const KILL_AGAIN: Duration = Duration::from_millis(100);

/// Guards one command: the whole of a process, called with the arguments after `__guard`.
///
/// Returns when nothing of the command is left, with the command's exit code, or 128 and the
/// signal that ended it; 127 if it could not be started; 64 if `args` are no order. Synchronous:
/// call it before any runtime is started.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(order) = Order::parse(args) else { return USAGE.into() };
    match Guard::start(&order) {
        Ok(guard) => guard.watch(order.grace),
        Err(refusal) => {
            say(Word::Refused(refusal));
            NOT_STARTED.into()
        }
    }
}

/// Everything that wakes the guard.
enum Wake {
    /// The server said stop, or died.
    Closed,
    /// A child ended.
    Reaped(Pid, WaitStatus),
    /// No child is left.
    Alone,
}

struct Guard {
    command: Pid,
    wakes: Receiver<Wake>,
}

impl Guard {
    fn start(order: &Order) -> Result<Self, Refusal> {
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            // A handler, and not "ignore", which the command would inherit.
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
                .map_err(|_| Refusal::Other)?;
        }
        // Fails where it already leads a group, as when it is tried by hand from a shell.
        setsid().ok();
        set_child_subreaper(Some(getpid())).map_err(|_| Refusal::Other)?;
        if let Some(cwd) = &order.cwd {
            env::set_current_dir(cwd).map_err(|_| Refusal::Directory)?;
        }
        // The threads first: once the command runs, nothing may fail any more.
        let (wake, wakes) = sync_channel(16);
        let (started, start) = sync_channel(1);
        let closed = wake.clone();
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        thread("closed").spawn(move || wait_for_close(&closed)).map_err(|_| Refusal::Other)?;
        thread("reaper").spawn(move || reap(&start, &wake)).map_err(|_| Refusal::Other)?;
        let command = spawn(order)?;
        started.send(()).ok();
        Ok(Self { command, wakes })
    }

    fn watch(self, grace: Duration) -> ExitCode {
        let mut code = ExitCode::FAILURE;
        // From when on everything is killed.
        let mut kill_at: Option<Instant> = None;
        let mut kills = 0;
        loop {
            match self.next_wake(kill_at) {
                Some(Wake::Alone) => return code,
                Some(Wake::Reaped(pid, status)) if pid == self.command => {
                    code = tell(status);
                    // Also if it was asked to stop: nothing is left that could end in order.
                    kill_at = Some(kill_at.map_or_else(now, |at| at.min(now())));
                }
                Some(Wake::Closed) if kill_at.is_none() => {
                    self.signal_all(Signal::TERM);
                    kill_at = now().checked_add(grace);
                }
                Some(Wake::Closed | Wake::Reaped(..)) => {}
                None if kills == KILLS => return code,
                None => {
                    self.signal_all(Signal::KILL);
                    kills += 1;
                    kill_at = Some(now() + KILL_AGAIN);
                }
            }
        }
    }

    /// The next wake, or `None` when `limit` is reached.
    fn next_wake(&self, limit: Option<Instant>) -> Option<Wake> {
        let wake = match limit {
            Some(limit) => self.wakes.recv_timeout(limit.saturating_duration_since(now())),
            None => self.wakes.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match wake {
            Err(RecvTimeoutError::Timeout) => None,
            // The reaper says that it is alone before it ends.
            wake => Some(wake.unwrap_or(Wake::Alone)),
        }
    }

    /// Signals everything that is left of the command.
    fn signal_all(&self, signal: Signal) {
        let left = tree::descendants(&[getpid().as_raw_nonzero().get()], &tree::all());
        let in_group = |process: &&Process| {
            rustix::process::getpgid(Pid::from_raw(process.id.pid)) == Ok(self.command)
        };
        let (grouped, outside): (Vec<&Process>, Vec<&Process>) = left.iter().partition(in_group);
        // The group as a whole, so that what it starts in this moment is hit too; but only while
        // it has a member of ours, for then its id belongs to nobody else.
        if !grouped.is_empty() {
            kill_process_group(self.command, signal).ok();
        }
        for process in outside {
            process.id.signal(signal);
        }
    }
}

fn spawn(order: &Order) -> Result<Pid, Refusal> {
    let (program, args) = order.command.split_first().ok_or(Refusal::NotFound)?;
    let guard = tree::read(getpid().as_raw_nonzero().get()).ok_or(Refusal::Other)?;
    let (name, value) = mark_of(guard.id);
    let child = Command::new(program)
        .args(args)
        .env(name, value)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Refusal::NotFound,
            ErrorKind::PermissionDenied => Refusal::NotExecutable,
            _ => Refusal::Other,
        })?;
    let pid = Pid::from_child(&child);
    // It may have ended, but nobody has reaped it, so this is its own.
    if let Some(process) = tree::read(pid.as_raw_nonzero().get()) {
        say(Word::Started(process.id));
    }
    Ok(pid)
}

/// Tells how the command ended.
fn tell(status: WaitStatus) -> ExitCode {
    let (word, code) = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (Word::Exited(code), code),
        (None, Some(signal)) => (Word::Killed(signal), BY_SIGNAL + signal),
        (None, None) => return ExitCode::FAILURE,
    };
    say(word);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn say(word: Word) {
    // The server may be gone; the guard does its work all the same.
    rustix::io::write(io::stdin().as_fd(), format!("{word}\n").as_bytes()).ok();
}

/// Waits for the server to close its end of the socket.
fn wait_for_close(wake: &SyncSender<Wake>) {
    let mut buffer = [0; 64];
    loop {
        match io::stdin().read(&mut buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    wake.send(Wake::Closed).ok();
}

/// Reaps every child from the moment there is one.
fn reap(start: &Receiver<()>, wake: &SyncSender<Wake>) {
    if start.recv().is_err() {
        return;
    }
    loop {
        let woken = match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => wake.send(Wake::Reaped(pid, status)),
            Ok(None) | Err(Errno::INTR) => Ok(()),
            Err(_) => break,
        };
        if woken.is_err() {
            return;
        }
    }
    wake.send(Wake::Alone).ok();
}

#[expect(clippy::disallowed_methods, reason = "the guard has no runtime whose clock it could ask")]
fn now() -> Instant {
    Instant::now()
}
