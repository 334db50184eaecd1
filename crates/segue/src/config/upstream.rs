//! The keys of an agent that a model answers over HTTP.

use std::{fs, path::Path, time::Duration};

use segue_core::AgentName;
use segue_sources::upstream::{Api, Secret, UpstreamLimits, UpstreamSource, UpstreamSpec};
use serde_json::{Map, Value};
use toml::Spanned;

use super::{
    agents::{SourceConfig, needed},
    error::ConfigError,
    file::{At, RawAgent, Text},
    resolve::Env,
};

/// The keys of such an agent besides its kind.
pub(super) const KEYS: [&str; 10] = [
    "base_url",
    "model",
    "api_key_env",
    "api_key_file",
    "system",
    "params",
    "history_bytes",
    "first_byte_s",
    "idle_s",
    "retries",
];

/// The longest wait that can be set, in seconds.
const LONGEST_WAIT: u64 = 86_400;

/// The most that a model can be told of a conversation, in bytes.
const MOST_HISTORY: usize = 64 << 20;

/// Reads the keys and sees that a source can be made of them.
pub(super) fn resolve(
    api: Api,
    raw: RawAgent,
    name: &AgentName,
    text: &Text<'_>,
    env: &dyn Env,
) -> Result<SourceConfig, ConfigError> {
    let key = format!("agents.{name}");
    let model = needed(raw.model, &raw.kind, &format!("{key}.model"), text)?;
    let base_url = raw.base_url.map_or_else(|| api.base_url().to_owned(), Spanned::into_inner);
    let wait = |at, name: &str, default| seconds(at, &format!("{key}.{name}"), default, text);
    let limits = UpstreamLimits::default();
    let limits = UpstreamLimits {
        first_byte: wait(raw.first_byte_s, "first_byte_s", limits.first_byte)?,
        idle: wait(raw.idle_s, "idle_s", limits.idle)?,
        retries: number(raw.retries, &format!("{key}.retries"), limits.retries, text)?,
        ..limits
    };
    let plain = UpstreamSpec::new(base_url, model.into_inner());
    let told = history(raw.history_bytes, &key, plain.history_bytes, text)?;
    let spec = UpstreamSpec {
        history_bytes: told,
        key: secret(raw.api_key_env, raw.api_key_file, &key, text, env)?,
        system: raw.system.map(Spanned::into_inner),
        params: params(raw.params, &key, text)?,
        limits,
        ..plain
    };
    let bad = |error| text.bad(&raw.kind.span(), &key, &format!("{error}"));
    UpstreamSource::new(api, spec.clone()).map_err(bad)?;
    Ok(SourceConfig::Upstream { api, spec })
}

fn seconds(
    value: At<u64>,
    key: &str,
    default: Duration,
    text: &Text<'_>,
) -> Result<Duration, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    if (1..=LONGEST_WAIT).contains(value.get_ref()) {
        return Ok(Duration::from_secs(value.into_inner()));
    }
    let why = format!("{} is not from 1 to {LONGEST_WAIT}", value.get_ref());
    Err(text.bad(&value.span(), key, &why))
}

fn number(value: At<u64>, key: &str, default: u32, text: &Text<'_>) -> Result<u32, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    match u32::try_from(*value.get_ref()) {
        Ok(number) if number <= 10 => Ok(number),
        _ => Err(text.bad(&value.span(), key, &format!("{} is over 10", value.get_ref()))),
    }
}

fn history(
    value: At<u64>,
    key: &str,
    default: usize,
    text: &Text<'_>,
) -> Result<usize, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    match usize::try_from(*value.get_ref()) {
        Ok(bytes) if bytes <= MOST_HISTORY => Ok(bytes),
        _ => {
            let why = format!("{} is over {MOST_HISTORY}", value.get_ref());
            Err(text.bad(&value.span(), &format!("{key}.history_bytes"), &why))
        }
    }
}

fn params(
    value: At<toml::Table>,
    key: &str,
    text: &Text<'_>,
) -> Result<Map<String, Value>, ConfigError> {
    let Some(value) = value else { return Ok(Map::new()) };
    match serde_json::to_value(value.get_ref()) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(text.bad(&value.span(), &format!("{key}.params"), "has values that JSON has not")),
    }
}

/// The key, out of a variable or a file, never out of the configuration itself.
fn secret(
    variable: At<String>,
    file: At<String>,
    key: &str,
    text: &Text<'_>,
    env: &dyn Env,
) -> Result<Option<Secret>, ConfigError> {
    match (variable, file) {
        (None, None) => Ok(None),
        (Some(_), Some(file)) => {
            let why = "stands beside api_key_env, there can be one of them";
            Err(text.bad(&file.span(), &format!("{key}.api_key_file"), why))
        }
        (Some(variable), None) => {
            let name = variable.get_ref();
            let why = || format!("the environment has no variable {name}");
            let bad = || text.bad(&variable.span(), &format!("{key}.api_key_env"), &why());
            Ok(Some(Secret::new(env.get(name).ok_or_else(bad)?.trim())))
        }
        (None, Some(file)) => {
            let bad = |why: String| text.bad(&file.span(), &format!("{key}.api_key_file"), &why);
            let read = fs::read_to_string(Path::new(file.get_ref()));
            let secret = read.map_err(|error| bad(format!("cannot be read: {error}")))?;
            if secret.trim().is_empty() {
                return Err(bad("the file is empty".to_owned()));
            }
            Ok(Some(Secret::new(secret.trim())))
        }
    }
}
