//! `segue config`: the settings in force, and where each came from.

use std::io::{self, Write};

use super::{Exit, serve};
use crate::config::{self, ProcessEnv, Setting};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: serve::Settings,
    /// As one line of JSON a setting
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let config = config::load(args.settings.into(), &ProcessEnv)?;
    let text = if args.json { lines(&config.settings) } else { table(&config.settings) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn origin(setting: &Setting) -> String {
    setting.origin.as_ref().map_or_else(|| "default".to_owned(), ToString::to_string)
}

/// As they would stand in the file, with the origins as comments.
fn table(settings: &[Setting]) -> String {
    let line = |setting: &Setting| format!("{} = {}", setting.key, setting.value);
    let width = settings.iter().map(|setting| line(setting).chars().count()).max();
    let width = width.unwrap_or_default().min(60);
    let rows = settings.iter().map(|s| format!("{:width$}  # {}\n", line(s), origin(s)));
    rows.collect()
}

fn lines(settings: &[Setting]) -> String {
    let line = |setting: &Setting| {
        let value: serde_json::Value = serde_json::from_str(&setting.value).unwrap_or_default();
        let origin = origin(setting);
        serde_json::json!({"key": setting.key, "value": value, "origin": origin}).to_string() + "\n"
    };
    settings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    #[test]
    fn each_setting_is_shown_with_its_origin() {
        let setting = |key: &str, value: &str, origin| Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            origin,
        };
        let path = "segue.toml".into();
        let settings = [
            setting("listen", "\"127.0.0.1:1\"", Some(Origin::Flag("listen"))),
            setting("hot_mib", "256", None),
            setting("agents.a.model", "\"m\"", Some(Origin::File { path, line: 3 })),
        ];
        assert_eq!(
            table(&settings),
            "listen = \"127.0.0.1:1\"  # --listen\n\
             hot_mib = 256           # default\n\
             agents.a.model = \"m\"    # segue.toml:3\n"
        );
        let wanted = r#"{"key":"hot_mib","value":256,"origin":"default"}"#;
        assert_eq!(lines(&settings).lines().nth(1), Some(wanted));
    }
}
