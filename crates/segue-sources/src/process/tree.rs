//! Processes as `/proc` tells them, and how to signal one without hitting another.

use std::{collections::HashSet, fs, str::FromStr, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// One process for as long as the machine is up: its id, which is used again after its end, and
/// when it began, in clock ticks since the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: i32,
    pub(super) started: u64,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: Identity,
    pub(super) session: i32,
    parent: i32,
    /// It has ended, all threads of it, and waits for its parent to take note.
    dead: bool,
}

/// The process of this id, also one that has ended and was not reaped.
pub(super) fn read(pid: i32) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Every living process.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let living = |process: &Process| !process.dead;
    entries.flatten().filter_map(pid).filter_map(read).filter(living).collect()
}

/// Whether the process was started with `variable` (`NAME=value`) in its environment.
pub(super) fn has_variable(pid: i32, variable: &str) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}

/// What descends from `roots`, without them.
pub(super) fn descendants(roots: &[i32], all: &[Process]) -> Vec<Process> {
    let mut known: HashSet<i32> = roots.iter().copied().collect();
    let mut found = Vec::new();
    loop {
        let fresh = |process: &&Process| {
            known.contains(&process.parent) && !known.contains(&process.id.pid)
        };
        let generation: Vec<Process> = all.iter().filter(fresh).copied().collect();
        if generation.is_empty() {
            return found;
        }
        known.extend(generation.iter().map(|process| process.id.pid));
        found.extend(generation);
    }
}

impl Identity {
    /// Sends `signal`, unless the process has ended.
    pub(super) fn signal(self, signal: Signal) {
        if let Some(handle) = self.open() {
            // It may have ended meanwhile, or belong to another user: then it is left alone.
            pidfd_send_signal(handle, signal).ok();
        }
    }

    /// Waits for the end of the process, at most for `limit`.
    pub(super) fn wait(self, limit: Duration) {
        let Some(handle) = self.open() else { return };
        let limit = Timespec::try_from(limit).ok();
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], limit.as_ref()).ok();
    }

    /// A handle that stays this process's own.
    fn open(self) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // The process that has the id now, and is held by the handle, began when ours did.
        (read(self.pid)?.id == self).then_some(handle)
    }
}

/// Reads `/proc/PID/stat`: `pid (name) state parent group session ...`, the 20th field being the
/// number of threads and the 22nd the start. The name may hold anything, so fields are counted from the last `)`.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(' ')?;
    let fields: Vec<&str> = rest.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let state = *fields.first()?;
    Some(Process {
        id: Identity { pid: number(pid)?, started: number(fields.get(19)?)? },
        parent: number(fields.get(1)?)?,
        session: number(fields.get(3)?)?,
        dead: matches!(state, "Z" | "X") && number::<u32>(fields.get(17)?)? <= 1,
    })
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { id: Identity { pid, started: 1 }, session: 1, parent, dead: false }
    }

    #[test]
    fn a_stat_with_a_nasty_name_is_read() {
        let stat = "42 (a) Z 1 (b) S 7 8 9 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 217125 17 850";
        let expected = Process {
            id: Identity { pid: 42, started: 217_125 },
            session: 9,
            parent: 7,
            dead: false,
        };
        assert_eq!(parse_stat(stat), Some(expected));
        let dead = parse_stat(&stat.replace(" S ", " Z "));
        assert_eq!(dead, Some(Process { dead: true, ..expected }));
        let without_main_thread =
            parse_stat(&stat.replace(" S ", " Z ").replace(" 0 1 0 ", " 0 2 0 "));
        assert_eq!(without_main_thread, Some(expected));
        assert_eq!(parse_stat("42 (a) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn descendants_are_found_over_generations_and_loops_do_no_harm() {
        let all = [process(5, 4), process(2, 1), process(3, 2), process(4, 3), process(1, 5)];
        let pids = |roots: &[i32], all: &[Process]| {
            let mut pids: Vec<i32> =
                descendants(roots, all).iter().map(|process| process.id.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(pids(&[2], &all[..4]), [3, 4, 5]);
        assert_eq!(pids(&[1], &all), [2, 3, 4, 5]);
        assert!(pids(&[9], &all).is_empty());
    }

    #[test]
    fn this_process_is_alive_and_another_start_is_another_process() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let own = read(pid).expect("alive");
        assert!(all().contains(&own));
        assert!(own.id.open().is_some());
        let other = Identity { pid, started: own.id.started + 1 };
        assert!(other.open().is_none());
        // Would end this test if it went by the id alone.
        other.signal(Signal::KILL);
    }
}
