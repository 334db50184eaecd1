//! The one place where errors become answers: problem documents (RFC 9457) with a stable `code`.
//!
//! Details are the messages of typed errors, which name ids and numbers of the request and never
//! a path, a key or a secret. `docs/wire.md` lists every code.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use segue_core::{EventError, IdError, Seq};
use segue_engine::{
    AppendError, DeleteError, ImportError, MessageError, QueryError, SessionError, StartError,
    StopError,
};
use segue_journal::{BackupError, ReadError};
use serde_json::{Map, Value, json};

use crate::routes::cursor::CursorRefusal;

/// The media type of a problem document.
const PROBLEM_JSON: &str = "application/problem+json";

/// When to come back after a refusal that passes, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $code:literal, $title:literal;)*) => {
        /// What an answer other than success is about. Codes are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Code] = &[$(Code::$name,)*];

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON of the right shape.
    Malformed = BAD_REQUEST, "malformed", "The request cannot be read";
    BadId = BAD_REQUEST, "bad_id", "The id is malformed";
    BadQuery = BAD_REQUEST, "bad_query", "The query is malformed";
    BadHeader = BAD_REQUEST, "bad_header", "A header is malformed";
    BadCursor = BAD_REQUEST, "bad_cursor", "The cursor is malformed";
    BadEvent = BAD_REQUEST, "bad_event", "The event is malformed";
    /// A type or field that only the server writes.
    ForgedEvent = BAD_REQUEST, "forged_event", "The event is not a producer's to send";
    BadSource = BAD_REQUEST, "bad_source", "The source is malformed";
    BadParams = BAD_REQUEST, "bad_params", "The agent does not take these params";
    UnknownAgent = BAD_REQUEST, "unknown_agent", "There is no such agent";
    /// Cut off, altered, or not an export.
    BadImport = BAD_REQUEST, "bad_import", "The import is not a whole export";
    NewerImport = BAD_REQUEST, "newer_import", "The export is of a newer format";
    BadToken = UNAUTHORIZED, "bad_token", "The token is not accepted";
    AdminOnly = FORBIDDEN, "admin_only", "The admin scope is needed";
    BadOrigin = FORBIDDEN, "bad_origin", "The origin is not allowed";
    StaleEpoch = FORBIDDEN, "stale_epoch", "A newer producer has taken over";
    NotFound = NOT_FOUND, "not_found", "Not found";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed";
    NotAcceptable = NOT_ACCEPTABLE, "not_acceptable", "No acceptable form";
    SessionExists = CONFLICT, "session_exists", "The session exists";
    SessionBusy = CONFLICT, "session_busy", "The session is busy";
    BackupExists = CONFLICT, "backup_exists", "Something of that name is there";
    BadBackup = CONFLICT, "bad_backup", "The backup cannot be made there";
    MessageExists = CONFLICT, "message_exists", "The message id was used before";
    MessageNotWhole = CONFLICT, "message_not_whole", "The message still grows";
    RunActive = CONFLICT, "run_active", "The run has not ended";
    RunExists = CONFLICT, "run_exists", "The run id was used before";
    SessionFull = CONFLICT, "session_full", "The session is over its limit";
    RunEnded = CONFLICT, "run_ended", "The run has ended";
    RunLimit = CONFLICT, "run_limit", "The run is over its limit";
    /// The key or the run id was used for another request.
    DifferentStart = UNPROCESSABLE_ENTITY, "different_start", "Another start had this key or id";
    NotPush = CONFLICT, "not_push", "The run takes no events from outside";
    ProducerGap = CONFLICT, "producer_gap", "Producer numbers do not follow on";
    ForeignCursor = CONFLICT, "foreign_cursor", "The cursor is of another run";
    CursorTrimmed = GONE, "cursor_trimmed", "What follows the cursor is gone";
    EventTooLarge = PAYLOAD_TOO_LARGE, "event_too_large", "The event is too large";
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large";
    BadContentType = UNSUPPORTED_MEDIA_TYPE, "bad_content_type", "The content type is not accepted";
    CursorAhead = RANGE_NOT_SATISFIABLE, "cursor_ahead", "The cursor is ahead of the run";
    BadHost = MISDIRECTED_REQUEST, "bad_host", "The host is not this server";
    Internal = INTERNAL_SERVER_ERROR, "internal", "The server failed";
    Corrupt = INTERNAL_SERVER_ERROR, "corrupt", "What is stored is damaged";
    ShuttingDown = SERVICE_UNAVAILABLE, "shutting_down", "The server is shutting down";
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "Not now";
    /// An append before this one failed.
    Retry = SERVICE_UNAVAILABLE, "retry", "Send it again";
    DiskFull = INSUFFICIENT_STORAGE, "disk_full", "The disk is full";
}

/// A problem document.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    /// Members beyond those that every problem has.
    more: Map<String, Value>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), more: Map::new() }
    }

    /// Adds a member.
    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.more.insert(member.to_owned(), value.into());
        self
    }

    /// Whether the same request may be answered otherwise later.
    pub(crate) fn is_passing(&self) -> bool {
        self.code.status() == StatusCode::SERVICE_UNAVAILABLE
    }

    /// What is wrong, for a person.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// What it is about.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The document.
    pub(crate) fn to_json(&self) -> Value {
        let code = self.code;
        let mut document = json!({
            "type": format!("urn:segue:problem:{}", code.as_str()),
            "title": code.title(),
            "status": code.status().as_u16(),
            "detail": self.detail,
            "code": code.as_str(),
        });
        for (member, value) in &self.more {
            document[member.as_str()] = value.clone();
        }
        document
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        metrics::counter!("segue_problems_total", "code" => self.code.as_str()).increment(1);
        if status.is_server_error() {
            tracing::warn!(code = self.code.as_str(), detail = %self.detail, "request failed");
        }
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<IdError> for Problem {
    fn from(error: IdError) -> Self {
        Self::new(Code::BadId, error.to_string())
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        let code = match error {
            EventError::Json(_) => Code::Malformed,
            EventError::TooLarge { .. } => Code::EventTooLarge,
            EventError::BadType
            | EventError::BadField { .. }
            | EventError::BadTerminal
            | EventError::LongSubject { .. } => Code::BadEvent,
            EventError::Reserved(_) | EventError::Forged(_) => Code::ForgedEvent,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let code = match error {
            AppendError::NotFound => Code::NotFound,
            AppendError::RunEnded => Code::RunEnded,
            AppendError::NotPush => Code::NotPush,
            AppendError::EventTooLarge { .. } => Code::EventTooLarge,
            AppendError::AfterTerminal | AppendError::BadTerminal => Code::BadEvent,
            AppendError::RunExists => Code::RunExists,
            AppendError::RunLimit => Code::RunLimit,
            AppendError::StaleProducer { .. } => Code::StaleEpoch,
            AppendError::ProducerGap { .. } => Code::ProducerGap,
            AppendError::TooLarge { .. } => Code::BodyTooLarge,
            AppendError::DiskFull => Code::DiskFull,
            AppendError::NotStarted | AppendError::Retry => Code::Retry,
            AppendError::Unavailable => Code::Unavailable,
            AppendError::Unreadable => Code::Corrupt,
        };
        let problem = Self::new(code, error.to_string());
        match error {
            AppendError::ProducerGap { expected, received } => {
                problem.with("expected", expected).with("received", received)
            }
            AppendError::StaleProducer { current } => problem.with("producer_epoch", current),
            _ => problem,
        }
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let code = match error {
            StartError::UnknownAgent(_) | StartError::NoAgent => Code::UnknownAgent,
            StartError::BadInput(_)
            | StartError::AgentAndSource
            | StartError::ReplacesAndContinues
            | StartError::RestartNeedsAgent
            | StartError::AwaitNeedsPush => Code::Malformed,
            StartError::BadSource(_) => Code::BadSource,
            StartError::BadParams(_) => Code::BadParams,
            StartError::NothingToReplace(_) | StartError::NothingToContinue(_) => Code::NotFound,
            StartError::Busy(_) => Code::SessionBusy,
            StartError::RunExists => Code::RunExists,
            StartError::SessionFull { .. } => Code::SessionFull,
            StartError::Different(_) => Code::DifferentStart,
            StartError::InputTooLarge { .. } => Code::EventTooLarge,
            StartError::ShuttingDown => Code::ShuttingDown,
            StartError::Journal(error) => return error.into(),
            StartError::View(error) => return QueryError::View(error).into(),
        };
        let problem = Self::new(code, error.to_string());
        match error {
            StartError::Busy(run) | StartError::Different(run) => {
                problem.with("run_id", run.as_str())
            }
            _ => problem,
        }
    }
}

impl From<StopError> for Problem {
    fn from(error: StopError) -> Self {
        let code = match error {
            StopError::NotFound => Code::NotFound,
            StopError::Unreadable => Code::Corrupt,
        };
        Self::new(code, error.to_string())
    }
}

impl From<DeleteError> for Problem {
    fn from(error: DeleteError) -> Self {
        let code = match error {
            DeleteError::NotFound => Code::NotFound,
            DeleteError::ShuttingDown => Code::ShuttingDown,
            DeleteError::Journal(error) => return error.into(),
            DeleteError::View(error) => return QueryError::View(error).into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let code = match error {
            SessionError::Exists => Code::SessionExists,
            SessionError::NotFound | SessionError::NoMessage(_) => Code::NotFound,
            SessionError::NotWhole(_) => Code::MessageNotWhole,
            SessionError::ShuttingDown => Code::ShuttingDown,
            SessionError::Journal(error) => return error.into(),
            SessionError::Query(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<MessageError> for Problem {
    fn from(error: MessageError) -> Self {
        let code = match error {
            MessageError::Exists => Code::MessageExists,
            MessageError::NotFound | MessageError::NoRun | MessageError::NothingToReplace(_) => {
                Code::NotFound
            }
            MessageError::StillRuns => Code::RunActive,
            MessageError::ShuttingDown => Code::ShuttingDown,
            MessageError::Journal(error) => return error.into(),
            MessageError::Query(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        let code = match error {
            ImportError::Line { .. } | ImportError::Cut { .. } | ImportError::Altered => {
                Code::BadImport
            }
            ImportError::Newer { .. } => Code::NewerImport,
            ImportError::SessionExists(_) => Code::SessionExists,
            ImportError::RunExists(_) => Code::RunExists,
            ImportError::MessageExists(_) => Code::MessageExists,
            ImportError::TooLarge { .. } => Code::BodyTooLarge,
            ImportError::ShuttingDown => Code::ShuttingDown,
            ImportError::Journal(error) => return error.into(),
            ImportError::Query(error) => return error.into(),
        };
        let problem = Self::new(code, error.to_string());
        match error {
            ImportError::Line { line, .. } => problem.with("line", line),
            ImportError::RunExists(run) => problem.with("run_id", run.as_str()),
            _ => problem,
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let code = match error {
            BackupError::Exists(_) => Code::BackupExists,
            BackupError::Io { .. } | BackupError::Unsupported => Code::BadBackup,
            BackupError::Cold(_) => Code::Unavailable,
            BackupError::Closed => Code::ShuttingDown,
        };
        Self::new(code, error.to_string())
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        if matches!(error, QueryError::BadCursor | QueryError::NoWords) {
            return Self::new(Code::BadQuery, error.to_string());
        }
        tracing::error!(%error, "the views could not be asked");
        Self::new(Code::Unavailable, "the views cannot be asked now")
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            // The key of a stream is not for clients, so the journal's own words are not used.
            ReadError::NotFound(_) => Self::new(Code::NotFound, "there is no such run"),
            ReadError::Trimmed { available_from } => {
                Self::new(Code::CursorTrimmed, "what follows the cursor was trimmed")
                    .with("available_from", available_from.0)
            }
            ReadError::Corrupt { seq, what } => {
                tracing::error!(%seq, %what, "a stored record is damaged");
                Self::new(Code::Corrupt, format!("event {seq} is damaged"))
            }
            ReadError::Io(error) => {
                tracing::error!(%error, "the journal could not be read");
                Self::new(Code::Unavailable, "the journal cannot be read now")
            }
        }
    }
}

impl From<CursorRefusal> for Problem {
    fn from(refusal: CursorRefusal) -> Self {
        let code = match refusal {
            CursorRefusal::AfterWithFrom => Code::BadQuery,
            CursorRefusal::Malformed(_) => Code::BadCursor,
            CursorRefusal::Foreign => Code::ForeignCursor,
            CursorRefusal::Ahead { .. } => Code::CursorAhead,
            CursorRefusal::Trimmed { .. } => Code::CursorTrimmed,
        };
        let problem = Self::new(code, refusal.to_string());
        match refusal {
            CursorRefusal::Ahead { last: Seq(last) } => problem.with("last_seq", last),
            CursorRefusal::Trimmed { available_from: Some(Seq(from)) } => {
                problem.with("available_from", from)
            }
            _ => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_documented() {
        let wire = include_str!("../../../docs/wire.md");
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code:?} is not distinct");
            let row = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
            assert!(wire.contains(&row), "docs/wire.md has no row that begins {row:?}");
        }
    }

    #[test]
    fn a_problem_has_the_members_of_the_rfc() {
        let problem = Problem::from(AppendError::ProducerGap { expected: 3, received: 5 });
        assert_eq!(
            problem.to_json(),
            json!({
                "type": "urn:segue:problem:producer_gap",
                "title": "Producer numbers do not follow on",
                "status": 409,
                "detail": "expected producer seq 3, received 5",
                "code": "producer_gap",
                "expected": 3,
                "received": 5,
            })
        );
    }

    #[test]
    fn internal_names_stay_inside() {
        let key = segue_journal::StreamKey::parse("default/r/secret").expect("valid");
        for error in [
            ReadError::NotFound(key),
            ReadError::Io("/var/lib/segue/000.seg: permission denied".into()),
            ReadError::Corrupt { seq: Seq(3), what: "/var/lib".into() },
        ] {
            let text = Problem::from(error).to_json().to_string();
            assert!(!text.contains("default/r") && !text.contains("/var"), "{text}");
        }
    }
}
