//! One request of a producer: lines go up while acknowledgements come down.

use std::{convert::Infallible, future::Future, pin::Pin};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::{Body, Method, Response, header::CONTENT_TYPE};
use segue_core::RunId;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::Identity;
use crate::{
    client::{Client, accepted},
    error::{ClientError, Problem},
    lines::Lines,
};

/// Batches between the outbox and the socket.
const QUEUED_BATCHES: usize = 2;
/// The longest line of an answer.
const MAX_REPLY_BYTES: usize = 64 << 10;

/// What the server says while it takes lines.
#[derive(Debug)]
pub(super) enum Reply {
    Acked(Ack),
    /// A line that it does not take. Nothing after it was looked at.
    Refused {
        line: u64,
        problem: Problem,
    },
    /// The answer is complete.
    End,
}

/// One acknowledgement, of all lines up to `acked_seq`.
#[derive(Debug, Deserialize)]
pub(super) struct Ack {
    #[serde(default)]
    pub(super) acked_seq: Option<u64>,
    #[serde(default)]
    pub(super) last_seq: Option<u64>,
    #[serde(default)]
    pub(super) duplicate: bool,
    #[serde(default)]
    pub(super) stop_requested: bool,
}

/// A request whose body is still being written.
pub(super) struct Connection {
    pub(super) upload: Upload,
    pub(super) answer: Answer,
}

impl Connection {
    /// Begins a request whose first line has number `seq`.
    pub(super) fn open(client: &Client, run: &RunId, identity: &Identity, seq: u64) -> Self {
        let (upload, mut batches) = mpsc::channel::<Bytes>(QUEUED_BATCHES);
        let batches = stream::poll_fn(move |cx| batches.poll_recv(cx));
        let request = client
            .request(Method::POST, &["v1", "runs", run.as_str(), "events"])
            .headers(identity.headers(seq))
            .header(CONTENT_TYPE, "application/x-ndjson")
            .body(Body::wrap_stream(batches.map(Ok::<_, Infallible>)));
        let head = async move { accepted(request.send().await?).await };
        Self { upload: Upload(Some(upload)), answer: Answer::Awaited(Box::pin(head)) }
    }
}

/// The way up. Closed by the end of the input, or by the server.
pub(super) struct Upload(Option<mpsc::Sender<Bytes>>);

impl Upload {
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Ends the body after what was sent.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    /// Waits for room. Never ready once closed; closes if the server took its end away, whose
    /// reason then comes as the answer. Cancel safe.
    pub(super) async fn ready(&mut self) {
        match &self.0 {
            Some(sender) if sender.reserve().await.is_ok() => {}
            _ => {
                self.close();
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends if there is room. This is the only sender: after [`ready`](Self::ready) there is.
    pub(super) fn send(&mut self, batch: Bytes) -> bool {
        self.0.as_ref().is_some_and(|sender| sender.try_send(batch).is_ok())
    }
}

/// The way down.
pub(super) enum Answer {
    /// The head has not come.
    Awaited(Pin<Box<dyn Future<Output = Result<Response, ClientError>> + Send>>),
    /// Lines come.
    Coming(Box<(Response, Lines)>),
}

impl Answer {
    /// The next thing the server says. Cancel safe.
    pub(super) async fn reply(&mut self) -> Result<Reply, ClientError> {
        loop {
            match self {
                Self::Awaited(head) => {
                    let response = head.await?;
                    *self = Self::Coming(Box::new((response, Lines::new(MAX_REPLY_BYTES))));
                }
                Self::Coming(coming) => {
                    let (response, lines) = &mut **coming;
                    while let Some(line) = lines.next_line().map_err(broken)? {
                        if !line.trim_ascii().is_empty() {
                            return read_reply(&line);
                        }
                    }
                    match response.chunk().await? {
                        Some(chunk) => lines.feed(&chunk),
                        None => return Ok(Reply::End),
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: Problem,
    #[serde(default)]
    line: u64,
}

fn read_reply(line: &[u8]) -> Result<Reply, ClientError> {
    let fields: Map<String, Value> = serde_json::from_slice(line).map_err(broken)?;
    let refused = fields.contains_key("error");
    let fields = Value::Object(fields);
    if refused {
        let Refusal { error, line } = serde_json::from_value(fields).map_err(broken)?;
        return Ok(Reply::Refused { line, problem: error });
    }
    serde_json::from_value(fields).map(Reply::Acked).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Protocol(format!("an acknowledgement cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart() {
        let reply = |text: &str| read_reply(text.as_bytes());
        let ack = reply(r#"{"first_seq":2,"last_seq":5,"stop_requested":true,"acked_seq":3}"#);
        let Ok(Reply::Acked(ack)) = ack else { panic!("{ack:?}") };
        assert_eq!((ack.acked_seq, ack.last_seq), (Some(3), Some(5)));
        assert!(ack.stop_requested && !ack.duplicate);
        let refused = reply(r#"{"error":{"code":"bad_type","status":400,"title":"t"},"line":7}"#);
        let Ok(Reply::Refused { line, problem }) = refused else { panic!("{refused:?}") };
        assert_eq!((line, problem.code.as_str()), (7, "bad_type"));
        for bad in ["[]", "1", "{", "{\"acked_seq\":-1}"] {
            assert!(matches!(reply(bad), Err(ClientError::Protocol(_))), "{bad}");
        }
    }
}
