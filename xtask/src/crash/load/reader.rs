//! A client that attaches, goes away and comes back with its cursor.

use anyhow::{Context, ensure};
use fastrand::Rng;
use memchr::memmem;
use serde_json::Value;

use super::choices;
use crate::{
    crash::{
        ledger::Seen,
        plan::Plan,
        site::{Fault, Site},
    },
    live::http::{Head, request},
};

/// How a reader asks, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crash) enum Form {
    /// SSE, the cursor in `Last-Event-ID`.
    SseHeader,
    /// SSE, the cursor in `after`.
    SseAfter,
    /// Lines, the cursor in `after`.
    Ndjson,
}

impl Form {
    fn any(rng: &mut Rng) -> Self {
        [Self::SseHeader, Self::SseAfter, Self::Ndjson][rng.usize(..3)]
    }

    fn request(self, run: &str, last: u64) -> Vec<u8> {
        let cursor = format!("{run}:{last}");
        let path = format!("/v1/runs/{run}/events");
        let after = format!("{path}?after={cursor}");
        let sse = ("accept", "text/event-stream");
        match self {
            // Without a cursor at the beginning, as a first attach is.
            Self::SseHeader if last == 0 => request("GET", &path, &[sse], b""),
            Self::SseHeader => request("GET", &path, &[sse, ("last-event-id", &cursor)], b""),
            Self::SseAfter => request("GET", &after, &[sse], b""),
            Self::Ndjson => request("GET", &after, &[("accept", "application/x-ndjson")], b""),
        }
    }
}

/// Reads a run until its terminal or until the server is gone. What it saw counts in both cases.
pub(super) async fn read(plan: &Plan, site: &Site, index: u64) -> (Seen, Result<(), Fault>) {
    let mut rng = choices(plan, index);
    let mut seen = Seen::default();
    loop {
        let form = Form::any(&mut rng);
        let patience = rng.usize(1..120);
        match attach(&plan.run, site, form, patience, &mut seen).await {
            Ok(true) => return (seen, Ok(())),
            Ok(false) => seen.returns += 1,
            Err(fault) => return (seen, Err(fault)),
        }
    }
}

/// Reads from where `seen` ends to the terminal.
pub(in crate::crash) async fn read_on(
    run: &str,
    site: &Site,
    form: Form,
    seen: &mut Seen,
) -> Result<(), Fault> {
    if attach(run, site, form, usize::MAX, seen).await? {
        return Ok(());
    }
    Err(anyhow::anyhow!("{run}: the stream ended before the terminal").into())
}

/// One connection: `true` once there will be nothing more, `false` after `patience` frames.
async fn attach(
    run: &str,
    site: &Site,
    form: Form,
    patience: usize,
    seen: &mut Seen,
) -> Result<bool, Fault> {
    let mut conn = site.connect().await?;
    let head = conn.begin(&form.request(run, seen.last())).await?;
    if is_over(run, &head, seen)? {
        return Ok(true);
    }
    let enough = seen.frames.len().saturating_add(patience);
    let mut buffer = Vec::new();
    loop {
        let more = conn.from.more(&mut buffer).await?;
        take_frames(run, form, &mut buffer, seen)?;
        if !more {
            return Ok(seen.frames.last().is_some_and(|(_, data)| is_terminal(data)));
        }
        if seen.frames.len() >= enough {
            return Ok(false);
        }
    }
}

/// Whether the answer is that nothing comes after the cursor.
fn is_over(run: &str, head: &Head, seen: &Seen) -> anyhow::Result<bool> {
    let at_end = seen.frames.last().is_some_and(|(_, data)| is_terminal(data));
    match head.status {
        204 => {
            ensure!(at_end, "{run}: 204 after {}, which is not its terminal", seen.last());
            Ok(true)
        }
        200 => Ok(false),
        status => anyhow::bail!("{run}: attach after {} got {status}", seen.last()),
    }
}

fn is_terminal(data: &str) -> bool {
    let json: Value = serde_json::from_str(data).unwrap_or_default();
    let name = json["type"].as_str().unwrap_or_default();
    matches!(name, "run.finished" | "run.stopped" | "run.failed" | "run.interrupted")
}

/// Moves whole frames from the buffer to what was seen.
fn take_frames(run: &str, form: Form, buffer: &mut Vec<u8>, seen: &mut Seen) -> anyhow::Result<()> {
    let end: &[u8] = if form == Form::Ndjson { b"\n" } else { b"\n\n" };
    let mut begin = 0;
    while let Some(length) = memmem::find(&buffer[begin..], end) {
        let text = std::str::from_utf8(&buffer[begin..begin + length])?;
        begin += length + end.len();
        let frame = if form == Form::Ndjson { line(text)? } else { block(run, text)? };
        if let Some((seq, data)) = frame {
            let last = seen.last();
            ensure!(seq == last + 1, "{run}: a reader saw {seq} after {last}: {data}");
            seen.frames.push((seq, data));
        }
    }
    buffer.drain(..begin);
    Ok(())
}

fn line(text: &str) -> anyhow::Result<Option<(u64, String)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let json: Value = serde_json::from_str(text)?;
    let seq = json["seq"].as_u64().with_context(|| format!("a line without a seq: {text}"))?;
    Ok(Some((seq, text.to_owned())))
}

/// A block with data is an event, and its id says which.
fn block(run: &str, text: &str) -> anyhow::Result<Option<(u64, String)>> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let Some(data) = field("data: ") else { return Ok(None) };
    let (seq, data) = line(data)?.with_context(|| format!("a frame without data: {text}"))?;
    let id = field("id: ").unwrap_or_default();
    ensure!(id == format!("{run}:{seq}"), "the frame of {run}:{seq} has the id {id:?}");
    Ok(Some((seq, data)))
}
