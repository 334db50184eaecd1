//! A real server as a child process, and a light client for it.
//!
//! The crash harness and the benchmarks share this. The client is a few lines of HTTP/1.1 over a
//! socket, so that a measurement does not measure the client.

pub(crate) mod http;
pub(crate) mod server;

use std::{path::PathBuf, process::Command, sync::OnceLock};

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

pub(crate) use http::{Answer, Conn};
pub(crate) use server::{Live, Serve};

use crate::repo::root;

/// Builds the binary with optimisations and gives its path.
pub(crate) fn build_release() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "segue"])
        .current_dir(root())
        .status()
        .context("cargo build")?;
    ensure!(status.success(), "the release build failed");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let binary = target.join("release/segue");
    if !binary.is_file() {
        bail!("the release build left no {}", binary.display());
    }
    Ok(binary)
}

/// Nanoseconds on a clock that only this process knows; 19 digits for the next centuries.
pub(crate) fn stamp() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = BEGIN.get_or_init(Instant::now).elapsed();
    1_000_000_000_000_000_000 + u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Gives this process one core, or all of them.
pub(crate) fn pin(core: Option<usize>) -> anyhow::Result<()> {
    let cores = core.map_or_else(|| "0-1023".to_owned(), |core| core.to_string());
    let process = std::process::id().to_string();
    let output = Command::new("taskset").args(["-a", "-c", "-p", &cores, &process]).output();
    let output = output.context("taskset, of util-linux")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
