//! What a model says, as rows of a terminal: pure functions from text to bytes.
//!
//! Everything here works a character at a time and never takes back what it gave, so that any
//! split of a text into deltas gives the same bytes.

pub(super) mod calls;
pub(super) mod clean;
mod flow;
pub(super) mod markdown;
mod style;

pub(super) use self::{flow::Flow, markdown::Markdown, style::Style};
