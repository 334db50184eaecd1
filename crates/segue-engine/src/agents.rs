//! Who can be asked to run: configured agents, and sources given in a request.

use std::{collections::BTreeMap, sync::Arc};

use segue_core::{AgentName, Source};
use serde::Serialize;
use serde_json::Value;

/// Builds a source from the `source` object of a request.
pub type BuildSource = Arc<dyn Fn(&Value) -> Result<Arc<dyn Source>, InlineError> + Send + Sync>;

/// Why a `source` object does not describe a source. Safe to show to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InlineError(pub String);

/// A kind of source that a request may bring along.
pub struct Inline {
    /// The `kind` in the request; also the agent name that such a run shows.
    pub kind: AgentName,
    /// Builds the source.
    pub build: BuildSource,
    /// Releases what runs of this kind left behind.
    pub releaser: Arc<dyn Source>,
}

/// The agents of an engine.
#[derive(Default)]
pub struct Agents {
    default: Option<AgentName>,
    by_name: BTreeMap<AgentName, (&'static str, Arc<dyn Source>)>,
    inline: Vec<Inline>,
}

/// An agent as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentView {
    /// Its name.
    pub name: AgentName,
    /// What kind of source it is.
    pub kind: &'static str,
    /// Whether a start without an agent means it.
    pub default: bool,
}

impl Agents {
    /// Adds an agent, replacing one of the same name.
    #[must_use]
    pub fn with(mut self, name: AgentName, kind: &'static str, source: Arc<dyn Source>) -> Self {
        self.by_name.insert(name, (kind, source));
        self
    }

    /// Adds a kind of source that requests may bring along.
    #[must_use]
    pub fn with_inline(mut self, inline: Inline) -> Self {
        self.inline.push(inline);
        self
    }

    /// Names the agent of a start that names none.
    #[must_use]
    pub fn with_default(mut self, name: AgentName) -> Self {
        self.default = Some(name);
        self
    }

    /// The agents as clients see them, by name.
    pub fn views(&self) -> Vec<AgentView> {
        let view = |(name, (kind, _)): (&AgentName, &(&'static str, Arc<dyn Source>))| AgentView {
            name: name.clone(),
            kind,
            default: self.default.as_ref() == Some(name),
        };
        self.by_name.iter().map(view).collect()
    }

    pub(crate) fn default_agent(&self) -> Option<&AgentName> {
        self.default.as_ref()
    }

    pub(crate) fn find(&self, name: &AgentName) -> Option<Arc<dyn Source>> {
        self.by_name.get(name).map(|(_, source)| source.clone())
    }

    pub(crate) fn build(&self, spec: &Value) -> Result<(AgentName, Arc<dyn Source>), InlineError> {
        let kind = spec.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(inline) = self.inline.iter().find(|inline| inline.kind.as_str() == kind) else {
            let kinds: Vec<&str> = self.inline.iter().map(|i| i.kind.as_str()).collect();
            let message = format!("`source.kind` must be one of: {}", kinds.join(", "));
            return Err(InlineError(message));
        };
        Ok((inline.kind.clone(), (inline.build)(spec)?))
    }

    /// Asks every kind of source to release `resource`; those it is not of do nothing.
    pub(crate) async fn release(&self, resource: &str) {
        for (_, source) in self.by_name.values() {
            source.release(resource).await;
        }
        for inline in &self.inline {
            inline.releaser.release(resource).await;
        }
    }
}
