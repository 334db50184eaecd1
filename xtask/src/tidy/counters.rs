//! Whoever operates a server can look up each counter.

use super::Problem;
use crate::repo::File;

const LIST: &str = "docs/operate.md";
const ENDING: &str = "_total\"";

/// A counter is a literal that ends in `_total`; the list has it between backticks.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let list = files.iter().find(|file| file.path == LIST).map_or("", |file| file.text.as_str());
    let counting = |file: &&File| file.path.starts_with("crates/") && file.is_rust();
    let mut problems = Vec::new();
    for file in files.iter().filter(counting).filter(|file| !file.is_test()) {
        for (index, line) in file.text.lines().enumerate() {
            let unlisted = names(line).filter(|name| !list.contains(&format!("`{name}`")));
            let told = unlisted.map(|name| format!("{name} has no row in {LIST}"));
            problems.extend(told.map(|what| Problem::new(file, index + 1, what)));
        }
    }
    problems
}

fn names(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(ENDING).filter_map(|(at, _)| {
        let name = &line[..at + ENDING.len() - 1];
        name.rsplit('"').next().filter(|name| name.chars().all(|c| c == '_' || c.is_alphanumeric()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_without_a_row_is_named() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let files = [
            file("crates/a/src/b.rs", "x\ncounter!(\"a_total\");\ncounter!(\"b_total\", 1);"),
            file(LIST, "| `b_total` | what |"),
        ];
        let found: Vec<String> = check(&files).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["crates/a/src/b.rs:2: a_total has no row in docs/operate.md"]);
    }
}
