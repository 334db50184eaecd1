//! A producer's inbox, as far as a producer of lines can use it: the stop.

use std::{future, time::Duration};

use reqwest::{Method, StatusCode, header::ACCEPT};
use segue_core::RunId;
use tokio::time::timeout;

use crate::{
    client::{Client, accepted},
    error::{ClientError, TransportError},
    retry::Retry,
    sse::{Decoder, Signal},
};

/// The most bytes of one frame.
const MAX_FRAME_BYTES: usize = 64 << 10;

/// Completes when somebody asks the run to stop; never if nobody does, and never if the server
/// has no inbox to offer. Acknowledgements tell of a stop as well: this is for a quiet input.
pub(super) async fn stop_requested(client: Client, run: RunId) {
    let mut retry = Retry::new(client.timing());
    loop {
        let failed = match listen(&client, &run).await {
            Ok(Heard::Stop) => return,
            Ok(Heard::Nothing) => None,
            Err(error) => retry.fail(error).ok(),
        };
        match failed {
            Some(wait) => tokio::time::sleep(wait.delay).await,
            None => future::pending().await,
        }
    }
}

enum Heard {
    Stop,
    /// The run has ended, or its inbox has.
    Nothing,
}

async fn listen(client: &Client, run: &RunId) -> Result<Heard, ClientError> {
    let idle = client.timing().idle;
    let request = client.request(Method::GET, &["v1", "runs", run.as_str(), "control"]);
    let sent = within(idle, request.header(ACCEPT, "text/event-stream").send()).await?;
    let mut response = accepted(sent).await?;
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(Heard::Nothing);
    }
    let mut decoder = Decoder::new(MAX_FRAME_BYTES);
    while let Some(chunk) = within(idle, response.chunk()).await? {
        decoder.feed(&chunk).map_err(|error| ClientError::Protocol(error.to_string()))?;
        while let Some(signal) = decoder.next_signal() {
            if matches!(signal, Signal::Frame(frame) if frame.event == "stop") {
                return Ok(Heard::Stop);
            }
        }
    }
    Err(TransportError::Cut.into())
}

async fn within<T>(
    idle: Duration,
    io: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, ClientError> {
    Ok(timeout(idle, io).await.map_err(|_| TransportError::Idle(idle))??)
}
