//! A run that is bound to the response that started it: the one exception to "clients have no
//! power over a run by their presence". The engine knows a stop, and nothing of this.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use segue_core::{RunId, StopReason};
use segue_engine::StopRequest;

use crate::app::Call;

/// Stops a run when it is dropped, on every path. A run that has ended is not changed by that.
pub(crate) struct Bound {
    call: Call,
    run: RunId,
}

impl Bound {
    pub(crate) fn new(call: &Call, run: &RunId) -> Self {
        Self { call: call.clone(), run: run.clone() }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let (call, run) = (self.call.clone(), self.run.clone());
        self.call.spawn(async move { stop(&call, &run).await });
    }
}

async fn stop(call: &Call, run: &RunId) {
    let request = StopRequest { reason: StopReason::Disconnected, by: None, wait: None };
    match call.engine().stop_run(call.tenant(), run, request).await {
        Ok(stopped) if stopped.stopped => {
            metrics::counter!("segue_bound_runs_stopped_total").increment(1);
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%run, %error, "a bound run could not be stopped"),
    }
}

/// The body of the response that a run is bound to.
pub(crate) struct Guarded {
    body: Body,
    _bound: Bound,
}

impl Guarded {
    pub(crate) fn new(body: Body, bound: Bound) -> Self {
        Self { body, _bound: bound }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
