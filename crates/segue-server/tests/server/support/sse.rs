//! A client of event streams.

use reqwest::{Client, Response, header::HeaderMap};
use serde_json::Value;

use super::HANG;

/// A block of an event stream, as it stands on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Block {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<String>,
    pub(crate) comments: Vec<String>,
}

impl Block {
    pub(crate) fn parse(text: &str) -> Self {
        assert!(!text.contains('\r'), "LF only: {text:?}");
        let mut block = Self::default();
        for line in text.lines() {
            match line.split_once(": ") {
                _ if line.starts_with(':') => block.comments.push(line[1..].trim().to_owned()),
                Some(("id", value)) => block.id = Some(value.to_owned()),
                Some(("event", value)) => block.event = Some(value.to_owned()),
                Some(("retry", value)) => block.retry = Some(value.to_owned()),
                Some(("data", value)) => {
                    assert_eq!(block.data, None, "an event is one line");
                    block.data = Some(value.to_owned());
                }
                _ => panic!("a line that is none of ours: {line:?}"),
            }
        }
        block
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().expect("data")).expect("data is JSON")
    }

    pub(crate) fn is_comment(&self) -> bool {
        self.data.is_none() && self.id.is_none()
    }
}

/// An open event stream.
pub(crate) struct Sse {
    response: Response,
    buffer: String,
    /// Blocks in the order of the wire, comments too.
    pub(crate) seen: Vec<Block>,
}

impl Sse {
    pub(crate) async fn open(client: &Client, url: &str, last_id: Option<&str>) -> Self {
        let request = client.get(url).header("accept", "text/event-stream");
        let request = match last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let response = tokio::time::timeout(HANG, request.send()).await.expect("no hang");
        Self::of(response.expect("an answer"))
    }

    pub(crate) fn of(response: Response) -> Self {
        Self { response, buffer: String::new(), seen: Vec::new() }
    }

    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name).map(|value| value.to_str().expect("ascii"))
    }

    /// The next block of any kind; `None` at the end.
    pub(crate) async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let text: String = self.buffer.drain(..end + 2).collect();
                let block = Block::parse(text.trim_end_matches('\n'));
                self.seen.push(block.clone());
                return Some(block);
            }
            let chunk = tokio::time::timeout(HANG, self.response.chunk()).await.expect("no hang");
            let chunk = chunk.expect("the stream ends cleanly")?;
            self.buffer.push_str(std::str::from_utf8(&chunk).expect("frames are whole"));
        }
    }

    /// The next block that carries data.
    pub(crate) async fn frame(&mut self) -> Option<Block> {
        loop {
            let block = self.block().await?;
            if block.data.is_some() {
                return Some(block);
            }
        }
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        Some(self.frame().await?.json())
    }

    /// The next `count` events.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.push(self.event().await.expect("the stream goes on"));
        }
        events
    }

    /// Everything to the end.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }
}
