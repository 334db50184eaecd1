//! Three layers in, one configuration out.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use segue_core::AgentName;
use segue_engine::Retain;
use serde_json::{Value, json};

use super::{
    AgentConfig, Config, Durability, agents,
    error::{ConfigError, Origin},
    file::{At, RawFile, Text},
    nearest::none_of,
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

/// A setting in force, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its key in the file.
    pub(crate) key: String,
    /// Its value as it is written there.
    pub(crate) value: String,
    /// Where it came from; none for the default.
    pub(crate) origin: Option<Origin>,
}

fn resolve(flags: Flags, env: &dyn Env, text: &Text<'_>) -> Result<Config, ConfigError> {
    let file: RawFile = text.parse()?;
    let mut layers = Layers { env, text, settings: Vec::new() };
    let of_agents = agents::settings(&file.agents, text);
    let agents = agents::resolve(file.agents, text, env)?;
    let data = flags.data.map(|data| data.display().to_string());
    let mib = |mib: u64| mib << 20;
    let (ai_sdk_prefix, openai_prefix) = layers.prefixes(file.ai_sdk_prefix, file.openai_prefix)?;
    Ok(Config {
        listen: layers.pick("listen", flags.listen, file.listen, DEFAULT_LISTEN, address)?,
        data: layers.data(data, file.data)?,
        durability: layers.pick(
            "durability",
            flags.durability,
            file.durability,
            "disk",
            durability,
        )?,
        heartbeat: layers.seconds("heartbeat_s", file.heartbeat_s, 5, 1)?,
        stream_age: layers.seconds("stream_age_s", file.stream_age_s, 0, 0)?,
        write_deadline: layers.seconds("write_deadline_s", file.write_deadline_s, 20, 1)?,
        shutdown: layers.seconds("shutdown_s", file.shutdown_s, 30, 1)?,
        background_idle: layers.seconds("background_idle_s", file.background_idle_s, 600, 0)?,
        replay_grace: layers.seconds("replay_grace_s", file.replay_grace_s, 180, 0)?,
        ai_sdk_prefix,
        openai_prefix,
        allowed_hosts: layers.list("allowed_hosts", file.allowed_hosts),
        allowed_origins: layers.list("allowed_origins", file.allowed_origins),
        default_agent: layers.default_agent(file.default_agent, &agents)?,
        segment_bytes: layers.number("segment_mib", file.segment_mib, 64, 1..=1024).map(mib)?,
        hot_bytes: layers.number("hot_mib", file.hot_mib, 256, 0..=1 << 20).map(mib)?,
        cache_bytes: usize::try_from(mib(layers.number(
            "cache_mib",
            file.cache_mib,
            64,
            0..=65_536,
        )?))
        .unwrap_or(usize::MAX),
        session_bytes: layers.mib("session_mib", file.session_mib, 8192)?,
        retain: Retain {
            age: match layers.number("retain_days", file.retain_days, 0, 0..=36_500)? {
                0 => None,
                days => Some(Duration::from_secs(days * 86_400)),
            },
            runs: layers.number("retain_runs", file.retain_runs, 0, 0..=u64::from(u32::MAX))?,
            bytes: layers.mib("retain_mib", file.retain_mib, 0)?,
        },
        agents,
        settings: [layers.settings, of_agents].concat(),
    })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address such as {DEFAULT_LISTEN}"))
}

/// A path that no other route has.
fn prefix(text: &str) -> Result<String, String> {
    let is_segment = |segment: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        !segment.is_empty() && segment.bytes().all(allowed)
    };
    let mut segments = text.strip_prefix('/').unwrap_or_default().split('/');
    let taken = ["v1", "healthz", "readyz", "metrics", "openapi.json"];
    let is_free = segments.clone().next().is_some_and(|first| !taken.contains(&first));
    if is_free && segments.all(is_segment) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a path such as /api/chat that nothing else is at"))
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "disk" => Ok(Durability::Disk),
        "os" => Ok(Durability::Os),
        "memory" => Ok(Durability::Memory),
        _ => Err(none_of(text, &["disk", "os", "memory"])),
    }
}

/// The two layers below the flags, and what was found in all three.
struct Layers<'a> {
    env: &'a dyn Env,
    text: &'a Text<'a>,
    settings: Vec<Setting>,
}

impl Layers<'_> {
    /// The topmost layer's value of a text setting, read by `parse`.
    fn pick<T>(
        &mut self,
        key: &'static str,
        flag: Option<String>,
        file: At<String>,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let (value, origin) = match self.find(key, flag, file) {
            Some((value, origin)) => (value, Some(origin)),
            None => (default.to_owned(), None),
        };
        let parsed = parse(&value);
        self.keep(key, &json!(value), origin.clone());
        let origin = origin.unwrap_or(Origin::Default);
        parsed.map_err(|why| ConfigError::Bad { origin, key: key.to_owned(), why })
    }

    fn find(
        &self,
        key: &'static str,
        flag: Option<String>,
        file: At<String>,
    ) -> Option<(String, Origin)> {
        let of_file = |value: toml::Spanned<String>| {
            let origin = self.text.origin(&value.span());
            (value.into_inner(), origin)
        };
        let flag = flag.map(|value| (value, Origin::Flag(key)));
        flag.or_else(|| self.variable(key)).or_else(|| file.map(of_file))
    }

    fn variable(&self, key: &str) -> Option<(String, Origin)> {
        let name = format!("SEGUE_{}", key.to_uppercase());
        Some((self.env.get(&name)?, Origin::Env(name)))
    }

    fn keep(&mut self, key: &str, value: &Value, origin: Option<Origin>) {
        self.settings.push(Setting { key: key.to_owned(), value: value.to_string(), origin });
    }

    /// The data folder, whose default may not be known.
    fn data(&mut self, flag: Option<String>, file: At<String>) -> Result<PathBuf, ConfigError> {
        let default = match self.find("data", flag.clone(), file.clone()) {
            Some(_) => String::new(),
            None => {
                let place = Place::of_user();
                let place = place.map_err(|error| ConfigError::NoData(error.to_string()))?;
                place.path().display().to_string()
            }
        };
        self.pick("data", flag, file, &default, |text| Ok(text.into()))
    }

    /// The agent of a start that names none. It must be there.
    fn default_agent(
        &mut self,
        file: At<String>,
        agents: &[AgentConfig],
    ) -> Result<Option<AgentName>, ConfigError> {
        let configured = agents.iter().map(|agent| agent.name.as_str());
        let known: Vec<&str> = agents::BUILT_IN.into_iter().chain(configured).collect();
        self.pick("default_agent", None, file, "", |name| match name {
            "" => Ok(None),
            name if known.contains(&name) => {
                AgentName::parse(name).map(Some).map_err(|error| error.to_string())
            }
            name => Err(format!("there is no agent of this name: {}", none_of(name, &known))),
        })
    }

    /// Where the routes of other protocols are: none below another.
    fn prefixes(
        &mut self,
        ai_sdk: At<String>,
        openai: At<String>,
    ) -> Result<(String, String), ConfigError> {
        let ai_sdk = self.pick("ai_sdk_prefix", None, ai_sdk, "/api/chat", prefix)?;
        let openai = self.pick("openai_prefix", None, openai, "/openai/v1", |text| {
            let (own, other) = (format!("{text}/"), format!("{ai_sdk}/"));
            if own.starts_with(&other) || other.starts_with(&own) {
                return Err(format!(
                    "{text:?} and the AI SDK's {ai_sdk:?} are in each other's way"
                ));
            }
            prefix(text)
        })?;
        Ok((ai_sdk, openai))
    }

    fn number(
        &mut self,
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
        let number = self.pick(key, None, file, &default.to_string(), |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("{text:?} is not a whole number from {low} to {high}"))
        })?;
        if let Some(kept) = self.settings.last_mut() {
            kept.value = number.to_string();
        }
        Ok(number)
    }

    /// A size that may be none, in bytes.
    fn mib(&mut self, key: &'static str, file: At<u64>, default: u64) -> Result<u64, ConfigError> {
        Ok(self.number(key, file, default, 0..=1 << 30)? << 20)
    }

    fn seconds(
        &mut self,
        key: &'static str,
        file: At<u64>,
        default: u64,
        least: u64,
    ) -> Result<Duration, ConfigError> {
        self.number(key, file, default, least..=86_400).map(Duration::from_secs)
    }

    fn list(&mut self, key: &str, file: At<Vec<String>>) -> Vec<String> {
        let split = |text: String| -> Vec<String> {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        let of_file = |list: toml::Spanned<Vec<String>>| {
            let origin = self.text.origin(&list.span());
            (list.into_inner(), origin)
        };
        let variable = self.variable(key).map(|(text, origin)| (split(text), origin));
        let (list, origin) = variable.or_else(|| file.map(of_file)).unzip();
        let list = list.unwrap_or_default();
        self.keep(key, &json!(list), origin);
        list
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use segue_sources::upstream::{Api, Secret};

    use super::*;
    use crate::config::{SourceConfig, agents::OutputFormat};

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
        let given = config.settings.iter().filter(|setting| setting.origin.is_some());
        assert_eq!(given.count(), 1, "the data folder");
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
            ("\n\nlistne = 'x'", "segue.toml:3: listne: unknown field `listne`, expected one of"),
            (
                "ai_sdk_prefix = '/v1/chat'",
                "segue.toml:1: ai_sdk_prefix: \"/v1/chat\" is not a path",
            ),
            ("ai_sdk_prefix = '/a/{b}'", "segue.toml:1: ai_sdk_prefix:"),
            ("ai_sdk_prefix = '/a/'", "segue.toml:1: ai_sdk_prefix:"),
            ("ai_sdk_prefix = '/'", "segue.toml:1: ai_sdk_prefix:"),
            ("openai_prefix = '/v1'", "segue.toml:1: openai_prefix: \"/v1\" is not a path"),
            (
                "openai_prefix = '/api/chat/openai'",
                "segue.toml:1: openai_prefix: \"/api/chat/openai\" and the AI SDK's",
            ),
            ("durability = 'yes'", "segue.toml:1: durability: \"yes\" is none of"),
            ("heartbeat_s = 0", "segue.toml:1: heartbeat_s: \"0\" is not a whole number from 1"),
            ("heartbeat_s = -1", "segue.toml:1: heartbeat_s: invalid value"),
            ("default_agent = 'x'", "segue.toml:1: default_agent: there is no agent of this name"),
            ("a = [", "segue.toml:1: a:"),
            ("[agents.demo]\nkind = 'replay'", "segue.toml:1: agents.demo: an agent of this name"),
            (
                "[agents.a]\nkind = 'magic'",
                "segue.toml:2: agents.a.kind: \"magic\" is none of process",
            ),
            ("[agents.a]\nkind = 'process'", "segue.toml:2: agents.a.command: is needed"),
            (
                "[agents.a]\nkind = 'replay'\nfile = 'f'\ncwd = '/'",
                "segue.toml:4: agents.a.cwd: is no key",
            ),
            (
                &format!("{agent}format = 'xml'"),
                "segue.toml:4: agents.a.format: \"xml\" is none of",
            ),
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
    fn a_wrong_key_or_value_names_the_nearest_right_one() {
        let agent = "[agents.a]\nkind = 'openai-chat'\nmodel = 'm'\n";
        for (text, meant) in [
            ("listne = 'x'", "did you mean `listen`?"),
            ("durability = 'dsik'", "did you mean \"disk\"?"),
            ("default_agent = 'dmeo'", "did you mean \"demo\"?"),
            ("[agents.a]\nkind = 'openai_chat'", "did you mean \"openai-chat\"?"),
            (&format!("{agent}base_ulr = 'x'"), "did you mean `base_url`?"),
        ] {
            let error = of_file(text).expect_err(text);
            assert!(error.ends_with(meant), "{text:?} gave {error}");
        }
    }

    #[test]
    fn models_are_read_and_their_keys_are_never_shown() {
        let text = "[agents.gpt]\nkind = 'openai-chat'\nbase_url = 'http://127.0.0.1:1/v1'\n\
                    model = 'm'\napi_key_env = 'KEY'\nsystem = 's'\nidle_s = 7\nretries = 0\nhistory_bytes = 9\n\
                    params = { temperature = 0.5, stop = ['x'] }\n\
                    [agents.claude]\nkind = 'anthropic'\nmodel = 'c'\n";
        let config = resolved(text, &vars([("KEY", " sk-secret\n")]), Flags::default()).unwrap();
        let [claude, gpt] = &config.agents[..] else { panic!("{config:?}") };
        let SourceConfig::Upstream { api, spec } = &gpt.source else { panic!("{gpt:?}") };
        assert_eq!((*api, spec.base_url.as_str()), (Api::OpenAiChat, "http://127.0.0.1:1/v1"));
        assert_eq!(spec.key, Some(Secret::new("sk-secret")));
        assert_eq!((spec.system.as_deref(), spec.limits.retries), (Some("s"), 0));
        assert_eq!(spec.history_bytes, 9);
        assert_eq!(spec.limits.idle, Duration::from_secs(7));
        let params = json!({"temperature": 0.5, "stop": ["x"]});
        assert_eq!(Value::Object(spec.params.clone()), params);
        let SourceConfig::Upstream { spec, .. } = &claude.source else { panic!("{claude:?}") };
        assert_eq!((spec.base_url.as_str(), &spec.key), (Api::Anthropic.base_url(), &None));
        assert!(!format!("{config:?}").contains("sk-secret"), "{config:?}");
        let variable = config.settings.iter().find(|s| s.key == "agents.gpt.api_key_env");
        assert_eq!(variable.map(|setting| setting.value.as_str()), Some("\"KEY\""));
    }

    #[test]
    fn a_model_that_could_not_be_asked_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, key) = (dir.path().join("empty"), dir.path().join("key"));
        fs::write(&empty, "\n").unwrap();
        fs::write(&key, "sk-secret\n").unwrap();
        let agent = |rest: &str| of_file(&format!("[agents.a]\nkind = 'ollama'\n{rest}"));
        for (rest, why) in [
            ("", "segue.toml:2: agents.a.model: is needed"),
            ("model = ''", "segue.toml:2: agents.a: `model` must be"),
            ("model = 'm'\nbase_url = 'here'", "segue.toml:2: agents.a: `base_url` must be"),
            ("model = 'm'\nidle_s = 0", "segue.toml:4: agents.a.idle_s: 0 is not from 1"),
            (
                "model = 'm'\nhistory_bytes = 67108865",
                "segue.toml:4: agents.a.history_bytes: 67108865 is over 67108864",
            ),
            ("model = 'm'\nretries = 11", "segue.toml:4: agents.a.retries: 11 is over 10"),
            ("model = 'm'\napi_key_env = 'NO_KEY'", "segue.toml:4: agents.a.api_key_env: the env"),
            (
                "model = 'm'\napi_key_file = '/no/key'",
                "segue.toml:4: agents.a.api_key_file: cannot",
            ),
            (
                &format!("model = 'm'\napi_key_file = '{}'", empty.display()),
                "segue.toml:4: agents.a.api_key_file: the file is empty",
            ),
            (
                "model = 'm'\napi_key_env = 'A'\napi_key_file = 'b'",
                "segue.toml:5: agents.a.api_key_file: stands beside",
            ),
            ("model = 'm'\nparams = { stream = false }", "segue.toml:2: agents.a: the parameter"),
            ("model = 'm'\ncommand = ['x']", "segue.toml:4: agents.a.command: is no key"),
        ] {
            let error = agent(rest).expect_err(rest);
            assert!(error.starts_with(why), "{rest:?}\n  gave     {error}\n  expected {why}");
        }
        let of_file = agent(&format!("model = 'm'\napi_key_file = '{}'", key.display())).unwrap();
        let SourceConfig::Upstream { spec, .. } = &of_file.agents[0].source else { panic!() };
        assert_eq!(spec.key, Some(Secret::new("sk-secret")));
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
