//! One connection.

use std::{convert::Infallible, pin::pin, sync::Arc};

use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Limits, Open, deadline::Deadline};
use crate::{body::BUDGET, fan_out::Streams, routes::Front};

/// The most streams of one HTTP/2 connection.
const H2_STREAMS: u32 = 1_000;

/// The window that a peer may fill before it has to wait for us to read, in bytes.
const H2_WINDOW: u32 = 1 << 20;

/// What a connection needs to be served.
pub(super) struct Connection {
    pub(super) front: Arc<Front>,
    pub(super) streams: Streams,
    pub(super) limits: Limits,
    pub(super) closing: CancellationToken,
    pub(super) _open: Open,
}

impl Connection {
    /// Serves the socket until the client leaves, or the server closes and `drain` is over.
    pub(super) async fn serve(self, socket: TcpStream) {
        let io = Deadline::new(TokioIo::new(socket), self.limits.write_deadline);
        let front = Arc::clone(&self.front);
        let service = service_fn(move |request| answer(Arc::clone(&front), request));
        let builder = self.builder();
        let mut connection = pin!(builder.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.closing.cancelled() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(self.limits.drain, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            // Clients leave in the middle all the time; it is their right.
            tracing::debug!(%error, "a connection ended early");
        }
    }

    fn builder(&self) -> Builder<Streams> {
        let mut builder = Builder::new(self.streams.clone());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_deadline)
            .max_buf_size(BUDGET);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS)
            .initial_stream_window_size(H2_WINDOW)
            .initial_connection_window_size(4 * H2_WINDOW)
            .max_send_buf_size(BUDGET)
            .keep_alive_interval(self.limits.write_deadline)
            .keep_alive_timeout(self.limits.write_deadline);
        builder
    }
}

async fn answer(
    front: Arc<Front>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    Ok(front.answer(request.map(Body::new)).await)
}
