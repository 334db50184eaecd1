//! Where the repository is and which files it has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Folders which hold what was built or fetched, not what was written.
const NOT_OURS: &[&str] = &[".git", "target", "node_modules", ".tools", "__pycache__", "dist"];

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// One text file of the repository.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with `/` on every system.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// What stands behind the last dot of its name.
    pub(crate) fn ending(&self) -> &str {
        self.path.rsplit(['/', '.']).next().unwrap_or_default()
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.ending() == "rs"
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "conformance"))
    }
}

/// All text files of the repository, ordered by path.
pub(crate) fn files() -> anyhow::Result<Vec<File>> {
    let mut paths = Vec::new();
    walk(root(), &mut paths)?;
    paths.sort();
    let files = paths.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(files.into_iter().flatten().collect())
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        let is_ours = !NOT_OURS.iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && is_ours {
            walk(&entry.path(), into)?;
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
    Ok(())
}

/// Nothing for a file that is not text.
fn read(path: &Path) -> anyhow::Result<Option<File>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let from_root = path.strip_prefix(root()).unwrap_or(path);
    let path = from_root.to_string_lossy().replace('\\', "/");
    Ok(String::from_utf8(bytes).ok().map(|text| File { path, text }))
}
