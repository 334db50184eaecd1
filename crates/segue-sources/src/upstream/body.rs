//! A request, and the body of its answer.

use std::time::Duration;

use reqwest::{Response, header};
use segue_core::RunInput;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Answer, Fault, Reader, UpstreamLimits, UpstreamSource,
    fault::message_of,
    frames::{Frames, Framing},
    history,
};

/// How long what comes after the model's end, such as the usage, is waited for.
const AFTER_FINISH: Duration = Duration::from_secs(5);
/// How much of an error's body is read, in bytes.
const ERROR_BODY: usize = 64 << 10;

/// The body of an answer. Dropping it closes the connection.
pub(super) struct Body {
    response: Response,
    frames: Frames,
    reader: Box<dyn Reader>,
    /// When the first byte must have come; none once it has.
    first_byte: Option<Instant>,
}

impl UpstreamSource {
    /// Sends the request of a run and waits for the head of its answer.
    pub(super) async fn ask(&self, input: &RunInput) -> Result<Body, Fault> {
        let Self { spec, dialect, client } = self;
        let model = spec.model(&input.params);
        let body = |asked: &Value| dialect.body(model, spec.system.as_deref(), asked);
        // What cannot be said to this model any more must not be the end of the conversation.
        let body = body(&history::asked(input))
            .or_else(|why| history::asked_without_files(input).ok_or(why).and_then(|a| body(&a)))
            .map_err(|why| Fault::new("bad_input", why))?;
        let body = spec.with_params(body, &input.params);
        let url = spec.url(&dialect.path(model)).map_err(|_| Fault::unreachable())?;
        let wait = spec.limits.first_byte;
        let first_byte = Instant::now() + wait;
        let sent = timeout_at(first_byte, client.post(url).json(&body).send()).await;
        let sent = sent.map_err(|_| Fault::timeout(wait))?;
        let response =
            sent.map_err(
                |error| {
                    if error.is_connect() { Fault::unreachable() } else { Fault::cut() }
                },
            )?;
        if !response.status().is_success() {
            return Err(refusal(response, spec.limits.idle).await);
        }
        let media = response.headers().get(header::CONTENT_TYPE);
        let media = media.and_then(|media| media.to_str().ok());
        let framing = Framing::of(media, dialect.framing()).ok_or_else(|| {
            let media = media.unwrap_or_default();
            Fault::new("upstream_not_a_stream", format!("the upstream answered with {media:?}"))
        })?;
        let frames = Frames::new(framing, spec.limits.frame_bytes);
        Ok(Body { response, frames, reader: dialect.reader(), first_byte: Some(first_byte) })
    }
}

impl Body {
    /// Reads the next bytes into the answer. `true` when the answer is whole or the body over.
    pub(super) async fn read(
        &mut self,
        answer: &mut Answer,
        limits: &UpstreamLimits,
    ) -> Result<bool, Fault> {
        let chunk = self.chunk(answer.is_finished(), limits).await?;
        let is_over = chunk.is_none();
        self.frames.feed(&chunk.unwrap_or_default());
        while let Some(frame) = self.frames.next()? {
            self.reader.frame(&frame, answer)?;
            if answer.is_done() {
                break;
            }
        }
        if is_over && let Some(last) = self.frames.finish() {
            self.reader.frame(&last, answer)?;
        }
        let is_whole = is_over || answer.is_done();
        if is_whole {
            self.reader.finish(answer);
        }
        Ok(is_whole)
    }

    /// The next bytes, `None` at the end. Once the model has ended nothing is worth a failure: what
    /// is missing is only what is said about it.
    async fn chunk(
        &mut self,
        is_finished: bool,
        limits: &UpstreamLimits,
    ) -> Result<Option<bytes::Bytes>, Fault> {
        let idle = if is_finished { AFTER_FINISH.min(limits.idle) } else { limits.idle };
        let until = self.first_byte.unwrap_or_else(|| Instant::now() + idle);
        let waited = if self.first_byte.is_some() { limits.first_byte } else { idle };
        match timeout_at(until, self.response.chunk()).await {
            Ok(Ok(chunk)) => {
                self.first_byte = None;
                Ok(chunk)
            }
            Ok(Err(_)) | Err(_) if is_finished => Ok(None),
            Ok(Err(_)) => Err(Fault::cut()),
            Err(_) => Err(Fault::timeout(waited)),
        }
    }

    /// Nothing more is read: what was held back belongs to the answer all the same.
    pub(super) fn give_up(&mut self, answer: &mut Answer) {
        self.reader.finish(answer);
    }
}

/// What an answer that is no success says.
async fn refusal(mut response: Response, wait: Duration) -> Fault {
    let status = response.status();
    let after = response.headers().get(header::RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > ERROR_BODY {
                break;
            }
        }
    };
    // What did not come in time is left out of the message.
    drop(timeout(wait.min(AFTER_FINISH), read).await);
    let said: Option<Value> = serde_json::from_slice(&body).ok();
    let said = said.as_ref().and_then(|said| message_of(said.get(0).unwrap_or(said)));
    Fault::of_status(status, said, after.map(Duration::from_secs))
}
