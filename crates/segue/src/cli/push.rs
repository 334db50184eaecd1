//! `segue push`.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use segue_client::{Client, ClientError, Identity, Produced, StartRun};
use segue_core::{AgentName, EventKind, ProducerId, RunId, SessionId, limits::EVENT_BYTES};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    sync::watch,
};

use super::{Exit, ServerArgs, exec::new_session, say};
use crate::place::random_hex;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run to push into, created if there is none of this id [default: a new one]
    #[arg(long)]
    run: Option<RunId>,
    /// The session of a new run [default: a new one]
    #[arg(long)]
    session: Option<SessionId>,
    /// The producer's name: pushing the same lines again under it adds nothing [default: random]
    #[arg(long)]
    producer: Option<ProducerId>,
    /// The producer's epoch: a higher one starts over and shuts the lower ones out
    #[arg(long, default_value_t = 0)]
    epoch: u64,
    /// Leave the run open at the end of the input, although no --producer says that the rest may
    /// come later
    #[arg(long)]
    keep_open: bool,
    /// Finish the run at the end of the input, although --producer says that the rest may come
    /// later
    #[arg(long, conflicts_with = "keep_open")]
    finish: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client_or_new().await?;
    // The end of a pipe does not tell whether its writer was done or died. A producer with a name
    // can come back and go on where it was; nobody else can.
    let finish = args.finish || !(args.producer.is_some() || args.keep_open);
    let id = match args.producer {
        Some(id) => id,
        None => ProducerId::parse(&format!("push_{}", random_hex::<8>()?))?,
    };
    let run = open_run(&client, args.run, args.session).await?;
    say(&format!("run {run}"));
    let (stop, stopped) = watch::channel(false);
    let lines = lines(BufReader::new(tokio::io::stdin()), finish, stopped);
    let identity = Identity { id, epoch: args.epoch };
    let exit = push(client.produce(run.clone(), identity, lines), &stop).await?;
    if exit == Exit::Done && !client.run(&run).await?.status.is_terminal() {
        say(&format!("run {run} is still open: push the rest, or finish it with --finish"));
    }
    Ok(exit)
}

/// A run of the agent `push`: the one of this id if it is there, else a new one.
async fn open_run(
    client: &Client,
    run: Option<RunId>,
    session: Option<SessionId>,
) -> anyhow::Result<RunId> {
    let mut start = StartRun::of_agent(AgentName::parse("push")?);
    if let Some(run) = run {
        match client.run(&run).await {
            Ok(run) => return Ok(run.id),
            Err(error) if error.is_gone() => start = start.run_id(run),
            Err(error) => return Err(error.into()),
        }
    }
    let session = session.map_or_else(new_session, Ok)?;
    Ok(client.start(&session, &start).await?.id)
}

async fn push(
    mut items: impl Stream<Item = Result<Produced, ClientError>> + Unpin,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    while let Some(item) = items.next().await {
        match item {
            Ok(Produced::Acked { .. }) => {}
            Ok(Produced::StopRequested) => {
                say("the run is being stopped");
                stop.send_replace(true);
                exit = Exit::Stopped;
            }
            Ok(Produced::Reconnecting(lost)) => {
                if lost.attempt == 1 {
                    say(&format!("reconnecting: {}", lost.why));
                }
            }
            // Its end came before the last of the lines: that is what a stop does.
            Err(ClientError::Problem(problem))
                if exit == Exit::Stopped && problem.code == "run_ended" => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(exit)
}

/// The lines of `input` until it ends or the run is stopped; then, if `finish` or stopped, the
/// run's end, unless the last line was one.
fn lines(
    input: impl AsyncBufRead + Send + Unpin + 'static,
    finish: bool,
    stopped: watch::Receiver<bool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let reading = Some(Reading { input, finish, stopped, number: 0, last: Vec::new() });
    stream::unfold(reading, |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(line)) => Some((Ok(line), Some(reading))),
            Ok(None) => {
                let end = Bytes::from_static(br#"{"type":"run.finished"}"#);
                // A run that is to stop waits for its producer's last word.
                let finish = reading.finish || *reading.stopped.borrow();
                (finish && !is_terminal(&reading.last)).then_some((Ok(end), None))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct Reading<R> {
    input: R,
    finish: bool,
    stopped: watch::Receiver<bool>,
    number: u64,
    last: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Reading<R> {
    /// The next line that is not blank.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let mut line = Vec::new();
            tokio::select! {
                // A sender that is gone asks for nothing any more.
                Ok(_) = self.stopped.wait_for(|stopped| *stopped) => return Ok(None),
                read = read_line(&mut self.input, &mut line) => read?,
            }
            self.number += 1;
            if line.len() > EVENT_BYTES {
                let why = format!("line {} has more than {EVENT_BYTES} bytes", self.number);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            if line.is_empty() {
                return Ok(None);
            }
            if !line.trim_ascii().is_empty() {
                self.last.clone_from(&line);
                return Ok(Some(line.into()));
            }
        }
    }
}

/// Reads a line with its end; empty at the end of the input. Stops behind the cap.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf().await?;
        let end = chunk.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let len = end.unwrap_or(chunk.len());
        line.extend_from_slice(&chunk[..len]);
        input.consume(len);
        if end.is_some() || len == 0 || line.len() > EVENT_BYTES {
            return Ok(());
        }
    }
}

fn is_terminal(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        name: String,
    }
    serde_json::from_slice(line).is_ok_and(|Typed { name }| EventKind::parse(&name).is_terminal())
}

#[cfg(test)]
mod tests {
    use segue_client::Problem;

    use super::*;

    async fn read(input: &'static str, finish: bool) -> Vec<String> {
        let (_stop, stopped) = watch::channel(false);
        lines(input.as_bytes(), finish, stopped)
            .map(|line| String::from_utf8(line.unwrap().trim_ascii().to_vec()).unwrap())
            .collect()
            .await
    }

    const END: &str = r#"{"type":"run.finished"}"#;
    const FAILED: &str = r#"{"type":"run.failed","error":"x"}"#;

    #[tokio::test]
    async fn an_input_without_a_terminal_gets_one() {
        assert_eq!(read("{\"a\":1}\n\n  \n{\"b\":2}", true).await, ["{\"a\":1}", "{\"b\":2}", END]);
        assert_eq!(read("", true).await, [END]);
        assert_eq!(read("{\"a\":1}\n", false).await, ["{\"a\":1}"]);
        assert_eq!(read("{\"type\":\"run.failed\",\"error\":\"x\"}\n\n", true).await, [FAILED]);
    }

    #[tokio::test]
    async fn a_stop_ends_the_input() {
        let (stop, stopped) = watch::channel(false);
        let (_open, input) = tokio::io::duplex(64);
        let mut lines = Box::pin(lines(BufReader::new(input), true, stopped));
        stop.send_replace(true);
        assert_eq!(lines.next().await.unwrap().unwrap(), END);
        assert!(lines.next().await.is_none());
    }

    #[tokio::test]
    async fn an_endless_line_is_an_error() {
        let (_stop, stopped) = watch::channel(false);
        let input = BufReader::new(tokio::io::repeat(b'x'));
        let lines: Vec<_> = lines(input, true, stopped).collect().await;
        let [Err(error)] = &lines[..] else { panic!("{} lines", lines.len()) };
        assert!(error.to_string().starts_with("line 1 has more than"), "{error}");
    }

    fn ended() -> ClientError {
        let problem = serde_json::from_str(r#"{"code":"run_ended","status":409}"#).unwrap();
        ClientError::Problem(Box::<Problem>::new(problem))
    }

    #[tokio::test]
    async fn a_run_that_was_stopped_may_end_before_its_input() {
        let (stop, stopped) = watch::channel(false);
        let items = stream::iter([Ok(Produced::StopRequested), Err(ended())]);
        assert_eq!(push(items, &stop).await.unwrap(), Exit::Stopped);
        assert!(*stopped.borrow());
        let items = stream::iter([Err(ended())]);
        push(items, &stop).await.expect_err("nobody had asked for a stop");
    }
}
