//! The routes: one file per resource. `docs/wire.md` describes every one.
//!
//! Every handler takes a [`Call`](crate::app::Call), and so a principal.

mod agents;
mod append;
mod control;
pub(crate) mod cursor;
mod events;
mod ops;
mod page;
mod runs;
mod sessions;
mod stop;
mod stream;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::FutureExt;

use crate::{
    app::App,
    auth::{Gate, guard, share},
    error::{Code, Problem},
    fan_out,
};

/// All routes, behind the gate.
pub(crate) fn router(app: App, gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/v1/agents", get(agents::list))
        .route("/v1/sessions", get(sessions::list).post(sessions::create))
        .route("/v1/sessions/{sid}", get(sessions::show).patch(sessions::update))
        .route("/v1/sessions/{sid}/runs", post(runs::start))
        .route("/v1/sessions/{sid}/stop", post(stop::session))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/{rid}", get(runs::show))
        .route("/v1/runs/{rid}/events", get(events::events).post(append::append))
        .route("/v1/runs/{rid}/control", get(control::control))
        .route("/v1/runs/{rid}/stop", post(stop::run))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(app)
        .layer(from_fn(at_home))
        .layer(from_fn(survive))
        .layer(from_fn_with_state(gate.clone(), share))
        .layer(from_fn_with_state(gate, guard))
}

async fn no_route() -> Problem {
    Problem::new(Code::NotFound, "there is nothing at this path")
}

async fn no_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "the path does not have this method")
}

/// Every request begins at home, also on a connection that carried a stream before.
async fn at_home(request: Request, next: Next) -> Response {
    fan_out::go_home().await;
    next.run(request).await
}

/// A handler that panics costs its own request only.
async fn survive(request: Request, next: Next) -> Response {
    match std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            metrics::counter!("segue_handler_panics_total").increment(1);
            Problem::new(Code::Internal, "the server broke down over this request").into_response()
        }
    }
}
