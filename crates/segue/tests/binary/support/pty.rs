//! A command at a terminal of its own.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::until;

/// A terminal of 60 columns and the command that runs at it.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Runs `command` as a shell would: the terminal is its own, and its Ctrl-C a signal to it.
    pub(crate) fn run(command: &Command, home: &super::Home) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let terminal: OwnedFd = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 30, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let mut setsid = home.command("setsid");
        setsid.arg("--ctty").arg(command.get_program()).args(command.get_args());
        let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        setsid.envs(set).env("TERM", "xterm");
        setsid.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap());
        let child = setsid.stderr(terminal).spawn().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let mut from = File::from(master.try_clone().unwrap());
        let theirs = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut held = Vec::new();
            while let Ok(read @ 1..) = from.read(&mut bytes) {
                held.extend_from_slice(&bytes[..read]);
                let whole = match std::str::from_utf8(&held) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text: Vec<u8> = held.drain(..whole).collect();
                theirs.lock().unwrap().push_str(&String::from_utf8(text).unwrap());
            }
        });
        Self { child, keyboard: File::from(master), screen }
    }

    /// All that was written to the terminal so far.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Waits until this was written.
    pub(crate) fn shows(&self, text: &str) {
        self.shows_times(text, 1);
    }

    /// Waits until this was written as many times.
    pub(crate) fn shows_times(&self, text: &str, times: usize) {
        until(&format!("the terminal shows {text:?}"), || {
            (self.screen().matches(text).count() >= times).then_some(())
        });
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end of the command and gives its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        until("the command ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
