//! Words in rows of a width.

use unicode_width::UnicodeWidthChar as _;

use super::Style;

/// The narrowest rows that are wrapped; below it the terminal does what it does.
const LEAST_WIDTH: usize = 20;

/// Text in a style.
pub(in crate::cli) type Span = (String, Style);

/// Fills rows with words. A word is given out when its end is seen.
#[derive(Debug)]
pub(in crate::cli) struct Flow {
    width: usize,
    /// Stands before each further row of the line.
    hang: Vec<Span>,
    /// Columns of the row that are filled.
    column: usize,
    /// The row has its beginning.
    is_open: bool,
    /// A word stands on the row.
    has_word: bool,
    /// A blank comes before the next word.
    gap: Option<Style>,
    word: Vec<(char, Style)>,
    word_width: usize,
    /// The word began before `word`: it is longer than a row.
    is_long: bool,
    /// What is in force at the end of what was given out.
    painted: Style,
}

impl Flow {
    pub(in crate::cli) fn new(width: usize) -> Self {
        Self {
            width: width.max(LEAST_WIDTH),
            hang: Vec::new(),
            column: 0,
            is_open: false,
            has_word: false,
            gap: None,
            word: Vec::new(),
            word_width: 0,
            is_long: false,
            painted: Style::PLAIN,
        }
    }

    /// Takes another width, from the next word on.
    pub(in crate::cli) fn set_width(&mut self, width: usize) {
        self.width = width.max(LEAST_WIDTH);
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Whether the terminal's cursor is inside of a row.
    pub(in crate::cli) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Begins a line with `lead`; its further rows begin with `hang`.
    pub(in crate::cli) fn begin(&mut self, lead: &[Span], hang: Vec<Span>, out: &mut String) {
        self.hang = hang;
        self.open(lead, out);
    }

    /// Adds a character. Runs of blanks are one; a row begins with none.
    pub(in crate::cli) fn put(&mut self, c: char, style: Style, out: &mut String) {
        if c == ' ' || c == '\t' {
            self.place(out);
            self.is_long = false;
            self.gap.get_or_insert(style);
            return;
        }
        let width = c.width().unwrap_or(0);
        // A wide character is a word of its own: their languages put no blanks between words.
        if width > 1 {
            self.place(out);
        }
        self.word.push((c, style));
        self.word_width += width;
        // A word that fills a row is not held any longer; the terminal breaks it.
        if width > 1 || self.word_width >= self.width {
            self.place(out);
            self.is_long = width < 2;
        }
    }

    /// Ends the line.
    pub(in crate::cli) fn end(&mut self, out: &mut String) {
        self.place(out);
        self.is_long = false;
        self.gap = None;
        if self.is_open {
            self.new_row(out);
        }
    }

    /// Ends the row for something else that is to be printed; the line goes on after it.
    pub(in crate::cli) fn pause(&mut self, out: &mut String) {
        if self.is_open {
            self.new_row(out);
        }
    }

    fn place(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let gap = usize::from(self.gap.is_some() && self.has_word);
        let fits = self.column + gap + self.word_width <= self.width;
        if self.is_open && self.has_word && !fits && !self.is_long && self.word_width < self.width {
            self.new_row(out);
        }
        if !self.is_open {
            let hang = std::mem::take(&mut self.hang);
            self.open(&hang, out);
            self.hang = hang;
        }
        if let Some(style) = self.gap.take().filter(|_| self.has_word) {
            self.paint(style, out);
            out.push(' ');
            self.column += 1;
        }
        for (c, style) in std::mem::take(&mut self.word) {
            self.paint(style, out);
            out.push(c);
        }
        self.column = (self.column + std::mem::take(&mut self.word_width)) % (self.width + 1);
        self.has_word = true;
    }

    fn open(&mut self, lead: &[Span], out: &mut String) {
        for (text, style) in lead.iter().filter(|(text, _)| !text.is_empty()) {
            self.paint(*style, out);
            out.push_str(text);
            self.column += text.chars().filter_map(char::width).sum::<usize>();
        }
        self.is_open = true;
    }

    fn new_row(&mut self, out: &mut String) {
        self.paint(Style::PLAIN, out);
        out.push('\n');
        self.column = 0;
        self.is_open = false;
        self.has_word = false;
    }

    fn paint(&mut self, style: Style, out: &mut String) {
        if style != self.painted {
            out.push_str(self.painted.end());
            out.push_str(&style.begin());
            self.painted = style;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(width: usize, hang: &str, text: &str) -> String {
        let (mut flow, mut out) = (Flow::new(width), String::new());
        let lead = vec![(hang.to_owned(), Style::PLAIN)];
        flow.begin(&lead, lead.clone(), &mut out);
        text.chars().for_each(|c| flow.put(c, Style::PLAIN, &mut out));
        flow.end(&mut out);
        out
    }

    #[test]
    fn words_are_never_cut_where_they_fit_on_a_row() {
        assert_eq!(
            rows(20, "  ", "one  two three four five six"),
            "  one two three four\n  five six\n"
        );
    }

    #[test]
    fn a_word_longer_than_a_row_is_left_to_the_terminal() {
        let long = "x".repeat(45);
        assert_eq!(rows(20, "", &format!("a {long} b")), format!("a {long} b\n"));
    }

    #[test]
    fn wide_characters_break_between_each_other() {
        let text = "\u{4e2d}".repeat(12);
        let row = "\u{4e2d}".repeat(10);
        assert_eq!(rows(20, "", &text), format!("{row}\n\u{4e2d}\u{4e2d}\n"));
    }

    #[test]
    fn a_style_ends_with_its_row() {
        let (mut flow, mut out) = (Flow::new(20), String::new());
        flow.begin(&[], Vec::new(), &mut out);
        "bold and long words here".chars().for_each(|c| flow.put(c, Style::BOLD, &mut out));
        flow.end(&mut out);
        assert_eq!(out, "\x1b[1mbold and long words\x1b[0m\n\x1b[1mhere\x1b[0m\n");
    }

    #[test]
    fn a_pause_goes_on_at_the_hang() {
        let (mut flow, mut out) = (Flow::new(20), String::new());
        flow.begin(&[], vec![("  ".to_owned(), Style::PLAIN)], &mut out);
        "a b ".chars().for_each(|c| flow.put(c, Style::PLAIN, &mut out));
        flow.pause(&mut out);
        assert!(!flow.is_open());
        "c".chars().for_each(|c| flow.put(c, Style::PLAIN, &mut out));
        flow.end(&mut out);
        assert_eq!(out, "a b\n  c\n");
    }
}
