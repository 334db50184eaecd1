//! `cargo xtask conformance`: every case that is required has a test that is named by its id.
//!
//! The list is the table in `docs/conformance.md`: a row is `| id | state | ...`, its state
//! `required` or `later`. A test names its case by its first letters: `fn i05_torn_...` in Rust,
//! `def test_i05_...` in Python, `test("i05 ...` in JavaScript.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

use crate::repo::{self, File};

const LIST: &str = "docs/conformance.md";

/// Prints the count; an error names each case without a test and each test without a case.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = repo::files()?;
    let list = files.iter().find(|file| file.path == LIST).with_context(|| format!("no {LIST}"))?;
    let cases = cases(&list.text);
    let tests = tests(&files);
    let missing = cases
        .iter()
        .filter(|(id, state)| **state == State::Required && !tests.contains_key(id.as_str()));
    let mut problems: Vec<String> = missing.map(|(id, _)| format!("{id} has no test")).collect();
    let unknown = tests.iter().filter(|(id, _)| !cases.contains_key(id.as_str()));
    problems.extend(unknown.map(|(id, places)| format!("{id} is not in {LIST}: {places:?}")));
    for problem in &problems {
        println!("{problem}");
    }
    let required = cases.values().filter(|state| **state == State::Required).count();
    let met = required - problems.iter().filter(|text| text.ends_with("has no test")).count();
    let later = tests.keys().filter(|id| cases.get(*id) == Some(&State::Later)).count();
    println!("conformance: {met} of {required} required cases have tests, {later} beyond them");
    anyhow::ensure!(problems.is_empty(), "{} cases and tests do not fit", problems.len());
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Required,
    Later,
}

/// The rows of the table: upper-case id to state.
fn cases(list: &str) -> BTreeMap<String, State> {
    let rows = list.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (id, state) = (cells.next()?, cells.next()?);
        let state = match state {
            "required" => State::Required,
            "later" => State::Later,
            _ => return None,
        };
        Some((id.to_owned(), state))
    });
    rows.collect()
}

/// What stands before the id of a case where a test is named.
const MARKS: &[(&str, &[&str])] =
    &[("rs", &["fn "]), ("py", &["def test_"]), ("mjs", &["test(\"", "test('", "test(`"])];

/// Upper-case id to the files which have a test of it.
fn tests(files: &[File]) -> BTreeMap<String, BTreeSet<&str>> {
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        let marks =
            MARKS.iter().filter(|(of, _)| *of == file.ending()).flat_map(|(_, marks)| *marks);
        for mark in marks {
            let after = file.text.match_indices(mark).map(|(at, _)| &file.text[at + mark.len()..]);
            for id in after.filter_map(id_at) {
                found.entry(id).or_default().insert(&file.path);
            }
        }
    }
    found
}

/// The id that `text` begins with: a letter from a to q, two digits, then `_` or a blank.
fn id_at(text: &str) -> Option<String> {
    let bytes = text.as_bytes().first_chunk::<4>()?;
    let [letter, tens, ones, end] = *bytes;
    let is_id = matches!(letter, b'a'..=b'q')
        && tens.is_ascii_digit()
        && ones.is_ascii_digit()
        && matches!(end, b'_' | b' ');
    is_id.then(|| text[..3].to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_an_id_and_a_state() {
        let list = "| id | state |\n| --- | --- |\n| A01 | later | x |\n| I05 | required | y |";
        let found = cases(list);
        assert_eq!(found.len(), 2);
        assert_eq!(found["A01"], State::Later);
        assert_eq!(found["I05"], State::Required);
    }

    #[test]
    fn tests_are_found_in_each_language() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let files = [
            file("a.rs", "fn i05_torn() {}\nfn x() {}\nfn z01_no() {}\nfn f1_no() {}"),
            file("b.py", "def test_f05_next(): pass"),
            file("c.mjs", "test(\"g02 second tab\", () => {})"),
            file("d.md", "fn a01_no()"),
        ];
        let ids: Vec<String> = tests(&files).into_keys().collect();
        assert_eq!(ids, ["F05", "G02", "I05"]);
    }
}
