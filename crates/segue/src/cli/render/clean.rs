//! Text that cannot drive a terminal.
//!
//! Escape sequences begin with a control character. Each of those is shown as its picture, so
//! that what follows it is text like any other; those that reorder text are replaced.

/// Cleans text that comes in pieces.
#[derive(Debug, Default)]
pub(in crate::cli) struct Clean {
    /// The last character was a carriage return, which has ended its line.
    after_return: bool,
}

impl Clean {
    /// The character to show for `c`, if any. A carriage return ends a line, with or without a
    /// line feed after it.
    pub(in crate::cli) fn char(&mut self, c: char) -> Option<char> {
        let was_return = std::mem::replace(&mut self.after_return, c == '\r');
        match c {
            '\n' if was_return => None,
            '\r' | '\n' => Some('\n'),
            '\t' => Some('\t'),
            _ => Some(shown(c)),
        }
    }

    pub(in crate::cli) fn text(&mut self, text: &str) -> String {
        text.chars().filter_map(|c| self.char(c)).collect()
    }
}

/// A whole text, on one line.
pub(in crate::cli) fn line(text: &str) -> String {
    let mut clean = Clean::default();
    clean.text(text.trim_end()).replace(['\n', '\t'], " ")
}

/// A whole text.
pub(in crate::cli) fn text(text: &str) -> String {
    Clean::default().text(text)
}

fn shown(c: char) -> char {
    match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        // The second set of controls, and what reorders or hides text.
        '\u{80}'..='\u{9f}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        for (given, expect) in [
            ("\x1b[2Jx", "\u{241b}[2Jx"),
            ("\x1b]0;title\x07", "\u{241b}]0;title\u{2407}"),
            ("a\u{9b}31mb", "a\u{fffd}31mb"),
            ("a\x08\x7fb", "a\u{2408}\u{2421}b"),
            ("\u{202e}txt", "\u{fffd}txt"),
            ("é\t中\n", "é\t中\n"),
        ] {
            assert_eq!(text(given), expect);
        }
    }

    #[test]
    fn a_return_ends_a_line_once() {
        assert_eq!(text("a\r\nb\rc\r\r\nd"), "a\nb\nc\n\nd");
        let mut clean = Clean::default();
        assert_eq!(clean.text("a\r") + &clean.text("\nb"), "a\nb");
        assert_eq!(line("a\r\nb\tc\n"), "a b c");
    }
}
