//! What handlers work with.

use std::{sync::Arc, time::Duration};

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use segue_core::{RunId, TenantId};
use segue_engine::Engine;
use segue_journal::Shard;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    auth::Principal,
    clients::{Client, Clients},
    error::Problem,
    fan_out::FanOut,
};

/// The state of the router. A cheap clone.
///
/// It gives nothing away but through a [`Call`], which exists only for a known principal.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

/// The numbers that handlers need.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    /// The silence after which a stream gives a sign of life.
    pub(crate) heartbeat: Duration,
    /// The longest life of a stream.
    pub(crate) stream_age: Duration,
    /// How long a browser is told to wait before it comes back.
    pub(crate) retry: Duration,
    /// The most bytes of a request's body.
    pub(crate) body_bytes: usize,
    /// How long an ended run is still replayed where a protocol resumes without a cursor.
    pub(crate) replay_grace: Duration,
    /// Where the AI SDK's routes are.
    pub(crate) ai_sdk_prefix: String,
    /// Where `OpenAI`'s routes are.
    pub(crate) openai_prefix: String,
}

struct Shared {
    engine: Engine,
    fan_out: Arc<FanOut>,
    clients: Clients,
    numbers: Numbers,
    admin_token: Option<String>,
    closing: CancellationToken,
}

impl App {
    pub(crate) fn new(
        engine: Engine,
        fan_out: Arc<FanOut>,
        numbers: Numbers,
        admin_token: Option<String>,
        closing: CancellationToken,
    ) -> Self {
        let clients = Clients::default();
        Self(Arc::new(Shared { engine, fan_out, clients, numbers, admin_token, closing }))
    }

    pub(crate) fn admin_token(&self) -> Option<&str> {
        self.0.admin_token.as_deref()
    }

    /// Where the AI SDK's routes are.
    pub(crate) fn ai_sdk_prefix(&self) -> &str {
        &self.0.numbers.ai_sdk_prefix
    }

    /// Where `OpenAI`'s routes are.
    pub(crate) fn openai_prefix(&self) -> &str {
        &self.0.numbers.openai_prefix
    }

    /// The most bytes of a request's body.
    pub(crate) fn body_bytes(&self) -> usize {
        self.0.numbers.body_bytes
    }
}

/// A request whose principal is known: the only way to the engine (S1). A handler that does not
/// take one has nothing to answer with.
#[derive(Clone)]
pub(crate) struct Call {
    app: App,
    pub(crate) principal: Principal,
}

impl Call {
    /// The call of who sent these headers.
    pub(crate) fn of(app: &App, headers: &HeaderMap) -> Result<Self, Problem> {
        let principal = Principal::of(headers, app.admin_token())?;
        Ok(Self { app: app.clone(), principal })
    }

    /// The call of who sent these headers, for protocols whose clients send tokens of others.
    pub(crate) fn of_any(app: &App, headers: &HeaderMap) -> Self {
        let principal = Principal::of_any(headers, app.admin_token());
        Self { app: app.clone(), principal }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.app.0.engine
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        &self.principal.tenant
    }

    pub(crate) fn numbers(&self) -> &Numbers {
        &self.app.0.numbers
    }

    /// Where the AI SDK's routes are.
    pub(crate) fn ai_sdk_prefix(&self) -> &str {
        self.app.ai_sdk_prefix()
    }

    /// Where `OpenAI`'s routes are.
    pub(crate) fn openai_prefix(&self) -> &str {
        self.app.openai_prefix()
    }

    /// Moves the request to a fan-out thread and gives its shard.
    pub(crate) async fn board(&self) -> Shard {
        self.app.0.fan_out.board().await
    }

    /// Starts a task that outlives the request but not the server.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.app.0.fan_out.spawn_home(task);
    }

    /// Counts the caller as a client of a run.
    pub(crate) fn enter(&self, run: &RunId) -> Client {
        self.app.0.clients.enter(self.tenant(), run)
    }

    /// How many clients are attached to these runs.
    pub(crate) fn clients(&self, runs: &[RunId]) -> u64 {
        runs.iter().map(|run| self.app.0.clients.of(self.tenant(), run)).sum()
    }

    /// Completes when the server closes.
    pub(crate) fn closing(&self) -> WaitForCancellationFutureOwned {
        self.app.0.closing.clone().cancelled_owned()
    }
}

impl FromRequestParts<App> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Self::of(app, &parts.headers)
    }
}
