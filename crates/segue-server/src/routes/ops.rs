//! `/healthz`, `/readyz`, `/metrics`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::{
    app::Call,
    error::{Code, Problem},
    metrics,
};

/// The process answers.
pub(super) async fn healthz(_: Call) -> &'static str {
    "ok\n"
}

/// New work is taken.
pub(super) async fn readyz(call: Call) -> Result<&'static str, Problem> {
    if call.engine().is_ready() {
        return Ok("ready\n");
    }
    Err(Problem::new(Code::ShuttingDown, "the server is shutting down"))
}

/// All counters, in the text form of Prometheus.
pub(super) async fn metrics(_: Call) -> Response {
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], metrics::render()).into_response()
}
