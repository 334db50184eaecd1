//! Where the server is now, and plain requests to it.

use std::{io, net::SocketAddr};

use crate::live::{Answer, Conn, Live, http::request};

/// A server that may be killed at any time.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) address: SocketAddr,
    token: String,
}

impl Site {
    pub(super) fn of(live: &Live) -> Self {
        Self { address: live.address, token: format!("Bearer {}", live.token) }
    }

    pub(super) async fn connect(&self) -> io::Result<Conn> {
        Conn::open(self.address).await
    }

    pub(super) async fn get(&self, path: &str, accept: &str) -> io::Result<Answer> {
        let request = request("GET", path, &[("accept", accept)], b"");
        self.connect().await?.call(&request).await
    }

    /// A deletion, with the token of the admin scope.
    pub(super) async fn delete(&self, path: &str) -> io::Result<Answer> {
        let request = request("DELETE", path, &[("authorization", &*self.token)], b"");
        self.connect().await?.call(&request).await
    }

    /// A request with a JSON body and the token of the admin scope.
    pub(super) async fn post(&self, path: &str, body: &serde_json::Value) -> io::Result<Answer> {
        self.post_with(path, body, &[]).await
    }

    /// The same with more headers.
    pub(super) async fn post_with(
        &self,
        path: &str,
        body: &serde_json::Value,
        more: &[(&str, &str)],
    ) -> io::Result<Answer> {
        let own = [("content-type", "application/json"), ("authorization", &*self.token)];
        let headers = [&own, more].concat();
        let request = request("POST", path, &headers, body.to_string().as_bytes());
        self.connect().await?.call(&request).await
    }
}

/// Why an actor stopped before its plan was done.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection broke. Right after the kill, wrong before.
    Gone(io::Error),
    /// The server said what it must not say.
    Wrong(anyhow::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Wrong(error)
    }
}

/// An answer that must have this status.
pub(super) fn expect(answer: Answer, status: u16, what: &str) -> Result<Answer, Fault> {
    if answer.status() == status {
        return Ok(answer);
    }
    let (got, body) = (answer.status(), answer.text());
    Err(Fault::Wrong(anyhow::anyhow!("{what}: expected {status}, got {got}: {body}")))
}
