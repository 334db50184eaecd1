//! Typed calls.

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect::Policy,
};
use segue_core::{Cursor, RunId, SessionId, fold::Message};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::{
        Agent, Appended, Found, List, MessageFilter, Run, RunFilter, SearchFilter, Session,
        StartRun, Stopped, Wait,
    },
    attach::Attachment,
    error::{ClientError, Problem},
    produce::{Identity, Producer},
    timing::Timing,
};

/// The most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A server to talk to. Cheap to clone; clones share their idle connections.
///
/// Talks HTTP/1.1 without TLS, follows no redirects and asks no proxy.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    timing: Timing,
}

impl Client {
    /// A client of the server at `base_url`, such as `http://127.0.0.1:7878`, that shows `token`
    /// with each request.
    ///
    /// [`ClientError::Unusable`] if the URL is not an `http:` one or the token cannot stand in a
    /// header.
    pub fn new(base_url: &str, token: Option<String>) -> Result<Self, ClientError> {
        let base = Url::parse(base_url)
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host())
            .ok_or_else(|| {
                ClientError::Unusable(format!("{base_url:?} is not a URL of the form http://HOST"))
            })?;
        let http = reqwest::Client::builder()
            .default_headers(token_headers(token)?)
            .redirect(Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { http, base, timing: Timing::default() })
    }

    /// The same client with other waits.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// The server's base URL.
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Starts a run in a session, which is created if it does not exist.
    ///
    /// Sent once: an answer that is lost leaves open whether the run exists, unless the start
    /// has a [`run_id`](StartRun::run_id), with which the same start may be sent again.
    pub async fn start(&self, session: &SessionId, start: &StartRun) -> Result<Run, ClientError> {
        let path = ["v1", "sessions", session.as_str(), "runs"];
        self.call(self.post_json(&path, start)).await
    }

    /// A run. A problem with status 404 if there is none of this id.
    pub async fn run(&self, run: &RunId) -> Result<Run, ClientError> {
        self.call(self.request(Method::GET, &["v1", "runs", run.as_str()])).await
    }

    /// A page of the runs that pass `filter`.
    pub async fn runs(&self, filter: &RunFilter) -> Result<List<Run>, ClientError> {
        let request = self.request(Method::GET, &["v1", "runs"]);
        self.call(request.query(filter)).await
    }

    /// A page of the sessions, which begins where [`List::next`] says.
    pub async fn sessions(&self, after: Option<&str>) -> Result<List<Session>, ClientError> {
        let request = self.request(Method::GET, &["v1", "sessions"]);
        self.call(request.query(&after.map(|after| ("after", after)).as_slice())).await
    }

    /// A page of the messages of a session, in its order.
    pub async fn messages(
        &self,
        session: &SessionId,
        filter: &MessageFilter,
    ) -> Result<List<Message>, ClientError> {
        let path = ["v1", "sessions", session.as_str(), "messages"];
        self.call(self.request(Method::GET, &path).query(filter)).await
    }

    /// A page of the messages that say something, the newest first.
    pub async fn search(&self, filter: &SearchFilter) -> Result<List<Found>, ClientError> {
        self.call(self.request(Method::GET, &["v1", "search"]).query(filter)).await
    }

    /// The agents that runs can be started from.
    pub async fn agents(&self) -> Result<List<Agent>, ClientError> {
        self.call(self.request(Method::GET, &["v1", "agents"])).await
    }

    /// Stops a run. Idempotent.
    pub async fn stop(&self, run: &RunId, wait: Wait) -> Result<Stopped, ClientError> {
        let path = ["v1", "runs", run.as_str(), "stop"];
        self.call(self.post_json(&path, &wait.to_body())).await
    }

    /// Appends an event (an object) or several as one atomic batch (an array) to a push run.
    ///
    /// With `producer`, an identity and the batch's `Producer-Seq`, a second request of the same
    /// seq is answered as the first was and appends nothing.
    pub async fn append(
        &self,
        run: &RunId,
        events: &(impl Serialize + ?Sized),
        producer: Option<(&Identity, u64)>,
    ) -> Result<Appended, ClientError> {
        let request = self.post_json(&["v1", "runs", run.as_str(), "events"], events);
        self.call(match producer {
            Some((identity, seq)) => request.headers(identity.headers(seq)),
            None => request,
        })
        .await
    }

    /// Whether the server says that it is ready. An unreachable one is not.
    pub async fn is_ready(&self) -> bool {
        let request = self.request(Method::GET, &["readyz"]).timeout(self.timing.call);
        request.send().await.is_ok_and(|response| response.status().is_success())
    }

    /// Follows a run from the event after `after`, or from its first.
    pub fn attach(&self, run: RunId, after: Option<Cursor>) -> Attachment {
        Attachment::new(self.clone(), run, after)
    }

    /// Follows a run from a snapshot of it: first [`Attached::Snapshot`](crate::Attached), then the
    /// events after it.
    pub fn attach_from_snapshot(&self, run: RunId) -> Attachment {
        Attachment::from_snapshot(self.clone(), run)
    }

    /// Pushes `lines`, each one event's JSON without a line break, into a push run.
    pub fn produce<S>(&self, run: RunId, identity: Identity, lines: S) -> Producer
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        Producer::new(self.clone(), run, identity, lines)
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    pub(crate) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // An `http:` URL always has segments; ids need no escaping.
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    fn post_json(&self, path: &[&str], body: &(impl Serialize + ?Sized)) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = accepted(request.timeout(self.timing.call).send().await?).await?;
        let body = read_body(response).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Protocol(format!("an answer cannot be read: {error}")))
    }
}

fn token_headers(token: Option<String>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| ClientError::Unusable("the token cannot stand in a header".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Passes an answer of 2xx on and turns any other into its problem.
pub(crate) async fn accepted(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    Err(Problem::from_body(status, &read_body(response).await?).into())
}

/// Whether an answer is of this media type, whatever its parameters.
pub(crate) fn is_of_type(response: &Response, media_type: &str) -> bool {
    let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = header.and_then(|text| text.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(media_type)
}

async fn read_body(mut response: Response) -> Result<Bytes, ClientError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ClientError::Protocol(format!(
                "an answer has more than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        for bad in ["", "127.0.0.1:7878", "https://h", "file:///x", "http://"] {
            let error = Client::new(bad, None).expect_err(bad);
            assert!(matches!(error, ClientError::Unusable(_)), "{bad}: {error}");
        }
        let client = Client::new("http://h:1/", None).unwrap();
        assert_eq!(client.base_url(), "http://h:1");
    }

    #[test]
    fn a_path_is_put_behind_the_base() {
        for (base, expect) in [
            ("http://h:1", "http://h:1/v1/runs/r.1"),
            ("http://h:1/", "http://h:1/v1/runs/r.1"),
            ("http://h:1/segue", "http://h:1/segue/v1/runs/r.1"),
        ] {
            let request = Client::new(base, None)
                .unwrap()
                .request(Method::GET, &["v1", "runs", "r.1"])
                .build()
                .unwrap();
            assert_eq!(request.url().as_str(), expect);
        }
    }

    #[test]
    fn a_token_is_not_shown_by_debug() {
        let client = Client::new("http://h", Some("secret-token".to_owned())).unwrap();
        assert!(!format!("{client:?}").contains("secret-token"));
        let error = Client::new("http://h", Some("a\nb".to_owned())).expect_err("line break");
        assert!(matches!(error, ClientError::Unusable(_)));
    }
}
