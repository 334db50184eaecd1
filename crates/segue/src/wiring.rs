//! Where the crates are put together: configuration in, a running server out.

use std::{
    ffi::OsString, fs, future::Future, net::SocketAddr, os::fd::OwnedFd, path::Path, pin::pin,
    process::ExitCode, sync::Arc, time::Duration,
};

use anyhow::Context;
use segue_core::{AgentName, Source};
use segue_engine::{
    Agents, BuildSource, Engine, EngineOptions, Inline, InlineError, SCHEMA, Settings, SystemClock,
    rebuild,
};
use segue_journal::{
    Journal, MemoryJournal, MemoryOptions,
    disk::RealDisk,
    log::{self, Log, LogOptions},
    views::{MemoryViews, SqliteViews, ViewStore},
};
use segue_server::{Server, ServerOptions};
use segue_sources::{
    ProcessSource, PushSource, ReplaySource, UpstreamSource,
    process::{self, ProcessLimits, ProcessSpec},
    replay::Recording,
};
use serde_json::{Value, json};

use crate::{
    config::{AgentConfig, Config, Durability, SourceConfig},
    idle::{self, Idle},
};

/// The name under which this binary is called as the guard of a process.
pub(crate) const GUARD: &str = "__guard";

/// What a failed journal ends the process with: `EX_IOERR`.
const JOURNAL_FAILED: i32 = 74;

/// Runs a server until `stop` completes, then shuts it down in order.
///
/// With `idle` it also stops by itself, and then gives the lock that the process has to keep to
/// its end. `ready` is called once, when the server answers, with the address it listens on.
pub(crate) async fn serve(
    config: Config,
    admin_token: String,
    ready: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
    stop: impl Future<Output = ()> + Send,
    idle: Option<Idle>,
) -> anyhow::Result<Option<OwnedFd>> {
    segue_server::install_metrics();
    let (journal, views, _lock) = storage(&config)?;
    let options = EngineOptions {
        journal,
        views,
        agents: agents(&config)?,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(|out| getrandom::fill(out).expect("the system has randomness")),
        settings: Settings {
            session_bytes: config.session_bytes,
            retain: config.retain,
            ..Settings::default()
        },
    };
    let mut stop = pin!(stop);
    let engine = tokio::select! {
        engine = Engine::open(options) => engine?,
        // Recovery may be long; what it has not done the next start does.
        () = &mut stop => return Ok(None),
    };
    let server = Server::bind(server_options(&config, admin_token), engine.clone()).await?;
    ready(server.local_addr())?;
    let activity = server.activity();
    let mut lock = None;
    let shutdown = async {
        tokio::select! {
            () = stop => {}
            held = idle::stop(idle, &engine, &activity) => lock = Some(held),
        }
        let report = engine.shutdown(config.shutdown).await;
        tracing::info!(left_running = report.left_running, "the engine is down");
    };
    server.run(shutdown).await;
    Ok(lock)
}

/// Where streams and views are kept, and the lock of a folder that the journal does not lock.
type Storage = (Arc<dyn Journal>, Arc<dyn ViewStore>, Option<fs::File>);

fn storage(config: &Config) -> anyhow::Result<Storage> {
    let clock = Arc::new(SystemClock);
    let durability = match config.durability {
        Durability::Disk => log::Durability::Disk,
        Durability::Os => log::Durability::Os,
        Durability::Memory => {
            let options = MemoryOptions::new(clock);
            let options = MemoryOptions { frame_bytes: config.cache_bytes, ..options };
            let journal = Arc::new(MemoryJournal::new(options));
            let lock = lock_folder(&config.data)?;
            return Ok((journal, Arc::new(MemoryViews::new(SCHEMA)?), Some(lock)));
        }
    };
    let journal = Log::open(LogOptions {
        durability,
        segment_bytes: config.segment_bytes,
        hot_bytes: config.hot_bytes,
        frame_bytes: config.cache_bytes,
        ..log_options(&config.data)
    })?;
    let views = SqliteViews::open(&config.data.join("views.db"), SCHEMA)?;
    Ok((journal, Arc::new(views), None))
}

/// One process a data folder, also when it keeps nothing there but its address and token.
fn lock_folder(data: &Path) -> anyhow::Result<fs::File> {
    let lock = fs::File::create(data.join("LOCK"))?;
    let refused = || format!("the data folder {} is in use by another process", data.display());
    lock.try_lock().with_context(refused)?;
    Ok(lock)
}

fn log_options(data: &Path) -> LogOptions {
    // Nothing may be acknowledged after a failed sync: recovery at the next start decides what
    // is there (J5).
    let fatal = Arc::new(|why: &str| {
        tracing::error!(why, "the journal failed, the process ends");
        std::process::exit(JOURNAL_FAILED);
    });
    LogOptions::new(data.to_owned(), Arc::new(SystemClock), fatal)
}

fn server_options(config: &Config, admin_token: String) -> ServerOptions {
    ServerOptions {
        listen: config.listen,
        heartbeat: config.heartbeat,
        stream_age: config.stream_age,
        write_deadline: config.write_deadline,
        replay_grace: config.replay_grace,
        ai_sdk_prefix: config.ai_sdk_prefix.clone(),
        openai_prefix: config.openai_prefix.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        allowed_origins: config.allowed_origins.clone(),
        admin_token: Some(admin_token),
        ..ServerOptions::default()
    }
}

/// The built-in agents, the configured ones, and the kinds of source a request may bring.
fn agents(config: &Config) -> anyhow::Result<Agents> {
    let built_in = |name| AgentName::parse(name).expect("built-in names are well-formed");
    let mut agents = Agents::default().with(built_in("push"), "push", Arc::new(PushSource)).with(
        built_in("demo"),
        "replay",
        Arc::new(ReplaySource::demo()),
    );
    for AgentConfig { name, source } in &config.agents {
        let (kind, source) = configured(source).with_context(|| format!("agents.{name}"))?;
        agents = agents.with(name.clone(), kind, source);
    }
    if let Some(name) = &config.default_agent {
        agents = agents.with_default(name.clone());
    }
    let build: BuildSource = Arc::new(inline_process);
    let releaser = process_source(json!({"command": ["true"]}))?;
    let kind = built_in("process");
    Ok(agents.with_inline(Inline { kind, build, releaser: Arc::new(releaser) }))
}

fn configured(source: &SourceConfig) -> anyhow::Result<(&'static str, Arc<dyn Source>)> {
    match source {
        SourceConfig::Process { command, format, env, cwd } => {
            let format = format.as_str();
            let spec = json!({"command": command, "format": format, "env": env, "cwd": cwd});
            Ok(("process", Arc::new(process_source(spec)?)))
        }
        SourceConfig::Upstream { api, spec } => {
            Ok((api.as_str(), Arc::new(UpstreamSource::new(*api, spec.clone())?)))
        }
        SourceConfig::Replay { file } => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("the recording {}", file.display()))?;
            Ok(("replay", Arc::new(ReplaySource::new(Recording::parse(&text)?))))
        }
    }
}

fn inline_process(spec: &Value) -> Result<Arc<dyn Source>, InlineError> {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("kind");
    }
    match process_source(spec) {
        Ok(source) => Ok(Arc::new(source)),
        Err(error) => Err(InlineError(format!("source: {error}"))),
    }
}

/// How long a command has from TERM to KILL: less than the engine's grace, so that its last words
/// and its end are still journaled.
const COMMAND_GRACE: Duration = Duration::from_secs(8);

/// This binary as its own guard, also after its file was replaced by a newer one.
const SELF: &str = "/proc/self/exe";

fn process_source(spec: Value) -> anyhow::Result<ProcessSource> {
    let spec: ProcessSpec = serde_json::from_value(spec)?;
    let limits = ProcessLimits { grace: COMMAND_GRACE, ..ProcessLimits::default() };
    Ok(ProcessSource::new(spec, SELF.into())?.with_limits(limits))
}

/// Verifies the journal of a data folder; with `rebuild`, also rebuilds the views from it. Gives
/// a line for each thing it found wrong.
pub(crate) fn check(data: &Path, rebuild: bool) -> anyhow::Result<Vec<String>> {
    anyhow::ensure!(data.is_dir(), "there is no data folder {}", data.display());
    let report = log::check(data, &RealDisk)?;
    if rebuild && report.faults.is_empty() {
        rebuild_views(data)?;
    }
    Ok(report.faults.iter().map(log::Fault::to_string).collect())
}

fn rebuild_views(data: &Path) -> anyhow::Result<()> {
    let journal = Log::open(log_options(data))?;
    let views = Arc::new(SqliteViews::open(&data.join("views.db"), SCHEMA)?);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(rebuild_all(journal.clone(), views))?;
    journal.close();
    Ok(())
}

async fn rebuild_all(journal: Arc<Log>, views: Arc<SqliteViews>) -> anyhow::Result<()> {
    let streams = rebuild(journal, views).await?;
    tracing::info!(streams, "the views were rebuilt");
    Ok(())
}

/// Runs as the guard of a process; `args` is what follows [`GUARD`].
pub(crate) fn guard(args: impl Iterator<Item = OsString>) -> ExitCode {
    process::guard::main(args)
}
