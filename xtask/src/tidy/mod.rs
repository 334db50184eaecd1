//! `cargo xtask tidy`: the repository's own rules, as checks.
//!
//! A rule is data where it can be: [`text`] has words and lengths, [`rust`] what needs the syntax
//! tree, [`arrows`] who may depend on whom, [`counters`] what has to be documented.

mod arrows;
mod counters;
mod rust;
mod text;

use std::fmt;

use crate::repo::{self, File};

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    path: String,
    line: usize,
    what: String,
}

impl Problem {
    fn new(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Prints every problem; an error if there is one.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = repo::files()?;
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        if lines > text::LONG_FILE {
            println!("note: {}: {lines} lines, {} are plenty", file.path, text::LONG_FILE);
        }
    }
    let mut problems = counters::check(&files);
    let mut lengths = Vec::new();
    for file in &files {
        problems.extend(text::check(file));
        if file.is_rust() {
            let (found, more) = rust::check(file);
            problems.extend(found);
            lengths.extend(more);
        }
        if file.path.ends_with("Cargo.toml") {
            problems.extend(arrows::check(file));
        }
    }
    for problem in &problems {
        println!("{problem}");
    }
    anyhow::ensure!(problems.is_empty(), "{} places break a rule", problems.len());
    let functions = lengths.len();
    println!("tidy: {} files, {functions} functions, p90 {} lines", files.len(), p90(lengths));
    Ok(())
}

/// The length that nine of ten functions do not exceed.
fn p90(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    lengths.get(lengths.len() * 9 / 10).copied().unwrap_or_default()
}
