//! Emphasis, code and links within a line.

use super::super::Style;

/// The most bytes that wait for the end of what begins with a mark; over it the mark is text.
const HOLD: usize = 240;

/// What the beginning of a text is.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// It depends on what comes.
    Hold,
    /// So many bytes of text.
    Plain(usize),
    /// A character that a backslash makes text.
    Escaped(char),
    Code {
        len: usize,
        text: &'a str,
    },
    Span {
        len: usize,
        text: &'a str,
        style: Style,
    },
    Link {
        len: usize,
        text: &'a str,
        url: &'a str,
    },
}

/// Gives what can be told of a line's rest to `put` and returns how many bytes that took: all of
/// them if the rest is `whole`. `before` is the character before it.
pub(super) fn take(
    text: &str,
    style: Style,
    before: &mut char,
    whole: bool,
    put: &mut dyn FnMut(char, Style),
) -> usize {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let len = match piece(rest, *before, whole) {
            Piece::Hold => break,
            Piece::Plain(len) => {
                rest[..len].chars().for_each(|c| put(c, style));
                len
            }
            Piece::Escaped(c) => {
                put(c, style);
                1 + c.len_utf8()
            }
            Piece::Code { len, text } => {
                text.chars().for_each(|c| put(c, style.and(Style::CYAN)));
                len
            }
            Piece::Span { len, text, style: more } => {
                take(text, style.and(more), &mut ' ', true, put);
                len
            }
            Piece::Link { len, text, url } => {
                take(text, style.and(Style::UNDERLINE), &mut ' ', true, put);
                if url != text {
                    format!(" ({url})").chars().for_each(|c| put(c, style.and(Style::DIM)));
                }
                len
            }
        };
        *before = rest[..len].chars().next_back().unwrap_or(' ');
        at += len;
    }
    at
}

fn piece(rest: &str, before: char, whole: bool) -> Piece<'_> {
    let mut chars = rest.chars();
    let first = chars.next().unwrap_or(' ');
    let view = View::of(rest, whole);
    let found = match (first, chars.next()) {
        ('\\', Some(c)) if c.is_ascii_punctuation() => return Piece::Escaped(c),
        ('\\', None) => view.unless_more_comes(1),
        ('`', _) => code(&view),
        ('*' | '_' | '~', _) => emphasis(&view, first, before),
        ('[', _) => link(&view),
        _ => None,
    };
    found.unwrap_or(Piece::Plain(first.len_utf8()))
}

/// The part of the rest in which the end of a mark is looked for.
struct View<'a> {
    text: &'a str,
    /// More may come that belongs to it.
    is_open: bool,
}

impl<'a> View<'a> {
    fn of(rest: &'a str, whole: bool) -> Self {
        if rest.len() <= HOLD {
            return Self { text: rest, is_open: !whole };
        }
        let end = (0..=HOLD).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
        Self { text: &rest[..end], is_open: false }
    }

    /// Text of `len` bytes, if that cannot change any more.
    #[expect(clippy::unnecessary_wraps, reason = "what every search ends with")]
    fn unless_more_comes(&self, len: usize) -> Option<Piece<'a>> {
        Some(if self.is_open { Piece::Hold } else { Piece::Plain(len) })
    }

    /// The length of the run of `mark` that begins at `at`; none if it may go on.
    fn run(&self, at: usize, mark: char) -> Option<usize> {
        let rest = &self.text[at..];
        let len = rest.len() - rest.trim_start_matches(mark).len();
        (len < rest.len() || !self.is_open).then_some(len)
    }

    /// The first run of exactly `len` marks at or after `from` that `fits`.
    fn closing(
        &self,
        from: usize,
        mark: char,
        len: usize,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut at = from;
        while let Some(found) = self.text[at..].find(mark) {
            at += found;
            let run = self.run(at, mark)?;
            if run == len && fits(at) {
                return Some(at);
            }
            at += run;
        }
        None
    }

    fn char_before(&self, at: usize) -> char {
        self.text[..at].chars().next_back().unwrap_or(' ')
    }

    fn char_at(&self, at: usize) -> Option<char> {
        self.text[at..].chars().next()
    }
}

fn code<'a>(view: &View<'a>) -> Option<Piece<'a>> {
    let Some(len) = view.run(0, '`') else { return Some(Piece::Hold) };
    let Some(end) = view.closing(len, '`', len, |_| true) else {
        return view.unless_more_comes(len);
    };
    let text = &view.text[len..end];
    let inner = text.strip_prefix(' ').and_then(|text| text.strip_suffix(' '));
    let text = inner.filter(|inner| !inner.trim().is_empty()).unwrap_or(text);
    Some(Piece::Code { len: end + len, text })
}

fn emphasis<'a>(view: &View<'a>, mark: char, before: char) -> Option<Piece<'a>> {
    let Some(len) = view.run(0, mark) else { return Some(Piece::Hold) };
    let style = match (mark, len) {
        ('~', 2) => Style::STRIKE,
        ('*' | '_', 1) => Style::ITALIC,
        ('*' | '_', 2) => Style::BOLD,
        ('*' | '_', 3) => Style::BOLD.and(Style::ITALIC),
        _ => return Some(Piece::Plain(len)),
    };
    let opens = view.char_at(len).is_some_and(|c| !c.is_whitespace());
    if !opens || (mark == '_' && before.is_alphanumeric()) {
        return Some(Piece::Plain(len));
    }
    let ends = |at: usize| {
        let in_word = mark == '_' && view.char_at(at + len).is_some_and(char::is_alphanumeric);
        !in_word && !view.char_before(at).is_whitespace()
    };
    let Some(end) = view.closing(len, mark, len, ends) else {
        return view.unless_more_comes(len);
    };
    Some(Piece::Span { len: end + len, text: &view.text[len..end], style })
}

fn link<'a>(view: &View<'a>) -> Option<Piece<'a>> {
    let Some(close) = view.text.find(']') else { return view.unless_more_comes(1) };
    match view.char_at(close + 1) {
        None => return view.unless_more_comes(1),
        Some('(') => {}
        Some(_) => return None,
    }
    let Some(end) = view.text[close..].find(')') else { return view.unless_more_comes(1) };
    let inside = &view.text[close + 2..close + end];
    let url = inside.split(' ').next().unwrap_or_default();
    let text = &view.text[1..close];
    (!text.is_empty() && !url.is_empty()).then_some(Piece::Link { len: close + end + 1, text, url })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with its styles in brackets.
    fn seen(text: &str, whole: bool) -> String {
        let mut out = String::new();
        let mut last = Style::PLAIN;
        let taken = take(text, Style::PLAIN, &mut ' ', whole, &mut |c, style| {
            if style != last {
                out.push_str(last.end());
                out.push_str(&style.begin());
                last = style;
            }
            out.push(c);
        });
        out.push_str(last.end());
        let out = out.replace("\x1b[0m", ">").replace("\x1b[", "<");
        format!("{out}|{}", &text[taken..])
    }

    #[test]
    fn marks_become_styles() {
        for (text, expect) in [
            ("a **b** *c* ***d*** ~~e~~", "a <1mb> <3mc> <1;3md> <9me>|"),
            ("_a_ snake_case_name __b__", "<3ma> snake_case_name <1mb>|"),
            ("`a*b*` ``x`y``", "<36ma*b*> <36mx`y>|"),
            ("**a *b* c**", "<1ma ><1;3mb><1m c>|"),
            ("[a *b*](http://c) x", "<4ma ><3;4mb><2m (http://c)> x|"),
            ("\\*a\\* \\n", "*a* \\n|"),
            ("2 * 3 * 4, a* b", "2 * 3 * 4, a* b|"),
            ("**never closed", "**never closed|"),
            ("[x] [ ] a[0](", "[x] [ ] a[0](|"),
            ("`open", "`open|"),
            ("****", "****|"),
        ] {
            assert_eq!(seen(text, true), expect, "{text}");
        }
    }

    #[test]
    fn what_may_still_become_a_mark_is_held() {
        for (text, expect) in [
            ("a *b", "a |*b"),
            ("a **b*", "a |**b*"),
            ("a **b**", "a |**b**"),
            ("a **b** ", "a <1mb> |"),
            ("x [y](z", "x |[y](z"),
            ("x \\", "x |\\"),
            ("* a", "* a|"),
        ] {
            assert_eq!(seen(text, false), expect, "{text}");
        }
    }

    #[test]
    fn a_mark_without_an_end_is_not_held_for_ever() {
        let text = format!("*{}", "x".repeat(HOLD));
        assert_eq!(seen(&text, false), format!("{text}|"));
    }
}
