//! Reasoning that stands in the content, between `<think>` and `</think>`.

use std::mem;

use super::answer::Prose;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits content into reasoning and text. Only a tag at the very head opens, so that an answer
/// which speaks of the tag keeps it. What may be half of a tag is held back.
#[derive(Debug, Default)]
pub(super) struct Think {
    place: Place,
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nothing but white space so far.
    #[default]
    Head,
    Inside,
    /// The reasoning is over, and only white space has come since.
    After,
    Text,
}

impl Think {
    /// More content; gives what it turned out to be.
    pub(super) fn feed(&mut self, text: &str, mut give: impl FnMut(Prose, &str)) {
        if self.place == Place::Text {
            return give(Prose::Text, text);
        }
        self.held.push_str(text);
        if self.place == Place::Head && !self.leave_head() {
            return;
        }
        if self.place == Place::Inside {
            let held = mem::take(&mut self.held);
            let (inside, rest) = match held.split_once(CLOSE) {
                Some((inside, rest)) => {
                    self.place = Place::After;
                    (inside, rest)
                }
                None => held.split_at(held.len() - half_of(CLOSE, &held)),
            };
            rest.clone_into(&mut self.held);
            give(Prose::Reasoning, inside);
        }
        if self.place == Place::After {
            let begins = self.held.trim_start().len();
            self.held.drain(..self.held.len() - begins);
            if begins > 0 {
                self.place = Place::Text;
            }
        }
        if self.place == Place::Text {
            give(Prose::Text, &mem::take(&mut self.held));
        }
    }

    /// Whether it is known what the content begins with.
    fn leave_head(&mut self) -> bool {
        let head = self.held.trim_start();
        if let Some(inside) = head.strip_prefix(OPEN) {
            self.held = inside.to_owned();
            self.place = Place::Inside;
        } else if !OPEN.starts_with(head) {
            self.place = Place::Text;
        }
        self.place != Place::Head
    }

    /// What was held back, at the end.
    pub(super) fn finish(&mut self) -> Option<(Prose, String)> {
        let prose = if self.place == Place::Inside { Prose::Reasoning } else { Prose::Text };
        if self.place == Place::Head {
            self.place = Place::Text;
        }
        let held = mem::take(&mut self.held);
        (!held.is_empty()).then_some((prose, held))
    }
}

/// How many bytes at the end of `text` may be the beginning of `tag`.
fn half_of(tag: &str, text: &str) -> usize {
    (1..tag.len()).rev().find(|bytes| text.ends_with(&tag[..*bytes])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reasoning and text of content that comes in these pieces.
    fn split<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let (mut reasoning, mut text) = (String::new(), String::new());
        let mut give = |prose, piece: &str| match prose {
            Prose::Reasoning => reasoning.push_str(piece),
            Prose::Text => text.push_str(piece),
        };
        let mut think = Think::default();
        for piece in pieces {
            think.feed(piece, &mut give);
        }
        if let Some((prose, piece)) = think.finish() {
            give(prose, &piece);
        }
        (reasoning, text)
    }

    #[test]
    fn only_a_tag_at_the_head_opens() {
        for (content, reasoning, text) in [
            ("<think>a</think>b", "a", "b"),
            ("\n <think>a\n</think>\n\nb c", "a\n", "b c"),
            ("<think>a", "a", ""),
            ("<think>a</thin", "a</thin", ""),
            ("b <think>a</think>", "", "b <think>a</think>"),
            ("<thinking>", "", "<thinking>"),
            ("<thi", "", "<thi"),
            ("<think></think>", "", ""),
            ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
            ("  ", "", "  "),
            ("", "", ""),
        ] {
            assert_eq!(split([content]), (reasoning.to_owned(), text.to_owned()), "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            words in prop::collection::vec(prop::sample::select(vec!["<think>", "</think>", "<", "th", "é", " "]), 0..8),
            cuts in prop::collection::vec(0..60_usize, 0..6),
        ) {
            let content = words.concat();
            let mut cuts: Vec<usize> =
                cuts.into_iter().filter(|at| content.is_char_boundary(*at)).collect();
            cuts.extend([0, content.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &content[pair[0]..pair[1]]);
            prop_assert_eq!(split(pieces), split([content.as_str()]));
        }
    }
}
