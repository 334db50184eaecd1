//! `GET /`: one page that shows a run with a plain `EventSource`; and the script that heals the
//! streams of any `fetch`, for other pages.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};

use crate::app::Call;

const PAGE: &str = include_str!("../page/index.html");

const RESUME: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/typescript/segue-resume.js"));

/// The page is one file: its own style and script, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page(_: Call) -> Response {
    let plain = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    let headers = [
        plain(header::CONTENT_SECURITY_POLICY, POLICY),
        plain(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        plain(header::REFERRER_POLICY, "no-referrer"),
        plain(header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE)).into_response()
}

pub(super) async fn resume(_: Call) -> Response {
    let plain = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    let headers = [
        plain(header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        plain(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        plain(header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, RESUME).into_response()
}
