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
    EventKind, RunStatus,
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
            self.remark(YELLOW, "all of the message so far:")?;
            self.close_out_line()?;
            fold.message().parts.iter().try_for_each(|part| self.part(part))?;
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
mod tests {
    use std::{cell::RefCell, rc::Rc, time::Duration};

    use segue_core::{Seq, Timestamp};
    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Rc<RefCell<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    fn event(fields: &Value) -> RunEvent {
        let name = fields["type"].as_str().unwrap();
        RunEvent {
            seq: Seq(1),
            at: Timestamp::default(),
            kind: EventKind::parse(name),
            name: name.to_owned(),
            json: fields.to_string().into(),
        }
    }

    fn delta(text: &str) -> Value {
        json!({"type": "text.delta", "part": "p", "text": text})
    }

    /// What standard output and standard error get.
    fn print(style: Style, events: &[Value], notices: &[Notice<'_>]) -> (String, String) {
        let (out, err) = (Page::default(), Page::default());
        let mut printer = Printer::new(Box::new(out.clone()), Box::new(err.clone()), style);
        for fields in events {
            printer.event(&event(fields)).unwrap();
        }
        for notice in notices {
            printer.notice(notice).unwrap();
        }
        printer.finish().unwrap();
        (out.text(), err.text())
    }

    const PIPE: Style = Style { json: false, terminal: false, shared: false };
    const TERMINAL: Style = Style { json: false, terminal: true, shared: true };

    #[test]
    fn a_snapshot_shows_the_text_so_far() {
        let part = json!([
            {"type": "tool_call", "call_id": "c", "name": "look"},
            {"type": "text", "part": "p", "text": "all of it", "open": true},
        ]);
        let message = json!({
            "id": "m", "role": "assistant", "status": "streaming", "version": 7, "parts": part,
            "metadata": {}, "created_at": Timestamp::default(), "updated_at": Timestamp::default(),
        });
        let json = json!({
            "type": "control.snapshot", "format": 1, "from_seq": 1, "seq": 7, "steps": [],
            "message": message,
        });
        let snapshot = Snapshot { seq: Seq(7), json: json.to_string().into() };
        for (style, expect) in [(false, "all of it".to_owned()), (true, format!("{json}\n"))] {
            let (out, err) = (Page::default(), Page::default());
            let style = Style { json: style, terminal: false, shared: false };
            let mut printer = Printer::new(Box::new(out.clone()), Box::new(err.clone()), style);
            printer.snapshot(&snapshot).unwrap();
            assert_eq!(out.text(), expect);
            let remarks = if style.json { "" } else { "all of the message so far:\n> look\n" };
            assert_eq!(err.text(), remarks);
        }
    }

    #[test]
    fn a_pipe_gets_exactly_the_text() {
        let events = [
            json!({"type": "text.start", "part": "p"}),
            delta("line 1\nli"),
            delta("ne 2"),
            json!({"type": "log", "stream": "stderr", "text": "careful\n"}),
            json!({"type": "tool_call.started", "call_id": "c", "name": "ls"}),
            json!({"type": "text.end", "part": "p"}),
        ];
        let (out, err) = print(PIPE, &events, &[]);
        assert_eq!(out, "line 1\nline 2");
        assert_eq!(err, "careful\n> ls\n");
    }

    #[test]
    fn parts_begin_on_lines_of_their_own() {
        let start = json!({"type": "text.start", "part": "p"});
        let events = [start.clone(), delta("a"), start.clone(), delta("b\n"), start, delta("c")];
        assert_eq!(print(PIPE, &events, &[]).0, "a\nb\nc");
    }

    #[test]
    fn a_terminal_gets_dim_reasoning_on_lines_of_its_own() {
        let reasoning = json!({"type": "reasoning.delta", "part": "r", "text": "hm"});
        let (out, err) = print(TERMINAL, &[delta("a"), reasoning, delta("b")], &[]);
        assert_eq!(out, "a\nb\n");
        assert_eq!(err, format!("{DIM}hm{RESET}\n"));
    }

    #[test]
    fn the_status_line_is_erased_before_anything_else() {
        let (_, err) = print(TERMINAL, &[delta("a\n"), delta("b")], &[]);
        assert_eq!(err, format!("{DIM}running - 1 events{RESET}{ERASE_LINE}"));
    }

    #[test]
    fn json_is_one_line_for_each_event_and_nothing_else() {
        let style = Style { json: true, ..PIPE };
        let events = [delta("a\nb"), json!({"type": "run.started"})];
        let lost =
            Reconnecting { attempt: 1, delay: Duration::ZERO, why: "it ended too early".into() };
        let (out, err) = print(style, &events, &[Notice::Lost(&lost)]);
        let lines: Vec<Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, events);
        assert_eq!(err, "reconnecting: it ended too early\n");
    }

    #[test]
    fn endings_and_gaps_are_told() {
        let ended = |status, reason: Option<&str>| Ended {
            status,
            reason: reason.map(str::to_owned),
            last_seq: Seq(3),
        };
        let gap = Gap { after: Seq(2), json: "{}".into() };
        let failed = json!({"type": "run.failed", "error": {"code": "x", "message": "no disk"}});
        let finished = ended(RunStatus::Finished, None);
        let stopped = ended(RunStatus::Stopped, Some("user"));
        let err = |events: &[Value], notice| print(PIPE, events, &[notice]).1;
        assert_eq!(err(&[], Notice::Ended(&finished)), "");
        assert_eq!(err(&[], Notice::Ended(&stopped)), "stopped (user)\n");
        assert_eq!(err(&[], Notice::Gap(&gap)), "events after 2 are missing: {}\n");
        let broken = ended(RunStatus::Failed, Some("x"));
        assert_eq!(err(&[failed], Notice::Ended(&broken)), "failed: no disk\n");
        assert_eq!(err(&[], Notice::Ended(&broken)), "failed (x)\n");
    }

    #[test]
    fn a_tools_result_is_shortened() {
        let short = |output: Value| tool_result(&json!({ "output": output }));
        assert_eq!(short(json!("one\ntwo")), "one ...");
        assert_eq!(short(json!({"a": 1})), r#"{"a":1}"#);
        assert_eq!(short(json!("x".repeat(200))).len(), RESULT_CHARS + 4);
        assert_eq!(tool_result(&json!({"output": 1, "error": "no"})), "no");
    }
}
