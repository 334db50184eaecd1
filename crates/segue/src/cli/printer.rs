//! How a run looks in a terminal, and what of it goes into a pipe.
//!
//! Standard output gets the text of the run and nothing else, so that a pipe gets exactly what
//! the run said. All else goes to standard error. With `--json` standard output gets the events.
//!
//! On a terminal there may be one lively line: a tool call that fills, or what is being waited
//! for. It is drawn where nothing else is open, never wraps, and is erased before anything else
//! is printed; what was printed is never touched again.

mod tools;

use std::io::{self, Write};

use segue_client::{Ended, Gap, Reconnecting, RunEvent, Snapshot};
use segue_core::{
    EventKind, RunStatus, Seq,
    fold::{Part, ProseKind},
};
use serde_json::Value;

use super::{
    look::{Look, Text},
    render::{
        Flow, Markdown, Style,
        calls::{self, Call},
        clean::{self, Clean},
    },
};

const ERASE_LINE: &str = "\r\x1b[2K";
/// The widest rows of words; longer ones are hard to read.
const WIDEST: usize = 100;

/// What is told beside the events.
#[derive(Debug)]
pub(super) enum Notice<'a> {
    Gap(&'a Gap),
    Lost(&'a Reconnecting),
    Ended(&'a Ended),
}

/// What stands together, set apart from the rest by an empty row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Text,
    Reasoning,
    Calls,
}

/// What a run is to what else is on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Alone,
    /// The answer to what was typed: the prompt that follows says that it has ended.
    Answer,
    /// An answer of before: what the user said is shown first.
    Past,
}

/// Prints one run.
pub(super) struct Printer {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    look: Look,
    markdown: Markdown,
    clean: Clean,
    /// Reasoning on a terminal.
    aside: Flow,
    aside_clean: Clean,
    section: Option<Section>,
    /// The last character on standard output was no line break.
    out_open: bool,
    /// The same of standard error.
    err_open: bool,
    /// The lively line is on the screen.
    drawn: bool,
    /// The call that the lively line shows.
    call: Option<Call>,
    /// Calls whose lines were left before their results came.
    left: Vec<Call>,
    role: Role,
    /// What the last event was.
    last: Option<EventKind>,
}

impl Printer {
    /// To the outputs of this process.
    pub(super) fn of_process(look: Look) -> Self {
        Self::new(Box::new(io::stdout()), Box::new(io::stderr()), look)
    }

    /// The same, as a part of a chat.
    pub(super) fn in_chat(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    fn new(out: Box<dyn Write>, err: Box<dyn Write>, look: Look) -> Self {
        let width = (look.columns)().min(WIDEST);
        Self {
            out,
            err,
            look,
            markdown: Markdown::new(width),
            clean: Clean::default(),
            aside: Flow::new(width),
            aside_clean: Clean::default(),
            section: None,
            out_open: false,
            err_open: false,
            drawn: false,
            call: None,
            left: Vec::new(),
            role: Role::Alone,
            last: None,
        }
    }

    /// Prints an event, and what it printed is out when this returns.
    pub(super) fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        self.last = Some(event.kind);
        self.erase()?;
        if self.look.json {
            self.out.write_all(&event.json)?;
            self.out.write_all(b"\n")?;
        } else {
            self.resize();
            self.content(event)?;
        }
        self.draw_call()?;
        self.flush()
    }

    /// Prints what happened instead of events that cannot be given.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.erase()?;
        if self.look.json {
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
            self.remark(Style::YELLOW, &says)?;
            self.end_text()?;
            fold.message().parts.iter().try_for_each(|part| self.part(part))?;
        } else {
            let says = "the message so far is in a form of a newer server, and is not shown";
            self.remark(Style::YELLOW, says)?;
        }
        self.flush()
    }

    fn part(&mut self, part: &Part) -> io::Result<()> {
        match part {
            Part::Prose(prose) if prose.kind == ProseKind::Text => {
                self.end_text()?;
                self.text(&prose.text)
            }
            Part::Prose(prose) => self.reasoning(&prose.text).and_then(|()| self.end_aside()),
            Part::Call(call) => self.remark(Style::DIM, &format!("> {}", call.name)),
            Part::Whole(_) => Ok(()),
        }
    }

    /// Prints what is no event.
    pub(super) fn notice(&mut self, notice: &Notice<'_>) -> io::Result<()> {
        self.erase()?;
        match notice {
            Notice::Gap(gap) => {
                let says = String::from_utf8_lossy(&gap.json);
                let says = format!("events after {} are missing: {says}", gap.after);
                self.remark(Style::YELLOW, &says)?;
            }
            Notice::Lost(lost) if self.look.lively => {
                let status = format!("reconnecting ({}): {}", lost.attempt, lost.why);
                self.draw(&Style::DIM.paint(&calls::clip(&status, self.row_width())))?;
            }
            Notice::Lost(lost) if lost.attempt == 1 => {
                self.remark(Style::PLAIN, &format!("reconnecting: {}", lost.why))?;
            }
            Notice::Lost(_) => {}
            Notice::Ended(ended) => self.ended(ended)?,
        }
        self.flush()
    }

    /// Leaves the terminal on a line of its own.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.erase()?;
        self.leave_call()?;
        self.end_aside()?;
        if self.look.text != Text::Exact || self.look.shared {
            self.end_text()?;
        }
        self.flush()
    }

    fn content(&mut self, event: &RunEvent) -> io::Result<()> {
        let fields = event.fields();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        match event.kind {
            // A part begins on a line of its own; a last line without an end stays as it is.
            EventKind::TextStart => self.end_text(),
            EventKind::TextDelta => self.text(text("text")),
            EventKind::TextEnd if self.look.text == Text::Markdown => self.end_text(),
            EventKind::ReasoningDelta => self.reasoning(text("text")),
            EventKind::ReasoningEnd => self.end_aside(),
            EventKind::Log => self.remark(Style::PLAIN, text("text")),
            EventKind::ToolCallStarted
            | EventKind::ToolCallInputDelta
            | EventKind::ToolCallInputEnd
            | EventKind::ToolResult => self.tool(event.kind, &fields),
            EventKind::Warning => {
                self.remark(Style::YELLOW, &format!("warning: {}", text("message")))
            }
            EventKind::File | EventKind::Source => self.remark(Style::DIM, text("url")),
            EventKind::RunQueued => self.queued(&fields),
            EventKind::RunStarted => self.input(&fields),
            EventKind::RunFailed => {
                let message = fields.pointer("/error/message").and_then(Value::as_str);
                let message = message.unwrap_or("no reason was given");
                self.remark(Style::RED, &format!("failed: {message}"))
            }
            _ => Ok(()),
        }
    }

    fn queued(&mut self, fields: &Value) -> io::Result<()> {
        self.input(fields)?;
        if self.look.lively {
            self.draw(&Style::DIM.paint("waiting for its turn"))?;
        }
        Ok(())
    }

    /// What the user said, once.
    fn input(&mut self, fields: &Value) -> io::Result<()> {
        let input = fields.get("input").map(said).unwrap_or_default();
        if self.role != Role::Past || input.is_empty() {
            return Ok(());
        }
        self.role = Role::Answer;
        self.remark(Style::BOLD, &format!("> {input}"))
    }

    /// A ready row on standard error.
    fn row(&mut self, section: Section, row: &str) -> io::Result<()> {
        self.end_aside()?;
        self.pause_text()?;
        self.enter(section)?;
        self.err.write_all(row.as_bytes())?;
        self.err.write_all(b"\n")
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.look.shared {
            self.leave_call()?;
            self.end_aside()?;
            self.enter(Section::Text)?;
        }
        match self.look.text {
            Text::Exact => {
                self.out.write_all(text.as_bytes())?;
                self.out_open = !text.ends_with('\n');
            }
            Text::Plain => {
                let text = self.clean.text(text);
                self.out.write_all(text.as_bytes())?;
                if let Some(last) = text.chars().next_back() {
                    self.out_open = last != '\n';
                }
            }
            Text::Markdown => {
                let rows = self.markdown.push(text);
                self.out.write_all(rows.as_bytes())?;
            }
        }
        Ok(())
    }

    fn reasoning(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.leave_call()?;
        if self.look.shared {
            self.pause_text()?;
        }
        if !self.look.lively {
            self.err.write_all(clean::text(text).as_bytes())?;
            self.err_open = !text.ends_with(['\n', '\r']);
            return Ok(());
        }
        self.enter(Section::Reasoning)?;
        let mut out = String::new();
        for c in text.chars() {
            match self.aside_clean.char(c) {
                Some('\n') => self.aside.end(&mut out),
                Some(c) => {
                    if !self.aside.is_open() {
                        let gutter = vec![("\u{2502} ".to_owned(), Style::DIM)];
                        self.aside.begin(&gutter, gutter.clone(), &mut out);
                    }
                    self.aside.put(c, Style::DIM, &mut out);
                }
                None => {}
            }
        }
        self.err_open = self.aside.is_open();
        self.err.write_all(out.as_bytes())
    }

    /// Lines of their own on standard error.
    fn remark(&mut self, style: Style, text: &str) -> io::Result<()> {
        self.leave_call()?;
        self.end_aside()?;
        self.pause_text()?;
        let text = clean::text(text);
        let text = text.trim_end_matches('\n');
        let text = if self.look.lively { style.paint(text) } else { text.to_owned() };
        self.err.write_all(text.as_bytes())?;
        self.err.write_all(b"\n")
    }

    fn ended(&mut self, ended: &Ended) -> io::Result<()> {
        let reason = ended.reason.as_ref().map(|reason| format!(" ({reason})"));
        let line = format!("{}{}", ended.status.as_str(), reason.unwrap_or_default());
        match ended.status {
            // In a pipe a plain end needs no words.
            RunStatus::Finished if !self.look.lively || self.role != Role::Alone => Ok(()),
            // Its event was shown, with more words.
            RunStatus::Failed if self.last == Some(EventKind::RunFailed) => Ok(()),
            RunStatus::Finished => self.remark(Style::DIM, &line),
            _ => self.remark(Style::YELLOW, &line),
        }
    }

    /// Sets what comes apart from what was.
    fn enter(&mut self, section: Section) -> io::Result<()> {
        let before = self.section.replace(section);
        let apart = before.is_some_and(|before| before != section);
        if apart && self.look.lively && self.look.text == Text::Markdown {
            self.pause_text()?;
            self.err.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Ends the text: what comes next of it begins anew.
    fn end_text(&mut self) -> io::Result<()> {
        let rest = self.markdown.finish();
        self.out.write_all(rest.as_bytes())?;
        if std::mem::take(&mut self.out_open) { self.out.write_all(b"\n") } else { Ok(()) }
    }

    /// Ends the open line of text where standard error is the same terminal.
    fn pause_text(&mut self) -> io::Result<()> {
        if !self.look.shared {
            return Ok(());
        }
        let rest = self.markdown.pause();
        self.out.write_all(rest.as_bytes())?;
        if std::mem::take(&mut self.out_open) {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }

    fn end_aside(&mut self) -> io::Result<()> {
        let mut rest = String::new();
        self.aside.end(&mut rest);
        self.err.write_all(rest.as_bytes())?;
        let is_open = std::mem::take(&mut self.err_open) && !self.look.lively;
        if is_open { self.err.write_all(b"\n") } else { Ok(()) }
    }

    /// Draws the lively line, unless something is open.
    fn draw(&mut self, row: &str) -> io::Result<()> {
        let text = self.look.shared && (self.out_open || self.markdown.is_open());
        if text || self.err_open || !self.look.lively {
            return Ok(());
        }
        self.erase()?;
        self.drawn = true;
        self.err.write_all(row.as_bytes())
    }

    fn erase(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            self.err.write_all(ERASE_LINE.as_bytes())?;
            // Before standard output, which may be the same terminal.
            self.err.flush()?;
        }
        Ok(())
    }

    fn resize(&mut self) {
        let width = (self.look.columns)().min(WIDEST);
        self.markdown.set_width(width);
        self.aside.set_width(width);
    }

    /// The columns that a lively line may fill.
    fn row_width(&self) -> usize {
        (self.look.columns)().saturating_sub(1)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

/// The text of an input: a string, or the texts of its parts or of its last message.
fn said(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.last().map(said).unwrap_or_default(),
        Value::Object(fields) => {
            fields.get("text").or_else(|| fields.get("content")).map(said).unwrap_or_default()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
