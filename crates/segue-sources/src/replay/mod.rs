//! Recorded answers, given again at their pace.
//!
//! Parameters of a start (`params`), all optional:
//!
//! | key | value |
//! | --- | --- |
//! | `speed` | a number: 10 is ten times as fast; 0 is without any pause; 1 by default |
//! | `repeat` | an integer from 1 to 1,000,000: how often the text part comes, each time as a part of its own, so that a run can be made long; 1 by default |
//!
//! Anything else ends the run `failed` with the code `bad_params`.

mod params;
mod recording;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use segue_core::{Inbound, InboundStream, RunError, RunInput, Source, StopSignal};
use serde_json::Value;
use tokio::time::Instant;

use self::params::Params;
pub use self::recording::{Recording, RecordingError};

/// The longest pause between two events, however slow the speed.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// The source of runs that replay a recording.
#[derive(Clone, Debug)]
pub struct ReplaySource {
    recording: Arc<Recording>,
}

impl ReplaySource {
    /// Replays `recording`.
    pub fn new(recording: Recording) -> Self {
        Self { recording: Arc::new(recording) }
    }

    /// Replays the built-in answer: reasoning, a tool call, Markdown and usage, about 20 seconds.
    pub fn demo() -> Self {
        Self::new(Recording::demo())
    }
}

impl Source for ReplaySource {
    fn check(&self, params: &Value) -> Result<(), RunError> {
        Params::read(params).map(drop)
    }

    fn start(&self, input: RunInput, stop: StopSignal) -> InboundStream {
        match Params::read(&input.params) {
            Err(error) => Box::pin(stream::iter([Inbound::Failed(error)]).fuse()),
            Ok(params) => {
                let playback = Playback::new(self.recording.clone(), params, stop);
                let next = async |mut playback: Playback| {
                    playback.next().await.map(|inbound| (inbound, playback))
                };
                Box::pin(stream::unfold(playback, next).fuse())
            }
        }
    }
}

/// One run's place in its recording.
struct Playback {
    recording: Arc<Recording>,
    params: Params,
    stop: StopSignal,
    /// The next step.
    at: usize,
    /// Which time the text part is given, from 1.
    round: u32,
    /// When the event before was due. Pauses are counted from there and not from when it was
    /// taken, so that the whole keeps its pace.
    due: Option<Instant>,
}

impl Playback {
    fn new(recording: Arc<Recording>, params: Params, stop: StopSignal) -> Self {
        Self { recording, params, stop, at: 0, round: 1, due: None }
    }

    async fn next(&mut self) -> Option<Inbound> {
        let (pause, inbound) = self.step()?;
        let due = self.due.unwrap_or_else(Instant::now) + self.scaled(pause);
        self.due = Some(due);
        let no_pauses = self.params.speed == 0.0;
        tokio::select! {
            biased;
            _ = self.stop.stopped() => None,
            () = tokio::time::sleep_until(due), if !no_pauses => Some(inbound),
            // A stream that is always ready would keep its worker from all others.
            () = tokio::task::coop::consume_budget(), if no_pauses => Some(inbound),
        }
    }

    fn step(&mut self) -> Option<(Duration, Inbound)> {
        let text = self.recording.text();
        if self.at == text.end && self.round < self.params.repeat {
            self.round += 1;
            self.at = text.start;
        }
        let step = self.recording.steps().get(self.at)?;
        self.at += 1;
        Some((step.pause, step.inbound(self.round)))
    }

    fn scaled(&self, pause: Duration) -> Duration {
        Duration::try_from_secs_f64(pause.as_secs_f64() / self.params.speed)
            .map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests;
