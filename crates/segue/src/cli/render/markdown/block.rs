//! What a line is, from its beginning.

/// The most bytes of a beginning that are looked at.
const MOST: usize = 200;

/// What a line begins as, and how many bytes of it say so.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    Blank,
    Paragraph {
        indent: usize,
    },
    Heading {
        level: usize,
        len: usize,
    },
    Item {
        indent: usize,
        marker: String,
        len: usize,
    },
    Quote {
        len: usize,
    },
    /// The whole line opens a fence.
    Fence {
        mark: char,
        marks: usize,
        indent: usize,
    },
    /// The whole line is a rule.
    Rule,
    /// The whole line is a row of a table.
    Row,
    /// The whole line is code, by four blanks.
    Indented,
}

/// What the line is that begins with `line`; none if it depends on what comes. A `whole` line
/// is always something.
pub(super) fn block(line: &str, whole: bool, in_list: bool) -> Option<Block> {
    let text = line.trim_start_matches([' ', '\t']);
    let indent = line.len() - text.len();
    let Some(first) = text.chars().next() else {
        return if whole { Some(Block::Blank) } else { long(line, indent) };
    };
    if indent >= 4 && !in_list {
        return Some(Block::Indented);
    }
    let run = text.len() - text.trim_start_matches(first).len();
    let after = text[run..].chars().next();
    // `None` at the end of what is there means: more has to be seen.
    let open = after.is_none() && !whole;
    let decided = match first {
        '#' if open && run <= 6 => None,
        '#' if run <= 6 && after.is_none_or(|c| c == ' ') => {
            Some(Block::Heading { level: run, len: indent + run })
        }
        '`' | '~' if run >= 3 => Some(Block::Fence { mark: first, marks: run, indent }),
        '>' => Some(Block::Quote { len: indent + 1 }),
        '|' => Some(Block::Row),
        '`' | '~' | '-' | '*' | '+' | '_' if open => None,
        '-' | '*' | '_' if run >= 3 && after.is_none() => Some(Block::Rule),
        '-' | '*' | '+' if run == 1 && after == Some(' ') => {
            Some(Block::Item { indent, marker: "\u{2022}".to_owned(), len: indent + 2 })
        }
        '0'..='9' => return numbered(text, indent, whole),
        _ => Some(Block::Paragraph { indent }),
    };
    decided.or_else(|| long(line, indent))
}

fn numbered(text: &str, indent: usize, whole: bool) -> Option<Block> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut after = text[digits..].chars();
    match (after.next(), after.next()) {
        (None, _) | (Some('.' | ')'), None) if !whole && digits <= 9 => None,
        (Some('.' | ')'), Some(' ')) if digits <= 9 => {
            let marker = text[..=digits].to_owned();
            Some(Block::Item { indent, marker, len: indent + digits + 2 })
        }
        _ => Some(Block::Paragraph { indent }),
    }
}

/// Text, once there is too much to wait any longer.
fn long(line: &str, indent: usize) -> Option<Block> {
    (line.len() >= MOST).then_some(Block::Paragraph { indent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_as_soon_as_it_can_be() {
        let paragraph = Some(Block::Paragraph { indent: 0 });
        let item = |indent, marker: &str, len| {
            Some(Block::Item { indent, marker: marker.to_owned(), len })
        };
        for (line, expect) in [
            ("", None),
            ("  ", None),
            ("a", paragraph),
            ("#", None),
            ("## ", Some(Block::Heading { level: 2, len: 2 })),
            ("#x", Some(Block::Paragraph { indent: 0 })),
            ("-", None),
            ("- ", item(0, "\u{2022}", 2)),
            ("  * ", item(2, "\u{2022}", 4)),
            ("**b", Some(Block::Paragraph { indent: 0 })),
            ("---", None),
            ("12", None),
            ("12.", None),
            ("12. ", item(0, "12.", 4)),
            ("1.5", Some(Block::Paragraph { indent: 0 })),
            ("``", None),
            ("``x", Some(Block::Paragraph { indent: 0 })),
            ("```", Some(Block::Fence { mark: '`', marks: 3, indent: 0 })),
            (">", Some(Block::Quote { len: 1 })),
            ("|", Some(Block::Row)),
            ("    x", Some(Block::Indented)),
        ] {
            assert_eq!(block(line, false, false), expect, "{line:?}");
        }
        assert_eq!(block("    x", false, true), Some(Block::Paragraph { indent: 4 }));
    }

    #[test]
    fn a_whole_line_is_always_something() {
        for (line, expect) in [
            ("", Block::Blank),
            (" ", Block::Blank),
            ("---", Block::Rule),
            ("#", Block::Heading { level: 1, len: 1 }),
            ("-", Block::Paragraph { indent: 0 }),
            ("7.", Block::Paragraph { indent: 0 }),
            ("``", Block::Paragraph { indent: 0 }),
        ] {
            assert_eq!(block(line, true, false), Some(expect), "{line:?}");
        }
        assert!(block(&"-".repeat(MOST), false, false).is_some());
    }
}
