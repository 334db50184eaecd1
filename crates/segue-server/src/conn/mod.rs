//! Connections: accepted, served as HTTP/1.1 or as HTTP/2 with prior knowledge, ended in order.

mod deadline;
mod serve;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fan_out::{self, FanOut, Seat},
    routes::Front,
};

/// How long to wait before accepting again after the system refused, as when out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The numbers of connections.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most connections at a time; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// The longest the kernel may take no byte of a pending write.
    pub(crate) write_deadline: Duration,
    /// The longest the head of a request may take.
    pub(crate) head_deadline: Duration,
    /// How long what is under way may go on once the server closes.
    pub(crate) drain: Duration,
}

/// Serves the connections of a listener.
pub(crate) struct Connections {
    pub(crate) front: Arc<Front>,
    pub(crate) fan_out: Arc<FanOut>,
    pub(crate) limits: Limits,
    /// Cancelled when the server closes: connections end, streams too.
    pub(crate) closing: CancellationToken,
    pub(crate) activity: Activity,
}

/// Who is connected, for one who waits until nobody is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    accepted: AtomicU64,
}

impl Activity {
    /// Connections that are open, whatever is done on them. One that was answered is counted
    /// before its answer is seen.
    pub fn open(&self) -> u64 {
        self.0.open.load(Ordering::SeqCst)
    }

    /// Connections that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::SeqCst)
    }
}

impl Connections {
    /// Accepts until the server closes.
    pub(crate) async fn accept(self, listener: TcpListener) {
        let seats = Arc::new(Semaphore::new(self.limits.connections));
        let closing = self.closing.clone();
        let accepting = async {
            loop {
                let Ok(permit) = Arc::clone(&seats).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((socket, _)) => self.serve(socket, permit),
                    Err(error) => refused(&error).await,
                }
            }
        };
        tokio::select! {
            () = closing.cancelled() => {}
            () = accepting => {}
        }
    }

    fn serve(&self, socket: TcpStream, permit: OwnedSemaphorePermit) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "the socket keeps its delay");
        }
        let wish = fan_out::wish();
        let connection = serve::Connection {
            front: Arc::clone(&self.front),
            streams: fan_out::Streams::new(&self.fan_out, &wish),
            limits: self.limits.clone(),
            closing: self.closing.clone(),
            _open: Open::new(permit, self.activity.clone()),
        };
        self.fan_out.seat(Seat::new(connection.serve(socket), wish));
    }
}

async fn refused(error: &io::Error) {
    metrics::counter!("segue_accept_failures_total").increment(1);
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// An open connection's place in the counts, given back on every path.
struct Open {
    activity: Activity,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(permit: OwnedSemaphorePermit, activity: Activity) -> Self {
        metrics::counter!("segue_connections_total").increment(1);
        metrics::gauge!("segue_connections").increment(1);
        activity.0.accepted.fetch_add(1, Ordering::SeqCst);
        activity.0.open.fetch_add(1, Ordering::SeqCst);
        Self { activity, _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("segue_connections").decrement(1);
        self.activity.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
