//! What the end-to-end suites need beyond the Rust toolchain: found, or installed from the
//! package registries, or named as missing.

use std::path::PathBuf;

use anyhow::Context as _;

use super::command::{command, exists, run};
use crate::repo;

/// The folder of the suites that are not Rust.
pub(super) const E2E: &str = "tests/e2e";

/// The JavaScript packages, as locked.
pub(super) fn node_packages() -> anyhow::Result<()> {
    for tool in ["node", "npm"] {
        needed(tool)?;
    }
    let mut install = command("npm", &["ci", "--no-audit", "--no-fund"]);
    run(install.current_dir(repo::root().join(E2E)))
}

/// The Python of an environment of our own, with the pinned packages.
pub(super) fn python() -> anyhow::Result<PathBuf> {
    needed("python3")?;
    let folder = repo::root().join("target/e2e-python");
    let python = folder.join("bin/python");
    if !exists(&mut command(&python.to_string_lossy(), &["-m", "pip", "--version"])) {
        make_environment(&folder.to_string_lossy())?;
    }
    let wanted = format!("{E2E}/python/requirements.txt");
    let arguments = ["-m", "pip", "install", "--quiet", "--requirement", &wanted];
    run(&mut command(&python.to_string_lossy(), &arguments))?;
    Ok(python)
}

/// Debian keeps the part of Python that makes environments in a package of its own.
fn make_environment(folder: &str) -> anyhow::Result<()> {
    let make = || run(&mut command("python3", &["-m", "venv", "--clear", folder]));
    make().or_else(|_| {
        debian_package("python3-venv")?;
        make()
    })
}

/// A program that the system packages under its own name.
pub(super) fn system(tool: &str) -> anyhow::Result<()> {
    if exists(&mut command(tool, &["--version"])) {
        return Ok(());
    }
    debian_package(tool)?;
    needed(tool)
}

fn needed(tool: &str) -> anyhow::Result<()> {
    let found = exists(&mut command(tool, &["--version"]));
    anyhow::ensure!(found, "{tool} is missing: install it");
    Ok(())
}

fn debian_package(name: &str) -> anyhow::Result<()> {
    let apt = |arguments: &[&str]| {
        run(command("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])
        .and_then(|()| apt(&["install", "--yes", "--no-install-recommends", name]))
        .with_context(|| format!("{name} is missing and could not be installed"))
}
