//! What the tests share.

use std::{fs, time::Duration};

use futures_util::StreamExt;
use segue_core::{
    AgentName, Event, Inbound, InboundStream, RunId, RunInput, SessionId, StopReason, StopSignal,
};
use segue_sources::{
    ProcessSource,
    process::{ProcessLimits, ProcessSpec},
};
use serde_json::Value;
use tokio::sync::watch;

/// A wait is only ever this long when what is waited for does not come.
const NEVER: Duration = Duration::from_mins(1);

pub(crate) fn input(params: Value) -> RunInput {
    RunInput {
        run: RunId::parse("r").expect("valid"),
        session: SessionId::parse("s").expect("valid"),
        agent: AgentName::parse("a").expect("valid"),
        input: Value::Null,
        history: Vec::new(),
        params,
    }
}

/// A stop that can be pulled.
pub(crate) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(crate) fn new() -> (Self, StopSignal) {
        let (pull, mut pulled) = watch::channel(false);
        let signal = StopSignal::new(async move {
            if pulled.wait_for(|pulled| *pulled).await.is_err() {
                std::future::pending::<()>().await;
            }
            StopReason::User
        });
        (Self(pull), signal)
    }

    pub(crate) fn pull(&self) {
        self.0.send_replace(true);
    }
}

/// A source that runs `sh -c script`.
pub(crate) fn shell(script: &str, format: &str) -> ProcessSource {
    command(&serde_json::json!({"command": ["sh", "-c", script], "format": format}))
}

pub(crate) fn command(spec: &Value) -> ProcessSource {
    let spec: ProcessSpec = serde_json::from_value(spec.clone()).expect("a specification");
    ProcessSource::new(spec, env!("CARGO_BIN_EXE_segue-test-guard").into())
        .expect("can be executed")
        .with_limits(ProcessLimits { grace: Duration::from_secs(30), ..ProcessLimits::default() })
}

pub(crate) async fn next(stream: &mut InboundStream) -> Option<Inbound> {
    tokio::time::timeout(NEVER, stream.next()).await.expect("the source gives something or ends")
}

/// Everything up to the end.
pub(crate) async fn rest(stream: &mut InboundStream) -> Vec<Inbound> {
    let mut given = Vec::new();
    while let Some(inbound) = next(stream).await {
        given.push(inbound);
    }
    given
}

/// Reads until an event holds `text`; gives all up to it.
pub(crate) async fn until(stream: &mut InboundStream, text: &str) -> Vec<Inbound> {
    let mut given = Vec::new();
    loop {
        let inbound = next(stream).await.unwrap_or_else(|| panic!("no {text:?} in {given:?}"));
        let found = event(&inbound)
            .is_some_and(|event| String::from_utf8_lossy(event.json()).contains(text));
        given.push(inbound);
        if found {
            return given;
        }
    }
}

pub(crate) fn event(inbound: &Inbound) -> Option<&Event> {
    match inbound {
        Inbound::Event(event) => Some(event),
        _ => None,
    }
}

/// The fields of every event of this type.
pub(crate) fn fields(given: &[Inbound], name: &str) -> Vec<Value> {
    let of_type = given.iter().filter_map(event).filter(|event| event.name() == name);
    of_type.map(|event| serde_json::from_slice(event.json()).expect("json")).collect()
}

/// The text of every event of this type, joined.
pub(crate) fn text(given: &[Inbound], name: &str) -> String {
    fields(given, name).iter().filter_map(|fields| fields["text"].as_str()).collect()
}

pub(crate) fn resource(given: &[Inbound]) -> String {
    let name = given.iter().find_map(|inbound| match inbound {
        Inbound::Resource(name) => Some(name.clone()),
        _ => None,
    });
    name.expect("a resource")
}

/// The pid of the guard that a resource names.
pub(crate) fn guard_pid(resource: &str) -> i32 {
    let pid = resource.split(':').nth(1).expect("a pid");
    pid.parse().expect("a pid")
}

/// Whether a process of this id is there and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The pids in `text`, each as `pid=N.`; one whose point has not come yet is left out.
pub(crate) fn pids(text: &str) -> Vec<i32> {
    let pid = |rest: &str| Some(rest.split_once('.')?.0.parse().expect("a pid"));
    text.split("pid=").skip(1).filter_map(pid).collect()
}

/// Waits until none of these processes is left.
pub(crate) async fn gone(pids: &[i32]) {
    let all_gone = async {
        while pids.iter().any(|pid| is_alive(*pid)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(NEVER, all_gone).await;
    assert!(waited.is_ok(), "still there: {:?}", pids.iter().filter(|pid| is_alive(**pid)));
}
