//! How output looks, by what the outputs are and what the person wants.

use std::{
    env,
    io::{self, IsTerminal},
};

use clap::ValueEnum;

/// Columns of an output that does not say how many it has.
const COLUMNS: usize = 80;

/// How the text of a run is shown on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TextForm {
    /// Markdown, but for what a command printed
    Auto,
    /// Markdown, made readable
    Markdown,
    /// As it is
    Plain,
}

/// Of commands that show runs.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Print each event as a line of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// How text is shown on a terminal; a pipe gets it as it is
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        hide_possible_values = true,
        value_name = "auto|markdown|plain"
    )]
    pub(super) text: TextForm,
    /// No colours and nothing that moves; so does the variable `NO_COLOR`
    #[arg(long)]
    pub(super) no_color: bool,
}

/// What becomes of the text of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Not a byte is changed.
    Exact,
    /// As it is, but for what could drive a terminal.
    Plain,
    Markdown,
}

/// What the two outputs are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) json: bool,
    pub(super) text: Text,
    /// Standard error is a terminal that may have colours and lines that are drawn anew.
    pub(super) lively: bool,
    /// Both outputs are the same terminal: an open line of one is in the way of the other.
    pub(super) shared: bool,
    /// The columns of the terminal.
    pub(super) columns: fn() -> usize,
}

impl ShowArgs {
    /// For the outputs of this process. `form` is what `auto` means.
    pub(super) fn look(&self, form: TextForm) -> Look {
        let form = if self.text == TextForm::Auto { form } else { self.text };
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let colours = !self.no_color && colours_wanted(|name| env::var(name).ok());
        let text = match (out, form) {
            (false, _) => Text::Exact,
            (true, TextForm::Plain) => Text::Plain,
            (true, _) if !colours => Text::Plain,
            (true, _) => Text::Markdown,
        };
        Look { json: self.json, text, lively: err && colours, shared: err && out, columns }
    }
}

/// By <https://no-color.org>, and not on a terminal that can do nothing.
fn colours_wanted(var: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| var(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && var("TERM").is_none_or(|term| term != "dumb")
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()));
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_can_be_refused() {
        let wanted = |name: &'static str, value: &'static str| {
            colours_wanted(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(wanted("TERM", "xterm"));
        assert!(wanted("NO_COLOR", ""));
        assert!(!wanted("NO_COLOR", "1"));
        assert!(!wanted("TERM", "dumb"));
    }
}
