//! Processes that outlived their server.

use std::{fs, time::Duration};

use anyhow::ensure;
use tokio::time::{Instant, sleep};

/// How long a guard may take to end what it guards.
const GRACE: Duration = Duration::from_secs(5);

/// No process with `mark` among its arguments is left.
pub(in crate::crash) async fn none_left(mark: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + GRACE;
    loop {
        let left = with_argument(mark)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "processes are left: {left:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The processes with an argument that contains `mark`. One that ended and was not waited for
/// has no arguments any more.
fn with_argument(mark: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // A process may end while it is looked at.
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(mark) {
            found.push(format!("{}: {line}", path.display()));
        }
    }
    Ok(found)
}
