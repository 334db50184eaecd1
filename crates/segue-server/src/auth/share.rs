//! Answers to pages of other origins that were configured (the CORS protocol of the Fetch
//! standard). Our own page needs none of it, and other origins never come this far.

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::Gate;

const METHODS: &str = "GET, POST, PATCH, DELETE";
/// Ours, then what `OpenAI`'s clients send along.
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key, last-event-id, prefer, \
     producer-epoch, producer-id, producer-seq, \
     openai-organization, openai-project, user-agent, x-stainless-arch, x-stainless-helper-method, \
     x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-poll-helper, \
     x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, \
     x-stainless-timeout";
const ANSWER_HEADERS: &str =
    "location, retry-after, segue-last-seq, segue-run-reason, segue-run-status";

/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE: &str = "600";

/// A configured origin that a request comes from, which may read the answer.
pub(crate) struct Sharing(HeaderValue);

impl Sharing {
    /// `None` for our own page and for what is no page.
    pub(crate) fn of(gate: &Gate, headers: &HeaderMap) -> Option<Self> {
        let origin = headers.get(header::ORIGIN)?;
        gate.is_configured(origin.as_bytes()).then(|| Self(origin.clone()))
    }

    /// The answer to a browser that asks before it sends; `None` if it does not.
    pub(crate) fn preflight(request: &Request) -> Option<Response> {
        let is_preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        is_preflight.then(preflight)
    }

    /// Lets the origin read the answer.
    pub(crate) fn share(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        put(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        response
    }
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    put(headers, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    put(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    put(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
