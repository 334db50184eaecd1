//! One run: asks, and reads the answer as it is polled.

use std::{mem, time::Duration};

use segue_core::{Event, Inbound, RunInput, StopSignal};
use serde_json::json;
use tokio::time::sleep;

use super::{Answer, Fault, UpstreamLimits, UpstreamSource, body::Body};

/// The longest pause that an upstream may wish for.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// A run and where it is.
pub(super) struct Exchange {
    source: UpstreamSource,
    input: RunInput,
    stop: StopSignal,
    answer: Answer,
    state: State,
    /// Requests that were sent.
    attempts: u32,
    /// To be given before the events of the answer.
    first: Option<Inbound>,
}

/// In the order of a run's life.
enum State {
    /// To be asked after a pause.
    Asking(Duration),
    Reading(Box<Body>),
    /// Everything was read; the end is given after the events.
    Ending(Inbound),
    Over,
}

impl Exchange {
    pub(super) fn new(source: UpstreamSource, input: RunInput, stop: StopSignal) -> Self {
        let answer = Answer::new(input.run.as_str(), source.spec.limits.frame_bytes);
        let state = State::Asking(Duration::ZERO);
        Self { source, input, stop, answer, state, attempts: 0, first: None }
    }

    /// The next thing of the run; `None` after its end and after a stop.
    pub(super) async fn next(&mut self) -> Option<Inbound> {
        loop {
            if let Some(given) = self.first.take() {
                return Some(given);
            }
            if let Some(event) = self.answer.next() {
                return Some(Inbound::Event(event));
            }
            let signal = self.stop.clone();
            let taken = tokio::select! {
                biased;
                _ = signal.stopped() => None,
                step = self.step() => Some(step),
            };
            match taken {
                Some(Ok(Step::Life)) => return Some(Inbound::Progress),
                Some(Ok(Step::End(end))) => return Some(end),
                Some(Err(fault)) => self.fail(fault),
                Some(Ok(Step::Over)) => return None,
                // Dropping what is being read closes the connection; what was held back comes yet.
                None => match mem::replace(&mut self.state, State::Over) {
                    State::Reading(mut body) => body.give_up(&mut self.answer),
                    State::Asking(_) | State::Ending(_) | State::Over => return None,
                },
            }
        }
    }

    async fn step(&mut self) -> Result<Step, Fault> {
        match &mut self.state {
            State::Asking(pause) => {
                sleep(*pause).await;
                self.attempts += 1;
                metrics::counter!("segue_upstream_requests_total").increment(1);
                self.state = State::Reading(Box::new(self.source.ask(&self.input).await?));
                Ok(Step::Life)
            }
            State::Reading(body) => {
                let is_over = body.read(&mut self.answer, &self.source.spec.limits).await?;
                if is_over {
                    self.answer.close()?;
                    self.state = State::Ending(self.answer.end());
                }
                Ok(Step::Life)
            }
            State::Ending(_) | State::Over => match mem::replace(&mut self.state, State::Over) {
                State::Ending(end) => Ok(Step::End(end)),
                _ => Ok(Step::Over),
            },
        }
    }

    /// Asks again if that may help and repeats nothing; else the run is over.
    fn fail(&mut self, fault: Fault) {
        let UpstreamLimits { retries, pause, .. } = self.source.spec.limits;
        let message = self.source.spec.showable(&fault.message);
        let may_retry = fault.may_pass && !self.answer.has_content() && self.attempts <= retries;
        if !may_retry {
            metrics::counter!("segue_upstream_failures_total", "code" => fault.code).increment(1);
            if let State::Reading(body) = &mut self.state {
                body.give_up(&mut self.answer);
            }
            self.state = State::Ending(fault.into_end(message));
            return;
        }
        metrics::counter!("segue_upstream_retries_total").increment(1);
        let doubled = pause.saturating_mul(1 << (self.attempts.max(1) - 1).min(16));
        self.state = State::Asking(fault.after.unwrap_or(doubled).min(LONGEST_PAUSE));
        self.answer = Answer::new(self.input.run.as_str(), self.source.spec.limits.frame_bytes);
        self.first = Some(Inbound::Event(Event::build(
            &json!({"type": "warning", "code": "upstream_retry", "message": message}),
        )));
    }
}

/// What a step came to.
enum Step {
    /// A sign of life, and perhaps something of the answer.
    Life,
    End(Inbound),
    Over,
}
