//! A server for whoever needs one now: found, or started in the background.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use segue_client::Client;
use tokio::time::{Instant, sleep, timeout};

use crate::place::Place;

/// How long a new server may take until it answers; recovery is part of it.
const START: Duration = Duration::from_mins(1);
/// How often a new server is asked.
const POLL: Duration = Duration::from_millis(20);
/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How many lines of a failed server's log are shown.
const LOG_LINES: usize = 5;

/// A client of the server that serves `place`, with `token` or its admin token. Starts one if none
/// answers.
///
/// The lock comes first: of two that find no server, the second finds the first one's, and a
/// server that is about to stop for want of work is found before or not at all. The client keeps
/// the connection on which the server has answered, for which that server stays.
pub(super) async fn client(place: &Place, token: Option<String>) -> anyhow::Result<Client> {
    place.create()?;
    let lock = {
        let place = place.clone();
        tokio::task::spawn_blocking(move || place.lock_start()).await??
    };
    let mut client = match answering(place).await {
        Some(client) => client,
        None => start(place).await?,
    };
    if token.is_some() {
        client = Client::new(client.base_url(), token)?;
        // For a connection of its own. What the server thinks of the token it says later.
        client.is_ready().await;
    }
    drop(lock);
    Ok(client)
}

async fn answering(place: &Place) -> Option<Client> {
    let server = place.server()?;
    let client = Client::new(&format!("http://{}", server.address), place.admin_token()).ok()?;
    timeout(ANSWER, client.is_ready()).await.ok()?.then_some(client)
}

async fn start(place: &Place) -> anyhow::Result<Client> {
    let log_before = place.server_log()?.metadata()?.len();
    let mut child = spawn(place).context("cannot start a server in the background")?;
    let give_up_at = Instant::now() + START;
    while Instant::now() < give_up_at {
        // Asked before the client, so that what a child left behind at its end is still seen.
        let ended = child.try_wait()?;
        if let Some(client) = answering(place).await {
            return Ok(client);
        }
        if let Some(status) = ended {
            bail!("the background server ended with {status}{}", log_tail(place, log_before));
        }
        sleep(POLL).await;
    }
    bail!("the background server does not answer{}", log_tail(place, log_before))
}

/// The child leaves this terminal's session itself, before it does anything else.
fn spawn(place: &Place) -> anyhow::Result<Child> {
    let log = place.server_log()?;
    let data = fs::canonicalize(place.path())?;
    let child = Command::new(env::current_exe()?)
        .args(["serve", "--background", "--listen", &listen(place).to_string(), "--data"])
        .arg(data)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

/// Where a server that crashed had been, so that its clients find the new one; else anywhere.
fn listen(place: &Place) -> SocketAddr {
    let last = place.last_server().map(|server| server.address);
    let free = last.filter(|address| TcpListener::bind(address).is_ok());
    free.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn log_tail(place: &Place, from: u64) -> String {
    let text = fs::read(place.log_path()).unwrap_or_default();
    let new = text.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
    let new = String::from_utf8_lossy(new);
    let lines: Vec<&str> = new.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    format!("; its log is {}\n  {tail}", place.log_path().display())
}
