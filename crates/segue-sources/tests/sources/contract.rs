//! What holds for every source.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use segue_core::{Event, Inbound, Ingress, Source, StopReason, StopSignal};
use segue_sources::{PushSource, ReplaySource};
use serde_json::{Value, json};

use crate::support::{Stop, event, gone, guard_pid, input, next, rest, shell};

/// A source under test.
pub(crate) struct Subject {
    source: Arc<dyn Source>,
    params: Value,
}

impl Subject {
    fn new(source: impl Source, params: Value) -> Self {
        Self { source: Arc::new(source), params }
    }

    fn start(&self, stop: StopSignal) -> segue_core::InboundStream {
        self.source.start(input(self.params.clone()), stop)
    }
}

fn is_end(inbound: &Inbound) -> bool {
    matches!(inbound, Inbound::Finished { .. } | Inbound::Failed(_) | Inbound::Interrupted(_))
}

fn events(given: &[Inbound]) -> Vec<Event> {
    given.iter().filter_map(event).cloned().collect()
}

fn resources(given: &[Inbound]) -> Vec<String> {
    let name = |inbound: &Inbound| match inbound {
        Inbound::Resource(name) => Some(name.clone()),
        _ => None,
    };
    given.iter().filter_map(name).collect()
}

/// Exactly one end, last, and then nothing however often it is asked.
async fn gives_nothing_after_its_end(subject: Subject) {
    let (stop, signal) = Stop::new();
    if subject.source.ingress() == Ingress::Append {
        stop.pull();
    }
    let mut stream = subject.start(signal);
    let given = rest(&mut stream).await;
    for _ in 0..3 {
        assert!(next(&mut stream).await.is_none());
    }
    let ends = given.iter().filter(|inbound| is_end(inbound)).count();
    match subject.source.ingress() {
        Ingress::Append => assert!(given.is_empty(), "{given:?}"),
        Ingress::Stream => {
            assert_eq!(ends, 1, "{given:?}");
            assert!(given.last().is_some_and(is_end), "{given:?}");
        }
    }
}

/// A run that is stopped before it is polled gives no event and ends.
async fn a_stop_before_the_first_poll_ends_it(subject: Subject) {
    let mut stream = subject.start(StopSignal::new(std::future::ready(StopReason::User)));
    assert!(rest(&mut stream).await.is_empty());
}

/// A stop at any point brings the stream to its end, with at most one end given, last.
async fn a_stop_at_any_point_ends_it(subject: Subject) {
    for point in 0..6 {
        let (stop, signal) = Stop::new();
        let mut stream = subject.start(signal);
        let mut given = take(&mut stream, point, subject.source.ingress()).await;
        stop.pull();
        given.extend(rest(&mut stream).await);
        let ends = given.iter().position(is_end);
        assert!(ends.is_none_or(|at| at + 1 == given.len()), "{given:?}");
    }
}

/// Dropping at any point releases what the run holds.
async fn a_drop_at_any_point_releases(subject: Subject) {
    for point in 0..6 {
        let mut stream = subject.start(StopSignal::never());
        let given = take(&mut stream, point, subject.source.ingress()).await;
        drop(stream);
        for resource in resources(&given) {
            gone(&[guard_pid(&resource)]).await;
            subject.source.release(&resource).await;
        }
    }
}

/// The first things of a stream. From an append run there is none: it is just polled.
async fn take(
    stream: &mut segue_core::InboundStream,
    count: usize,
    ingress: Ingress,
) -> Vec<Inbound> {
    let mut given = Vec::new();
    for _ in 0..count {
        match ingress {
            Ingress::Append => assert!(stream.next().now_or_never().is_none()),
            Ingress::Stream => given.extend(next(stream).await),
        }
    }
    given
}

/// Two runs at once do not touch each other, and one's stop is not the other's.
async fn runs_are_independent(subject: Subject) {
    let (stop, signal) = Stop::new();
    let (other_stop, other_signal) = Stop::new();
    let mut stopped = subject.start(signal);
    let mut stream = subject.start(other_signal);
    let begun = take(&mut stopped, 2, subject.source.ingress()).await;
    let mut given = take(&mut stream, 2, subject.source.ingress()).await;
    stop.pull();
    rest(&mut stopped).await;
    if subject.source.ingress() == Ingress::Append {
        assert!(stream.next().now_or_never().is_none(), "the other goes on");
        other_stop.pull();
    }
    given.extend(rest(&mut stream).await);
    assert!(resources(&begun).iter().all(|resource| !resources(&given).contains(resource)));
    let alone = rest(&mut subject.start(match subject.source.ingress() {
        Ingress::Append => StopSignal::new(std::future::ready(StopReason::User)),
        Ingress::Stream => StopSignal::never(),
    }))
    .await;
    assert_eq!(events(&given), events(&alone), "{given:?} and {alone:?}");
}

/// Foreign names of resources do no harm.
async fn a_foreign_resource_is_ignored(subject: Subject) {
    for resource in ["", "process:1:1:1:1", "process:x", "other:1"] {
        subject.source.release(resource).await;
    }
}

/// Runs the contract for a source, all of it.
macro_rules! contract {
    ($name:ident, $subject:expr) => {
        contract!($name, $subject,
            gives_nothing_after_its_end,
            a_stop_before_the_first_poll_ends_it,
            a_stop_at_any_point_ends_it,
            a_drop_at_any_point_releases,
            runs_are_independent,
            a_foreign_resource_is_ignored,
        );
    };
    ($name:ident, $subject:expr, $($test:ident,)+) => {
        mod $name {
            use super::*;

            $(#[tokio::test]
            async fn $test() {
                super::$test($subject).await;
            })+
        }
    };
}

contract!(push, Subject::new(PushSource, Value::Null));
contract!(replay, Subject::new(ReplaySource::demo(), json!({"speed": 0})));
contract!(
    process_ndjson,
    Subject::new(
        shell(r#"for i in 1 2 3 4 5 6; do echo '{"type":"log","text":"'$i'"}'; done"#, "ndjson"),
        Value::Null
    )
);
contract!(
    process_with_its_own_end,
    Subject::new(
        shell(
            r#"echo; echo '{"type":"log","text":"x"}'; echo '{"type":"run.finished"}'"#,
            "ndjson"
        ),
        Value::Null
    )
);
contract!(
    process_that_does_not_start,
    Subject::new(crate::support::command(&json!({"command": ["/no/such/program"]})), Value::Null)
);
