//! What somebody may have meant.

/// The candidate that is the fewest edits away from `word`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let enough = (word.chars().count() / 3).clamp(1, 3);
    let away = candidates.into_iter().map(|candidate| (edits(word, candidate), candidate));
    away.min_by_key(|(edits, _)| *edits).filter(|(edits, _)| *edits <= enough).map(|found| found.1)
}

/// What to say of a word that is none of `candidates`: all of them, and the nearest.
pub(super) fn none_of(word: &str, candidates: &[&str]) -> String {
    let all = candidates.join(", ");
    match nearest(word, candidates.iter().copied()) {
        Some(meant) => format!("{word:?} is none of {all}; did you mean {meant:?}?"),
        None => format!("{word:?} is none of {all}"),
    }
}

/// The edits (one letter put in, left out or changed, or two swapped) from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let changed = row[j] + usize::from(a != b);
            let mut least = changed.min(row[j + 1] + 1).min(next[j] + 1);
            let is_swap = i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b;
            if is_swap {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "ab", 2),
            ("listne", "listen", 1),
            ("lisen", "listen", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((edits(from, to), edits(to, from)), (count, count), "{from} {to}");
        }
    }

    #[test]
    fn only_what_is_near_is_meant() {
        let keys = ["listen", "data", "heartbeat_s"];
        assert_eq!(nearest("listne", keys), Some("listen"));
        assert_eq!(nearest("heart_beat", keys), Some("heartbeat_s"));
        assert_eq!((nearest("colour", keys), nearest("x", keys)), (None, None));
        assert_eq!(none_of("date", &["data"]), "\"date\" is none of data; did you mean \"data\"?");
        assert_eq!(none_of("x", &["data", "os"]), "\"x\" is none of data, os");
    }
}
