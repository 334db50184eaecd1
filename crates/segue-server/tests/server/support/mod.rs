//! A server to talk to, and clients to talk with.

pub(crate) mod raw;
pub(crate) mod sources;
pub(crate) mod sse;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use segue_engine::{Engine, EngineOptions, SCHEMA, Settings, SystemClock};
use segue_journal::{Journal, MemoryJournal, MemoryOptions, views::MemoryViews};
use segue_server::{Server, ServerOptions};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) use sse::Sse;

/// The token that the servers here accept.
pub(crate) const TOKEN: &str = "t0ken";

/// Far longer than anything takes; who waits for it has found a hang.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) client: Client,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    names: AtomicU64,
}

/// How to set one up.
pub(crate) struct Setup {
    pub(crate) options: ServerOptions,
    pub(crate) settings: Settings,
    pub(crate) run_cap: Option<usize>,
    /// In place of one in memory.
    pub(crate) journal: Option<Arc<dyn Journal>>,
}

impl Default for Setup {
    fn default() -> Self {
        let options = ServerOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            heartbeat: Duration::ZERO,
            drain: Duration::from_secs(1),
            fan_out_threads: 2,
            admin_token: Some(TOKEN.into()),
            ..ServerOptions::default()
        };
        let settings = Settings { grace: Duration::from_millis(50), ..Settings::default() };
        Self { options, settings, run_cap: None, journal: None }
    }
}

/// An answer that was read to its end.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {:?}", self.text))
    }

    /// The lines of an NDJSON answer.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ascii"))
    }

    /// Checks status and code of a problem document and gives it.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)));
        problem
    }
}

/// A server with the usual setup.
pub(crate) async fn host() -> Host {
    Host::start(Setup::default()).await
}

impl Host {
    pub(crate) async fn start(setup: Setup) -> Self {
        let clock = Arc::new(SystemClock);
        let memory = MemoryOptions { run_cap: setup.run_cap, ..MemoryOptions::new(clock.clone()) };
        let journal = setup.journal.unwrap_or_else(|| Arc::new(MemoryJournal::new(memory)));
        let engine = Engine::open(EngineOptions {
            journal,
            views: Arc::new(MemoryViews::new(SCHEMA).expect("the schema is right")),
            agents: sources::agents(),
            clock,
            entropy: Arc::new(|bytes| getrandom::fill(bytes).expect("the system has randomness")),
            settings: setup.settings,
        });
        let engine = engine.await.expect("an empty journal opens");
        Self::serve(engine, setup.options).await
    }

    /// Another server of the same engine, with the usual options.
    pub(crate) async fn beside(&self) -> Self {
        Self::serve(self.engine.clone(), Setup::default().options).await
    }

    async fn serve(engine: Engine, options: ServerOptions) -> Self {
        let server = Server::bind(options, engine.clone()).await.expect("port 0 is free");
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        #[expect(clippy::disallowed_methods, reason = "awaited by `Host::end`")]
        let running = tokio::spawn(server.run(shutdown));
        let (client, names) = (Client::new(), AtomicU64::new(0));
        Self { address, engine, client, stop: Some(stop), running, names }
    }

    /// Closes the server and waits until it is gone.
    pub(crate) async fn end(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(HANG, &mut self.running).await.expect("closes").expect("no panic");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        read(self.request(Method::GET, path).header("accept", "application/json")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        read(self.request(Method::POST, path).json(body)).await
    }

    /// Starts a run in a session of its own; gives its id.
    pub(crate) async fn run(&self, agent: &str) -> String {
        self.run_with(json!({"agent": agent})).await
    }

    pub(crate) async fn run_with(&self, body: Value) -> String {
        let session = format!("s{}", self.names.fetch_add(1, Ordering::Relaxed));
        let reply = self.post(&format!("/v1/sessions/{session}/runs"), &body).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn append(&self, run: &str, body: &Value) -> Reply {
        self.post(&format!("/v1/runs/{run}/events"), body).await
    }

    /// Appends text deltas `from..to`, each `"<n> "`, one by one.
    pub(crate) async fn append_texts(&self, run: &str, range: std::ops::Range<u64>) {
        for n in range {
            let reply = self.append(run, &text(&format!("{n} "))).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
    }

    /// Appends NDJSON with these headers.
    pub(crate) async fn lines(&self, run: &str, body: String, headers: &[(&str, &str)]) -> Reply {
        let path = format!("/v1/runs/{run}/events");
        let request = self.request(Method::POST, &path).body(body);
        let request = request.header("content-type", "application/x-ndjson");
        let with =
            |request: RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        read(headers.iter().fold(request, with)).await
    }

    pub(crate) async fn finish(&self, run: &str) {
        let reply = self.append(run, &json!({"type": "run.finished"})).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }

    /// The whole journal of a run, as it is now.
    pub(crate) async fn log(&self, run: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("/v1/runs/{run}/events?{after}")).await.json();
            let data = page["data"].as_array().expect("a list").clone();
            if data.is_empty() {
                return events;
            }
            events.extend(data);
            match page["next"].as_str() {
                Some(next) => after = format!("after={next}"),
                None => return events,
            }
        }
    }

    /// Attaches over SSE; `query` as in `?after=..` or empty.
    pub(crate) async fn attach(&self, run: &str, query: &str, last_id: Option<&str>) -> Sse {
        Sse::open(&self.client, &self.url(&format!("/v1/runs/{run}/events{query}")), last_id).await
    }

    /// How many clients the run's session counts.
    pub(crate) async fn clients(&self, run: &str) -> u64 {
        let view = self.get(&format!("/v1/runs/{run}")).await.json();
        let session = view["session_id"].as_str().expect("an id").to_owned();
        let view = self.get(&format!("/v1/sessions/{session}")).await.json();
        view["clients"].as_u64().expect("a number")
    }

    /// Waits until the run's session counts as many clients.
    pub(crate) async fn until_clients(&self, run: &str, count: u64) {
        let counted = async {
            while self.clients(run).await != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANG, counted).await.expect("the count is reached");
    }
}

pub(crate) async fn read(request: RequestBuilder) -> Reply {
    let response = tokio::time::timeout(HANG, request.send()).await.expect("no hang");
    let response = response.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = tokio::time::timeout(HANG, response.text()).await.expect("no hang");
    Reply { status, headers, text: text.expect("a whole body") }
}

/// A text delta of part `p`.
pub(crate) fn text(text: &str) -> Value {
    json!({"type": "text.delta", "part": "p", "text": text})
}

/// Text deltas `range` as NDJSON.
pub(crate) fn text_lines(range: std::ops::Range<u64>) -> String {
    let line = |n: u64| text(&format!("{n} ")).to_string() + "\n";
    range.map(line).collect()
}

/// The text deltas among events.
pub(crate) fn texts(events: &[Value]) -> Vec<String> {
    let deltas = events.iter().filter(|event| event["type"] == "text.delta");
    deltas.map(|event| event["text"].as_str().expect("text").to_owned()).collect()
}

/// The seqs of events.
pub(crate) fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().expect("a seq")).collect()
}
