//! Pushing lines into a push run, each exactly once.

mod connection;
mod control;
mod outbox;

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use reqwest::header::{HeaderMap, HeaderValue};
use segue_core::{ProducerId, RunId, Seq};
use tokio::time::Instant;

use self::{
    connection::{Ack, Connection, Reply},
    outbox::Outbox,
};
use crate::{
    attach::Reconnecting,
    client::Client,
    error::{ClientError, TransportError},
    metrics,
    retry::Retry,
};

/// What is kept until it is acknowledged. A full buffer stops the reading of the input.
const MAX_UNACKED_BYTES: usize = 4 << 20;
/// What goes to the socket in one piece.
const BATCH_BYTES: usize = 64 << 10;

/// Who a producer is: the scope of its line numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub id: ProducerId,
    /// Its life: a higher one restarts the numbers at 0 and shuts the lower ones out.
    pub epoch: u64,
}

impl Identity {
    /// The headers of a request whose first line has number `seq`.
    pub(crate) fn headers(&self, seq: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(id) = HeaderValue::try_from(self.id.as_str()) {
            // An id is made of characters that may stand in a header.
            headers.insert("producer-id", id);
        }
        headers.insert("producer-epoch", self.epoch.into());
        headers.insert("producer-seq", seq.into());
        headers
    }
}

/// What a [`Producer`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Produced {
    /// More lines are journaled.
    Acked {
        /// How many lines of the input are, in all.
        lines: u64,
        /// The position of the last event that they made.
        last_seq: Option<Seq>,
        /// Whether an earlier connection had brought them already.
        duplicate: bool,
    },
    /// Somebody asked the run to stop: the producer should come to its end. Yielded once.
    StopRequested,
    /// The connection was lost and is tried again; nothing is lost or doubled by it.
    Reconnecting(Reconnecting),
}

/// Lines on their way into a push run: a stream of [`Produced`], to be polled to its end.
///
/// It reads its input as fast as lines are acknowledged, sends what was not acknowledged again
/// with the same numbers after each cut, shows life while the input is quiet, and ends when every
/// line is journaled. It gives up with the one error that time does not heal: a line that the
/// server does not take ([`ClientError::Line`]), a refusal (4xx: an ended run, a stale epoch), or
/// an input that cannot be read. Blank lines of the input are passed over.
pub struct Producer(Pin<Box<dyn Stream<Item = Result<Produced, ClientError>> + Send>>);

impl Producer {
    pub(crate) fn new<S>(client: Client, run: RunId, identity: Identity, lines: S) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let driver = Driver {
            retry: Retry::new(client.timing()),
            stop: Box::pin(control::stop_requested(client.clone(), run.clone())),
            client,
            run,
            identity,
            input: Some(Box::pin(lines)),
            outbox: Outbox::new(MAX_UNACKED_BYTES),
            ready: VecDeque::new(),
            stop_told: false,
            sent_at: Instant::now(),
            heard_at: Instant::now(),
            state: State::Connecting,
        };
        Self(Box::pin(stream::unfold(driver, Driver::step)))
    }
}

impl Stream for Producer {
    type Item = Result<Produced, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

enum State {
    Connecting,
    Pushing(Connection),
    Waiting(Duration),
    Over,
}

/// All that can move a producer on.
enum Event {
    Reply(Result<Reply, ClientError>),
    Writable,
    Line(Option<io::Result<Bytes>>),
    Stop,
    /// Nothing was sent for a while.
    Quiet,
    /// Nothing was heard for too long.
    Overdue,
}

/// What follows from an event.
enum Turn {
    On,
    Done,
    Lost(ClientError),
    Failed(ClientError),
}

struct Driver {
    client: Client,
    run: RunId,
    identity: Identity,
    retry: Retry,
    /// None once it has ended.
    input: Option<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>>,
    outbox: Outbox,
    ready: VecDeque<Produced>,
    /// Completes when a stop comes by the run's inbox.
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop_told: bool,
    /// When something was sent last.
    sent_at: Instant,
    /// When an acknowledgement came, or began to be waited for.
    heard_at: Instant,
    state: State,
}

impl Driver {
    /// Goes on until there is something to yield.
    async fn step(mut self) -> Option<(Result<Produced, ClientError>, Self)> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some((Ok(item), self));
            }
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return None,
                State::Connecting => self.connect(),
                State::Waiting(delay) => {
                    tokio::time::sleep(delay).await;
                    self.state = State::Connecting;
                }
                State::Pushing(mut connection) => {
                    let event = self.next_event(&mut connection).await;
                    match self.turn(&mut connection, event) {
                        Turn::On => self.state = State::Pushing(connection),
                        Turn::Done => {}
                        Turn::Lost(error) => match self.retry.fail(error) {
                            Ok(wait) => self.wait(wait),
                            Err(error) => return Some((Err(error), self)),
                        },
                        Turn::Failed(error) => return Some((Err(error), self)),
                    }
                }
            }
        }
    }

    fn connect(&mut self) {
        let again = self.outbox.rewind();
        ::metrics::counter!(metrics::RESENT).increment(again as u64);
        (self.sent_at, self.heard_at) = (Instant::now(), Instant::now());
        self.state = State::Pushing(Connection::open(
            &self.client,
            &self.run,
            &self.identity,
            self.outbox.first(),
        ));
    }

    fn wait(&mut self, reconnecting: Reconnecting) {
        self.state = State::Waiting(reconnecting.delay);
        self.ready.push_back(Produced::Reconnecting(reconnecting));
    }

    async fn next_event(&mut self, connection: &mut Connection) -> Event {
        let Connection { upload, answer } = connection;
        let unsent = self.outbox.has_unsent();
        if self.input.is_none() && !unsent {
            upload.close();
        }
        let quiet_at = self.sent_at + self.client.timing().renew;
        let overdue_at = self.heard_at + self.client.timing().ack;
        let waits = self.outbox.has_unacked() || !upload.is_open();
        let takes = self.outbox.has_room();
        let open = upload.is_open();
        tokio::select! {
            biased;
            reply = answer.reply() => Event::Reply(reply),
            () = upload.ready(), if unsent => Event::Writable,
            line = next_line(&mut self.input), if takes => Event::Line(line),
            () = &mut self.stop, if !self.stop_told => Event::Stop,
            () = tokio::time::sleep_until(quiet_at), if open => Event::Quiet,
            () = tokio::time::sleep_until(overdue_at), if waits => Event::Overdue,
        }
    }

    fn turn(&mut self, connection: &mut Connection, event: Event) -> Turn {
        match event {
            Event::Reply(Ok(Reply::Acked(ack))) => self.acked(&ack),
            Event::Reply(Ok(Reply::Refused { line, problem })) => {
                return refused(line, problem.into());
            }
            Event::Reply(Ok(Reply::End)) => return self.over(TransportError::Cut.into()),
            Event::Reply(Err(error)) => return self.over(error),
            Event::Overdue => {
                return self.over(TransportError::Idle(self.client.timing().ack).into());
            }
            Event::Writable => self.send(connection),
            Event::Stop => self.tell_stop(),
            Event::Line(line) => return self.take(line),
            Event::Quiet => {
                // A full queue is itself a sign of life.
                connection.upload.send(Bytes::from_static(b"\n"));
                self.sent_at = Instant::now();
            }
        }
        Turn::On
    }

    fn acked(&mut self, ack: &Ack) {
        self.retry.succeed();
        self.heard_at = Instant::now();
        let before = self.outbox.first();
        if let Some(seq) = ack.acked_seq {
            self.outbox.acked(seq);
        }
        let lines = self.outbox.first();
        if lines > before {
            let last_seq = ack.last_seq.map(Seq);
            self.ready.push_back(Produced::Acked { lines, last_seq, duplicate: ack.duplicate });
        }
        if ack.stop_requested {
            self.tell_stop();
        }
    }

    fn tell_stop(&mut self) {
        if !std::mem::replace(&mut self.stop_told, true) {
            self.ready.push_back(Produced::StopRequested);
        }
    }

    /// The connection is over. Whatever ended it, what is acknowledged is journaled.
    fn over(&self, error: ClientError) -> Turn {
        if self.input.is_none() && self.outbox.is_empty() { Turn::Done } else { Turn::Lost(error) }
    }

    fn send(&mut self, connection: &mut Connection) {
        if !self.outbox.has_unacked() {
            self.heard_at = Instant::now();
        }
        if let Some(batch) = self.outbox.next_batch(BATCH_BYTES) {
            // A batch that finds no room is sent on the next connection.
            connection.upload.send(batch);
            self.sent_at = Instant::now();
        }
    }

    fn take(&mut self, line: Option<io::Result<Bytes>>) -> Turn {
        let line = match line {
            Some(Ok(line)) => line,
            Some(Err(error)) => return Turn::Failed(ClientError::Input(error)),
            None => {
                self.input = None;
                self.heard_at = Instant::now();
                return Turn::On;
            }
        };
        let line = line.slice_ref(line.trim_ascii());
        if memchr::memchr(b'\n', &line).is_some() {
            return Turn::Failed(ClientError::Unusable("a line has a line break".to_owned()));
        }
        if !line.is_empty() {
            self.outbox.push(line);
        }
        Turn::On
    }
}

async fn next_line(
    input: &mut Option<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>>,
) -> Option<io::Result<Bytes>> {
    match input {
        Some(lines) => lines.next().await,
        None => std::future::pending().await,
    }
}

fn refused(line: u64, error: ClientError) -> Turn {
    match error {
        ClientError::Problem(problem) if !problem.is_passing() => {
            Turn::Failed(ClientError::Line { line, problem })
        }
        passing => Turn::Lost(passing),
    }
}
