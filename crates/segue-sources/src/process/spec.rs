//! What a command is.

use std::{collections::BTreeMap, env, ffi::OsString, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::output::Format;

/// Variables that a command gets from the server's own environment, besides `LC_*`.
const ALLOWED: [&str; 8] = ["PATH", "HOME", "LANG", "TZ", "TERM", "TMPDIR", "USER", "SHELL"];

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// The program and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// How its standard output is read.
    #[serde(default)]
    pub format: Format,
    /// Variables that it gets besides the allow list, which they override.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its working directory; the server's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
}

/// Why a specification can never be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There is no program.
    #[error("`command` needs a program")]
    NoProgram,
    /// A NUL, which no operating system takes in an argument or a variable.
    #[error("`{0}` has a NUL character")]
    Nul(&'static str),
    /// The name of a variable is empty or holds `=`.
    #[error("{0:?} is not the name of an environment variable")]
    EnvName(String),
}

impl ProcessSpec {
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let has_nul = |text: &String| text.contains('\0');
        let cwd_has_nul = |path: &PathBuf| path.as_os_str().as_encoded_bytes().contains(&0);
        if self.command.first().is_none_or(String::is_empty) {
            return Err(SpecError::NoProgram);
        }
        if self.command.iter().any(has_nul) {
            return Err(SpecError::Nul("command"));
        }
        if self.env.iter().any(|(name, value)| has_nul(name) || has_nul(value)) {
            return Err(SpecError::Nul("env"));
        }
        if self.cwd.as_ref().is_some_and(cwd_has_nul) {
            return Err(SpecError::Nul("cwd"));
        }
        match self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            Some(name) => Err(SpecError::EnvName(name.clone())),
            None => Ok(()),
        }
    }

    /// The program, as a person would name it.
    pub(super) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// The whole environment of the command.
    pub(super) fn environment(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let allowed = |name: &OsString| {
            name.to_str().is_some_and(|name| ALLOWED.contains(&name) || name.starts_with("LC_"))
        };
        let own = self.env.iter().map(|(name, value)| (name.into(), value.into()));
        env::vars_os().filter(move |(name, _)| allowed(name)).chain(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<ProcessSpec, String> {
        let spec: ProcessSpec = serde_json::from_str(json).map_err(|error| error.to_string())?;
        spec.check().map_err(|error| error.to_string())?;
        Ok(spec)
    }

    #[test]
    fn only_the_command_is_needed() {
        let spec = spec(r#"{"command":["true"]}"#).expect("valid");
        assert_eq!((spec.format, spec.env.len(), spec.cwd), (Format::Text, 0, None));
    }

    #[test]
    fn what_can_never_run_is_refused() {
        for (json, message) in [
            (r"{}", "missing field `command`"),
            (r#"{"command":[]}"#, "`command` needs a program"),
            (r#"{"command":[""]}"#, "`command` needs a program"),
            (r#"{"command":"true"}"#, "expected a sequence"),
            (r#"{"command":["a\u0000"]}"#, "`command` has a NUL"),
            (r#"{"command":["a"],"env":{"A":"\u0000"}}"#, "`env` has a NUL"),
            (r#"{"command":["a"],"env":{"A=B":""}}"#, "not the name of an environment variable"),
            (r#"{"command":["a"],"cwd":"/\u0000"}"#, "`cwd` has a NUL"),
            (r#"{"command":["a"],"format":"xml"}"#, "unknown variant `xml`"),
            (r#"{"command":["a"],"shell":true}"#, "unknown field `shell`"),
        ] {
            let error = spec(json).expect_err(json);
            assert!(error.contains(message), "{json}: {error}");
        }
    }

    #[test]
    fn the_environment_is_the_allow_list_and_the_specs_own() {
        let spec = spec(r#"{"command":["a"],"env":{"HOME":"/mine","X":"1"}}"#).expect("valid");
        let found: BTreeMap<OsString, OsString> = spec.environment().collect();
        assert_eq!(found.get(&OsString::from("HOME")), Some(&"/mine".into()));
        assert_eq!(found.get(&OsString::from("X")), Some(&"1".into()));
        // Cargo sets these for every test, so they would show a leak.
        assert!(env::var_os("CARGO_PKG_NAME").is_some());
        assert!(found.keys().all(|name| !name.to_string_lossy().starts_with("CARGO")));
    }
}
