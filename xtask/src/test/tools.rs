//! What the end-to-end suites need beyond the Rust toolchain: found, or installed from the
//! package registries, or named as missing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::command::{command, exists, run};
use crate::repo;

/// The folder of the suites that are not Rust.
pub(super) const E2E: &str = "tests/e2e";

/// The TypeScript client and the folder of its tests.
const TYPESCRIPT: &str = "clients/typescript";
pub(super) const TYPESCRIPT_TESTS: &str = "tests/e2e/typescript";

/// The chat page of the examples.
const CHAT: &str = "examples/chat";

/// The JavaScript packages of the suites, as locked.
pub(super) fn node_packages() -> anyhow::Result<()> {
    npm_ci(E2E)
}

/// Builds the package of the TypeScript client and installs it where its tests find it, as any
/// user's program would.
pub(super) fn typescript_client() -> anyhow::Result<()> {
    npm_ci(TYPESCRIPT)?;
    let (client, tests) = (repo::root().join(TYPESCRIPT), repo::root().join(TYPESCRIPT_TESTS));
    let packed = emptied("target/client-typescript")?;
    emptied(&format!("{TYPESCRIPT}/dist"))?;
    let to = packed.to_string_lossy();
    run(command("npm", &["run", "--silent", "build"]).current_dir(&client))?;
    run(command("npm", &["pack", "--silent", "--pack-destination", &to]).current_dir(&client))?;
    let package = only_file_of(&packed, "tgz")?.to_string_lossy().into_owned();
    let quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund"];
    // Not over an older build of the same version, which npm may take for the same.
    emptied(&format!("{TYPESCRIPT_TESTS}/node_modules"))?;
    run(command("npm", &["install"]).args(quiet).arg(package).current_dir(&tests))
}

/// The files of a folder that end so begin with one of these names: no suite is left out because nobody named it.
pub(super) fn only_files(folder: &str, ending: &str, names: &[&str]) -> anyhow::Result<()> {
    for entry in fs::read_dir(repo::root().join(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(ending) {
            let is_known = names.iter().any(|known| name.starts_with(known));
            anyhow::ensure!(is_known, "{folder}/{name}{ending} belongs to no suite");
        }
    }
    Ok(())
}

/// Builds the chat page of the examples as its guide says.
pub(super) fn chat_example() -> anyhow::Result<()> {
    npm_ci(CHAT)?;
    run(command("npm", &["run", "--silent", "build"]).current_dir(repo::root().join(CHAT)))
}

/// What a folder's lock file names, unless it is there already.
fn npm_ci(folder: &str) -> anyhow::Result<()> {
    for tool in ["node", "npm"] {
        needed(tool)?;
    }
    let folder = repo::root().join(folder);
    once(&folder.join("package-lock.json"), &folder.join("node_modules/.installed"), || {
        let mut install = command("npm", &["ci", "--no-audit", "--no-fund"]);
        run(install.current_dir(&folder))
    })
}

/// The Python of an environment of our own, with the pinned packages.
pub(super) fn python() -> anyhow::Result<PathBuf> {
    needed("python3")?;
    let folder = repo::root().join("target/e2e-python");
    let python = folder.join("bin/python");
    let wanted = repo::root().join(E2E).join("python/requirements.txt");
    if !exists(&mut command(&python.to_string_lossy(), &["-m", "pip", "--version"])) {
        make_environment(&folder.to_string_lossy())?;
    }
    once(&wanted, &folder.join(".installed"), || {
        let wanted = wanted.to_string_lossy();
        let arguments = ["-m", "pip", "install", "--quiet", "--requirement", &wanted];
        run(&mut command(&python.to_string_lossy(), &arguments))
    })?;
    Ok(python)
}

/// Builds the package of the Python client, first its source archive and from that its wheel, and
/// installs the wheel. The pinned packages have to satisfy what it depends on.
pub(super) fn python_client(python: &Path) -> anyhow::Result<()> {
    let client = repo::root().join("clients/python");
    let built = emptied("target/client-python")?;
    let (client, to) = (client.to_string_lossy(), built.to_string_lossy());
    let run_python = |arguments: &[&str]| run(&mut command(&python.to_string_lossy(), arguments));
    run_python(&["-m", "build", "--no-isolation", "--outdir", &to, &client])?;
    let wheel = only_file_of(&built, "whl")?.to_string_lossy().into_owned();
    let anew = ["--quiet", "--no-deps", "--force-reinstall"];
    run_python(&[&["-m", "pip", "install"], &anew[..], &[&wheel]].concat())?;
    run_python(&["-m", "pip", "check"])
}

/// Installs what `wanted` names, unless `stamp` says that just this was installed.
fn once(
    wanted: &Path,
    stamp: &Path,
    install: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let text = fs::read(wanted).with_context(|| format!("read {}", wanted.display()))?;
    if fs::read(stamp).is_ok_and(|installed| installed == text) {
        return Ok(());
    }
    install()?;
    fs::write(stamp, text).with_context(|| format!("write {}", stamp.display()))
}

/// A folder below the root that has nothing in it.
fn emptied(folder: &str) -> anyhow::Result<PathBuf> {
    let folder = repo::root().join(folder);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

fn only_file_of(folder: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = files.collect::<std::io::Result<Vec<PathBuf>>>()?;
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => anyhow::bail!("{} has {} {ending} files, not one", folder.display(), files.len()),
    }
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
