//! An NDJSON body, journaled as it arrives.
//!
//! Lines that are ready together form a batch; while batches are under way the next one grows, so
//! that an idle journal gets single lines at once and a busy one large batches. Batches are
//! submitted in order and pipelined; their answers are taken in order. A body that breaks off
//! loses its unfinished line and nothing else. The task is not the client's: it goes on to the
//! end of what arrived, whoever reads the answers.

use std::{collections::VecDeque, mem, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::future::poll_immediate;
use http::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use segue_core::{Event, RunId};
use segue_engine::{AppendError, Appended, Pending};

use super::{
    acks::Acks,
    batch::{Batch, Sent},
    lines::{Line, Lines},
    producer::Producer,
};
use crate::{
    app::Call,
    error::{Code, Problem},
    routes::stream::answer,
};

/// The most batches that are submitted and not answered.
const FLIGHTS: usize = 4;

/// How often a batch is sent again because an earlier append of another request failed.
const RETRIES: usize = 8;

/// The most bytes that are read past a bad line, so that the answer is not lost in a reset.
const LINGER_BYTES: usize = 1 << 20;
/// The longest that is read past a bad line.
const LINGER: Duration = Duration::from_secs(10);

/// An NDJSON append.
pub(super) struct Ingest {
    call: Call,
    run: RunId,
    producer: Option<Producer>,
    lines: Lines,
    /// Lines that were read, blank ones too.
    line: u64,
    /// Items that were read.
    item: u64,
    /// The body came to its end.
    end: Option<End>,
    flights: VecDeque<Flight>,
}

/// How a body ended.
#[derive(Clone, Copy)]
enum End {
    InOrder,
    Cut,
}

/// A submitted batch.
struct Flight {
    sent: Sent,
    pending: Pending,
}

/// Why the append ends here, and the first line that was not stored.
struct Refusal {
    problem: Problem,
    line: u64,
}

/// What is left to do once all that is ready was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gathered {
    Full,
    Waiting,
    End,
}

impl Ingest {
    pub(super) fn new(call: Call, run: RunId, producer: Option<Producer>) -> Self {
        let lines = Lines::new(call.engine().settings().event_bytes);
        let flights = VecDeque::new();
        Self { call, run, producer, lines, line: 0, item: 0, end: None, flights }
    }

    /// Starts the append and answers with its acks.
    pub(super) fn answer(self, body: Body, at_end: bool) -> Response {
        let (acks, told) = Acks::new(at_end);
        let call = self.call.clone();
        call.spawn(self.run_to_end(body, acks));
        let mut response = answer("application/x-ndjson", told);
        if at_end {
            let applied = HeaderName::from_static("preference-applied");
            response.headers_mut().insert(applied, HeaderValue::from_static("ack=final"));
        }
        response
    }

    async fn run_to_end(mut self, mut body: Body, mut acks: Acks) {
        match self.pump(&mut body, &mut acks).await {
            Ok(()) => acks.finish(None),
            Err(Refusal { problem, line }) => {
                acks.finish(Some((&problem, line)));
                linger(&mut body).await;
            }
        }
    }

    async fn pump(&mut self, body: &mut Body, acks: &mut Acks) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        loop {
            let gathered = self.gather(body, &mut batch).await;
            match gathered {
                Ok(Gathered::Full) => self.submit(mem::take(&mut batch), acks).await?,
                Ok(Gathered::Waiting) if !batch.is_empty() && self.flights.is_empty() => {
                    self.submit(mem::take(&mut batch), acks).await?;
                }
                Ok(Gathered::Waiting) => self.wait(body, acks).await?,
                Ok(Gathered::End) | Err(_) => {
                    if !batch.is_empty() {
                        self.submit(mem::take(&mut batch), acks).await?;
                    }
                    while !self.flights.is_empty() {
                        self.settle(acks).await?;
                    }
                    return gathered.map(drop);
                }
            }
        }
    }

    /// Reads what is ready, without waiting.
    async fn gather(&mut self, body: &mut Body, batch: &mut Batch) -> Result<Gathered, Refusal> {
        loop {
            while let Some(line) = self.next_line()? {
                self.take(line, batch)?;
                if batch.is_full() {
                    return Ok(Gathered::Full);
                }
            }
            match self.end {
                Some(End::InOrder) => {
                    if let Some(last) = self.lines.last() {
                        self.take(Line::Event(last), batch)?;
                    }
                    return Ok(Gathered::End);
                }
                Some(End::Cut) => {
                    metrics::counter!("segue_ingest_cut_total").increment(1);
                    return Err(self.refuse(Code::Malformed, "the body stopped half-way"));
                }
                None => match poll_immediate(next_chunk(body)).await {
                    Some(chunk) => self.read(chunk),
                    None => return Ok(Gathered::Waiting),
                },
            }
        }
    }

    fn read(&mut self, chunk: Result<Bytes, End>) {
        match chunk {
            Ok(chunk) => self.lines.push(chunk),
            Err(end) => self.end = Some(end),
        }
    }

    fn next_line(&mut self) -> Result<Option<Line>, Refusal> {
        match self.lines.next() {
            Ok(line) => Ok(line),
            Err(_) => {
                let max = self.call.engine().settings().event_bytes;
                let detail = format!("an event has at most {max} bytes");
                Err(self.refuse(Code::EventTooLarge, &detail))
            }
        }
    }

    /// Refuses the line after the last one that was read.
    fn refuse(&self, code: Code, detail: &str) -> Refusal {
        Refusal { problem: Problem::new(code, detail), line: self.line + 1 }
    }

    fn take(&mut self, line: Line, batch: &mut Batch) -> Result<(), Refusal> {
        self.line += 1;
        let Line::Event(text) = line else {
            self.call.engine().renew_lease(self.call.tenant(), &self.run);
            batch.close();
            return Ok(());
        };
        let max = self.call.engine().settings().event_bytes;
        let event = Event::from_producer(&text, max)
            .map_err(|error| Refusal { problem: error.into(), line: self.line })?;
        batch.push(event, self.item, self.line);
        self.item += 1;
        Ok(())
    }

    /// Waits for more of the body, or for the oldest answer.
    async fn wait(&mut self, body: &mut Body, acks: &mut Acks) -> Result<(), Refusal> {
        let Some(flight) = self.flights.front_mut() else {
            self.read(next_chunk(body).await);
            return Ok(());
        };
        tokio::select! {
            biased;
            answer = &mut flight.pending => self.answered(answer, acks).await?,
            chunk = next_chunk(body) => self.read(chunk),
        }
        Ok(())
    }

    /// Submits a batch; waits while too many are under way, and for room in the journal's queue.
    async fn submit(&mut self, batch: Batch, acks: &mut Acks) -> Result<(), Refusal> {
        while self.flights.len() >= FLIGHTS {
            self.settle(acks).await?;
        }
        let Batch { sent, events, .. } = batch;
        let ends = events.last().is_some_and(|event| event.kind().is_terminal());
        match self.append(&sent, events).await {
            Ok(pending) => self.flights.push_back(Flight { sent, pending }),
            Err(error) => {
                // What was submitted before keeps its answers.
                while !self.flights.is_empty() {
                    self.settle(acks).await?;
                }
                self.again(sent, error, acks).await?;
            }
        }
        // A terminal is written by the run's owner, and nothing may overtake it.
        while ends && !self.flights.is_empty() {
            self.settle(acks).await?;
        }
        Ok(())
    }

    async fn append(&self, sent: &Sent, events: Vec<Event>) -> Result<Pending, AppendError> {
        let claim = |producer: &Producer| producer.claim(sent.first_item, sent.last_item());
        let claim = self.producer.as_ref().map(claim);
        self.call.engine().append(self.call.tenant(), &self.run, events, claim).await
    }

    /// Takes the oldest answer.
    async fn settle(&mut self, acks: &mut Acks) -> Result<(), Refusal> {
        let Some(flight) = self.flights.front_mut() else { return Ok(()) };
        let answer = (&mut flight.pending).await;
        self.answered(answer, acks).await
    }

    async fn answered(
        &mut self,
        answer: Result<Appended, AppendError>,
        acks: &mut Acks,
    ) -> Result<(), Refusal> {
        let Some(Flight { sent, .. }) = self.flights.pop_front() else { return Ok(()) };
        match answer {
            Ok(appended) => {
                self.acknowledge(&appended, &sent, acks);
                Ok(())
            }
            Err(error) => self.again(sent, error, acks).await,
        }
    }

    fn acknowledge(&self, appended: &Appended, sent: &Sent, acks: &mut Acks) {
        metrics::counter!("segue_ingest_lines_total").increment(sent.texts.len() as u64);
        let base = self.producer.as_ref().map_or(0, Producer::seq);
        acks.accept(appended, base.saturating_add(sent.last_item()));
    }

    /// A batch was refused, and with it those submitted behind it. A numbered producer's batches
    /// are sent again, without the items that the journal has: a retry is batched otherwise than
    /// the first try was, so that a batch may begin with items that are known.
    async fn again(
        &mut self,
        sent: Sent,
        error: AppendError,
        acks: &mut Acks,
    ) -> Result<(), Refusal> {
        let mut waiting = VecDeque::from([sent]);
        for flight in mem::take(&mut self.flights) {
            // Refused as well, for its numbers do not follow on.
            drop(flight.pending.await);
            waiting.push_back(flight.sent);
        }
        let mut known = self.known_items(&waiting[0], &error)?;
        while let Some(sent) = waiting.pop_front() {
            let rest = sent.without(known);
            known = 0;
            if !rest.texts.is_empty() {
                self.send_again(rest, acks).await?;
            }
        }
        Ok(())
    }

    /// How many items at the beginning of a refused batch the journal has; an error if sending
    /// the rest again is of no use.
    fn known_items(&self, sent: &Sent, error: &AppendError) -> Result<usize, Refusal> {
        let refusal = || Refusal { problem: error.clone().into(), line: sent.first_line };
        let Some(producer) = &self.producer else { return Err(refusal()) };
        match error {
            AppendError::Retry => Ok(0),
            AppendError::ProducerGap { expected, received } if expected > received => {
                let first = producer.seq().saturating_add(sent.first_item);
                let known = expected.checked_sub(first).and_then(|n| usize::try_from(n).ok());
                known.filter(|known| *known < sent.texts.len()).ok_or_else(refusal)
            }
            _ => Err(refusal()),
        }
    }

    async fn send_again(&self, sent: Sent, acks: &mut Acks) -> Result<(), Refusal> {
        let max = self.call.engine().settings().event_bytes;
        let mut tries = 0;
        let mut sent = sent;
        loop {
            let line = sent.first_line;
            let batch =
                Batch::of(sent, max).map_err(|error| Refusal { problem: error.into(), line })?;
            let Batch { sent: again, events, .. } = batch;
            let answer = match self.append(&again, events).await {
                Ok(pending) => pending.await,
                Err(error) => Err(error),
            };
            let error = match answer {
                Ok(appended) => {
                    self.acknowledge(&appended, &again, acks);
                    return Ok(());
                }
                Err(error) => error,
            };
            let known = self.known_items(&again, &error)?;
            tries += 1;
            if tries > RETRIES {
                return Err(Refusal { problem: error.into(), line });
            }
            sent = again.without(known);
        }
    }
}

async fn next_chunk(body: &mut Body) -> Result<Bytes, End> {
    match body.frame().await {
        Some(Ok(frame)) => Ok(frame.into_data().unwrap_or_default()),
        Some(Err(_)) => Err(End::Cut),
        None => Err(End::InOrder),
    }
}

/// Reads on for a while and forgets it: a client that cannot read while it sends would otherwise
/// see a reset in place of the answer.
async fn linger(body: &mut Body) {
    let read = async {
        let mut left = LINGER_BYTES;
        while let Ok(chunk) = next_chunk(body).await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Late is as good as done: the connection is closed after it.
    drop(tokio::time::timeout(LINGER, read).await);
}
