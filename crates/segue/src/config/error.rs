//! What is wrong with the configuration, and where.

use std::{fmt, io, path::PathBuf};

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody gave it.
    Default,
    Flag(&'static str),
    Env(String),
    File {
        path: PathBuf,
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Env(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A file that was asked for cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// A setting has a value that it cannot have, or is none of ours.
    #[error("{origin}: {key}: {why}")]
    Bad { origin: Origin, key: String, why: String },
    /// There is nowhere to keep data.
    #[error("{0}")]
    NoData(String),
}
