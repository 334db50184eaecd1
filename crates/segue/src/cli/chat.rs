//! `segue chat`: a session in a terminal.
//!
//! The session is the server's; this only shows it. Leaving changes nothing, coming back shows
//! what was said and goes on with what still runs.

use std::io::{self, IsTerminal};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use rustyline::{DefaultEditor, error::ReadlineError};
use segue_client::{Agent, Client, Run, RunFilter, StartRun, Wait};
use segue_core::{AgentName, RunId, SessionId};
use tokio::signal;

use super::{
    Exit, ServerArgs,
    attach::form_of,
    exec::new_session,
    follow,
    keys::Keys,
    look::ShowArgs,
    printer::{Printer, Role},
    say,
};
use crate::config::nearest;

/// How many runs of a session are shown to one who comes back.
const SHOWN: u32 = 20;
const HELP: &str = "\
/help          this\n\
/agent NAME    talk to another agent\n\
/quit          leave (so does Ctrl-D)\n\
Ctrl-C stops an answer, Ctrl-D leaves it running.\n\
A message that begins with a slash is written with two.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The agent to talk to [default: the session's last, else the server's default]
    #[arg(long)]
    agent: Option<String>,
    /// The session to go on with [default: a new one]
    #[arg(long)]
    session: Option<SessionId>,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = args.server.client_or_new().await?;
    let is_new = args.session.is_none();
    let session = args.session.map_or_else(new_session, Ok)?;
    let past = if is_new { Vec::new() } else { runs(&client, &session).await? };
    let agents = client.agents().await?.data;
    let wanted = args.agent.as_deref().or_else(|| last_agent(&past, &agents));
    let agent = choose(&agents, wanted)?;
    let interactive = io::stdin().is_terminal();
    if interactive {
        say(&format!("session {session}, agent {agent}; /help says what can be done"));
    }
    let mut chat =
        Chat { client, session, agent, show: args.show, typed: String::new(), interactive };
    for run in past {
        match chat.show(&run).await? {
            Shown::Left => return Ok(chat.leave()),
            Shown::Ended(_) => {}
        }
    }
    chat.talk().await
}

/// The runs of a session, the oldest first.
async fn runs(client: &Client, session: &SessionId) -> anyhow::Result<Vec<Run>> {
    let filter =
        RunFilter { session: Some(session.clone()), limit: Some(SHOWN), ..RunFilter::default() };
    let page = client.runs(&filter).await?;
    let mut runs = page.data;
    runs.reverse();
    if page.next.is_some() {
        say(&format!("only the last {SHOWN} runs are shown"));
    }
    Ok(runs)
}

/// The agent that was talked to last, as long as it is there.
fn last_agent<'a>(past: &'a [Run], agents: &[Agent]) -> Option<&'a str> {
    let known = |name: &&str| agents.iter().any(|agent| agent.name.as_str() == *name);
    past.iter().rev().map(|run| run.agent.as_str()).find(known)
}

/// The agent of this name; without one the default, or the only one there is to talk to.
fn choose(agents: &[Agent], wanted: Option<&str>) -> anyhow::Result<AgentName> {
    let names = || agents.iter().map(|agent| agent.name.as_str()).filter(|name| *name != "push");
    let list = || names().collect::<Vec<_>>().join(", ");
    let Some(wanted) = wanted else {
        let default = agents.iter().find(|agent| agent.default).map(|agent| agent.name.as_str());
        let real: Vec<&str> = names().filter(|name| *name != "demo").collect();
        let only = if let [only] = real[..] { Some(only) } else { None };
        let demo = names().find(|name| *name == "demo" && real.is_empty());
        let Some(name) = default.or(only).or(demo) else {
            bail!(
                "which agent? Name one with --agent, or set default_agent; there are: {}",
                list()
            );
        };
        return Ok(AgentName::parse(name)?);
    };
    if let Some(agent) = agents.iter().find(|agent| agent.name.as_str() == wanted) {
        return Ok(agent.name.clone());
    }
    match nearest(wanted, names()) {
        Some(near) => {
            bail!("there is no agent {wanted}; did you mean {near}? There are: {}", list())
        }
        None => bail!(
            "there is no agent {wanted}; there are: {}. Others are set up in segue.toml, as \
             [agents.{wanted}]",
            list()
        ),
    }
}

enum Shown {
    Ended(Exit),
    /// The run goes on without us.
    Left,
}

/// What the person wants while an answer streams.
enum Wish {
    Stop,
    Leave,
}

struct Chat {
    client: Client,
    session: SessionId,
    agent: AgentName,
    show: ShowArgs,
    /// What was typed while an answer streamed.
    typed: String,
    interactive: bool,
}

impl Chat {
    /// Reads lines and shows answers until the person leaves. For a script, the exit code is that
    /// of its last answer.
    async fn talk(mut self) -> anyhow::Result<Exit> {
        let mut editor = DefaultEditor::new().context("the terminal cannot be used")?;
        let mut exit = Exit::Done;
        loop {
            let typed = std::mem::take(&mut self.typed);
            let reading = tokio::task::spawn_blocking(move || {
                let line = editor.readline_with_initial("> ", (&typed, ""));
                (editor, line)
            });
            let (back, line) = reading.await?;
            editor = back;
            let line = match line {
                Ok(line) => line,
                // Ctrl-C at the prompt empties the line.
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => {
                    return Ok(if self.interactive { self.leave() } else { exit });
                }
                Err(error) => return Err(error).context("the terminal cannot be read"),
            };
            if !line.trim().is_empty() {
                // A line that is not remembered is still said.
                editor.add_history_entry(line.as_str()).ok();
            }
            match self.obey(line.trim()).await? {
                Some(Shown::Ended(ended)) => exit = ended,
                Some(Shown::Left) => return Ok(self.leave()),
                None => {}
            }
        }
    }

    /// Does what a line asks for, which is mostly to say it.
    async fn obey(&mut self, line: &str) -> anyhow::Result<Option<Shown>> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => {}
            "/help" => say(HELP),
            "/quit" => return Ok(Some(Shown::Left)),
            "/agent" => match choose(&self.client.agents().await?.data, Some(rest.trim())) {
                Ok(agent) => {
                    say(&format!("agent {agent}"));
                    self.agent = agent;
                }
                Err(error) => say(&error.to_string()),
            },
            _ if word.starts_with('/') && !word.starts_with("//") => {
                say(&format!("there is no command {word}; /help says what there is"));
            }
            _ => return self.say(line.strip_prefix('/').unwrap_or(line)).await.map(Some),
        }
        Ok(None)
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<Shown> {
        // What runs already, started elsewhere, comes first.
        let start = StartRun::of_agent(self.agent.clone()).input(text).policy("queue");
        let run = self.client.start(&self.session, &start).await?;
        let printer = Printer::of_process(self.show.look(form_of(&self.client, &run).await?));
        self.follow(&run.id, printer.in_chat(Role::Answer)).await
    }

    /// Shows a run of before, with what the user said.
    async fn show(&mut self, run: &Run) -> anyhow::Result<Shown> {
        let printer = Printer::of_process(self.show.look(form_of(&self.client, run).await?));
        self.follow(&run.id, printer.in_chat(Role::Past)).await
    }

    /// Ctrl-C stops the run and its end is still shown; pressed again, or Ctrl-D, leaves it.
    async fn follow(&mut self, run: &RunId, mut printer: Printer) -> anyhow::Result<Shown> {
        let mut attachment = self.client.attach(run.clone(), None);
        let mut keys = Keys::take()?;
        let mut stopping = false;
        let mut exit = Exit::Done;
        let shown = loop {
            let wish = tokio::select! {
                item = attachment.next() => {
                    let Some(item) = item.transpose().inspect_err(|_| drop(printer.finish()))? else {
                        break Shown::Ended(exit);
                    };
                    exit = follow::print(&item, &mut printer)?.unwrap_or(exit);
                    continue;
                }
                pressed = signal::ctrl_c() => pressed.map(|()| Wish::Stop)?,
                pressed = keys.end() => pressed.map(|()| Wish::Leave)?,
            };
            if stopping || matches!(wish, Wish::Leave) {
                printer.finish()?;
                break Shown::Left;
            }
            stopping = true;
            self.client.stop(run, Wait::No).await?;
        };
        self.typed += &keys.typed();
        Ok(shown)
    }

    /// Says how to come back.
    fn leave(&self) -> Exit {
        say(&format!("what runs goes on; come back with\n  segue chat --session {}", self.session));
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(
        names: &[&str],
        default: Option<&str>,
        wanted: Option<&str>,
    ) -> Result<String, String> {
        let agent = |name: &&str| {
            let agent = json!({"name": name, "kind": "x", "default": default == Some(*name)});
            serde_json::from_value(agent).unwrap()
        };
        let agents: Vec<Agent> = names.iter().map(agent).collect();
        let chosen = choose(&agents, wanted);
        chosen.map(|agent| agent.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_agent_is_the_named_the_default_or_the_only_one() {
        let some = |name: &str| Ok(name.to_owned());
        assert_eq!(chosen(&["push", "demo"], None, None), some("demo"));
        assert_eq!(chosen(&["push", "demo", "gpt"], None, None), some("gpt"));
        assert_eq!(chosen(&["push", "demo", "a", "b"], Some("b"), None), some("b"));
        assert_eq!(chosen(&["push", "demo", "a"], None, Some("demo")), some("demo"));
    }

    #[test]
    fn an_agent_that_is_not_there_is_answered_with_those_that_are() {
        let error = |names: &[&str], wanted| chosen(names, None, wanted).expect_err("none");
        let which = error(&["push", "demo", "a", "b"], None);
        assert!(which.contains("--agent") && which.contains("demo, a, b"), "{which}");
        let near = error(&["push", "demo"], Some("dmo"));
        assert!(near.contains("did you mean demo?"), "{near}");
        let far = error(&["push", "demo"], Some("gpt"));
        assert!(far.contains("[agents.gpt]"), "{far}");
    }
}
