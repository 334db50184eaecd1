//! Names of things: `[A-Za-z0-9_.-]{1,128}`, neither `.` nor `..`.
//!
//! The alphabet makes an id safe in a URL path, a file name, an SSE `id:` line and a stream key,
//! so that no later layer needs to escape one. Ids are names; order is only ever a [`Seq`].
//!
//! [`Seq`]: crate::Seq

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No characters at all.
    #[error("an id has at least one character")]
    Empty,
    /// More than [`MAX_ID_BYTES`].
    #[error("an id has at most {MAX_ID_BYTES} bytes, this one has {bytes}")]
    TooLong {
        /// How many bytes there were.
        bytes: usize,
    },
    /// A character outside the alphabet, at this byte.
    #[error("an id is made of A-Z a-z 0-9 _ . -, byte {at} is something else")]
    BadCharacter {
        /// Index of the first offending byte.
        at: usize,
    },
    /// `.` or `..`, which a path would swallow.
    #[error("`.` and `..` are not ids")]
    Dots,
}

/// Checks `text` against the rule of this module.
pub fn check_id(text: &str) -> Result<(), IdError> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(IdError::Empty);
    }
    if bytes.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong { bytes: bytes.len() });
    }
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if let Some(at) = bytes.iter().position(|b| !allowed(b)) {
        return Err(IdError::BadCharacter { at });
    }
    if text == "." || text == ".." {
        return Err(IdError::Dots);
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts `text` if it is a well-formed id.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id(text)?;
                Ok(Self(text.into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }
    };
}

id! {
    /// Whose data it is. Every stored key begins with it.
    TenantId
}
id! {
    /// One execution of an agent; unique within a tenant, used once.
    RunId
}
id! {
    /// A conversation.
    SessionId
}
id! {
    /// The fold of a run's events, or a user's message.
    MessageId
}
id! {
    /// The name of a configured agent.
    AgentName
}
id! {
    /// A producer's own name, the scope of its epoch and seq.
    ProducerId
}

impl TenantId {
    /// The only tenant of a server without authentication.
    pub fn local() -> Self {
        Self("default".into())
    }
}

impl MessageId {
    /// The id of the message that a run produces.
    ///
    /// One run makes one message, so the run's id names it; a run id of the full length is kept
    /// whole because it is already unique.
    pub fn of_run(run: &RunId) -> Self {
        let text = format!("msg_{run}");
        Self(if text.len() > MAX_ID_BYTES { run.as_str().into() } else { text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_and_length() {
        for good in ["a", "A-b_c.9", "...", &"x".repeat(128)] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        assert_eq!(check_id(""), Err(IdError::Empty));
        assert_eq!(check_id(&"x".repeat(129)), Err(IdError::TooLong { bytes: 129 }));
        assert_eq!(check_id("a/b"), Err(IdError::BadCharacter { at: 1 }));
        assert_eq!(check_id("a\0"), Err(IdError::BadCharacter { at: 1 }));
        assert_eq!(check_id("a:1"), Err(IdError::BadCharacter { at: 1 }));
        assert_eq!(check_id("é"), Err(IdError::BadCharacter { at: 0 }));
        assert_eq!(check_id("."), Err(IdError::Dots));
        assert_eq!(check_id(".."), Err(IdError::Dots));
    }

    #[test]
    fn a_runs_message_has_a_valid_id_at_every_length() {
        for len in [1, 124, 125, 128] {
            let run = RunId::parse(&"r".repeat(len)).expect("valid");
            assert_eq!(check_id(MessageId::of_run(&run).as_str()), Ok(()));
        }
    }
}
