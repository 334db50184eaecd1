//! Answers to pages of other origins that were configured (the CORS protocol of the Fetch
//! standard). Our own page needs none of it, and other origins never come this far.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::Gate;

const METHODS: &str = "GET, POST, PATCH";
const REQUEST_HEADERS: &str = "authorization, content-type, last-event-id, prefer, producer-epoch, \
     producer-id, producer-seq";
const ANSWER_HEADERS: &str =
    "location, retry-after, segue-last-seq, segue-run-reason, segue-run-status";

/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE: &str = "600";

/// The middleware: lets configured origins read the answers. Stands behind the guard.
pub(crate) async fn share(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let Some(origin) = origin.filter(|origin| gate.is_configured(origin.as_bytes())) else {
        return next.run(request).await;
    };
    let mut response = if is_preflight(&request) { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    put(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
    response
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
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
