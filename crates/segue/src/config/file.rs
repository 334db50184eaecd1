//! `segue.toml` as it is written, before anything is decided.

use std::{collections::BTreeMap, ops::Range, path::Path};

use serde::{Deserialize, de::DeserializeOwned};
use toml::Spanned;

use super::{
    error::{ConfigError, Origin},
    nearest::nearest,
};

/// A value and where it stands.
pub(super) type At<T> = Option<Spanned<T>>;

/// The keys of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) listen: At<String>,
    pub(super) data: At<String>,
    pub(super) durability: At<String>,
    pub(super) heartbeat_s: At<u64>,
    pub(super) stream_age_s: At<u64>,
    pub(super) write_deadline_s: At<u64>,
    pub(super) shutdown_s: At<u64>,
    pub(super) background_idle_s: At<u64>,
    pub(super) replay_grace_s: At<u64>,
    pub(super) ai_sdk_prefix: At<String>,
    pub(super) openai_prefix: At<String>,
    pub(super) allowed_hosts: At<Vec<String>>,
    pub(super) allowed_origins: At<Vec<String>>,
    pub(super) default_agent: At<String>,
    pub(super) segment_mib: At<u64>,
    pub(super) hot_mib: At<u64>,
    pub(super) session_mib: At<u64>,
    pub(super) retain_days: At<u64>,
    pub(super) retain_runs: At<u64>,
    pub(super) retain_mib: At<u64>,
    pub(super) cache_mib: At<u64>,
    #[serde(default)]
    pub(super) agents: BTreeMap<Spanned<String>, RawAgent>,
}

/// The keys of one `[agents.NAME]`; which of them may be there depends on the kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) kind: Spanned<String>,
    pub(super) command: At<Vec<String>>,
    pub(super) format: At<String>,
    pub(super) env: At<BTreeMap<String, String>>,
    pub(super) cwd: At<String>,
    pub(super) file: At<String>,
    pub(super) base_url: At<String>,
    pub(super) model: At<String>,
    pub(super) api_key_env: At<String>,
    pub(super) api_key_file: At<String>,
    pub(super) system: At<String>,
    pub(super) params: At<toml::Table>,
    pub(super) history_bytes: At<u64>,
    pub(super) first_byte_s: At<u64>,
    pub(super) idle_s: At<u64>,
    pub(super) retries: At<u64>,
}

/// The text of a file, to turn places in it into lines.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

/// The message about an unknown key, with the one that may have been meant.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let meant = match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(word)) => nearest(word, quoted),
        _ => None,
    };
    match meant {
        Some(meant) => format!("{message}; did you mean `{meant}`?"),
        None => message.to_owned(),
    }
}

impl Text<'_> {
    /// Reads the keys. Errors name the line and the key.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|error| {
            let at = error.span().unwrap_or_default();
            self.bad(&at, self.key_at(at.start), &with_nearest(error.message()))
        })
    }

    pub(super) fn origin(&self, at: &Range<usize>) -> Origin {
        let breaks = self.text.match_indices('\n').take_while(|(byte, _)| *byte < at.start);
        Origin::File { path: self.path.to_owned(), line: breaks.count() + 1 }
    }

    pub(super) fn bad(&self, at: &Range<usize>, key: &str, why: &str) -> ConfigError {
        ConfigError::Bad { origin: self.origin(at), key: key.to_owned(), why: why.to_owned() }
    }

    /// The key of the line that holds this byte, or the line itself if it sets none.
    fn key_at(&self, byte: usize) -> &str {
        let byte = (0..=byte.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at));
        let byte = byte.unwrap_or_default();
        let start = self.text[..byte].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        line.split('=').next().unwrap_or_default().trim()
    }
}
