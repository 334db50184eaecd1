//! One run of a command.

use std::{io, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt;
use segue_core::{Inbound, RunError, StopSignal};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdout},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    ProcessSource,
    link::Link,
    output::{Decoded, Output},
    stderr::Stderr,
    survivor::Survivor,
    tree,
    wire::Word,
};

/// The most that is read at once. Less may be ready; all that is becomes one read.
const STDOUT_READ: usize = 32 << 10;
/// In JSON a byte of text has at most six, so an event of one read stays within this part of its
/// cap.
const READ_PART_OF_EVENT: usize = 8;
const STDERR_READ: usize = 8 << 10;

/// Once the guard is gone nobody should hold the pipes. Where somebody does all the same, they
/// are given up when they give nothing for so long.
const DRAIN: Duration = Duration::from_secs(2);

/// The stream of a run, before it is one. Does nothing until it is asked for the first time.
pub(super) struct ProcessRun {
    source: ProcessSource,
    stop: StopSignal,
    state: State,
}

/// In the order of transitions.
enum State {
    Idle,
    Live(Box<Live>),
    Done,
}

impl ProcessRun {
    pub(super) fn new(source: ProcessSource, stop: StopSignal) -> Self {
        Self { source, stop, state: State::Idle }
    }

    pub(super) async fn next(&mut self) -> Option<Inbound> {
        loop {
            match &mut self.state {
                State::Idle if self.stop.stopped().now_or_never().is_some() => {
                    self.state = State::Done;
                }
                State::Idle => match Live::begin(&self.source) {
                    Ok(live) => self.state = State::Live(Box::new(live)),
                    Err(error) => return Some(self.not_begun(&error)),
                },
                State::Live(live) => {
                    if let Some(inbound) = live.ready() {
                        return Some(inbound);
                    }
                    if live.is_over() {
                        let end = live.end(self.source.spec.program()).await;
                        self.state = State::Done;
                        return end;
                    }
                    live.step(&self.stop).await;
                }
                State::Done => return None,
            }
        }
    }

    fn not_begun(&mut self, error: &io::Error) -> Inbound {
        tracing::error!(%error, "a guard could not be started");
        self.state = State::Done;
        spawn_failed(self.source.spec.program(), "its guard did not start")
    }
}

/// A run whose guard was started.
struct Live {
    guard: Child,
    /// `None` once the guard is gone.
    link: Option<Link>,
    pipes: Pipes,
    output: Output,
    stderr: Stderr,
    survivor: Survivor,
    /// The resource is given before anything else, so nothing is read before it is known.
    announced: bool,
    resource: Option<Inbound>,
    /// How the command ended, in the guard's word.
    last_word: Option<Word>,
    /// How the command itself said that it ends. It is given after it did.
    terminal: Option<Inbound>,
    grace: Duration,
    /// When a command that said its end is asked to come to it.
    stop_at: Option<Instant>,
    /// The run was stopped.
    stopped: bool,
}

impl Live {
    fn begin(source: &ProcessSource) -> io::Result<Self> {
        let (link, mut guard) = Link::spawn(source)?;
        // The guard is not reaped while `guard` is held, so this is its own.
        let pid = guard.id().and_then(|pid| i32::try_from(pid).ok());
        let process = pid.and_then(tree::read).ok_or(io::ErrorKind::NotFound)?;
        let limits = source.limits;
        let event_bytes = or_none(limits.event_bytes, usize::MAX);
        let read = (event_bytes / READ_PART_OF_EVENT).clamp(64, STDOUT_READ);
        Ok(Self {
            pipes: Pipes {
                stdout: guard.stdout.take(),
                stderr: guard.stderr.take(),
                stdout_buffer: BytesMut::with_capacity(read),
                stderr_buffer: BytesMut::with_capacity(STDERR_READ),
            },
            guard,
            link: Some(link),
            output: Output::new(source.spec.format, event_bytes),
            stderr: Stderr::new(or_none(limits.stderr_bytes, u64::MAX)),
            survivor: Survivor::of_guard(process.id),
            announced: false,
            resource: None,
            last_word: None,
            terminal: None,
            grace: limits.grace,
            stop_at: None,
            stopped: false,
        })
    }

    /// What can be given without waiting.
    fn ready(&mut self) -> Option<Inbound> {
        if let Some(inbound) = self.resource.take().or_else(|| self.stderr.next()) {
            return Some(inbound);
        }
        loop {
            match self.output.next()? {
                Decoded::Inbound(inbound) => return Some(inbound),
                Decoded::End(terminal) => self.end_by(terminal, self.grace),
                Decoded::Broken(error) => self.end_by(Inbound::Failed(error), Duration::ZERO),
            }
        }
    }

    /// The run will end by `terminal` when the command has ended, for which it has `time`.
    fn end_by(&mut self, terminal: Inbound, time: Duration) {
        self.terminal = Some(terminal);
        self.stop_at = Instant::now().checked_add(time);
    }

    /// Whether nothing more can come.
    fn is_over(&self) -> bool {
        self.link.is_none() && self.pipes.are_closed()
    }

    /// Waits for one thing and deals with it.
    async fn step(&mut self, stop: &StopSignal) {
        let stop_at = self.stop_at;
        tokio::select! {
            biased;
            _ = stop.stopped(), if !self.stopped => {
                self.stopped = true;
                self.ask_to_stop().await;
            }
            word = hear(&mut self.link) => self.heard(word).await,
            chunk = self.pipes.read(), if self.announced => self.take(chunk),
            () = sleep_until(stop_at.unwrap_or_else(Instant::now)), if stop_at.is_some() => {
                self.ask_to_stop().await;
            }
            () = sleep(DRAIN), if self.link.is_none() => {
                tracing::warn!("a pipe of a command that has ended is held open");
                metrics::counter!("segue_source_pipes_given_up_total").increment(1);
                self.pipes.close();
                self.close_readers();
            }
        }
    }

    async fn ask_to_stop(&mut self) {
        self.stop_at = None;
        if let Some(link) = &mut self.link {
            link.ask_to_stop().await;
        }
    }

    async fn heard(&mut self, word: Option<Word>) {
        match word {
            Some(Word::Started(command)) => {
                self.survivor = self.survivor.with_command(command);
                self.resource = Some(Inbound::Resource(self.survivor.to_string()));
                self.announced = true;
            }
            Some(word) => self.last_word = Some(word),
            None => {
                self.link = None;
                self.announced = true;
                if self.last_word.is_none() {
                    tracing::error!("the guard of a command was killed");
                    metrics::counter!("segue_source_guards_lost_total").increment(1);
                    self.survivor.end().await;
                }
            }
        }
    }

    fn take(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Stdout => self.output.feed(&self.pipes.stdout_buffer),
            Chunk::Stderr => self.stderr.feed(&self.pipes.stderr_buffer),
            Chunk::StdoutEnd => self.output.finish(),
            Chunk::StderrEnd => self.stderr.finish(),
        }
    }

    fn close_readers(&mut self) {
        self.output.finish();
        self.stderr.finish();
    }

    /// How the run ended; nothing where it was stopped and the command had no word of its own.
    async fn end(&mut self, program: &str) -> Option<Inbound> {
        if timeout(DRAIN, self.guard.wait()).await.is_err() {
            tracing::warn!("a guard closed its socket and did not end");
        }
        let failed = |code: &str, message| Some(Inbound::Failed(RunError::new(code, message)));
        if let Some(terminal) = self.terminal.take() {
            return Some(terminal);
        }
        match self.last_word {
            Some(Word::Refused(refusal)) => Some(spawn_failed(program, refusal.reason())),
            _ if self.stopped => None,
            Some(Word::Exited(0)) => {
                Some(Inbound::Finished { finish_reason: Some("stop".into()), usage: None })
            }
            Some(Word::Exited(code)) => {
                failed("exit_status", format!("the command exited with code {code}"))
            }
            Some(Word::Killed(signal)) => {
                failed("exit_status", format!("the command was ended by signal {signal}"))
            }
            Some(Word::Started(_)) | None => {
                failed("guard_lost", "the guard of the command was killed".to_owned())
            }
        }
    }
}

fn spawn_failed(program: &str, reason: &str) -> Inbound {
    metrics::counter!("segue_source_spawn_failures_total").increment(1);
    let message = format!("the command {program:?} could not be started: {reason}");
    Inbound::Failed(RunError::new("spawn_failed", message))
}

/// A limit, where 0 is none.
fn or_none<T: Default + PartialEq>(limit: T, none: T) -> T {
    if limit == T::default() { none } else { limit }
}

/// What the guard says next. Never completes once it is gone.
async fn hear(link: &mut Option<Link>) -> Option<Word> {
    match link {
        Some(link) => link.hear().await,
        None => std::future::pending().await,
    }
}

/// The pipes of a command. A pipe that has ended is `None`.
struct Pipes {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    stdout_buffer: BytesMut,
    stderr_buffer: BytesMut,
}

/// What a read gave; the bytes are in the pipe's buffer.
#[derive(Clone, Copy)]
enum Chunk {
    Stdout,
    StdoutEnd,
    Stderr,
    StderrEnd,
}

impl Pipes {
    fn are_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    fn close(&mut self) {
        (self.stdout, self.stderr) = (None, None);
    }

    /// Reads from whichever pipe has something. Never completes when both have ended. Nothing is
    /// lost when this is dropped.
    async fn read(&mut self) -> Chunk {
        // Not biased: a pipe that always has something does not starve the other.
        tokio::select! {
            more = read_some(&mut self.stdout, &mut self.stdout_buffer) => {
                if more { Chunk::Stdout } else { Chunk::StdoutEnd }
            }
            more = read_some(&mut self.stderr, &mut self.stderr_buffer) => {
                if more { Chunk::Stderr } else { Chunk::StderrEnd }
            }
        }
    }
}

/// Reads what is ready into `buffer`; false at the pipe's end, which closes it.
async fn read_some<R: AsyncRead + Unpin>(pipe: &mut Option<R>, buffer: &mut BytesMut) -> bool {
    let Some(open) = pipe else { return std::future::pending().await };
    buffer.clear();
    // An error ends a pipe like its end does.
    let more = open.read_buf(buffer).await.is_ok_and(|bytes| bytes > 0);
    if !more {
        *pipe = None;
    }
    more
}
