//! What goes to which output.

use std::{cell::RefCell, rc::Rc, time::Duration};

use segue_core::{Seq, Timestamp};
use serde_json::json;

use super::{
    tools::{RESULT_CHARS, tool_result},
    *,
};

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
fn print(look: Look, events: &[Value], notices: &[Notice<'_>]) -> (String, String) {
    let (out, err) = (Page::default(), Page::default());
    let mut printer = Printer::new(Box::new(out.clone()), Box::new(err.clone()), look);
    for fields in events {
        printer.event(&event(fields)).unwrap();
    }
    for notice in notices {
        printer.notice(notice).unwrap();
    }
    printer.finish().unwrap();
    (out.text(), err.text())
}

const PIPE: Look =
    Look { json: false, text: Text::Exact, lively: false, shared: false, columns: || 40 };
const TERMINAL: Look = Look { text: Text::Markdown, lively: true, shared: true, ..PIPE };

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
    for (json_wanted, expect) in [(false, "all of it".to_owned()), (true, format!("{json}\n"))] {
        let (out, err) = (Page::default(), Page::default());
        let look = Look { json: json_wanted, ..PIPE };
        let mut printer = Printer::new(Box::new(out.clone()), Box::new(err.clone()), look);
        printer.snapshot(&snapshot).unwrap();
        assert_eq!(out.text(), expect);
        let remarks = if look.json { "" } else { "all of the message so far:\n> look\n" };
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

/// What one terminal gets of both outputs; styles as `<code>` and `>`, an erased line as `!`.
fn screen(look: Look, events: &[Value]) -> String {
    let page = Page::default();
    let mut printer = Printer::new(Box::new(page.clone()), Box::new(page.clone()), look);
    for fields in events {
        printer.event(&event(fields)).unwrap();
    }
    printer.finish().unwrap();
    page.text().replace(ERASE_LINE, "!").replace("\x1b[0m", ">").replace("\x1b[", "<")
}

fn thought(text: &str) -> Value {
    json!({"type": "reasoning.delta", "part": "r", "text": text})
}

fn call(kind: &str, more: &Value) -> Value {
    let mut event = json!({"type": kind, "call_id": "c"});
    more.as_object().unwrap().iter().for_each(|(name, value)| event[name] = value.clone());
    event
}

#[test]
fn a_terminal_gets_reasoning_dimmed_and_set_apart() {
    let events = [thought("hm, so I th"), thought("ink of a word that wraps"), delta("**b**\n")];
    assert_eq!(
        screen(TERMINAL, &events),
        "<2m\u{2502} hm, so I think of a word that wraps>\n\n<1mb>\n"
    );
}

#[test]
fn a_call_is_one_line_that_fills_and_ends_with_its_result() {
    let events = [
        call("tool_call.started", &json!({"name": "look"})),
        call("tool_call.input_delta", &json!({"text": "{\"a\""})),
        call("tool_call.input_end", &json!({"input": {"a": 1}})),
        call("tool_result", &json!({"output": "found"})),
        delta("x"),
    ];
    let waits = "<2m\u{2026}> <1mlook>";
    assert_eq!(
        screen(TERMINAL, &events),
        format!(
            "{waits}!{waits} <2m{{\"a\">!{waits} <2m{{\"a\":1}}>!\
             <32m\u{2713}> <1mlook> <2m{{\"a\":1}}> \u{2192} found\n\nx\n"
        )
    );
}

#[test]
fn a_call_that_something_overtakes_is_named_again_with_its_result() {
    let events = [
        call("tool_call.started", &json!({"name": "look"})),
        json!({"type": "log", "text": "between"}),
        call("tool_result", &json!({"error": "no"})),
    ];
    assert_eq!(
        screen(TERMINAL, &events),
        "<2m\u{2026}> <1mlook>!<2m\u{2026}> <1mlook>\nbetween\n\
         <31m\u{2717}> <1mlook> \u{2192} no\n"
    );
}

#[test]
fn nothing_that_a_run_says_drives_the_terminal() {
    let evil = "\x1b[2J\u{9b}1m\x07";
    let events = [
        thought(evil),
        call("tool_call.started", &json!({"name": evil})),
        call("tool_call.input_delta", &json!({"text": evil})),
        call("tool_result", &json!({"output": evil})),
        delta(evil),
        json!({"type": "warning", "message": evil}),
        json!({"type": "log", "text": evil}),
        json!({"type": "source", "url": evil}),
        json!({"type": "run.failed", "error": {"message": evil}}),
    ];
    for look in [TERMINAL, Look { text: Text::Plain, lively: false, ..TERMINAL }] {
        let screen = screen(look, &events);
        assert!(!screen.contains("<2J") && !screen.contains(['\u{9b}', '\u{7}']), "{screen:?}");
    }
}

#[test]
fn a_terminal_without_colours_gets_the_same_words() {
    let look = Look { text: Text::Plain, lively: false, ..TERMINAL };
    let events = [
        thought("hm"),
        call("tool_call.started", &json!({"name": "look"})),
        call("tool_result", &json!({"output": "found"})),
        delta("**b** "),
        delta("c"),
    ];
    assert_eq!(screen(look, &events), "hm\n> look\n< found\n**b** c\n");
}

#[test]
fn what_the_user_said_is_shown_once_where_it_is_wanted() {
    let page = Page::default();
    let printer = Printer::new(Box::new(page.clone()), Box::new(page.clone()), TERMINAL);
    let mut printer = printer.in_chat(Role::Past);
    let input = json!([{"role": "user", "content": [{"type": "text", "text": "hello"}]}]);
    for kind in ["run.queued", "run.started"] {
        printer.event(&event(&json!({"type": kind, "input": input}))).unwrap();
    }
    printer.finish().unwrap();
    let wait = Style::DIM.paint("waiting for its turn");
    assert_eq!(page.text(), format!("{}\n{wait}{ERASE_LINE}", Style::BOLD.paint("> hello")));
}

#[test]
fn json_is_one_line_for_each_event_and_nothing_else() {
    let look = Look { json: true, ..PIPE };
    let events = [delta("a\nb"), json!({"type": "run.started"})];
    let lost = Reconnecting { attempt: 1, delay: Duration::ZERO, why: "it ended too early".into() };
    let (out, err) = print(look, &events, &[Notice::Lost(&lost)]);
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
