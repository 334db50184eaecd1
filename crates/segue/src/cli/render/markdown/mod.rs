//! Markdown as it streams.
//!
//! What a line is, is decided at its beginning; what a mark means, at its end, which is waited
//! for within a bound. A table waits for its last row, code for the end of its line.

mod block;
mod inline;
mod table;

use self::block::Block;
use super::{Flow, Style, clean::Clean, flow::Span};

/// The most bytes of a line of code, or of a table's rows together, that are held.
const HELD: usize = 16 << 10;
/// The deepest nesting of quotes that is shown, and the widest indent.
const DEEPEST: usize = 8;
const WIDEST_INDENT: usize = 16;
const GUTTER: &str = "\u{2502} ";
/// Inside of a line of code that was too long to be held.
const CUT: State = State::Held(Whole::Code { cut: true });

/// Turns the text of a part into rows.
pub(in crate::cli) struct Markdown {
    clean: Clean,
    flow: Flow,
    /// What is not decided yet of the line.
    line: String,
    state: State,
    fence: Option<Fence>,
    table: Vec<String>,
    /// The bytes of `table`.
    table_bytes: usize,
    /// An empty row comes before the next line.
    blank: bool,
    /// Something was printed.
    begun: bool,
    in_list: bool,
    /// The quotes that the line has opened.
    quotes: usize,
    /// The character before `line`.
    before: char,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is not known what the line is.
    Start,
    /// Words in a style.
    Words(Style),
    /// The line is needed whole.
    Held(Whole),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Fence {
        mark: char,
        marks: usize,
        indent: usize,
    },
    Row,
    /// Code; a piece of the line was printed if `cut`.
    Code {
        cut: bool,
    },
}

struct Fence {
    mark: char,
    marks: usize,
    indent: usize,
}

impl Markdown {
    /// For rows of `width` columns.
    pub(in crate::cli) fn new(width: usize) -> Self {
        Self {
            clean: Clean::default(),
            flow: Flow::new(width),
            line: String::new(),
            state: State::Start,
            fence: None,
            table: Vec::new(),
            table_bytes: 0,
            blank: false,
            begun: false,
            in_list: false,
            quotes: 0,
            before: ' ',
        }
    }

    pub(in crate::cli) fn set_width(&mut self, width: usize) {
        self.flow.set_width(width);
    }

    /// Adds text and gives what can be printed.
    pub(in crate::cli) fn push(&mut self, text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            match self.clean.char(c) {
                Some('\n') => self.end_line(&mut out),
                Some(c) => self.char(c, &mut out),
                None => {}
            }
        }
        out
    }

    /// Ends the text, on a row of its own; the next one begins anew.
    pub(in crate::cli) fn finish(&mut self) -> String {
        let mut out = String::new();
        if self.state != State::Start || !self.line.is_empty() {
            self.end_line(&mut out);
        }
        self.end_table(&mut out);
        if self.fence.take().is_some() {
            out.push_str(&Style::DIM.paint("  \u{2570}\u{2500}"));
            out.push('\n');
        }
        *self = Self::new(self.flow.width());
        out
    }

    /// Ends the row for something else that is to be printed; the text goes on after it.
    pub(in crate::cli) fn pause(&mut self) -> String {
        let mut out = String::new();
        self.flow.pause(&mut out);
        if self.state == CUT {
            out.push('\n');
        }
        out
    }

    /// Whether the terminal's cursor is inside of a row.
    pub(in crate::cli) fn is_open(&self) -> bool {
        self.flow.is_open() || self.state == CUT
    }

    fn char(&mut self, c: char, out: &mut String) {
        self.line.push(c);
        if self.fence.is_some() && self.state == State::Start {
            self.state = State::Held(Whole::Code { cut: false });
        }
        if self.state == State::Start {
            self.decide(false, out);
        }
        self.words(false, out);
        if let State::Held(whole) = self.state
            && self.line.len() >= HELD
        {
            self.cut(whole, out);
        }
    }

    fn end_line(&mut self, out: &mut String) {
        if self.fence.is_some() && self.state == State::Start {
            self.state = State::Held(Whole::Code { cut: false });
        }
        if self.state == State::Start {
            self.decide(true, out);
        }
        self.words(true, out);
        match self.state {
            State::Words(_) => self.flow.end(out),
            State::Held(whole) => self.whole(whole, out),
            State::Start => {}
        }
        self.line.clear();
        self.state = State::Start;
        self.quotes = 0;
    }

    /// Decides what the line is, if it can be.
    fn decide(&mut self, whole: bool, out: &mut String) {
        loop {
            if self.quotes > 0 {
                let blanks = self.line.len() - self.line.trim_start_matches(' ').len();
                self.line.drain(..blanks);
            }
            match block::block(&self.line, whole, self.in_list) {
                None => return,
                Some(Block::Quote { len }) if self.quotes < DEEPEST => {
                    self.quotes += 1;
                    self.line.drain(..len);
                }
                Some(block) => return self.begin(block, out),
            }
        }
    }

    fn begin(&mut self, block: Block, out: &mut String) {
        if block != Block::Row {
            self.end_table(out);
        }
        match block {
            Block::Blank if self.quotes > 0 => self.open(String::new(), Style::PLAIN, out),
            Block::Blank => self.blank = self.begun,
            Block::Paragraph { indent } => {
                self.in_list &= indent > 0;
                self.line.drain(..indent);
                self.open(" ".repeat(indent.min(WIDEST_INDENT)), Style::PLAIN, out);
            }
            Block::Heading { level, len } => {
                self.in_list = false;
                self.blank = self.begun;
                self.line.drain(..len);
                let title = if level == 1 { Style::UNDERLINE } else { Style::PLAIN };
                self.open(String::new(), title.and(Style::BOLD), out);
            }
            Block::Item { indent, marker, len } => {
                self.in_list = true;
                self.line.drain(..len);
                let indent = " ".repeat(indent.min(WIDEST_INDENT));
                self.open(format!("{indent}{marker} "), Style::PLAIN, out);
            }
            Block::Quote { .. } => self.open(String::new(), Style::PLAIN, out),
            Block::Rule => {
                self.space(out);
                let rule = "\u{2500}".repeat(self.flow.width().min(40));
                out.push_str(&Style::DIM.paint(&rule));
                out.push('\n');
                self.line.clear();
            }
            Block::Fence { mark, marks, indent } => {
                self.state = State::Held(Whole::Fence { mark, marks, indent });
            }
            Block::Row => self.state = State::Held(Whole::Row),
            Block::Indented => self.state = State::Held(Whole::Code { cut: false }),
        }
    }

    /// Begins a line of words. Further rows have blanks below `lead`.
    fn open(&mut self, lead: String, style: Style, out: &mut String) {
        self.space(out);
        let quotes = (GUTTER.repeat(self.quotes), Style::DIM);
        let blank = " ".repeat(lead.chars().count());
        let lead: [Span; 2] = [quotes.clone(), (lead, Style::PLAIN)];
        self.flow.begin(&lead, vec![quotes, (blank, Style::PLAIN)], out);
        self.state = State::Words(style);
        self.before = ' ';
    }

    /// Prints the empty row that is due.
    fn space(&mut self, out: &mut String) {
        if std::mem::take(&mut self.blank) {
            out.push('\n');
        }
        self.begun = true;
    }

    fn words(&mut self, whole: bool, out: &mut String) {
        if let State::Words(style) = self.state {
            let flow = &mut self.flow;
            let mut put = |c, style| flow.put(c, style, out);
            let taken = inline::take(&self.line, style, &mut self.before, whole, &mut put);
            self.line.drain(..taken);
        }
    }

    /// Prints what there is of a line that is too long to be held.
    fn cut(&mut self, whole: Whole, out: &mut String) {
        match whole {
            Whole::Code { cut } => {
                self.code(cut, out);
                self.state = State::Held(Whole::Code { cut: true });
            }
            Whole::Row | Whole::Fence { .. } => {
                self.end_table(out);
                self.open(String::new(), Style::PLAIN, out);
                self.words(false, out);
            }
        }
    }

    /// Does what a whole line asks for.
    fn whole(&mut self, whole: Whole, out: &mut String) {
        match whole {
            Whole::Row => {
                self.table_bytes += self.line.len();
                self.table.push(std::mem::take(&mut self.line));
                if self.table_bytes >= HELD {
                    self.end_table(out);
                }
            }
            Whole::Fence { mark, marks, indent } => {
                self.space(out);
                let info = self.line.trim().trim_start_matches(mark).trim().replace('\t', " ");
                let top = format!("  \u{256d}\u{2500} {info}");
                out.push_str(&Style::DIM.paint(top.trim_end()));
                out.push('\n');
                self.fence = Some(Fence { mark, marks, indent });
            }
            Whole::Code { cut: false } if self.closes() => {
                self.fence = None;
                out.push_str(&Style::DIM.paint("  \u{2570}\u{2500}"));
                out.push('\n');
            }
            Whole::Code { cut } => {
                self.code(cut, out);
                out.push('\n');
            }
        }
    }

    /// Whether the line closes the fence.
    fn closes(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| {
            let line = self.line.trim();
            line.len() >= fence.marks && line.chars().all(|c| c == fence.mark)
        })
    }

    /// Prints the line, or a further piece of it, as code.
    fn code(&mut self, is_piece: bool, out: &mut String) {
        let indent = self.fence.as_ref().map_or(4, |fence| fence.indent);
        let mut line = std::mem::take(&mut self.line);
        if !is_piece {
            self.space(out);
            out.push_str(&Style::DIM.paint("  \u{2502} "));
            let blanks = line.len() - line.trim_start_matches(' ').len();
            line.drain(..blanks.min(indent));
        }
        let text = line.replace('\t', "    ");
        if !text.is_empty() {
            out.push_str(&Style::CYAN.paint(&text));
        }
    }

    fn end_table(&mut self, out: &mut String) {
        if self.table.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.table);
        self.table_bytes = 0;
        self.space(out);
        if let Some(table) = table::laid_out(&rows, self.flow.width()) {
            out.push_str(&table);
            return;
        }
        for row in rows {
            self.flow.begin(&[], vec![("  ".to_owned(), Style::PLAIN)], out);
            let flow = &mut self.flow;
            let mut put = |c, style| flow.put(c, style, out);
            inline::take(&row, Style::PLAIN, &mut ' ', true, &mut put);
            self.flow.end(out);
        }
    }
}

#[cfg(test)]
mod tests;
