//! How a run looks in a terminal, and what of it goes into a pipe.
//!
//! Standard output gets the text of the run and nothing else, so that a pipe gets exactly what
//! the run said. All else goes to standard error. With `--json` standard output gets the events.
//! A status line is only drawn on a terminal, on a line of its own, and erased before the next
//! output.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use segue_client::{Ended, Gap, Reconnecting, RunEvent, Snapshot};
use segue_core::{
    EventKind, RunStatus, Seq,
    fold::{Part, ProseKind},
};
use serde_json::Value;

const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";
const ERASE_LINE: &str = "\r\x1b[2K";
/// The most characters of a tool's result that are shown.
const RESULT_CHARS: usize = 120;

/// What is told beside the events.
#[derive(Debug)]
pub(super) enum Notice<'a> {
    Gap(&'a Gap),
    Lost(&'a Reconnecting),
    Ended(&'a Ended),
}

/// What the two outputs are.
#[derive(Clone, Copy, Debug)]
struct Style {
    json: bool,
    /// Standard error is a terminal: colours and the status line.
    terminal: bool,
    /// Standard output is the same terminal: an open line of one is in the way of the other.
    shared: bool,
}

/// Prints one run.
pub(super) struct Printer {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    style: Style,
    /// The last character on standard output was no line break.
    out_open: bool,
    /// The same of standard error.
    err_open: bool,
    status_drawn: bool,
    /// What the last event was.
    last: Option<EventKind>,
    events: u64,
}

impl Printer {
    /// To the outputs of this process.
    pub(super) fn of_process(json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let shared = terminal && io::stdout().is_terminal();
        let style = Style { json, terminal, shared };
        Self::new(Box::new(io::stdout()), Box::new(io::stderr()), style)
    }

    fn new(out: Box<dyn Write>, err: Box<dyn Write>, style: Style) -> Self {
        Self {
            out,
            err,
            style,
            out_open: false,
            err_open: false,
            status_drawn: false,
            last: None,
            events: 0,
        }
    }

    /// Prints an event, and what it printed is out when this returns.
    pub(super) fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        self.events += 1;
        self.last = Some(event.kind);
        self.erase_status()?;
        if self.style.json {
            self.out.write_all(&event.json)?;
            self.out.write_all(b"\n")?;
        } else {
            self.content(event)?;
        }
        self.draw_status("running")?;
        self.flush()
    }

    /// Prints what happened instead of events that cannot be given.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.erase_status()?;
        if self.style.json {
            self.out.write_all(&snapshot.json)?;
            self.out.write_all(b"\n")?;
        } else if let Some(fold) = snapshot.fold() {
            let from = fold.from_seq();
            let says = if !fold.is_partial() {
                "all of the message so far:".to_owned()
            } else if from > Seq::FIRST {
                format!("what there is of the message from event {from} on:")
            } else {
                "the message so far, large parts of it cut:".to_owned()
            };
            self.remark(YELLOW, &says)?;
            self.close_out_line()?;
            fold.message().parts.iter().try_for_each(|part| self.part(part))?;
        } else {
            let says = "the message so far is in a form of a newer server, and is not shown";
            self.remark(YELLOW, says)?;
        }
        self.flush()
    }

    fn part(&mut self, part: &Part) -> io::Result<()> {
        match part {
            Part::Prose(prose) if prose.kind == ProseKind::Text => {
                self.close_out_line()?;
                self.text(&prose.text)
            }
            Part::Prose(prose) => self.reasoning(&prose.text).and_then(|()| self.close_err_line()),
            Part::Call(call) => self.remark(DIM, &format!("> {}", call.name)),
            Part::Whole(_) => Ok(()),
        }
    }

    /// Prints what is no event.
    pub(super) fn notice(&mut self, notice: &Notice<'_>) -> io::Result<()> {
        self.erase_status()?;
        match notice {
            Notice::Gap(gap) => {
                let says = String::from_utf8_lossy(&gap.json);
                self.remark(YELLOW, &format!("events after {} are missing: {says}", gap.after))?;
            }
            Notice::Lost(lost) if self.style.terminal => {
                let status = format!("reconnecting ({}): {}", lost.attempt, lost.why);
                self.draw_status(&status)?;
            }
            Notice::Lost(lost) if lost.attempt == 1 => {
                self.remark("", &format!("reconnecting: {}", lost.why))?;
            }
            Notice::Lost(_) => {}
            Notice::Ended(ended) => self.ended(ended)?,
        }
        self.flush()
    }

    /// Leaves the terminal on a line of its own.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.erase_status()?;
        self.close_err_line()?;
        if self.style.shared {
            self.close_out_line()?;
        }
        self.flush()
    }

    fn content(&mut self, event: &RunEvent) -> io::Result<()> {
        let fields = event.fields();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        match event.kind {
            // A part begins on a line of its own; a last line without an end stays as it is.
            EventKind::TextStart => self.close_out_line(),
            EventKind::TextDelta => self.text(text("text")),
            EventKind::ReasoningDelta => self.reasoning(text("text")),
            EventKind::ReasoningEnd => self.close_err_line(),
            EventKind::Log => self.remark("", text("text").trim_end_matches(['\n', '\r'])),
            EventKind::ToolCallStarted => self.remark(DIM, &format!("> {}", text("name"))),
            EventKind::ToolResult => self.remark(DIM, &format!("< {}", tool_result(&fields))),
            EventKind::Warning => self.remark(YELLOW, &format!("warning: {}", text("message"))),
            EventKind::File | EventKind::Source => self.remark(DIM, text("url")),
            EventKind::RunFailed => {
                let message = fields.pointer("/error/message").and_then(Value::as_str);
                self.remark(RED, &format!("failed: {}", message.unwrap_or("no reason was given")))
            }
            _ => Ok(()),
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.style.shared {
            self.close_err_line()?;
        }
        self.out.write_all(text.as_bytes())?;
        self.out_open = !text.ends_with('\n');
        Ok(())
    }

    fn reasoning(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.style.shared {
            self.close_out_line()?;
        }
        self.coloured(DIM, text)?;
        self.err_open = !text.ends_with('\n');
        Ok(())
    }

    /// A line of its own on standard error.
    fn remark(&mut self, colour: &str, line: &str) -> io::Result<()> {
        self.close_err_line()?;
        if self.style.shared {
            self.close_out_line()?;
        }
        self.coloured(colour, line)?;
        self.err.write_all(b"\n")
    }

    fn coloured(&mut self, colour: &str, text: &str) -> io::Result<()> {
        if self.style.terminal && !colour.is_empty() {
            write!(self.err, "{colour}{text}{RESET}")
        } else {
            self.err.write_all(text.as_bytes())
        }
    }

    fn ended(&mut self, ended: &Ended) -> io::Result<()> {
        let mut line = ended.status.as_str().to_owned();
        if let Some(reason) = &ended.reason {
            // Writing to memory that grows does not fail.
            write!(line, " ({reason})").unwrap_or_default();
        }
        match ended.status {
            // In a pipe a plain end needs no words.
            RunStatus::Finished if !self.style.terminal => Ok(()),
            // Its event was shown, with more words.
            RunStatus::Failed if self.last == Some(EventKind::RunFailed) => Ok(()),
            RunStatus::Finished => self.remark(DIM, &line),
            _ => self.remark(YELLOW, &line),
        }
    }

    fn close_out_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.out_open) { self.out.write_all(b"\n") } else { Ok(()) }
    }

    fn close_err_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.err_open) { self.err.write_all(b"\n") } else { Ok(()) }
    }

    fn draw_status(&mut self, status: &str) -> io::Result<()> {
        let open = self.err_open || (self.style.shared && self.out_open);
        if open || !self.style.terminal {
            return Ok(());
        }
        self.status_drawn = true;
        let events = self.events;
        write!(self.err, "{DIM}{status} - {events} events{RESET}")
    }

    fn erase_status(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.status_drawn) {
            self.err.write_all(ERASE_LINE.as_bytes())?;
            // Before standard output, which may be the same terminal.
            self.err.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

/// The first line of what a tool gave, shortened.
fn tool_result(fields: &Value) -> String {
    let output = fields.get("error").filter(|error| !error.is_null());
    let text = match output.or_else(|| fields.get("output")) {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(RESULT_CHARS).collect();
    if shown.len() < text.trim_end().len() {
        shown.push_str(" ...");
    }
    shown
}

#[cfg(test)]
mod tests;
