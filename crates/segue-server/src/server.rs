//! A server: bound, then run.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use segue_core::limits;
use segue_engine::Engine;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Numbers},
    auth::Gate,
    conn::{Activity, Connections, Limits},
    fan_out::FanOut,
    metrics,
    routes::Front,
};

/// How a server is set up. Of the numbers, zero means none.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where to listen; port 0 picks a free one. Loopback only.
    pub listen: SocketAddr,
    /// The silence after which a stream gives a sign of life.
    pub heartbeat: Duration,
    /// The longest life of an event stream: it then ends cleanly, and its client comes back with
    /// its cursor. Looked at with each heartbeat.
    pub stream_age: Duration,
    /// How long a browser is told to wait before it comes back.
    pub retry: Duration,
    /// A connection is cut when the kernel takes no byte of a pending write for as long.
    pub write_deadline: Duration,
    /// The longest the head of a request may take.
    pub head_deadline: Duration,
    /// How long what is under way may go on once the server closes.
    pub drain: Duration,
    /// The most bytes of a request's body; of NDJSON each line is bounded instead, by the
    /// engine's cap on events.
    pub body_bytes: usize,
    /// The most connections at a time.
    pub connections: usize,
    /// Threads that write to clients; zero takes half of the cores, at least one.
    pub fan_out_threads: usize,
    /// Hosts that are let in beside loopback's names, with or without a port.
    pub allowed_hosts: Vec<String>,
    /// Origins that are let in beside the server's own, as browsers write them.
    pub allowed_origins: Vec<String>,
    /// How long an ended run is still replayed where a protocol resumes without a cursor.
    pub replay_grace: Duration,
    /// The path of the AI SDK's routes: begins with `/` and does not end with it.
    pub ai_sdk_prefix: String,
    /// The path of `OpenAI`'s routes, which its clients have as their base URL: begins with `/` and
    /// does not end with it.
    pub openai_prefix: String,
    /// What gives the admin scope. Without one nobody has it.
    pub admin_token: Option<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7878),
            heartbeat: Duration::from_secs(5),
            stream_age: Duration::ZERO,
            retry: Duration::from_secs(2),
            write_deadline: Duration::from_secs(20),
            head_deadline: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            body_bytes: limits::BODY_BYTES,
            connections: 16_384,
            fan_out_threads: 0,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            replay_grace: Duration::from_mins(3),
            ai_sdk_prefix: "/api/chat".to_owned(),
            openai_prefix: "/openai/v1".to_owned(),
            admin_token: None,
        }
    }
}

/// Why a server could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Anything but loopback needs authentication, which there is none of.
    #[error("{0} is not loopback: without authentication the server listens on loopback only")]
    NotLoopback(SocketAddr),
    /// The system refused the address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused a fan-out thread.
    #[error("cannot start the fan-out threads: {0}")]
    Threads(io::Error),
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    connections: Connections,
}

/// Sooner than any deadline of a request.
const NEAR: Duration = Duration::from_secs(1);

impl Server {
    /// Binds the address; clients can connect from here on, and are served once it runs.
    ///
    /// Must be called in the tokio runtime that serves requests, with a running engine.
    pub async fn bind(options: ServerOptions, engine: Engine) -> Result<Self, BindError> {
        let address = options.listen;
        if !address.ip().is_loopback() {
            return Err(BindError::NotLoopback(address));
        }
        let failed = |error| BindError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        metrics::install();
        let threads = fan_out_threads(options.fan_out_threads);
        let fan_out = FanOut::start(threads, || engine.shard()).map_err(BindError::Threads)?;
        Ok(Self { listener, address, connections: connections(options, engine, fan_out) })
    }

    /// Where it listens, the port that was picked included.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Who is connected, now and later.
    pub fn activity(&self) -> Activity {
        self.connections.activity.clone()
    }

    /// Serves until `shutdown` completes, then ends: no new connections, streams end cleanly,
    /// what is under way has `drain` to finish.
    ///
    /// Let `shutdown` be the engine's shutdown after the signal: while it goes on, clients get
    /// the terminals of their runs and new attaches are told to come back.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, connections, .. } = self;
        let fan_out = Arc::clone(&connections.fan_out);
        // Also where this future is dropped half-way.
        let closing = connections.closing.clone().drop_guard();
        fan_out.spawn_home(keep_a_timer_near(connections.closing.clone()));
        fan_out.spawn_home(connections.accept(listener));
        shutdown.await;
        drop(closing);
        fan_out.drained().await;
    }
}

/// Keeps a timer that is due sooner than those of requests. A timer that is due before all others
/// costs a wake of the thread that waits for sockets: without this one, one a request.
async fn keep_a_timer_near(closing: CancellationToken) {
    while closing.run_until_cancelled(sleep(NEAR)).await.is_some() {}
}

fn fan_out_threads(wanted: usize) -> usize {
    if wanted > 0 {
        return wanted;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

fn connections(options: ServerOptions, engine: Engine, fan_out: Arc<FanOut>) -> Connections {
    let closing = CancellationToken::new();
    let numbers = Numbers {
        heartbeat: options.heartbeat,
        stream_age: options.stream_age,
        retry: options.retry,
        body_bytes: or_none(options.body_bytes),
        replay_grace: options.replay_grace,
        ai_sdk_prefix: options.ai_sdk_prefix,
        openai_prefix: options.openai_prefix,
    };
    let limits = Limits {
        connections: or_none(options.connections).min(tokio::sync::Semaphore::MAX_PERMITS),
        write_deadline: or_never(options.write_deadline),
        head_deadline: or_never(options.head_deadline),
        drain: options.drain,
    };
    let gate = Gate { hosts: options.allowed_hosts, origins: options.allowed_origins };
    let app = App::new(engine, fan_out.clone(), numbers, options.admin_token, closing.clone());
    let front = Arc::new(Front::new(app, gate));
    Connections { front, fan_out, limits, closing, activity: Activity::default() }
}

fn or_none(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// Ten years, which timers can still hold.
fn or_never(limit: Duration) -> Duration {
    if limit.is_zero() { Duration::from_hours(10 * 365 * 24) } else { limit }
}
