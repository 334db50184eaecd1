//! What produces a run's events.

use std::{
    fmt,
    future::{self, Future},
    pin::Pin,
};

use futures_core::Stream;
use futures_util::{FutureExt, future::Shared};
use serde_json::Value;

use crate::{
    event::Event,
    id::{AgentName, RunId, SessionId},
    options::ModelOptions,
    run::{InterruptionCause, RunError, StopReason},
};

/// A producer of events. Knows neither seqs nor storage nor clients.
///
/// Implementations: a process, a recorded answer, a remote producer that appends. They are
/// shared by all runs of their agent, so they hold configuration and no run's state.
pub trait Source: Send + Sync + 'static {
    /// Where the events of its runs come from.
    fn ingress(&self) -> Ingress {
        Ingress::Stream
    }

    /// Whether deltas of one part that are ready together may become one event before they are
    /// numbered. Not where the cut between two has a meaning, as in events that others wrote.
    fn merges_deltas(&self) -> bool {
        false
    }

    /// How much of its session's conversation a run is told in [`RunInput::history`], in bytes of
    /// JSON; 0 for none of it.
    fn history_bytes(&self) -> usize {
        0
    }

    /// The parameters of a start that ask for what a client of a model's API asks for; null where
    /// the source has no model. What it has no words for is left out, unless the answer would be
    /// another one: then it fails with a message for a person.
    fn params(&self, options: &ModelOptions) -> Result<Value, String> {
        let _ = options;
        Ok(Value::Null)
    }

    /// Whether a run can be started with these parameters. Called before anything of the run is
    /// stored; an error refuses the start, and its message is shown.
    fn check(&self, params: &Value) -> Result<(), RunError> {
        let _ = params;
        Ok(())
    }

    /// Begins a run. Called once a run, never before the run is durable.
    ///
    /// The stream does the work as it is polled. It ends after [`Inbound::Finished`],
    /// [`Inbound::Failed`] or [`Inbound::Interrupted`]; an end without one of them counts as
    /// failed. When `stop` fires it cleans up, may still give events, and ends; the engine polls
    /// it to that end, or drops it when the time for clean-up is over, and dropping must release
    /// whatever it holds. A stop may have fired before the first poll.
    fn start(&self, input: RunInput, stop: StopSignal) -> InboundStream;

    /// Releases a [`Inbound::Resource`] that a run of a server which is gone may have left
    /// behind. Called by recovery before the run's terminal is written.
    fn release<'a>(&'a self, resource: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let _ = resource;
        Box::pin(future::ready(()))
    }
}

/// Where the events of a source's runs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// From the stream that [`Source::start`] returns.
    Stream,
    /// From appends of a producer outside, which holds a lease.
    Append,
}

/// The stream of a run's events.
pub type InboundStream = Pin<Box<dyn Stream<Item = Inbound> + Send>>;

/// What a source gives.
#[derive(Clone, Debug)]
pub enum Inbound {
    /// An event of the run.
    Event(Event),
    /// A sign of life without content: renews the idle limit.
    Progress,
    /// Something outside this process that the run holds from now on, named so that
    /// [`Source::release`] of a later process can release it.
    Resource(String),
    /// The end, in order.
    Finished {
        /// Why the model stopped.
        finish_reason: Option<String>,
        /// What it cost.
        usage: Option<Value>,
    },
    /// The end, by an error.
    Failed(RunError),
    /// The end, cut off.
    Interrupted(InterruptionCause),
}

impl Inbound {
    /// About how many bytes it takes in the run's stream.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Event(event) => event.json().len(),
            Self::Resource(name) => name.len(),
            Self::Progress | Self::Finished { .. } | Self::Failed(_) | Self::Interrupted(_) => 0,
        }
    }
}

/// What a run is started with.
#[derive(Clone, Debug)]
pub struct RunInput {
    /// The run.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// The agent that was asked for.
    pub agent: AgentName,
    /// What the user said: a string, a list of parts or a list of messages; null for nothing.
    pub input: Value,
    /// What was said in the session before, the oldest first, each `{"role", "parts"}`, as
    /// [`Conversation`](crate::Conversation) makes it. Empty where the input brings its own.
    pub history: Vec<Value>,
    /// Parameters of this start for the source, an object; each source documents its own.
    pub params: Value,
}

/// Tells a source that its run is to stop. Cheap to clone; fires once and stays fired.
#[derive(Clone)]
pub struct StopSignal(Shared<Pin<Box<dyn Future<Output = StopReason> + Send>>>);

impl StopSignal {
    /// Fires when `stopped` completes.
    pub fn new(stopped: impl Future<Output = StopReason> + Send + 'static) -> Self {
        let boxed: Pin<Box<dyn Future<Output = StopReason> + Send>> = Box::pin(stopped);
        Self(boxed.shared())
    }

    /// Never fires.
    pub fn never() -> Self {
        Self::new(future::pending())
    }

    /// Waits for the stop and tells its reason.
    pub async fn stopped(&self) -> StopReason {
        self.0.clone().await
    }
}

impl fmt::Debug for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopSignal").field(&self.0.peek()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_fires_for_every_clone_and_stays_fired() {
        let signal = StopSignal::new(future::ready(StopReason::User));
        let clone = signal.clone();
        assert_eq!(signal.stopped().now_or_never(), Some(StopReason::User));
        assert_eq!(clone.stopped().now_or_never(), Some(StopReason::User));
        assert_eq!(clone.stopped().now_or_never(), Some(StopReason::User));
        assert_eq!(StopSignal::never().stopped().now_or_never(), None);
    }
}
