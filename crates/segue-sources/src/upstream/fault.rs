//! What goes wrong with an upstream.

use std::time::Duration;

use reqwest::StatusCode;
use segue_core::{Inbound, InterruptionCause, RunError};
use serde_json::Value;

use crate::decode::{LineTooLong, SseError};

/// Why an answer is not whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Whether the same request may have an answer later.
    pub(super) may_pass: bool,
    /// How long the upstream wishes to be left alone.
    pub(super) after: Option<Duration>,
}

/// Names of errors that are about the moment and not about the request.
const PASSING: [&str; 8] = [
    "overloaded_error",
    "rate_limit_error",
    "rate_limit_exceeded",
    "api_error",
    "server_error",
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
];

/// The code of a body that ended without saying that it had.
const EOF: &str = "upstream_eof";

impl Fault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), may_pass: false, after: None }
    }

    /// What the upstream sent is not what its API says.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new("upstream_malformed", message)
    }

    /// The connection was cut, or the body ended too early.
    pub(super) fn cut() -> Self {
        Self { may_pass: true, ..Self::new(EOF, "the upstream's answer ended half-way") }
    }

    pub(super) fn unreachable() -> Self {
        let message = "the upstream cannot be reached";
        Self { may_pass: true, ..Self::new("upstream_unreachable", message) }
    }

    pub(super) fn timeout(waited: Duration) -> Self {
        let message = format!("the upstream sent nothing for {} s", waited.as_secs_f32());
        Self { may_pass: true, ..Self::new("upstream_timeout", message) }
    }

    /// The upstream's own error, of a frame or a body.
    pub(super) fn of_error(error: &Value) -> Self {
        let message = message_of(error).unwrap_or("the upstream failed without a message");
        let named = ["type", "code", "status"].into_iter().filter_map(|name| error[name].as_str());
        let may_pass = named.into_iter().any(|name| PASSING.contains(&name));
        Self { may_pass, ..Self::new("upstream_error", message) }
    }

    /// A status that is no success; `said` is the message in its body.
    pub(super) fn of_status(
        status: StatusCode,
        said: Option<&str>,
        after: Option<Duration>,
    ) -> Self {
        let code = match status.as_u16() {
            300..=399 => "upstream_redirect",
            401 | 403 => "upstream_unauthorized",
            429 => "upstream_rate_limited",
            500.. => "upstream_failed",
            _ => "upstream_refused",
        };
        let message = match said {
            Some(said) => format!("the upstream answered {}: {said}", status.as_u16()),
            None => format!("the upstream answered {}", status.as_u16()),
        };
        let may_pass = matches!(status.as_u16(), 408 | 409 | 425 | 429 | 500..);
        Self { code, message, may_pass, after }
    }

    /// The end of a run by it.
    pub(super) fn into_end(self, message: String) -> Inbound {
        if self.code == EOF {
            Inbound::Interrupted(InterruptionCause::UpstreamEof)
        } else {
            Inbound::Failed(RunError::new(self.code, message))
        }
    }
}

impl From<LineTooLong> for Fault {
    fn from(error: LineTooLong) -> Self {
        Self::new("upstream_too_large", error.to_string())
    }
}

impl From<SseError> for Fault {
    fn from(error: SseError) -> Self {
        Self::new("upstream_too_large", error.to_string())
    }
}

/// The sentence for a person in an error of whatever shape.
pub(super) fn message_of(error: &Value) -> Option<&str> {
    let nested = ["error", "message", "detail"].into_iter().find_map(|name| error.get(name));
    match nested {
        Some(nested) => message_of(nested),
        None => error.as_str().filter(|text| !text.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_found_in_any_shape() {
        for error in [
            json!("no"),
            json!({"message": "no"}),
            json!({"error": "no"}),
            json!({"error": {"message": "no", "type": "x"}}),
            json!({"detail": "no"}),
        ] {
            assert_eq!(message_of(&error), Some("no"), "{error}");
        }
        for error in [json!(null), json!({}), json!(""), json!({"error": {"code": 1}})] {
            assert_eq!(message_of(&error), None, "{error}");
        }
    }

    #[test]
    fn each_status_has_a_code() {
        let of = |status| {
            let status = StatusCode::from_u16(status).expect("a status");
            let fault = Fault::of_status(status, None, None);
            (fault.code, fault.may_pass)
        };
        assert_eq!(of(302), ("upstream_redirect", false));
        assert_eq!(of(400), ("upstream_refused", false));
        assert_eq!(of(401), ("upstream_unauthorized", false));
        assert_eq!(of(408), ("upstream_refused", true));
        assert_eq!(of(429), ("upstream_rate_limited", true));
        assert_eq!(of(529), ("upstream_failed", true));
    }
}
