//! Servers, commands and requests for tests.

mod http;
mod process;
mod pty;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    http::{Answer, Request, get, post},
    process::{Home, Running, Server, signal, text_of},
    pty::Terminal,
};

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` gives something, and gives it.
#[expect(clippy::disallowed_methods, reason = "the one place that waits between two looks")]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(LOOK);
    }
}

/// Whether a process is there and not only waits to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
}
