//! Tool calls: on a terminal the lively line, in a pipe a line for each beginning and end.

use std::io;

use segue_core::EventKind;
use serde_json::Value;

use super::{
    super::render::{
        Style,
        calls::{self, Call, Progress},
    },
    Printer, Section,
};

/// The most characters of a tool's result that are shown in a pipe.
pub(super) const RESULT_CHARS: usize = 120;
/// The most calls without a result whose names are kept.
const CALLS: usize = 64;

impl Printer {
    pub(super) fn tool(&mut self, kind: EventKind, fields: &Value) -> io::Result<()> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        if !self.look.lively {
            return match kind {
                EventKind::ToolCallStarted => {
                    self.remark(Style::DIM, &format!("> {}", text("name")))
                }
                EventKind::ToolResult => {
                    self.remark(Style::DIM, &format!("< {}", tool_result(fields)))
                }
                _ => Ok(()),
            };
        }
        let id = text("call_id");
        match kind {
            EventKind::ToolCallStarted => {
                self.leave_call()?;
                self.end_aside()?;
                self.pause_text()?;
                self.enter(Section::Calls)?;
                self.call = Some(Call::new(id, text("name")));
            }
            EventKind::ToolCallInputDelta => {
                if let Some(call) = self.known_call(id) {
                    call.grow(text("text"));
                }
            }
            EventKind::ToolCallInputEnd => {
                if let (Some(call), Some(input)) = (self.known_call(id), fields.get("input")) {
                    call.set_input(input);
                }
            }
            _ => self.result(id, fields)?,
        }
        Ok(())
    }

    fn result(&mut self, id: &str, fields: &Value) -> io::Result<()> {
        if fields.get("preliminary").and_then(Value::as_bool) == Some(true) {
            return Ok(());
        }
        let (result, failed) = calls::result_of(fields);
        let progress = if failed { Progress::Failed } else { Progress::Done };
        let call = match self.call.take_if(|call| call.id == id) {
            Some(call) => call,
            None => {
                let at = self.left.iter().position(|call| call.id == id);
                at.map_or_else(|| Call::new(id, id), |at| self.left.remove(at))
            }
        };
        self.leave_call()?;
        let row = call.row(progress, &result, (self.look.columns)());
        self.row(Section::Calls, &row)
    }

    fn known_call(&mut self, id: &str) -> Option<&mut Call> {
        self.call.iter_mut().chain(&mut self.left).find(|call| call.id == id)
    }

    /// Ends the lively line of a call that has no result yet, as far as it is.
    pub(super) fn leave_call(&mut self) -> io::Result<()> {
        let Some(call) = self.call.take() else { return Ok(()) };
        let row = call.row(Progress::Running, "", (self.look.columns)());
        if self.left.len() == CALLS {
            self.left.remove(0);
        }
        self.left.push(call);
        self.row(Section::Calls, &row)
    }

    pub(super) fn draw_call(&mut self) -> io::Result<()> {
        match &self.call {
            Some(call) => {
                let row = call.row(Progress::Running, "", (self.look.columns)());
                self.draw(&row)
            }
            None => Ok(()),
        }
    }
}

/// The first line of what a tool gave, shortened.
pub(super) fn tool_result(fields: &Value) -> String {
    let (text, _) = calls::result_of(fields);
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(RESULT_CHARS).collect();
    if shown.len() < text.trim_end().len() {
        shown.push_str(" ...");
    }
    shown
}
