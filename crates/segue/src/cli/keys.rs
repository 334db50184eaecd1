//! Keys that are pressed while an answer streams.
//!
//! The terminal neither shows them nor waits for a whole line meanwhile, so that they do not get
//! into the text; Ctrl-C stays a signal.

use std::{
    io::{self, IsTerminal, Stdin},
    os::fd::AsFd,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;

/// Ctrl-D.
const END: u8 = 4;
/// The most bytes that are kept for the next line.
const AHEAD: usize = 4 << 10;

/// The keyboard, while it lives. The terminal is as before when it is dropped.
pub(super) struct Keys {
    terminal: Option<Terminal>,
    ahead: Vec<u8>,
}

struct Terminal {
    stdin: AsyncFd<Stdin>,
    before: Termios,
}

impl Keys {
    /// Takes the terminal that standard input is, if it is one.
    pub(super) fn take() -> io::Result<Self> {
        let stdin = io::stdin();
        let terminal = if stdin.is_terminal() { Some(Terminal::take(stdin)?) } else { None };
        Ok(Self { terminal, ahead: Vec::new() })
    }

    /// Completes when Ctrl-D is pressed; never without a terminal. Cancel safe.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return std::future::pending().await };
        loop {
            let mut ready = terminal.stdin.readable().await?;
            let mut bytes = [0; 256];
            let read = rustix::io::read(terminal.stdin.get_ref().as_fd(), &mut bytes)?;
            ready.clear_ready();
            let pressed = &bytes[..read];
            // A terminal that is gone gives nothing for ever.
            if read == 0 || pressed.contains(&END) {
                return Ok(());
            }
            let room = AHEAD.saturating_sub(self.ahead.len());
            self.ahead.extend_from_slice(&pressed[..read.min(room)]);
        }
    }

    /// What was typed, as the beginning of the next line.
    pub(super) fn typed(&self) -> String {
        typed(&self.ahead)
    }
}

impl Terminal {
    fn take(stdin: Stdin) -> io::Result<Self> {
        let before = tcgetattr(&stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
        #[expect(deprecated, reason = "its heir is unsafe; standard input stays open to the end")]
        let stdin = AsyncFd::new(stdin)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        tcsetattr(self.stdin.get_ref(), OptionalActions::Now, &self.before).ok();
    }
}

/// The printable text of keys; a key's escape sequence is none, an erased character neither.
fn typed(keys: &[u8]) -> String {
    let mut text = String::new();
    let keys = String::from_utf8_lossy(keys);
    let mut keys = keys.chars().peekable();
    while let Some(key) = keys.next() {
        match key {
            '\x7f' | '\x08' => {
                text.pop();
            }
            '\x1b' => {
                keys.next_if(|next| matches!(next, '[' | 'O'));
                while keys.next_if(|next| matches!(next, '0'..='9' | ';')).is_some() {}
                keys.next();
            }
            '\r' | '\n' | '\t' => text.push(' '),
            key if key.is_control() => {}
            key => text.push(key),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_ahead_is_text() {
        for (keys, expect) in [
            ("next question", "next question"),
            ("ab\x7fc", "ac"),
            ("a\x1b[Ab\x1b[3~c\x1bOAd", "abcd"),
            ("a\rb\x01", "a b"),
            ("\x7f", ""),
        ] {
            assert_eq!(typed(keys.as_bytes()), expect, "{keys:?}");
        }
    }
}
