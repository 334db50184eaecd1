//! Sessions from one server to another.

use std::path::Path;

use bytes::Bytes;
use futures_core::Stream;
use reqwest::{Body, Method, Response, header::CONTENT_TYPE};
use segue_core::SessionId;
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::Session,
    client::{Client, accepted},
    error::ClientError,
};

/// An export as it comes.
#[derive(Debug)]
pub struct Export(Response);

impl Export {
    /// The next bytes of it; `None` at its end. [`ClientError::Transport`] if it broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        Ok(self.0.chunk().await?)
    }
}

impl Client {
    /// Begins to export a session with its runs, as NDJSON. Needs the admin scope.
    pub async fn export(&self, session: &SessionId) -> Result<Export, ClientError> {
        let path = ["v1", "sessions", session.as_str(), "export"];
        Ok(Export(accepted(self.request(Method::GET, &path).send().await?).await?))
    }

    /// Makes the server copy everything into a new folder of its own, given from the root. Gives the
    /// bytes. Needs the admin scope.
    pub async fn backup(&self, to: &Path) -> Result<u64, ClientError> {
        #[derive(Deserialize)]
        struct Backed {
            bytes: u64,
        }
        let request = self.request(Method::POST, &["v1", "backup"]);
        let response = request.json(&json!({"to": to})).send().await?;
        let Backed { bytes } = accepted(response).await?.json().await?;
        Ok(bytes)
    }

    /// Imports what an export gave, whole or not at all. Needs the admin scope.
    pub async fn import<E: std::error::Error + Send + Sync + 'static>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Session, ClientError> {
        let request = self.request(Method::POST, &["v1", "import"]);
        let request = request.header(CONTENT_TYPE, "application/x-ndjson");
        let request = request.body(Body::wrap_stream(body));
        Ok(accepted(request.send().await?).await?.json().await?)
    }
}
