//! What can go wrong between a client and its server.

use std::{error::Error, fmt, io, time::Duration};

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why a call, an attachment or a producer came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, and says why.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// The server does not take a pushed line. The lines before it are journaled.
    #[error("line {line}: {problem}")]
    Line {
        /// Which one, as the server counts the lines of the request.
        line: u64,
        /// Why.
        problem: Box<Problem>,
    },
    /// The server was not reached, or the connection to it was lost.
    #[error("the connection to the server failed: {0}")]
    Transport(#[from] TransportError),
    /// What came is not what this protocol allows.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// What the caller gave cannot be used: a base URL, a token, a line with a line break.
    #[error("{0}")]
    Unusable(String),
    /// The lines to push could not be read.
    #[error("reading the lines to push failed: {0}")]
    Input(#[source] io::Error),
}

impl ClientError {
    /// Whether the same request may succeed later: a lost connection, a broken stream, an answer
    /// of 5xx, 408 or 429.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.is_passing(),
            Self::Transport(_) | Self::Protocol(_) => true,
            Self::Line { .. } | Self::Unusable(_) | Self::Input(_) => false,
        }
    }

    /// Whether what was asked for is not there, or no longer.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Problem(problem) if matches!(problem.status, 404 | 410))
    }
}

impl From<reqwest::Error> for ClientError {
    fn from(error: reqwest::Error) -> Self {
        TransportError::Http(error).into()
    }
}

impl From<Problem> for ClientError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// How a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// It could not be made, or broke.
    #[error("{}", root_cause(.0))]
    Http(#[source] reqwest::Error),
    /// Nothing came for this long.
    #[error("nothing came for {} ms", .0.as_millis())]
    Idle(Duration),
    /// It ended in order, but before the end of what it carried.
    #[error("it ended too early")]
    Cut,
}

/// `reqwest` tells what it did, its innermost source tells what happened.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// An RFC 9457 problem document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind of problem, for a person.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// This occurrence, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The kind of problem, for a program; stable.
    #[serde(default)]
    pub code: String,
    /// What else the document says, such as `available_from`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Problem {
    /// Reads the body of an answer with this status. A body that is no problem document, as one
    /// of a proxy, becomes a problem with the code `http_<status>`.
    pub fn from_body(status: StatusCode, body: &[u8]) -> Self {
        let mut problem: Self = serde_json::from_slice(body).unwrap_or_else(|_| Self {
            kind: about_blank(),
            title: status.canonical_reason().unwrap_or("refused").to_lowercase(),
            status: 0,
            detail: None,
            code: String::new(),
            more: Map::new(),
        });
        problem.status = status.as_u16();
        if problem.code.is_empty() {
            problem.code = format!("http_{}", status.as_u16());
        }
        problem
    }

    pub(crate) fn is_passing(&self) -> bool {
        self.status >= 500 || matches!(self.status, 408 | 429)
    }
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail.as_deref().unwrap_or(&self.title))?;
        write!(f, " ({})", self.code)
    }
}

impl Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Problem {
        Problem::from_body(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn a_problem_document_is_read_with_its_own_members() {
        let problem = read(
            410,
            r#"{"type":"/problems/trimmed","title":"trimmed","status":410,"code":"cursor_trimmed",
                "detail":"events before 7 are gone","available_from":7}"#,
        );
        assert_eq!((problem.status, problem.code.as_str()), (410, "cursor_trimmed"));
        assert_eq!(problem.more["available_from"], 7);
        assert_eq!(problem.to_string(), "events before 7 are gone (cursor_trimmed)");
    }

    #[test]
    fn any_other_body_still_makes_a_problem() {
        for body in ["", "<html>", "[]", "\"x\"", "{}"] {
            let problem = read(502, body);
            assert_eq!((problem.status, problem.code.as_str()), (502, "http_502"), "{body}");
        }
        assert_eq!(read(502, "<html>").to_string(), "bad gateway (http_502)");
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for (status, passing, gone) in [
            (400, false, false),
            (404, false, true),
            (408, true, false),
            (409, false, false),
            (410, false, true),
            (429, true, false),
            (500, true, false),
            (507, true, false),
        ] {
            let error = ClientError::from(read(status, ""));
            assert_eq!((error.is_passing(), error.is_gone()), (passing, gone), "{status}");
        }
        assert!(ClientError::from(TransportError::Cut).is_passing());
        assert!(!ClientError::Unusable(String::new()).is_passing());
    }
}
