//! The owner of a run: the one task that decides how it ends (E1) and that its source is cleaned
//! up whatever happens (E3).

use std::{future::poll_fn, panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Duration};

use futures_util::StreamExt;
use segue_core::{
    Event, EventKind, Inbound, InboundStream, InterruptionCause, Outcome, RunInput, Source,
    StopReason,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{Command, LastWords, Phase, Run, log::bytes_needed, merge::merge, timers::Expired};
use crate::{
    append::{AppendError, Appended},
    engine::Settings,
};

/// How many events that are ready together become one batch, and about how many bytes of them.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// Drives a run to its end. When it returns, the terminal is durable or the journal is gone.
pub(crate) async fn own(
    run: Arc<Run>,
    source: Arc<dyn Source>,
    input: RunInput,
    inbox: mpsc::Receiver<Command>,
    settings: &Settings,
) {
    let stop = run.stop_signal();
    let merges = source.merges_deltas();
    let started = std::panic::catch_unwind(AssertUnwindSafe(|| source.start(input, stop)));
    let mut owner = Owner {
        run: &run,
        inbox,
        settings,
        closing: None,
        source: None,
        merges,
        ready: Vec::new(),
    };
    let ending = match started {
        Ok(stream) => {
            owner.source = Some(stream);
            owner.drive().await
        }
        Err(_) => Ending::Decided(source_panicked()),
    };
    owner.finish(ending).await;
}

struct Owner<'a> {
    run: &'a Run,
    inbox: mpsc::Receiver<Command>,
    settings: &'a Settings,
    /// Set once it is decided that the run ends while its source still cleans up.
    closing: Option<Closing>,
    /// The source, until its end.
    source: Option<InboundStream>,
    /// Whether its deltas may be merged.
    merges: bool,
    /// What it gave and is not taken yet.
    ready: Vec<Inbound>,
}

/// A run that ends, waiting for its source.
struct Closing {
    outcome: Outcome,
    deadline: Instant,
    /// Whether what the source still gives is kept.
    keeps_events: bool,
}

/// How far the end of a run has come.
enum Ending {
    /// The terminal is to be written.
    Decided(Outcome),
    /// The terminal was written with the producer's last words.
    Written(Outcome),
    /// The engine goes down and the run goes on with the next one.
    Left,
}

fn source_panicked() -> Outcome {
    metrics::counter!("segue_source_panics_total").increment(1);
    Outcome::failed("source_panicked", "the source broke down")
}

impl Owner<'_> {
    async fn drive(&mut self) -> Ending {
        loop {
            let timer = self.next_timer();
            let at = timer.map_or_else(Instant::now, |(at, _)| at);
            let ending = tokio::select! {
                biased;
                Some(command) = self.inbox.recv() => self.obey(command).await,
                () = tokio::time::sleep_until(at), if timer.is_some() => self.expire(timer),
                more = ready(self.source.as_mut(), &mut self.ready), if self.source.is_some() => {
                    self.take(more).await
                }
            };
            if let Some(ending) = ending {
                return ending;
            }
        }
    }

    /// What runs out next: the grace of a run that ends, else its own clocks.
    fn next_timer(&self) -> Option<(Instant, Option<Expired>)> {
        match &self.closing {
            Some(closing) => Some((closing.deadline, None)),
            None => {
                let next = self.run.activity.next(&self.run.facts.limits, self.run.takes_appends);
                next.map(|(at, expired)| (at, Some(expired)))
            }
        }
    }

    fn expire(&mut self, timer: Option<(Instant, Option<Expired>)>) -> Option<Ending> {
        match timer?.1 {
            None => {
                metrics::counter!("segue_clean_up_timeouts_total").increment(1);
                self.closing.take().map(|closing| Ending::Decided(closing.outcome))
            }
            Some(_) => {
                // A sign of life may have come after the timer was set.
                let limits = &self.run.facts.limits;
                let (at, expired) = self.run.activity.next(limits, self.run.takes_appends)?;
                if at > Instant::now() { None } else { self.run_out(expired) }
            }
        }
    }

    fn run_out(&mut self, expired: Expired) -> Option<Ending> {
        match expired {
            Expired::WallClock => self.stop(StopReason::WallClock, None, None),
            Expired::Idle => self.stop(StopReason::Idle, None, None),
            Expired::Lease => {
                metrics::counter!("segue_leases_lost_total").increment(1);
                let cause = InterruptionCause::LeaseLost;
                return Some(Ending::Decided(Outcome::Interrupted { cause }));
            }
        };
        None
    }

    async fn obey(&mut self, command: Command) -> Option<Ending> {
        match command {
            Command::Stop(stop) if self.run.is_left_by(&stop) => {
                stop.answer(false);
                Some(Ending::Left)
            }
            Command::Stop(stop) => {
                let is_first = self.stop(stop.reason, stop.by.clone(), stop.grace);
                let is_accepted = is_first && self.run.keep_stop(&stop).await;
                stop.answer(is_accepted);
                None
            }
            Command::End(words) => self.end_with(words).await,
        }
    }

    /// Writes a producer's last words with the terminal. Refused words leave the run as it is.
    async fn end_with(&mut self, words: LastWords) -> Option<Ending> {
        let outcome = self.outcome_after(words.outcome);
        let result = self.run.end_with(&words.events, &outcome, words.claim.as_ref()).await;
        let is_written = result.is_ok();
        // The producer may have gone; what was written stands.
        let stop_requested = self.closing.is_some();
        let appended = |committed| Appended { stop_requested, ..Appended::from(&committed) };
        drop(words.answer.send(result.map(appended)));
        is_written.then_some(Ending::Written(outcome))
    }

    /// Accepts a stop. Whether it was the first: from then on the terminal is `run.stopped`.
    fn stop(&mut self, reason: StopReason, by: Option<String>, grace: Option<Duration>) -> bool {
        if let Some(closing) = &mut self.closing {
            // The first stop says why; a later one can only shorten the grace.
            let at_most = grace.map(|grace| Instant::now() + grace);
            closing.deadline = at_most.map_or(closing.deadline, |at| at.min(closing.deadline));
            return false;
        }
        let outcome = Outcome::Stopped { reason, by, source_outcome: None };
        self.close(outcome, grace.unwrap_or(self.settings.grace), true);
        self.run.enter(Phase::Stopping(reason));
        true
    }

    fn close(&mut self, outcome: Outcome, grace: Duration, keeps_events: bool) {
        let deadline = Instant::now() + grace;
        self.closing = Some(Closing { outcome, deadline, keeps_events });
    }

    /// What the terminal says when the source ends by itself with `outcome`.
    fn outcome_after(&self, outcome: Outcome) -> Outcome {
        match self.closing.as_ref().map(|closing| &closing.outcome) {
            None => outcome,
            Some(Outcome::Stopped { reason, by, .. }) => {
                let mut said = outcome.to_json(&self.run.facts.message);
                if let Some(fields) = said.as_object_mut() {
                    fields.remove("message_id");
                }
                let source_outcome = Some(said);
                Outcome::Stopped { reason: *reason, by: by.clone(), source_outcome }
            }
            Some(decided) => decided.clone(),
        }
    }

    /// Takes what the source gave, in its order, and then its end.
    async fn take(&mut self, more: More) -> Option<Ending> {
        let items = std::mem::take(&mut self.ready);
        let (events, end) = self.sort_out(items);
        let events = if self.merges { merge(events, self.run.event_bytes) } else { events };
        self.append(events).await;
        if let Some(outcome) = end {
            return Some(Ending::Decided(self.outcome_after(outcome)));
        }
        match more {
            More::Perhaps => None,
            More::Never => {
                self.source = None;
                self.source_left()
            }
            More::Panicked => {
                self.source = None;
                Some(Ending::Decided(self.outcome_after_silence(source_panicked())))
            }
        }
    }

    /// The source's stream is over without a word.
    fn source_left(&mut self) -> Option<Ending> {
        if self.run.takes_appends {
            // Its producer is outside and may still speak.
            return None;
        }
        let silent = Outcome::failed("source_ended", "the source ended without an outcome");
        Some(Ending::Decided(self.outcome_after_silence(silent)))
    }

    /// A source that was asked to stop and said nothing of its own end has no `source_outcome`.
    fn outcome_after_silence(&mut self, otherwise: Outcome) -> Outcome {
        self.closing.take().map_or(otherwise, |closing| closing.outcome)
    }

    fn sort_out(&mut self, items: Vec<Inbound>) -> (Vec<Event>, Option<Outcome>) {
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            let end = match item {
                Inbound::Event(event) if event.kind().is_terminal() => {
                    let unread = || Outcome::failed("bad_terminal", "the end cannot be read");
                    Some(outcome_of(&event).unwrap_or_else(unread))
                }
                Inbound::Event(event) if event.json().len() > self.run.event_bytes => {
                    let max = self.run.event_bytes;
                    let message = format!("an event has more than {max} bytes");
                    Some(Outcome::failed("event_too_large", message))
                }
                Inbound::Event(event) => {
                    events.push(event);
                    None
                }
                Inbound::Progress => {
                    self.run.activity.event();
                    None
                }
                Inbound::Resource(name) => {
                    events.push(Event::build(&json!({"type": "run.resource", "resource": name})));
                    None
                }
                Inbound::Finished { finish_reason, usage } => {
                    Some(Outcome::Finished { finish_reason, usage })
                }
                Inbound::Failed(error) => Some(Outcome::Failed { error }),
                Inbound::Interrupted(cause) => Some(Outcome::Interrupted { cause }),
            };
            if end.is_some() {
                return (events, end);
            }
        }
        (events, None)
    }

    /// Journals what the source gave. When the journal refuses, the run is ended: its source is
    /// told to stop, and what it did is not done again.
    ///
    /// Of events over the run's limit those before it are kept, and the run is stopped.
    async fn append(&mut self, mut events: Vec<Event>) {
        let wanted = self.closing.as_ref().is_none_or(|closing| closing.keeps_events);
        if events.is_empty() || !wanted {
            return;
        }
        let fitting = self.run.fitting(&events);
        let over_limit = fitting < events.len();
        events.truncate(fitting);
        if let Err(error) = journal(self.run, events).await {
            tracing::error!(run = %self.run.facts.run, %error, "the run's events were refused");
            return self.cannot_store();
        }
        if over_limit {
            self.stop(StopReason::Limit, None, None);
        }
    }

    /// The run ends, as it was decided before, or else as failed. Nothing more of it is kept.
    fn cannot_store(&mut self) {
        if let Some(closing) = &mut self.closing {
            closing.keeps_events = false;
            return;
        }
        let outcome = Outcome::failed("journal", "the server could not store the run");
        self.close(outcome, self.settings.grace, false);
        self.run.enter(Phase::Failing);
    }

    /// Releases the source, writes the terminal, then tells.
    async fn finish(mut self, ending: Ending) {
        self.source = None;
        match ending {
            Ending::Written(outcome) => self.run.enter(Phase::Ended(outcome)),
            Ending::Decided(outcome) => self.run.end_as_is(outcome).await,
            Ending::Left => {}
        }
        self.run.answer_rest(self.inbox).await;
    }
}

async fn journal(run: &Run, events: Vec<Event>) -> Result<(), AppendError> {
    if events.is_empty() {
        return Ok(());
    }
    let permit = run.journal.reserve(&run.stream, bytes_needed(&events)).await?;
    let ticket = run.submit(permit, events, None)?;
    ticket.await.map(drop).map_err(|error| {
        run.log().mark_stale();
        error.into()
    })
}

/// Whether a source will give more.
enum More {
    Perhaps,
    Never,
    Panicked,
}

/// Waits for the source and moves all that it has ready, up to a chunk, into `ready`. What it
/// gave before a panic is kept.
async fn ready(source: Option<&mut InboundStream>, ready: &mut Vec<Inbound>) -> More {
    let Some(source) = source else { return More::Never };
    let mut bytes = 0;
    poll_fn(|cx| {
        while ready.len() < CHUNK && bytes < CHUNK_BYTES {
            match std::panic::catch_unwind(AssertUnwindSafe(|| source.poll_next_unpin(cx))) {
                Ok(Poll::Ready(Some(inbound))) => {
                    bytes += inbound.bytes();
                    ready.push(inbound);
                }
                Ok(Poll::Ready(None)) => return Poll::Ready(More::Never),
                Ok(Poll::Pending) if ready.is_empty() => return Poll::Pending,
                Ok(Poll::Pending) => break,
                Err(_) => return Poll::Ready(More::Panicked),
            }
        }
        Poll::Ready(More::Perhaps)
    })
    .await
}

/// The outcome that a terminal event from a source asks for.
pub(crate) fn outcome_of(event: &Event) -> Option<Outcome> {
    if !matches!(event.kind(), EventKind::RunFinished | EventKind::RunFailed) {
        return None;
    }
    serde_json::from_slice::<Value>(event.json()).ok().as_ref().and_then(Outcome::from_json)
}
