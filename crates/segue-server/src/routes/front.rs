//! What every request passes before its route.

use std::panic::AssertUnwindSafe;

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tower::ServiceExt;

use super::{append, router};
use crate::{
    app::App,
    auth::{Gate, Sharing},
    error::{Code, Problem},
    fan_out,
};

/// The gate, the rules of shared origins, and the routes behind them.
///
/// A function and not a stack of layers: a layer costs each request a clone of the route and a
/// boxed future.
pub(crate) struct Front {
    app: App,
    gate: Gate,
    router: Router,
}

impl Front {
    pub(crate) fn new(app: App, gate: Gate) -> Self {
        Self { router: router(app.clone()), app, gate }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        if let Err(problem) = self.gate.check(request.uri(), request.headers()) {
            return self.gate.vary(problem.into_response());
        }
        let Some(sharing) = Sharing::of(&self.gate, request.headers()) else {
            return self.gate.vary(self.route(request).await);
        };
        let response = match Sharing::preflight(&request) {
            Some(preflight) => preflight,
            None => self.route(request).await,
        };
        sharing.share(response)
    }

    /// Every request begins at home, also on a connection that carried a stream before. A handler
    /// that panics costs its own request only.
    async fn route(&self, request: Request) -> Response {
        fan_out::go_home().await;
        let handled = AssertUnwindSafe(self.handle(request)).catch_unwind();
        handled.await.unwrap_or_else(|_| {
            metrics::counter!("segue_handler_panics_total").increment(1);
            let detail = "the server broke down over this request";
            Problem::new(Code::Internal, detail).into_response()
        })
    }

    async fn handle(&self, request: Request) -> Response {
        if let Some(run) = append::target(&request) {
            return append::serve(&self.app, run, request).await.into_response();
        }
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
