//! What is left of a command when its guard was killed.
//!
//! A run's resource is `process:<guard pid>:<its start>:<command's pid>:<its start>`, starts in
//! clock ticks since the boot. From these two processes everything else is found:
//!
//! - by its environment: the guard marks its command with `SEGUE_GUARD=<pid>:<start>`, which
//!   whatever the command starts inherits;
//! - by its session: the guard leads one. A session's id is not given away while it has members,
//!   so a member that is known to be ours proves that all are;
//! - by its parents.
//!
//! Ids are used again, so nothing is ever killed for a pid alone.

use std::{fmt, time::Duration};

use rustix::process::Signal;

use super::tree::{self, Identity, Process};

/// The variable of the mark.
const MARK: &str = "SEGUE_GUARD";

/// How often what is found is killed: between a look and its kill, more may be started.
const ROUNDS: usize = 20;

/// How long the end of a killed process is waited for.
const DEATH: Duration = Duration::from_secs(1);

/// A guard and its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Survivor {
    guard: Identity,
    command: Option<Identity>,
}

impl Survivor {
    /// What the guard leaves; its command is not known yet.
    pub(super) fn of_guard(guard: Identity) -> Self {
        Self { guard, command: None }
    }

    /// The same with its command.
    pub(super) fn with_command(self, command: Identity) -> Self {
        Self { command: Some(command), ..self }
    }

    /// Reads the name of a resource.
    pub(super) fn parse(resource: &str) -> Option<Self> {
        let mut fields = resource.strip_prefix("process:")?.split(':');
        let mut identity = || {
            let pid = fields.next()?.parse().ok().filter(|pid| *pid > 1)?;
            Some(Identity { pid, started: fields.next()?.parse().ok()? })
        };
        let survivor = Self::of_guard(identity()?).with_command(identity()?);
        fields.next().is_none().then_some(survivor)
    }

    /// Kills all that is left and waits for its end, within bounds.
    pub(super) async fn end(self) {
        // It reads files and waits, so it has a thread of its own.
        if let Err(error) = tokio::task::spawn_blocking(move || self.end_blocking()).await {
            tracing::error!(%error, "the search for what a guard left failed");
        }
    }

    fn end_blocking(self) {
        for _ in 0..ROUNDS {
            let found = self.find();
            if found.is_empty() {
                return;
            }
            metrics::counter!("segue_source_survivors_killed_total").increment(found.len() as u64);
            for process in &found {
                process.id.signal(Signal::KILL);
            }
            for process in &found {
                process.id.wait(DEATH);
            }
        }
        tracing::error!(guard = self.guard.pid, "processes of a run could not be killed");
    }

    fn find(self) -> Vec<Process> {
        let all = tree::all();
        let mark = mark(self.guard);
        let (mut found, others): (Vec<Process>, Vec<Process>) = all.iter().partition(|process| {
            process.id == self.guard
                || Some(process.id) == self.command
                || tree::has_variable(process.id.pid, &mark)
        });
        let in_session = |process: &&Process| process.session == self.guard.pid;
        if found.iter().any(|process| in_session(&process)) {
            found.extend(others.iter().filter(in_session));
        }
        let roots: Vec<i32> = found.iter().map(|process| process.id.pid).collect();
        found.extend(tree::descendants(&roots, &all));
        found
    }
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { pid, started } = self.guard;
        write!(f, "process:{pid}:{started}")?;
        match self.command {
            Some(Identity { pid, started }) => write!(f, ":{pid}:{started}"),
            None => Ok(()),
        }
    }
}

/// The variable that marks what `guard` starts, `NAME=value`.
fn mark(guard: Identity) -> String {
    let (name, value) = mark_of(guard);
    format!("{name}={value}")
}

/// The name and the value of the variable that marks what `guard` starts.
pub(super) fn mark_of(guard: Identity) -> (&'static str, String) {
    (MARK, format!("{}:{}", guard.pid, guard.started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        let survivor = Survivor::of_guard(Identity { pid: 7, started: 70 })
            .with_command(Identity { pid: 8, started: 80 });
        assert_eq!(survivor.to_string(), "process:7:70:8:80");
        assert_eq!(Survivor::parse("process:7:70:8:80"), Some(survivor));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for text in [
            "",
            "process",
            "process:",
            "process:7:70",
            "process:7:70:8",
            "process:7:70:8:80:9",
            "process:-1:70:8:80",
            "process:0:70:8:80",
            "process:1:70:8:80",
            "process:7:70:x:80",
            "container:7:70:8:80",
        ] {
            assert_eq!(Survivor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_that_only_has_the_pid_of_a_guard_is_not_ours() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let own = tree::read(pid).expect("alive");
        let other = Identity { pid, started: own.id.started.saturating_sub(1) };
        let left = Survivor::of_guard(other).with_command(other).find();
        assert!(left.is_empty(), "{left:?}");
        let session = Identity { pid: own.session, started: 0 };
        let left = Survivor::of_guard(session).with_command(other).find();
        assert!(left.is_empty(), "{left:?}");
    }
}
