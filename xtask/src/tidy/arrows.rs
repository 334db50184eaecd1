//! Who may depend on whom: arrows point down only, and a crate that must not know a thing does
//! not link it. What a crate uses in its tests is its own affair.

use toml::{Table, Value};

use super::Problem;
use crate::repo::File;

/// What one crate may use of ours, and what else it must not know.
struct Arrow {
    name: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const HTTP: &[&str] = &["axum", "hyper", "hyper-util", "http", "http-body", "tower", "reqwest"];

const ARROWS: &[Arrow] = &[
    Arrow {
        name: "segue-core",
        ours: &[],
        never: &["tokio", "rusqlite", "rustix", "axum", "hyper", "http", "reqwest", "tracing"],
    },
    Arrow { name: "segue-journal", ours: &["segue-core"], never: HTTP },
    Arrow { name: "segue-sources", ours: &["segue-core"], never: &["rusqlite", "axum", "hyper"] },
    Arrow { name: "segue-client", ours: &["segue-core"], never: &["rusqlite", "axum", "hyper"] },
    Arrow {
        name: "segue-engine",
        ours: &["segue-core", "segue-journal"],
        never: &["rusqlite", "rustix", "axum", "hyper", "http", "tower", "reqwest"],
    },
    Arrow {
        name: "segue-server",
        ours: &["segue-core", "segue-journal", "segue-engine"],
        never: &["rusqlite", "rustix", "reqwest"],
    },
    Arrow {
        name: "segue",
        ours: &[
            "segue-core",
            "segue-journal",
            "segue-engine",
            "segue-sources",
            "segue-server",
            "segue-client",
        ],
        never: &["rusqlite", "axum", "hyper"],
    },
];

pub(super) fn check(file: &File) -> Vec<Problem> {
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Problem::new(file, 1, format!("not TOML: {error}"))],
    };
    let name = manifest.get("package").and_then(|p| p.get("name")).and_then(Value::as_str);
    let Some(arrow) = name.and_then(|name| ARROWS.iter().find(|arrow| arrow.name == name)) else {
        return Vec::new();
    };
    dependencies(&manifest)
        .filter(|used| !arrow.allows(used))
        .map(|used| {
            let line = file.text.lines().position(|line| line.starts_with(used)).unwrap_or(0);
            Problem::new(file, line + 1, format!("{} must not know {used}", arrow.name))
        })
        .collect()
}

impl Arrow {
    fn allows(&self, used: &str) -> bool {
        let is_ours = used == "segue" || used.starts_with("segue-");
        if is_ours { self.ours.contains(&used) } else { !self.never.contains(&used) }
    }
}

fn dependencies(manifest: &Table) -> impl Iterator<Item = &str> {
    let used = manifest.get("dependencies").and_then(Value::as_table);
    used.into_iter().flatten().map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, dependencies: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}");
        check(&File { path: "Cargo.toml".into(), text })
            .into_iter()
            .map(|problem| problem.to_string())
            .collect()
    }

    #[test]
    fn an_arrow_upwards_is_named() {
        let found = problems("segue-engine", "bytes = \"1\"\nsegue-server = \"1\"\n");
        assert_eq!(found, ["Cargo.toml:5: segue-engine must not know segue-server"]);
    }

    #[test]
    fn a_library_that_a_crate_must_not_know_is_named() {
        assert_eq!(problems("segue-core", "tokio = \"1\"").len(), 1);
        assert_eq!(problems("segue-journal", "axum.workspace = true").len(), 1);
        assert_eq!(problems("segue-journal", "tokio = \"1\""), [""; 0]);
    }

    #[test]
    fn what_only_tests_use_is_free() {
        let more = "[dev-dependencies]\nsegue-sources = \"1\"\n";
        assert_eq!(problems("segue-server", more), [""; 0]);
    }
}
