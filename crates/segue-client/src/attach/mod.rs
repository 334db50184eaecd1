//! Following a run to its end.

mod follow;
mod snapshot;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, HeaderMap},
};
use segue_core::{Cursor, EventKind, EventRecord, RunId, RunStatus, Seq, Timestamp};
use serde_json::Value;

use self::follow::{Follow, From, Step};
pub use self::snapshot::Snapshot;
use crate::{
    client::{Client, accepted, is_of_type},
    error::{ClientError, TransportError},
    metrics,
    retry::Retry,
    sse::{Decoder, Signal},
};

/// The most bytes of a frame that is read: an event of the greatest size a server allows by
/// default, its envelope, and room.
const MAX_FRAME_BYTES: usize = segue_core::limits::EVENT_BYTES + (64 << 10);

/// An event of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEvent {
    /// Its position in the run.
    pub seq: Seq,
    /// When it was journaled.
    pub at: Timestamp,
    /// What it is; [`EventKind::Opaque`] for a type this version does not know.
    pub kind: EventKind,
    /// Its type on the wire.
    pub name: String,
    /// The object with its envelope, on one line, as the server sent it.
    pub json: Bytes,
}

impl RunEvent {
    /// The event without its envelope, for a [`Fold`](segue_core::Fold) to go on with. `None` if the
    /// object is not in the form in which a server of this version writes it.
    pub fn record(&self) -> Option<EventRecord> {
        segue_core::event::wire::read_event(&self.json)
    }

    /// The object's fields, the envelope among them.
    pub fn fields(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

/// Events that the server cannot give, told and not passed over in silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The position the client had.
    pub after: Seq,
    /// What the server says of it: why, and where it goes on.
    pub json: Bytes,
}

/// A lost connection that is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconnecting {
    /// How many attempts in a row have failed.
    pub attempt: u32,
    /// How long it waits before the next.
    pub delay: Duration,
    /// What happened.
    pub why: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its terminal status.
    pub status: RunStatus,
    /// The stop reason, the interruption's cause or the error's code, where there is one.
    pub reason: Option<String>,
    /// The seq of its terminal event.
    pub last_seq: Seq,
}

/// What an [`Attachment`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The next event. Its seq is one more than the last one's, unless a gap was told between.
    Event(RunEvent),
    /// Events that cannot be given one by one. A snapshot of what there is comes next.
    Gap(Gap),
    /// The run's message up to an event. What was shown before is part of it, and the next event
    /// is the one after it.
    Snapshot(Snapshot),
    /// Something else the server says of the stream; never content.
    Control {
        /// Its name, which begins with `control.`.
        name: String,
        /// What it says.
        json: Bytes,
    },
    /// The connection was lost and is tried again; nothing is lost by it.
    Reconnecting(Reconnecting),
    /// The run has ended and everything of it was given. Nothing comes after it.
    Ended(Ended),
}

/// A run that is followed: a stream of [`Attached`].
///
/// It connects when it is first polled, and reconnects for ever at its cursor, so that each event
/// is yielded once and in order. A cursor of the caller's that the run does not have is an error;
/// one that was the server's own and is no longer there is a [`Gap`]. It ends after [`Attached::Ended`], or after the one error that
/// makes it give up: the run is unknown or gone, the server refuses (another 4xx), what answers
/// is not a Segue server, or [`give_up_after`](crate::Timing::give_up_after) has passed.
pub struct Attachment(Pin<Box<dyn Stream<Item = Result<Attached, ClientError>> + Send>>);

impl Attachment {
    pub(crate) fn new(client: Client, run: RunId, after: Option<Cursor>) -> Self {
        let foreign = after.as_ref().filter(|cursor| cursor.run != run).map(ToString::to_string);
        let state = foreign.map_or(State::Connecting, State::Refused);
        Self::drive(client, Follow::new(run, after.map(|cursor| cursor.seq)), state)
    }

    pub(crate) fn from_snapshot(client: Client, run: RunId) -> Self {
        Self::drive(client, Follow::from_snapshot(run), State::Connecting)
    }

    fn drive(client: Client, follow: Follow, state: State) -> Self {
        let driver = Driver { retry: Retry::new(client.timing()), follow, client, state };
        Self(Box::pin(stream::unfold(driver, Driver::step)))
    }
}

impl Stream for Attachment {
    type Item = Result<Attached, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// Where an attachment is, in the usual order.
enum State {
    /// The caller's cursor is of another run.
    Refused(String),
    Connecting,
    Reading(Box<Reading>),
    /// A connection was lost; the wait before the next.
    Waiting(Duration),
    /// The terminal was given, its summary comes.
    Ending(Ended),
    Over,
}

struct Reading {
    response: Response,
    decoder: Decoder,
}

enum Opened {
    Stream(Box<Reading>),
    Ended(Ended),
}

struct Driver {
    client: Client,
    follow: Follow,
    retry: Retry,
    state: State,
}

impl Driver {
    /// Goes on until there is something to yield.
    async fn step(mut self) -> Option<(Result<Attached, ClientError>, Self)> {
        loop {
            let item = match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return None,
                State::Refused(cursor) => {
                    let run = self.follow.run();
                    Some(Err(ClientError::Unusable(format!(
                        "the cursor {cursor} is not of the run {run}"
                    ))))
                }
                State::Connecting => self.connect().await,
                State::Reading(reading) => self.read(reading).await,
                State::Waiting(delay) => {
                    tokio::time::sleep(delay).await;
                    self.state = State::Connecting;
                    None
                }
                State::Ending(ended) => Some(Ok(Attached::Ended(ended))),
            };
            if let Some(item) = item {
                return Some((item, self));
            }
        }
    }

    async fn connect(&mut self) -> Option<Result<Attached, ClientError>> {
        self.follow.reconnect();
        match self.open().await {
            Ok(Opened::Stream(reading)) => {
                self.state = State::Reading(reading);
                None
            }
            Ok(Opened::Ended(ended)) => Some(Ok(Attached::Ended(ended))),
            Err(error) => Some(self.lost(error)),
        }
    }

    async fn open(&self) -> Result<Opened, ClientError> {
        let path = ["v1", "runs", self.follow.run().as_str(), "events"];
        let mut request =
            self.client.request(Method::GET, &path).header(ACCEPT, "text/event-stream");
        request = match self.follow.from() {
            From::Beginning => request,
            From::Snapshot => request.query(&[("from", "snapshot")]),
            From::Explicit(cursor) => request.query(&[("after", cursor.to_string())]),
            From::Resumed(cursor) => request.header("last-event-id", cursor.to_string()),
        };
        let response = accepted(self.within_idle(request.send()).await?).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return ended_by(response.headers(), self.follow.position()).map(Opened::Ended);
        }
        if !is_of_type(&response, "text/event-stream") {
            let why = "the answer is not a stream of events: is this a Segue server?";
            return Err(ClientError::Unusable(why.to_owned()));
        }
        let decoder = Decoder::new(MAX_FRAME_BYTES);
        Ok(Opened::Stream(Box::new(Reading { response, decoder })))
    }

    /// Reads until a frame gives an item or the connection is lost.
    async fn read(&mut self, mut reading: Box<Reading>) -> Option<Result<Attached, ClientError>> {
        loop {
            while let Some(signal) = reading.decoder.next_signal() {
                match self.take(signal) {
                    Ok(None) => {}
                    Ok(Some(item)) => {
                        self.state = after(&item).unwrap_or(State::Reading(reading));
                        return Some(Ok(item));
                    }
                    Err(error) => return Some(self.lost(error)),
                }
            }
            if let Err(error) = self.more(&mut reading).await {
                return Some(self.lost(error));
            }
        }
    }

    async fn more(&self, reading: &mut Reading) -> Result<(), ClientError> {
        let chunk = self.within_idle(reading.response.chunk()).await?.ok_or(TransportError::Cut)?;
        reading.decoder.feed(&chunk).map_err(|error| ClientError::Protocol(error.to_string()))
    }

    fn take(&mut self, signal: Signal) -> Result<Option<Attached>, ClientError> {
        let frame = match signal {
            Signal::Retry(hint) => {
                self.retry.hint(hint);
                return Ok(None);
            }
            Signal::Frame(frame) => frame,
        };
        let step = self.follow.take(frame).map_err(|e| ClientError::Protocol(e.to_string()))?;
        self.retry.succeed();
        match step {
            Step::Item(item) => {
                if matches!(item, Attached::Gap(_)) {
                    ::metrics::counter!(metrics::GAPS).increment(1);
                }
                Ok(Some(item))
            }
            Step::Duplicate => {
                ::metrics::counter!(metrics::DUPLICATES).increment(1);
                Ok(None)
            }
            Step::Quiet => Ok(None),
        }
    }

    /// A passing failure becomes a wait, another one is the last item.
    fn lost(&mut self, error: ClientError) -> Result<Attached, ClientError> {
        let reconnecting = self.retry.fail(error)?;
        self.state = State::Waiting(reconnecting.delay);
        Ok(Attached::Reconnecting(reconnecting))
    }

    async fn within_idle<T>(
        &self,
        io: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, ClientError> {
        let idle = self.client.timing().idle;
        match tokio::time::timeout(idle, io).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(TransportError::Idle(idle).into()),
        }
    }
}

/// The state after a terminal event; none after any other item.
fn after(item: &Attached) -> Option<State> {
    let Attached::Event(event) = item else { return None };
    let status = match event.kind {
        EventKind::RunFinished => RunStatus::Finished,
        EventKind::RunStopped => RunStatus::Stopped,
        EventKind::RunFailed => RunStatus::Failed,
        EventKind::RunInterrupted => RunStatus::Interrupted,
        _ => return None,
    };
    let fields = event.fields();
    let reason = ["/reason", "/cause", "/error/code"]
        .iter()
        .find_map(|path| fields.pointer(path)?.as_str())
        .map(str::to_owned);
    Some(State::Ending(Ended { status, reason, last_seq: event.seq }))
}

/// Reads how a run ended from an answer that has nothing more to give.
fn ended_by(headers: &HeaderMap, position: Seq) -> Result<Ended, ClientError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text("segue-run-status")
        .and_then(RunStatus::parse)
        .filter(|status| status.is_terminal())
        .ok_or_else(|| ClientError::Protocol("204 without a terminal run status".to_owned()))?;
    Ok(Ended {
        status,
        reason: text("segue-run-reason").filter(|reason| !reason.is_empty()).map(str::to_owned),
        last_seq: text("segue-last-seq").and_then(|seq| seq.parse().ok()).map_or(position, Seq),
    })
}
