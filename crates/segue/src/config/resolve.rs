//! Three layers in, one configuration out.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use segue_core::AgentName;
use segue_engine::Retain;

use super::{
    Config, Durability, agents,
    error::{ConfigError, Origin},
    file::{At, RawFile, Text},
};
use crate::place::Place;

const DEFAULT_LISTEN: &str = "127.0.0.1:7878";

/// What the command line gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) listen: Option<String>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) durability: Option<String>,
}

/// Where variables come from.
pub(crate) trait Env {
    /// The value of a variable; none if it is not set or empty.
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
pub(crate) struct ProcessEnv;

impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        env::var(name).ok().filter(|value| !value.is_empty())
    }
}

/// Reads the file, lays the environment and the flags over it and checks the result.
///
/// The file is the one that `--config` or `SEGUE_CONFIG` names, which must be there; else
/// `$XDG_CONFIG_HOME/segue/segue.toml` or `~/.config/segue/segue.toml`, if it is.
pub(crate) fn load(flags: Flags, env: &dyn Env) -> Result<Config, ConfigError> {
    let (path, asked) = config_path(&flags, env);
    let text = match &path {
        Some(path) => read(path, asked)?,
        None => String::new(),
    };
    let path = path.unwrap_or_default();
    resolve(flags, env, &Text { path: &path, text: &text })
}

fn config_path(flags: &Flags, env: &dyn Env) -> (Option<PathBuf>, bool) {
    let asked = flags.config.clone().or_else(|| Some(env.get("SEGUE_CONFIG")?.into()));
    if asked.is_some() {
        return (asked, true);
    }
    let base = env.get("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(Path::new(&env.get("HOME")?).join(".config")));
    (base.map(|base| base.join("segue/segue.toml")), false)
}

fn read(path: &Path, asked: bool) -> Result<String, ConfigError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !asked => Ok(String::new()),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        Ok(text) => Ok(text),
    }
}

fn resolve(flags: Flags, env: &dyn Env, text: &Text<'_>) -> Result<Config, ConfigError> {
    let file: RawFile = text.parse()?;
    let layers = Layers { env, text };
    let agents = agents::resolve(file.agents, text)?;
    let known = |name: &AgentName| {
        matches!(name.as_str(), "demo" | "push") || agents.iter().any(|agent| agent.name == *name)
    };
    let default_agent = layers.pick("default_agent", None, file.default_agent, |name| {
        let name = AgentName::parse(name).map_err(|error| error.to_string())?;
        if known(&name) { Ok(name) } else { Err(format!("there is no agent {name}")) }
    })?;
    let data = flags.data.or(layers.pick("data", None, file.data, |text| Ok(text.into()))?);
    Ok(Config {
        listen: layers
            .pick("listen", flags.listen, file.listen, address)?
            .map_or_else(|| address(DEFAULT_LISTEN), Ok)
            .map_err(ConfigError::NoData)?,
        data: data.map_or_else(user_data, Ok)?,
        durability: layers
            .pick("durability", flags.durability, file.durability, durability)?
            .unwrap_or(Durability::Disk),
        heartbeat: layers.seconds("heartbeat_s", file.heartbeat_s, 5)?,
        stream_age: Duration::from_secs(layers.number(
            "stream_age_s",
            file.stream_age_s,
            0,
            0..=86_400,
        )?),
        write_deadline: layers.seconds("write_deadline_s", file.write_deadline_s, 20)?,
        shutdown: layers.seconds("shutdown_s", file.shutdown_s, 30)?,
        allowed_hosts: layers.list("allowed_hosts", file.allowed_hosts),
        allowed_origins: layers.list("allowed_origins", file.allowed_origins),
        default_agent,
        agents,
        segment_bytes: layers.number("segment_mib", file.segment_mib, 64, 1..=1024)? << 20,
        hot_bytes: layers.number("hot_mib", file.hot_mib, 256, 0..=1 << 20)? << 20,
        session_bytes: layers.mib("session_mib", file.session_mib, 8192)?,
        retain: Retain {
            age: match layers.number("retain_days", file.retain_days, 0, 0..=36_500)? {
                0 => None,
                days => Some(Duration::from_secs(days * 86_400)),
            },
            runs: layers.number("retain_runs", file.retain_runs, 0, 0..=u64::from(u32::MAX))?,
            bytes: layers.mib("retain_mib", file.retain_mib, 0)?,
        },
        cache_bytes: usize::try_from(layers.number("cache_mib", file.cache_mib, 64, 0..=65_536)?)
            .unwrap_or(usize::MAX >> 20)
            << 20,
    })
}

fn user_data() -> Result<PathBuf, ConfigError> {
    Place::of_user()
        .map(|place| place.path().to_owned())
        .map_err(|error| ConfigError::NoData(error.to_string()))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address such as {DEFAULT_LISTEN}"))
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "disk" => Ok(Durability::Disk),
        "os" => Ok(Durability::Os),
        "memory" => Ok(Durability::Memory),
        _ => Err(format!("{text:?} is none of disk, os, memory")),
    }
}

/// The two layers below the flags.
struct Layers<'a> {
    env: &'a dyn Env,
    text: &'a Text<'a>,
}

impl Layers<'_> {
    /// The topmost layer's value of a text setting, read by `parse`.
    fn pick<T>(
        &self,
        key: &'static str,
        flag: Option<String>,
        file: At<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let given = flag
            .map(|value| (value, Origin::Flag(key)))
            .or_else(|| self.variable(key))
            .or_else(|| file.map(|value| (self.text.origin(&value.span()), value)).map(swap));
        let Some((value, origin)) = given else { return Ok(None) };
        let bad = |why| ConfigError::Bad { origin, key: key.to_owned(), why };
        parse(&value).map(Some).map_err(bad)
    }

    fn variable(&self, key: &str) -> Option<(String, Origin)> {
        let name = format!("SEGUE_{}", key.to_uppercase());
        Some((self.env.get(&name)?, Origin::Env(name)))
    }

    fn number(
        &self,
        key: &'static str,
        file: At<u64>,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let file = file.map(|value| {
            let text = value.get_ref().to_string();
            toml::Spanned::new(value.span(), text)
        });
        let (low, high) = (*range.start(), *range.end());
        let picked = self.pick(key, None, file, |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("{text:?} is not a whole number from {low} to {high}"))
        })?;
        Ok(picked.unwrap_or(default))
    }

    /// A size that may be none, in bytes.
    fn mib(&self, key: &'static str, file: At<u64>, default: u64) -> Result<u64, ConfigError> {
        Ok(self.number(key, file, default, 0..=1 << 30)? << 20)
    }

    fn seconds(
        &self,
        key: &'static str,
        file: At<u64>,
        default: u64,
    ) -> Result<Duration, ConfigError> {
        self.number(key, file, default, 1..=86_400).map(Duration::from_secs)
    }

    fn list(&self, key: &str, file: At<Vec<String>>) -> Vec<String> {
        let split = |text: String| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        let variable = self.variable(key).map(|(text, _)| split(text));
        variable.or_else(|| file.map(toml::Spanned::into_inner)).unwrap_or_default()
    }
}

fn swap((origin, value): (Origin, toml::Spanned<String>)) -> (String, Origin) {
    (value.into_inner(), origin)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{AgentConfig, SourceConfig, agents::OutputFormat};

    struct Vars(BTreeMap<&'static str, &'static str>);

    impl Env for Vars {
        fn get(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|value| (*value).to_owned())
        }
    }

    fn vars<const N: usize>(vars: [(&'static str, &'static str); N]) -> Vars {
        Vars(vars.into())
    }

    fn resolved(text: &str, env: &Vars, flags: Flags) -> Result<Config, String> {
        let text = Text { path: Path::new("segue.toml"), text };
        let flags = Flags { data: flags.data.or(Some("/d".into())), ..flags };
        resolve(flags, env, &text).map_err(|error| error.to_string())
    }

    fn of_file(text: &str) -> Result<Config, String> {
        resolved(text, &vars([]), Flags::default())
    }

    #[test]
    fn nothing_given_is_the_default() {
        let config = of_file("").unwrap();
        assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
        assert_eq!((config.durability, config.segment_bytes), (Durability::Disk, 64 << 20));
        assert_eq!(config.hot_bytes, 256 << 20);
        assert_eq!(config.heartbeat, Duration::from_secs(5));
        assert_eq!((config.default_agent, config.agents), (None, vec![]));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let text = "listen = '127.0.0.1:1'\ndurability = 'memory'\nheartbeat_s = 7\n\
                    allowed_hosts = ['a']\ncache_mib = 3";
        let config = resolved(
            text,
            &vars([
                ("SEGUE_LISTEN", "127.0.0.1:2"),
                ("SEGUE_DURABILITY", "os"),
                ("SEGUE_ALLOWED_HOSTS", "b, c,"),
                ("SEGUE_CACHE_MIB", "4"),
            ]),
            Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() },
        )
        .unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!((config.durability, config.cache_bytes), (Durability::Os, 4 << 20));
        assert_eq!(config.heartbeat, Duration::from_secs(7));
        assert_eq!(config.allowed_hosts, ["b", "c"]);
    }

    #[test]
    fn agents_are_read() {
        let text = "default_agent = 'build'\n[agents.build]\nkind = 'process'\n\
                    command = ['make', '-j']\nformat = 'ndjson'\nenv = { A = 'b' }\ncwd = '/src'\n\
                    [agents.old]\nkind = 'replay'\nfile = 'answer.ndjson'\n";
        let config = of_file(text).unwrap();
        let name = |name: &str| AgentName::parse(name).unwrap();
        assert_eq!(config.default_agent, Some(name("build")));
        let build = SourceConfig::Process {
            command: vec!["make".into(), "-j".into()],
            format: OutputFormat::Ndjson,
            env: BTreeMap::from([("A".into(), "b".into())]),
            cwd: Some("/src".into()),
        };
        let old = SourceConfig::Replay { file: "answer.ndjson".into() };
        assert_eq!(
            config.agents,
            [
                AgentConfig { name: name("build"), source: build },
                AgentConfig { name: name("old"), source: old },
            ]
        );
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let agent = "[agents.a]\nkind = 'process'\ncommand = ['x']\n";
        for (text, expect) in [
            ("\nlisten = 'here'", "segue.toml:2: listen: \"here\" is not an address"),
            ("listen = 5", "segue.toml:1: listen: invalid type: integer"),
            ("\n\nlistne = 'x'", "segue.toml:3: listne: unknown field"),
            ("durability = 'yes'", "segue.toml:1: durability: \"yes\" is none of"),
            ("heartbeat_s = 0", "segue.toml:1: heartbeat_s: \"0\" is not a whole number from 1"),
            ("heartbeat_s = -1", "segue.toml:1: heartbeat_s: invalid value"),
            ("default_agent = 'x'", "segue.toml:1: default_agent: there is no agent x"),
            ("a = [", "segue.toml:1: a:"),
            ("[agents.demo]\nkind = 'replay'", "segue.toml:1: agents.demo: an agent of this name"),
            ("[agents.a]\nkind = 'magic'", "segue.toml:2: agents.a.kind: must be"),
            ("[agents.a]\nkind = 'process'", "segue.toml:2: agents.a.command: is needed"),
            (
                "[agents.a]\nkind = 'replay'\nfile = 'f'\ncwd = '/'",
                "segue.toml:4: agents.a.cwd: is no key",
            ),
            (&format!("{agent}format = 'xml'"), "segue.toml:4: agents.a.format: must be"),
            (&format!("{agent}file = 'f'"), "segue.toml:4: agents.a.file: is no key"),
            (&format!("{agent}colour = 'red'"), "segue.toml:4: colour: unknown field"),
        ] {
            let error = of_file(text).expect_err(text);
            assert!(error.starts_with(expect), "{text:?}\n  gave     {error}\n  expected {expect}");
        }
    }

    #[test]
    fn an_error_names_the_variable_or_the_flag() {
        let env = vars([("SEGUE_HEARTBEAT_S", "often")]);
        let error = resolved("", &env, Flags::default()).expect_err("no number");
        assert!(error.starts_with("SEGUE_HEARTBEAT_S: heartbeat_s: \"often\""), "{error}");
        let flags = Flags { durability: Some("max".into()), ..Flags::default() };
        let error = resolved("", &vars([]), flags).expect_err("no level");
        assert!(error.starts_with("--durability: durability: \"max\""), "{error}");
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segue.toml");
        let flags =
            || Flags { config: Some(path.clone()), data: Some("/d".into()), ..Flags::default() };
        let error = load(flags(), &vars([])).expect_err("absent");
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
        fs::write(&path, "heartbeat_s = 9").unwrap();
        assert_eq!(load(flags(), &vars([])).unwrap().heartbeat, Duration::from_secs(9));
        let none = Flags { data: Some("/d".into()), ..Flags::default() };
        assert!(load(none, &vars([("HOME", "/nonexistent")])).is_ok());
    }
}
