//! `segue serve`, and `segue` alone.

use std::{
    env,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tracing_subscriber::EnvFilter;

use super::Exit;
use crate::{
    config::{self, Config, Flags, ProcessEnv},
    idle::Idle,
    place::{Place, random_hex},
    wiring,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Leave the terminal's session and print nothing
    #[arg(long, hide = true)]
    background: bool,
}

/// The settings that have a flag.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// The address to listen on; port 0 picks a free one [default: 127.0.0.1:7878]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<String>,
    /// The data folder [default: `$XDG_DATA_HOME/segue`, else `~/.local/share/segue`]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration [default: `segue/segue.toml` in the folder of user configuration]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// When an append is acknowledged: on the `disk`, in the system (`os`), or in `memory`
    /// [default: disk]
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
}

impl From<Settings> for Flags {
    fn from(settings: Settings) -> Self {
        let Settings { listen, data, config, durability } = settings;
        Self { listen, data, config, durability }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let background = args.background;
    if background {
        // Fails only in a process that leads a group, which then has left already.
        rustix::process::setsid().ok();
    }
    let config = config::load(args.settings.into(), &ProcessEnv)?;
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, background));
    runtime.shutdown_background();
    let (exit, lock) = result?;
    // Who waits for it must find the folder free, so only the end of the process gives it back.
    std::mem::forget(lock);
    Ok(exit)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("SEGUE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

async fn serve(config: Config, background: bool) -> anyhow::Result<(Exit, Option<OwnedFd>)> {
    let place = Place::new(config.data.clone());
    place.create()?;
    let token = place.admin_token_or_new()?;
    let mut signals = Signals::new()?;
    let (stop, stopped) = oneshot::channel();
    let ready = |address| {
        place.set_server(address)?;
        if background { Ok(()) } else { welcome(&place, address) }
    };
    let stopped = async move {
        // A sender that is gone cannot ask any more.
        stopped.await.ok();
    };
    let after = config.background_idle;
    let idle = (background && !after.is_zero()).then(|| Idle { after, place: place.clone() });
    let result = tokio::select! {
        result = wiring::serve(config, token, ready, stopped, idle) => {
            result.map(|lock| (Exit::Done, lock))
        }
        () = signals.twice(stop) => Ok((Exit::Left, None)),
    };
    place.clear_server();
    result
}

/// What ends a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    /// Passes the first one on and completes with the second.
    async fn twice(&mut self, stop: oneshot::Sender<()>) {
        self.next().await;
        tracing::info!("shutting down; a second signal ends at once");
        stop.send(()).ok();
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Prints where the server is and what to try. Whoever started it may not read that.
fn welcome(place: &Place, address: SocketAddr) -> anyhow::Result<()> {
    let own_data = Place::of_user().is_ok_and(|user| user == *place);
    let data = (!own_data).then(|| place.path());
    let text = greeting(address, &program(), data, &random_hex::<3>()?);
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Three commands that work as they stand. `tag` makes their run and session new.
fn greeting(address: SocketAddr, program: &str, data: Option<&Path>, tag: &str) -> String {
    let url = format!("http://{address}");
    let data = data.map(|data| format!(" --data {}", quoted(&data.display().to_string())));
    let data = data.unwrap_or_default();
    format!(
        "Segue is at {url}/\n\n\
         Three things to try:\n\n  \
         curl -sS {url}/v1/sessions/try-{tag}/runs -H 'content-type: application/json' \
         -d '{{\"agent\":\"demo\",\"run_id\":\"demo-{tag}\"}}'\n  \
         curl -N {url}/v1/runs/demo-{tag}/events\n  \
         {program} exec{data} -- sh -c 'for i in $(seq 1 20); do echo line $i; sleep 0.2; done'\n\n"
    )
}

/// How to call this program again from where it was started.
fn program() -> String {
    let exe = env::current_exe().ok();
    let found = |exe: &PathBuf| {
        let path = env::var_os("PATH")?;
        let first = env::split_paths(&path).map(|dir| dir.join("segue")).find(|p| p.is_file())?;
        (first.canonicalize().ok()? == *exe).then(|| "segue".to_owned())
    };
    let here = |exe: &PathBuf| {
        let below = exe.strip_prefix(env::current_dir().ok()?).ok()?;
        Some(quoted(&format!("./{}", below.display())))
    };
    match exe {
        None => "segue".to_owned(),
        Some(exe) => {
            found(&exe).or_else(|| here(&exe)).unwrap_or_else(|| quoted(&exe.display().to_string()))
        }
    }
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_has_three_whole_commands() {
        let address = "127.0.0.1:4000".parse().unwrap();
        let text = greeting(address, "segue", Some(Path::new("/my data")), "a1");
        let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        assert_eq!(
            commands,
            [
                "curl -sS http://127.0.0.1:4000/v1/sessions/try-a1/runs \
                 -H 'content-type: application/json' \
                 -d '{\"agent\":\"demo\",\"run_id\":\"demo-a1\"}'",
                "curl -N http://127.0.0.1:4000/v1/runs/demo-a1/events",
                "segue exec --data '/my data' -- \
                 sh -c 'for i in $(seq 1 20); do echo line $i; sleep 0.2; done'",
            ]
        );
        assert!(text.starts_with("Segue is at http://127.0.0.1:4000/\n"));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expect) in
            [("a/b.c-1", "a/b.c-1"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")]
        {
            assert_eq!(quoted(word), expect);
        }
    }
}
