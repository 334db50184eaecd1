//! A tool call as one line that fills.

use serde_json::Value;
use unicode_width::UnicodeWidthChar as _;

use super::{Style, clean};

/// The most bytes of an input or a result that are kept for its line.
const KEPT: usize = 4 << 10;

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Progress {
    /// Its input grows, or it runs.
    Running,
    Done,
    Failed,
}

/// A tool call that is under way.
#[derive(Debug, Default)]
pub(in crate::cli) struct Call {
    pub(in crate::cli) id: String,
    pub(in crate::cli) name: String,
    input: String,
}

impl Call {
    pub(in crate::cli) fn new(id: &str, name: &str) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), input: String::new() }
    }

    /// Adds to the input.
    pub(in crate::cli) fn grow(&mut self, text: &str) {
        let room = KEPT.saturating_sub(self.input.len());
        self.input.extend(text.chars().scan(room, |room, c| {
            *room = room.checked_sub(c.len_utf8())?;
            Some(c)
        }));
    }

    /// Takes the whole input.
    pub(in crate::cli) fn set_input(&mut self, input: &Value) {
        self.input.clear();
        self.grow(&one_line(input));
    }

    /// The call on one row of less than `width` columns, without a line break.
    pub(in crate::cli) fn row(&self, progress: Progress, result: &str, width: usize) -> String {
        let (mark, style) = match progress {
            Progress::Running => ("\u{2026}", Style::DIM),
            Progress::Done => ("\u{2713}", Style::GREEN),
            Progress::Failed => ("\u{2717}", Style::RED),
        };
        // The mark, the blanks and the arrow; and the last column stays free, since a terminal
        // may wrap when it is filled.
        let room = width.saturating_sub(if result.is_empty() { 4 } else { 7 });
        let name = clip(&clean::line(&self.name), room);
        let room = room - wide(&name);
        let input = clean::line(&self.input);
        let result = clean::line(result);
        // The result gets what the input leaves, and at least half.
        let input = clip(
            &input,
            if result.is_empty() { room } else { room.saturating_sub(wide(&result).min(room / 2)) },
        );
        let result = clip(&result, room - wide(&input));
        let mut row = format!("{} {}", style.paint(mark), Style::BOLD.paint(&name));
        if !input.is_empty() {
            row = format!("{row} {}", Style::DIM.paint(&input));
        }
        if !result.is_empty() {
            row = format!("{row} \u{2192} {result}");
        }
        row
    }
}

/// A text as it is, any other value as JSON.
pub(in crate::cli) fn one_line(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a `tool_result` event says, and whether it is an error.
pub(in crate::cli) fn result_of(fields: &Value) -> (String, bool) {
    let error = fields.get("error").filter(|error| !error.is_null());
    let text = error.or_else(|| fields.get("output")).map(one_line).unwrap_or_default();
    let kept = (0..=KEPT.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    (text[..kept].to_owned(), error.is_some())
}

fn wide(text: &str) -> usize {
    text.chars().filter_map(char::width).sum()
}

/// The beginning of a text that fits, with a mark where something is missing.
pub(in crate::cli) fn clip(text: &str, width: usize) -> String {
    if wide(text) <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    if width > 0 {
        kept.push('\u{2026}');
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn row(call: &Call, progress: Progress, result: &str, width: usize) -> String {
        call.row(progress, result, width).replace("\x1b[0m", ">").replace("\x1b[", "<")
    }

    #[test]
    fn a_call_fills_and_ends_with_its_result() {
        let mut call = Call::new("c", "look_up");
        assert_eq!(row(&call, Progress::Running, "", 60), "<2m\u{2026}> <1mlook_up>");
        call.grow("{\"a\"");
        assert_eq!(row(&call, Progress::Running, "", 60), "<2m\u{2026}> <1mlook_up> <2m{\"a\">");
        call.set_input(&json!({"a": 1}));
        assert_eq!(
            row(&call, Progress::Done, "two\nlines", 60),
            "<32m\u{2713}> <1mlook_up> <2m{\"a\":1}> \u{2192} two lines"
        );
        let (text, failed) = result_of(&json!({"output": 1, "error": {"code": "x"}}));
        assert!(failed);
        assert!(row(&call, Progress::Failed, &text, 60).starts_with("<31m\u{2717}>"));
    }

    #[test]
    fn a_long_input_leaves_room_for_the_result() {
        let mut call = Call::new("c", "f");
        call.grow(&"x".repeat(2 * KEPT));
        assert_eq!(call.input.len(), KEPT);
        let row = row(&call, Progress::Done, "ok", 20);
        assert_eq!(row, "<32m\u{2713}> <1mf> <2mxxxxxxxxx\u{2026}> \u{2192} ok");
    }

    proptest! {
        #[test]
        fn a_row_never_wraps(
            name in ".{0,20}", input in ".{0,80}", result in ".{0,80}", width in 8usize..80,
        ) {
            let mut call = Call::new("c", &name);
            call.grow(&input);
            let row = call.row(Progress::Done, &result, width);
            let mut plain = row;
            for style in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m"] {
                plain = plain.replace(style, "");
            }
            prop_assert!(!plain.contains(['\n', '\x1b']), "{plain:?}");
            prop_assert!(wide(&plain) < width, "{plain:?} has {} of {width}", wide(&plain));
        }
    }
}
