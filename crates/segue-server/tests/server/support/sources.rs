//! Agents to start.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use segue_core::{
    AgentName, Event, Inbound, InboundStream, ModelOptions, RunError, RunInput, Source, StopSignal,
};
use segue_engine::{Agents, Inline};
use segue_sources::{PushSource, ReplaySource};
use serde_json::{Value, json};

/// Every agent of the tests.
pub(crate) fn agents() -> Agents {
    let panics = Inline {
        kind: name("panics"),
        build: Arc::new(|_| panic!("this source panics when it is built")),
        releaser: Arc::new(PushSource),
    };
    let pushes = Inline {
        kind: name("push"),
        build: Arc::new(|_| Ok(Arc::new(PushSource))),
        releaser: Arc::new(PushSource),
    };
    Agents::default()
        .with(name("push"), "push", Arc::new(PushSource))
        .with(name("demo"), "replay", Arc::new(ReplaySource::demo()))
        .with(name("asked"), "test", Arc::new(Asked))
        .with(name("fails"), "test", Arc::new(Fails { texts: 2 }))
        .with(name("fails-at-once"), "test", Arc::new(Fails { texts: 0 }))
        .with(name("waits"), "test", Arc::new(Waits))
        .with_inline(panics)
        .with_inline(pushes)
        .with_default(name("push"))
}

fn name(text: &str) -> AgentName {
    AgentName::parse(text).expect("valid")
}

fn delta(n: usize) -> Inbound {
    let text = format!("{n} ");
    Inbound::Event(Event::build(&json!({"type": "text.delta", "part": "p", "text": text})))
}

/// Says what it was asked for: its parameters.
struct Asked;

impl Source for Asked {
    fn params(&self, options: &ModelOptions) -> Result<Value, String> {
        let tools = options.fields.get("tools").and_then(Value::as_array);
        if tools.is_some_and(|tools| tools.iter().any(|tool| tool["type"] != "function")) {
            return Err("it has no such tools".to_owned());
        }
        Ok(Value::Object(options.fields.clone()))
    }

    fn start(&self, input: RunInput, _: StopSignal) -> InboundStream {
        let text = input.params.to_string();
        let event = json!({"type": "text.delta", "part": "p", "text": text});
        let end = Inbound::Finished { finish_reason: None, usage: None };
        Box::pin(stream::iter([Inbound::Event(Event::build(&event)), end]))
    }
}

/// Says something, then fails.
struct Fails {
    texts: usize,
}

impl Source for Fails {
    fn start(&self, _: RunInput, _: StopSignal) -> InboundStream {
        let end = Inbound::Failed(RunError::new("upstream_error", "the model is not there"));
        Box::pin(stream::iter((0..self.texts).map(delta).chain([end])))
    }
}

/// Says nothing until it is stopped, then its last words.
struct Waits;

impl Source for Waits {
    fn start(&self, _: RunInput, stop: StopSignal) -> InboundStream {
        let stopped = async move {
            stop.stopped().await;
        };
        let last = stream::once(stopped).flat_map(|()| stream::iter([delta(0)]));
        Box::pin(last)
    }
}
