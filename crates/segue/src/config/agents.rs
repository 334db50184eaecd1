//! `[agents.NAME]`: what a configured agent runs.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use segue_core::AgentName;
use segue_sources::upstream::{Api, UpstreamSpec};
use serde::Serialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::{
    error::ConfigError,
    file::{RawAgent, Text},
    nearest::none_of,
    resolve::{Env, Setting},
    upstream,
};

/// Names that the server has built in.
pub(super) const BUILT_IN: [&str; 2] = ["demo", "push"];

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
    /// A model behind an API.
    Upstream { api: Api, spec: UpstreamSpec },
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

    const ALL: [Self; 3] = [Self::Text, Self::Ndjson, Self::Sse];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }
}

/// Decides what the tables of agents mean.
pub(super) fn resolve(
    agents: BTreeMap<Spanned<String>, RawAgent>,
    text: &Text<'_>,
    env: &dyn Env,
) -> Result<Vec<AgentConfig>, ConfigError> {
    agents.into_iter().map(|(name, raw)| resolve_one(&name, raw, text, env)).collect()
}

/// What the tables of agents say, key by key. Of a process's environment only the names are
/// shown, since values may be secrets.
pub(super) fn settings(
    agents: &BTreeMap<Spanned<String>, RawAgent>,
    text: &Text<'_>,
) -> Vec<Setting> {
    let of_agent = |(name, raw): (&Spanned<String>, &RawAgent)| {
        let key = format!("agents.{}", name.get_ref());
        let kind = ("kind", raw.kind.span(), json!(raw.kind.get_ref()));
        let all = std::iter::once(kind).chain(given(raw));
        let setting = |(name, at, value): Given| Setting {
            key: format!("{key}.{name}"),
            value: value.to_string(),
            origin: Some(text.origin(&at)),
        };
        all.map(setting).collect::<Vec<Setting>>()
    };
    agents.iter().flat_map(of_agent).collect()
}

fn resolve_one(
    name: &Spanned<String>,
    raw: RawAgent,
    text: &Text<'_>,
    env: &dyn Env,
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
        kind => match Api::ALL.into_iter().find(|api| api.as_str() == kind) {
            Some(api) => {
                only(&raw, &upstream::KEYS, &key, text)?;
                upstream::resolve(api, raw, &name, text, env)?
            }
            None => {
                let kinds = ["process", "replay"].into_iter().chain(Api::ALL.map(Api::as_str));
                let why = none_of(kind, &kinds.collect::<Vec<&str>>());
                return Err(text.bad(&raw.kind.span(), &format!("{key}.kind"), &why));
            }
        },
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
            let why = none_of(format.get_ref(), &OutputFormat::ALL.map(OutputFormat::as_str));
            text.bad(&format.span(), &format!("{key}.format"), &why)
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
    let other = given(raw).into_iter().find(|(name, ..)| !allowed.contains(name));
    let Some((name, at, _)) = other else { return Ok(()) };
    let why = format!("is no key of kind {:?}", raw.kind.get_ref());
    Err(text.bad(&at, &format!("{key}.{name}"), &why))
}

/// A key that is given: its name, its place, and its value as it may be shown.
type Given = (&'static str, Range<usize>, Value);

/// The keys that are given besides the kind.
fn given(raw: &RawAgent) -> Vec<Given> {
    fn of<T: Serialize>(name: &'static str, value: Option<&Spanned<T>>) -> Option<Given> {
        let value = value?;
        Some((name, value.span(), serde_json::to_value(value.get_ref()).unwrap_or_default()))
    }
    let env = raw.env.as_ref().map(|env| {
        let names: Vec<&String> = env.get_ref().keys().collect();
        ("env", env.span(), json!(names))
    });
    let all = [
        of("command", raw.command.as_ref()),
        of("format", raw.format.as_ref()),
        env,
        of("cwd", raw.cwd.as_ref()),
        of("file", raw.file.as_ref()),
        of("base_url", raw.base_url.as_ref()),
        of("model", raw.model.as_ref()),
        of("api_key_env", raw.api_key_env.as_ref()),
        of("api_key_file", raw.api_key_file.as_ref()),
        of("system", raw.system.as_ref()),
        of("params", raw.params.as_ref()),
        of("history_bytes", raw.history_bytes.as_ref()),
        of("first_byte_s", raw.first_byte_s.as_ref()),
        of("idle_s", raw.idle_s.as_ref()),
        of("retries", raw.retries.as_ref()),
    ];
    all.into_iter().flatten().collect()
}

pub(super) fn needed<T>(
    value: Option<Spanned<T>>,
    kind: &Spanned<String>,
    key: &str,
    text: &Text<'_>,
) -> Result<Spanned<T>, ConfigError> {
    value.ok_or_else(|| {
        text.bad(&kind.span(), key, &format!("is needed by kind {:?}", kind.get_ref()))
    })
}
