//! `[agents.NAME]`: what a configured agent runs.

use std::{collections::BTreeMap, path::PathBuf};

use segue_core::AgentName;
use toml::Spanned;

use super::{
    error::ConfigError,
    file::{RawAgent, Text},
};

/// Names that the server has built in.
const BUILT_IN: [&str; 2] = ["demo", "push"];

/// A configured agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AgentConfig {
    pub(crate) name: AgentName,
    pub(crate) source: SourceConfig,
}

/// What an agent's runs get their events from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SourceConfig {
    /// A command's output.
    Process {
        command: Vec<String>,
        format: OutputFormat,
        env: BTreeMap<String, String>,
        cwd: Option<PathBuf>,
    },
    /// A recorded answer.
    Replay { file: PathBuf },
}

/// What a process prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    #[default]
    Text,
    Ndjson,
    Sse,
}

impl OutputFormat {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Ndjson => "ndjson",
            Self::Sse => "sse",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Text, Self::Ndjson, Self::Sse].into_iter().find(|format| format.as_str() == text)
    }
}

/// Decides what the tables of agents mean.
pub(super) fn resolve(
    agents: BTreeMap<Spanned<String>, RawAgent>,
    text: &Text<'_>,
) -> Result<Vec<AgentConfig>, ConfigError> {
    agents.into_iter().map(|(name, raw)| resolve_one(&name, raw, text)).collect()
}

fn resolve_one(
    name: &Spanned<String>,
    raw: RawAgent,
    text: &Text<'_>,
) -> Result<AgentConfig, ConfigError> {
    let key = format!("agents.{}", name.get_ref());
    let bad = |why: &str| text.bad(&name.span(), &key, why);
    if BUILT_IN.contains(&name.get_ref().as_str()) {
        return Err(bad("an agent of this name is built in"));
    }
    let name = AgentName::parse(name.get_ref()).map_err(|error| bad(&error.to_string()))?;
    let source = match raw.kind.get_ref().as_str() {
        "process" => process(raw, &key, text)?,
        "replay" => replay(raw, &key, text)?,
        _ => {
            let why = "must be \"process\" or \"replay\"";
            return Err(text.bad(&raw.kind.span(), &format!("{key}.kind"), why));
        }
    };
    Ok(AgentConfig { name, source })
}

fn process(raw: RawAgent, key: &str, text: &Text<'_>) -> Result<SourceConfig, ConfigError> {
    only(&raw, &["command", "format", "env", "cwd"], key, text)?;
    let command = needed(raw.command, &raw.kind, &format!("{key}.command"), text)?;
    if command.get_ref().first().is_none_or(String::is_empty) {
        let why = "must name a program";
        return Err(text.bad(&command.span(), &format!("{key}.command"), why));
    }
    let format = raw.format.map_or(Ok(OutputFormat::default()), |format| {
        OutputFormat::parse(format.get_ref()).ok_or_else(|| {
            let why = "must be \"text\", \"ndjson\" or \"sse\"";
            text.bad(&format.span(), &format!("{key}.format"), why)
        })
    })?;
    Ok(SourceConfig::Process {
        command: command.into_inner(),
        format,
        env: raw.env.map(Spanned::into_inner).unwrap_or_default(),
        cwd: raw.cwd.map(|cwd| PathBuf::from(cwd.into_inner())),
    })
}

fn replay(raw: RawAgent, key: &str, text: &Text<'_>) -> Result<SourceConfig, ConfigError> {
    only(&raw, &["file"], key, text)?;
    let file = needed(raw.file, &raw.kind, &format!("{key}.file"), text)?;
    Ok(SourceConfig::Replay { file: file.into_inner().into() })
}

/// Refuses the keys of other kinds.
fn only(raw: &RawAgent, allowed: &[&str], key: &str, text: &Text<'_>) -> Result<(), ConfigError> {
    let given = [
        ("command", raw.command.as_ref().map(Spanned::span)),
        ("format", raw.format.as_ref().map(Spanned::span)),
        ("env", raw.env.as_ref().map(Spanned::span)),
        ("cwd", raw.cwd.as_ref().map(Spanned::span)),
        ("file", raw.file.as_ref().map(Spanned::span)),
    ];
    for (name, at) in given {
        if let Some(at) = at.filter(|_| !allowed.contains(&name)) {
            let why = format!("is no key of kind {:?}", raw.kind.get_ref());
            return Err(text.bad(&at, &format!("{key}.{name}"), &why));
        }
    }
    Ok(())
}

fn needed<T>(
    value: Option<Spanned<T>>,
    kind: &Spanned<String>,
    key: &str,
    text: &Text<'_>,
) -> Result<Spanned<T>, ConfigError> {
    value.ok_or_else(|| {
        text.bad(&kind.span(), key, &format!("is needed by kind {:?}", kind.get_ref()))
    })
}
