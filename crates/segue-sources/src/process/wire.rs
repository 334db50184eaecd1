//! What the server and a guard say to each other.
//!
//! The server says an [`Order`], as arguments, and then only one thing: the end of the socket.
//! The guard says [`Word`]s, one a line: `started`, then `exited` or `killed`; or `refused`
//! alone.

use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

use super::tree::Identity;

/// What a guard is to do: `--grace-ms N [--cwd DIR] -- COMMAND ARGS...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) grace: Duration,
    pub(super) cwd: Option<PathBuf>,
    pub(super) command: Vec<OsString>,
}

impl Order {
    pub(super) fn into_args(self) -> Vec<OsString> {
        let mut args = vec!["--grace-ms".into(), self.grace.as_millis().to_string().into()];
        if let Some(cwd) = self.cwd {
            args.extend(["--cwd".into(), cwd.into()]);
        }
        args.push("--".into());
        args.extend(self.command);
        args
    }

    pub(super) fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let (mut grace, mut cwd) = (super::GRACE, None);
        loop {
            let arg = args.next()?;
            match arg.to_str()? {
                "--grace-ms" => grace = Duration::from_millis(args.next()?.to_str()?.parse().ok()?),
                "--cwd" => cwd = Some(args.next()?.into()),
                "--" => break,
                _ => return None,
            }
        }
        let command: Vec<OsString> = args.collect();
        (!command.is_empty()).then_some(Self { grace, cwd, command })
    }
}

/// What a guard tells of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It runs as this process.
    Started(Identity),
    /// It ended with this code.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// It could not be started.
    Refused(Refusal),
}

/// Why a command could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such program.
    NotFound,
    /// It may not be executed.
    NotExecutable,
    /// Its working directory cannot be entered.
    Directory,
    /// Anything else.
    Other,
}

impl Refusal {
    const WORDS: [(Refusal, &'static str); 4] = [
        (Self::NotFound, "not_found"),
        (Self::NotExecutable, "not_executable"),
        (Self::Directory, "directory"),
        (Self::Other, "other"),
    ];

    /// The reason for a person, after "the command could not be started: ".
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "there is no such program",
            Self::NotExecutable => "it may not be executed",
            Self::Directory => "its working directory cannot be entered",
            Self::Other => "the system refused",
        }
    }
}

impl Word {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        Some(match word {
            "started" => {
                let (pid, started) = rest.split_once(' ')?;
                let identity = Identity { pid: pid.parse().ok()?, started: started.parse().ok()? };
                Self::Started(identity)
            }
            "exited" => Self::Exited(rest.parse().ok()?),
            "killed" => Self::Killed(rest.parse().ok()?),
            "refused" => {
                let (refusal, _) = Refusal::WORDS.into_iter().find(|(_, word)| *word == rest)?;
                Self::Refused(refusal)
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(Identity { pid, started }) => write!(f, "started {pid} {started}"),
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Killed(signal) => write!(f, "killed {signal}"),
            Self::Refused(refusal) => {
                let found = Refusal::WORDS.iter().find(|(known, _)| known == refusal);
                write!(f, "refused {}", found.map_or("other", |(_, word)| word))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_back() {
        for cwd in [None, Some(PathBuf::from("/tmp"))] {
            let order = Order {
                grace: Duration::from_millis(250),
                cwd,
                command: vec!["a".into(), "--".into(), "--cwd".into()],
            };
            assert_eq!(Order::parse(order.clone().into_args().into_iter()), Some(order));
        }
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for args in [&[][..], &["--"], &["true"], &["--grace-ms", "x", "--", "a"], &["--cwd"]] {
            assert_eq!(Order::parse(args.iter().map(OsString::from)), None, "{args:?}");
        }
    }

    #[test]
    fn words_are_read_back() {
        let started = Word::Started(Identity { pid: 7, started: 70 });
        let refused = Refusal::WORDS.map(|(refusal, _)| Word::Refused(refusal));
        for word in [started, Word::Exited(3), Word::Killed(15)].into_iter().chain(refused) {
            assert_eq!(Word::parse(&word.to_string()), Some(word));
        }
        for line in ["", "started", "started 1", "exited", "exited x", "refused why", "x 1"] {
            assert_eq!(Word::parse(line), None, "{line}");
        }
    }
}
