//! Runs whose events are the output of a command.
//!
//! A command runs under a *guard*: this same binary, called as `<guard> __guard ...`, which holds
//! one end of a socket as its standard input. The other end is the server's; when it closes, for
//! a stop or because the server died, the guard ends the command and everything it started.
//!
//! | module | what |
//! | --- | --- |
//! | `spec` | what a command is: its specification and its environment |
//! | `run` | one run: reads the pipes as the stream is polled |
//! | `output` | standard output to events |
//! | `stderr` | standard error to `log` events |
//! | `link`, `wire` | the server's end of the socket, and the words on it |
//! | [`guard`] | the guard's side |
//! | `tree` | processes, their descendants, and how to signal them without a mix-up |
//! | `survivor` | what a guard that was killed may leave behind, and its end |

pub mod guard;
mod link;
mod output;
mod run;
mod spec;
mod stderr;
mod survivor;
mod tree;
mod wire;

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use segue_core::{InboundStream, RunInput, Source, StopSignal, limits};

pub use self::{
    output::Format,
    spec::{ProcessSpec, SpecError},
};
use self::{run::ProcessRun, survivor::Survivor};

/// How long a command may take from TERM to KILL, unless a setting says otherwise.
pub const GRACE: Duration = Duration::from_secs(10);

/// What a [`ProcessSource`] does not let its commands exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLimits {
    /// The cap on an event, a line of NDJSON and a line of SSE, in bytes; 0 is none.
    pub event_bytes: usize,
    /// The cap on what of standard error becomes `log` events, in bytes a run; 0 is none.
    pub stderr_bytes: u64,
    /// The time from TERM to KILL.
    pub grace: Duration,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        Self { event_bytes: limits::EVENT_BYTES, stderr_bytes: limits::STDERR_BYTES, grace: GRACE }
    }
}

/// The source of runs that execute a command.
///
/// The run ends with the terminal event that the command prints, or else by its exit: `finished`
/// for 0, `failed` with the code `exit_status` for everything else. Other failures:
/// `spawn_failed`, `line_too_long`, `event_too_large`, and `guard_lost` when the guard was killed.
#[derive(Clone, Debug)]
pub struct ProcessSource {
    spec: Arc<ProcessSpec>,
    guard: PathBuf,
    limits: ProcessLimits,
}

impl ProcessSource {
    /// Runs the command of `spec` under `guard`, the path of a binary that hands what follows its
    /// argument `__guard` to [`guard::main`].
    ///
    /// Fails with [`SpecError`] when `spec` cannot be executed whatever the machine has.
    pub fn new(spec: ProcessSpec, guard: PathBuf) -> Result<Self, SpecError> {
        spec.check()?;
        Ok(Self { spec: Arc::new(spec), guard, limits: ProcessLimits::default() })
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: ProcessLimits) -> Self {
        self.limits = limits;
        self
    }
}

impl Source for ProcessSource {
    fn start(&self, _input: RunInput, stop: StopSignal) -> InboundStream {
        let next = async |mut run: ProcessRun| run.next().await.map(|inbound| (inbound, run));
        Box::pin(stream::unfold(ProcessRun::new(self.clone(), stop), next).fuse())
    }

    fn release<'a>(&'a self, resource: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            // Any other name is another source's.
            if let Some(survivor) = Survivor::parse(resource) {
                survivor.end().await;
            }
        })
    }
}
