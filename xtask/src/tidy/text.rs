//! Rules about words and lengths.

use super::Problem;
use crate::repo::File;

/// More lines than this in a Rust file are worth a note.
pub(super) const LONG_FILE: usize = 450;
/// More are refused.
const LONGEST_FILE: usize = 800;

/// This file names what it looks for.
const RULES: &str = "xtask/src/tidy/text.rs";

/// A text that stands nowhere.
struct Word {
    text: &'static str,
    /// Only where the path ends so; empty for every file.
    only: &'static str,
    why: &'static str,
}

const fn word(text: &'static str, only: &'static str, why: &'static str) -> Word {
    Word { text, only, why }
}

const WORDS: &[Word] = &[
    word("TODO", "", "do it or leave it out"),
    word("FIXME", "", "do it or leave it out"),
    word("XXX", "", "do it or leave it out"),
    word("dbg!", ".rs", "not in what is kept"),
    word("\"resolved\":", "package-lock.json", "a lock file works with any registry"),
    word("://", "requirements.txt", "a requirement works with any registry"),
    word("/home/", "", "a path of one machine"),
    word("/root/", "", "a path of one machine"),
    word("setTimeout(", ".test.mjs", "wait for what is awaited, not for time"),
    word("time.sleep(", ".py", "wait for what is awaited, not for time"),
];

/// Files that wait between two looks at something, so that no test has to.
const POLLS: &[&str] = &["tests/e2e/python/support.py", "tests/e2e/support.mjs"];

pub(super) fn check(file: &File) -> Vec<Problem> {
    if file.path == RULES || file.ending() == "lock" {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let tests_begin = file.text.lines().position(|line| line == "#[cfg(test)]");
    let in_tests = |index| file.is_test() || tests_begin.is_some_and(|begin| index > begin);
    for (index, line) in file.text.lines().enumerate() {
        let found = WORDS.iter().filter(|word| file.path.ends_with(word.only));
        for word in found.filter(|word| stands_in(line, word.text)) {
            if !(POLLS.contains(&file.path.as_str()) && word.why.contains("not for time")) {
                let what = format!("`{}`: {}", word.text, word.why);
                problems.push(Problem::new(file, index + 1, what));
            }
        }
        if file.is_rust() && !in_tests(index) && !line.is_ascii() {
            problems.push(Problem::new(file, index + 1, "not ASCII: write an escape"));
        }
    }
    let lines = file.text.lines().count();
    if file.is_rust() && lines > LONGEST_FILE {
        problems.push(Problem::new(file, 1, format!("{lines} lines, at most {LONGEST_FILE}")));
    }
    problems
}

/// Whether `word` is there and is not the end of a longer one, nor its beginning.
fn stands_in(line: &str, word: &str) -> bool {
    let ends = |text: &str| text.chars().next_back().is_some_and(char::is_alphanumeric);
    let starts = |text: &str| text.chars().next().is_some_and(char::is_alphanumeric);
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !(ends(before) || ends(word) && starts(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.into() };
        check(&file).into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn a_word_is_found_only_whole() {
        assert!(stands_in("// TODO: later", "TODO"));
        assert!(!stands_in("mktemp x.XXXXXX", "XXX"));
        assert!(!stands_in("TODOS", "TODO"));
        assert!(stands_in("in /root/x", "/root/"));
        assert!(!stands_in("$data/root/x", "/root/"));
    }

    #[test]
    fn each_problem_names_its_place() {
        let found = problems("a/b.rs", "fn a() {}\n// FIXME\n");
        assert_eq!(found, ["a/b.rs:2: `FIXME`: do it or leave it out"]);
    }

    #[test]
    fn rust_is_ascii_but_for_tests() {
        assert_eq!(problems("a/b.rs", "// \u{e9}").len(), 1);
        assert_eq!(problems("a/tests/b.rs", "// \u{e9}"), [""; 0]);
        assert_eq!(problems("a/b.rs", "#[cfg(test)]\n// \u{e9}"), [""; 0]);
        assert_eq!(problems("README.md", "\u{e9}"), [""; 0]);
    }

    #[test]
    fn a_file_has_an_end() {
        assert_eq!(problems("a.rs", &"\n".repeat(LONGEST_FILE)), [""; 0]);
        assert_eq!(problems("a.rs", &"\n".repeat(LONGEST_FILE + 1)).len(), 1);
    }

    #[test]
    fn only_the_listed_files_wait_for_time() {
        assert_eq!(problems("tests/e2e/python/test_a.py", "time.sleep(1)").len(), 1);
        assert_eq!(problems("tests/e2e/python/support.py", "time.sleep(1)"), [""; 0]);
    }
}
