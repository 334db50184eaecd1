//! What a word is, for every store alike.

/// Words that stand in a row one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase {
    /// The words, as [`words`] gives them. Without any it stands nowhere.
    pub words: Vec<String>,
    /// The last word need only begin so.
    pub is_prefix: bool,
}

impl Phrase {
    /// The words of a text in a row. `None` if it has none.
    pub fn new(text: &str, is_prefix: bool) -> Option<Self> {
        let words = words(text);
        (!words.is_empty()).then_some(Self { words, is_prefix })
    }

    /// Whether it stands in these words.
    pub(super) fn is_in(&self, words: &[String]) -> bool {
        let Some((last, rest)) = self.words.split_last() else { return false };
        let ends =
            |word: &String| if self.is_prefix { word.starts_with(last) } else { word == last };
        words.windows(self.words.len()).any(|window| {
            window.split_last().is_some_and(|(end, before)| ends(end) && before == rest)
        })
    }
}

/// The words of a text: runs of letters and digits, in lower case. Where a script puts no spaces
/// between words, each character is one, so that any part of a text is found as a phrase.
pub fn words(text: &str) -> Vec<String> {
    placed_words(text).map(|(_, word)| word).collect()
}

/// The [`words`] of a text, each with the place in bytes where it begins.
pub fn placed_words(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut letters = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (at, first) = letters.by_ref().find(|(_, letter)| is_of_word(*letter))?;
        let mut word: String = first.to_lowercase().collect();
        let goes_on = |letter: char| is_of_word(letter) && !is_unspaced(letter);
        while !is_unspaced(first)
            && let Some((_, letter)) = letters.next_if(|(_, letter)| goes_on(*letter))
        {
            word.extend(letter.to_lowercase());
        }
        Some((at, word))
    })
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric()
}

/// Scripts that put no spaces between words: Thai to Khmer, kana, bopomofo and ideographs.
fn is_unspaced(letter: char) -> bool {
    let scripts = [
        '\u{e00}'..='\u{eff}',
        '\u{1000}'..='\u{109f}',
        '\u{1780}'..='\u{17ff}',
        '\u{3040}'..='\u{312f}',
        '\u{31a0}'..='\u{31bf}',
        '\u{3400}'..='\u{4dbf}',
        '\u{4e00}'..='\u{9fff}',
        '\u{f900}'..='\u{faff}',
        '\u{20000}'..='\u{3ffff}',
    ];
    letter.is_alphanumeric() && scripts.iter().any(|script| script.contains(&letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        for (text, expected) in [
            ("", vec![]),
            (" ,.\0\"* ", vec![]),
            ("Don't stop-me 42x", vec!["don", "t", "stop", "me", "42x"]),
            ("ÜBER straße", vec!["über", "straße"]),
            ("日本go語", vec!["日", "本", "go", "語"]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }
}
