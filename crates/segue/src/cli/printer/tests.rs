//! What goes to which output.

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
fn a_snapshot_never_passes_for_more_than_it_is() {
    let message = json!({
        "id": "m", "role": "assistant", "status": "streaming", "version": 7, "parts": [],
        "metadata": {}, "created_at": Timestamp::default(), "updated_at": Timestamp::default(),
    });
    let cases = [
        (json!({"truncated": 1}), "large parts of it cut"),
        (json!({"omitted": 1}), "large parts of it cut"),
        (json!({"from_seq": 3}), "from event 3 on"),
        (json!({"format": 99}), "a newer server"),
        (json!({}), "all of the message"),
    ];
    for (special, expect) in cases {
        let mut json =
            json!({"format": 1, "from_seq": 1, "seq": 7, "steps": [], "message": message});
        special.as_object().unwrap().iter().for_each(|(k, v)| json[k] = v.clone());
        let snapshot = Snapshot { seq: Seq(7), json: json.to_string().into() };
        let (out, err) = (Page::default(), Page::default());
        let mut printer = Printer::new(Box::new(out.clone()), Box::new(err.clone()), PIPE);
        printer.snapshot(&snapshot).unwrap();
        assert!(err.text().contains(expect), "{}", err.text());
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
    let lost = Reconnecting { attempt: 1, delay: Duration::ZERO, why: "it ended too early".into() };
    let (out, err) = print(style, &events, &[Notice::Lost(&lost)]);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
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
