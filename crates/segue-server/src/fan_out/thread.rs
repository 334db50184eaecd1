//! A fan-out thread: a runtime and the shard it pumps.

use std::{cell::Cell, io, thread::JoinHandle};

use segue_journal::Shard;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

thread_local! {
    /// Which fan-out thread this is.
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The fan-out thread that the caller runs on, if it is one.
pub(super) fn current() -> Option<usize> {
    INDEX.get()
}

pub(super) struct Thread {
    pub(super) shard: Shard,
    pub(super) runtime: Handle,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start(index: usize, shard: Shard) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let pumped = shard.clone();
        let run = move || {
            INDEX.set(Some(index));
            runtime.block_on(pump(pumped, stopped));
        };
        let running = std::thread::Builder::new().name(format!("fan-out-{index}")).spawn(run)?;
        Ok(Self { shard, runtime: handle, stop: Some(stop), running: Some(running) })
    }
}

async fn pump(shard: Shard, stopped: oneshot::Receiver<()>) {
    let ring = async {
        loop {
            shard.rung().await;
            shard.pump();
            // Lets the readers that were woken run before the next rings are gathered.
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = ring => {}
        _ = stopped => {}
    }
}

impl Drop for Thread {
    /// Ends the thread; tasks that are still on it are dropped there.
    fn drop(&mut self) {
        drop(self.stop.take());
        let is_self = current().is_some();
        if let Some(running) = self.running.take().filter(|_| !is_self)
            && running.join().is_err()
        {
            tracing::error!("a fan-out thread panicked");
        }
    }
}
