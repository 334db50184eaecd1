//! The engine in a program of your own, without HTTP.
//!
//! `cargo run -p segue-engine --example embed -- FOLDER` starts a run, shows it as it happens, and
//! keeps it in `FOLDER`. Run it twice: the second time it shows the runs of the first. Kill it
//! half-way: the next start interrupts what was running.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use futures_util::stream;
use segue_core::{
    AgentName, Event, EventRecord, Inbound, InboundStream, RunId, RunInput, Seq, Source,
    StopSignal, TenantId, event::wire::write_event,
};
use segue_engine::{
    Agents, Engine, EngineOptions, Facade, Fill, Frames, RunQuery, SCHEMA, Settings, StartRun,
    SystemClock,
};
use segue_journal::{
    Record,
    cache::Encoding,
    log::{Log, LogOptions},
    views::SqliteViews,
};
use serde_json::json;

/// Counts to ten, ten times a second.
struct Counter;

impl Source for Counter {
    fn start(&self, _: RunInput, _: StopSignal) -> InboundStream {
        Box::pin(stream::unfold(1, async |n| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let text = json!({"type": "text.delta", "part": "count", "text": format!("{n} ")});
            let inbound = match n {
                1..=10 => Inbound::Event(Event::build(&text)),
                11 => Inbound::Finished { finish_reason: Some("stop".into()), usage: None },
                _ => return None,
            };
            Some((inbound, n + 1))
        }))
    }
}

/// Shows each event as a line of JSON.
struct Lines;

impl Facade for Lines {
    fn encoding(&self) -> Option<Encoding> {
        None
    }

    fn encode(&mut self, run: &RunId, record: &Record, out: &mut Frames) {
        if let Ok(event) = EventRecord::decode(record.bytes.clone()) {
            out.put(|out| {
                write_event(out, run, record.seq, record.at, &event);
                out.extend_from_slice(b"\n");
            });
        }
    }
}

type AnyError = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("name a folder")?);
    let engine = open(folder).await?;
    let tenant = TenantId::local();
    for run in engine.runs(&tenant, RunQuery::default()).await?.data {
        say(&format!("an earlier run: {} {}\n", run.id, run.status.as_str()))?;
    }
    let run = engine.start(&tenant, StartRun::of(AgentName::parse("counter")?)).await?.run;
    show(&engine, &tenant, &run.id).await?;
    engine.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn open(folder: PathBuf) -> Result<Engine, AnyError> {
    let clock = Arc::new(SystemClock);
    let fatal = Arc::new(|_: &str| std::process::exit(70));
    let journal = Log::open(LogOptions::new(folder.clone(), clock.clone(), fatal))?;
    let views = Arc::new(SqliteViews::open(&folder.join("views.db"), SCHEMA)?);
    let counter = AgentName::parse("counter")?;
    let options = EngineOptions {
        journal,
        views,
        agents: Agents::default().with(counter, "example", Arc::new(Counter)),
        clock,
        entropy: Arc::new(|out| getrandom::fill(out).unwrap_or_default()),
        settings: Settings::default(),
    };
    Ok(Engine::open(options).await?)
}

async fn show(engine: &Engine, tenant: &TenantId, run: &RunId) -> Result<(), AnyError> {
    let shard = engine.shard();
    let mut reader = engine.attach(tenant, run)?.reader(Lines, Seq::FIRST, &shard)?;
    loop {
        reader.listener().hear();
        match reader.fill(64 << 10) {
            Fill::Bytes(bytes) => say(std::str::from_utf8(&bytes)?)?,
            Fill::End => return Ok(()),
            Fill::Failed(error) => return Err(error.into()),
            Fill::Silent => {}
            Fill::Idle => {
                shard.rung().await;
                shard.pump();
            }
        }
    }
}

fn say(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes())
}
