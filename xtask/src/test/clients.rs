//! The table of clients in `docs/clients.md`, which the steps write that put them before the
//! server.

use std::fs;

use anyhow::{Context as _, ensure};

use super::{tally::Tally, tools};
use crate::repo;

const GUIDE: &str = "docs/clients.md";
const BEGIN: &str = "| client | version | scenarios passed |\n| --- | --- | --- |\n";

/// The clients, in the order of the table.
const CLIENTS: [&str; 11] = [
    "`useChat` and the AI SDK 5 (npm `ai`)",
    "`useChat` and the AI SDK 6 (npm `ai`)",
    "`useChat` and the AI SDK 7 (npm `ai`)",
    "OpenAI (npm `openai`)",
    "OpenAI (PyPI `openai`)",
    "EventSource (npm `eventsource`)",
    "EventSource and `useChat` in Chromium",
    "`fetch`, and `segue-resume.js` in it",
    "SSE in Python (PyPI `httpx-sse`)",
    "TypeScript (`segue-client`)",
    "Python (`segue`)",
];

/// Which client, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    AiSdk(u8),
    OpenAiNode,
    OpenAiPython,
    EventSource,
    Chromium,
    Fetch,
    HttpxSse,
    TypeScript,
    Python,
}

impl Client {
    fn place(self) -> usize {
        match self {
            Self::AiSdk(major) => usize::from(major.saturating_sub(5).min(2)),
            Self::OpenAiNode => 3,
            Self::OpenAiPython => 4,
            Self::EventSource => 5,
            Self::Chromium => 6,
            Self::Fetch => 7,
            Self::HttpxSse => 8,
            Self::TypeScript => 9,
            Self::Python => 10,
        }
    }

    /// As it is pinned; of what has no version of its own, where it comes from.
    fn version(self) -> anyhow::Result<String> {
        let npm = |name: &str| {
            pinned(&format!("{}/package.json", tools::E2E), &format!("\"{name}\": \""))
        };
        let pypi = |name: &str| {
            pinned(&format!("{}/python/requirements.txt", tools::E2E), &format!("{name}=="))
        };
        match self {
            Self::AiSdk(major) => npm(&format!("ai{major}")),
            Self::OpenAiNode => npm("openai"),
            Self::OpenAiPython => pypi("openai"),
            Self::EventSource => npm("eventsource"),
            Self::Chromium => Ok("the system's".to_owned()),
            Self::Fetch => Ok("Node's".to_owned()),
            Self::HttpxSse => pypi("httpx-sse"),
            Self::TypeScript | Self::Python => Ok("built here".to_owned()),
        }
    }
}

/// The version that follows `before` in a file, without an alias in front.
fn pinned(file: &str, before: &str) -> anyhow::Result<String> {
    let text =
        fs::read_to_string(repo::root().join(file)).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix(before));
    let line = line.with_context(|| format!("{file} does not pin {before}"))?;
    let version = line.split('"').next().unwrap_or_default();
    Ok(version.rsplit('@').next().unwrap_or_default().to_owned())
}

/// The tests in TAP whose names begin so.
pub(super) fn of_prefix(tap: &str, prefix: &str) -> Tally {
    let mut tally = Tally::default();
    for line in tap.lines() {
        let (is_passed, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            (None, None) => continue,
        };
        let name = rest.split_once(" - ").map_or("", |(_, name)| name);
        if name.starts_with(prefix) {
            tally.passed += u64::from(is_passed);
            tally.failed += u64::from(!is_passed);
        }
    }
    tally
}

/// Writes how a client has done.
pub(super) fn note(client: Client, tally: Tally) -> anyhow::Result<()> {
    let total = tally.passed + tally.failed;
    ensure!(total > 0, "{client:?} was put before nothing");
    let path = repo::root().join(GUIDE);
    let text = fs::read_to_string(&path).with_context(|| format!("read {GUIDE}"))?;
    let written = with_row(&text, client, &client.version()?, tally.passed, total)?;
    if written != text {
        fs::write(&path, written).with_context(|| format!("write {GUIDE}"))?;
    }
    Ok(())
}

fn with_row(
    text: &str,
    client: Client,
    version: &str,
    passed: u64,
    total: u64,
) -> anyhow::Result<String> {
    let begin = text.find(BEGIN).with_context(|| format!("{GUIDE} has no table of clients"))?;
    let rows = begin + BEGIN.len();
    let of_table = text[rows..].split_inclusive('\n').take_while(|line| line.starts_with("| "));
    let end = rows + of_table.map(str::len).sum::<usize>();
    let known =
        |name: &str| text[rows..end].lines().find(|row| row.starts_with(&format!("| {name} |")));
    let mut table = String::new();
    for (place, name) in CLIENTS.iter().enumerate() {
        if place == client.place() {
            let row = format!("| {name} | {version} | {passed} of {total} |\n");
            table.push_str(&row);
        } else if let Some(row) = known(name) {
            table.push_str(row);
            table.push('\n');
        }
    }
    Ok(format!("{}{table}{}", &text[..rows], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_the_place_of_its_client_and_the_rest_stays() {
        let text = |rows: &str| format!("# Clients\n\n{BEGIN}{rows}\nmore\n");
        let once = with_row(&text(""), Client::OpenAiNode, "1.2.3", 4, 5).expect("a table");
        let row = "| OpenAI (npm `openai`) | 1.2.3 | 4 of 5 |\n";
        assert_eq!(once, text(row));
        let first = with_row(&once, Client::AiSdk(5), "5.0.1", 7, 7).expect("a table");
        let of_ai = "| `useChat` and the AI SDK 5 (npm `ai`) | 5.0.1 | 7 of 7 |\n";
        assert_eq!(first, text(&format!("{of_ai}{row}")));
        let again = with_row(&first, Client::OpenAiNode, "1.2.3", 5, 5).expect("a table");
        assert_eq!(again, text(&format!("{of_ai}{}", row.replace("4 of", "5 of"))));
        assert!(with_row("# Clients\n", Client::Fetch, "", 1, 1).is_err());
    }

    #[test]
    fn tests_are_counted_by_the_beginning_of_their_names() {
        let tap =
            "ok 1 - ai5: a\nnot ok 2 - ai5: b\n  ok 1 - ai5: inner\nok 3 - ai6: c\n# pass 2\n";
        let Tally { passed, failed, .. } = of_prefix(tap, "ai5:");
        assert_eq!((passed, failed), (1, 1));
        assert_eq!(of_prefix(tap, "").passed, 2);
    }

    #[test]
    fn every_client_has_a_version() {
        for client in [Client::AiSdk(5), Client::AiSdk(7), Client::OpenAiNode, Client::EventSource]
        {
            let version = client.version().expect("a version");
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
        }
        for client in [Client::OpenAiPython, Client::HttpxSse] {
            assert!(client.version().expect("a version").contains('.'));
        }
    }
}
