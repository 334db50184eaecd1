//! A10 to A12: deltas that are ready together become one before they are numbered.

use segue_core::{Event, Inbound, RunError};
use segue_engine::StopRequest;
use serde_json::{Value, json};

use super::support::*;

fn reasoning(words: &str) -> Event {
    Event::build(&json!({"type": "reasoning.delta", "part": "r", "text": words}))
}

async fn merging() -> Stage {
    Stage::over(memory_journal(), Puppet::merging()).await
}

/// Name and text of each delta, and the names of the others but starts.
fn told(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
    let others =
        events.iter().filter(|event| !matches!(name(event).split_once('.'), Some((_, "start"))));
    let text = |event: &Value| event["text"].as_str().map(|text| format!(" {text}"));
    others.skip(1).map(|event| name(event) + &text(event).unwrap_or_default()).collect()
}

#[tokio::test(start_paused = true)]
async fn a10_deltas_that_wait_are_one_and_those_that_come_later_are_not() {
    let stage = merging().await;
    let (run, strings) = stage.play("s").await;
    for word in ["a", "b", "c"] {
        strings.give(reasoning(word)).await;
    }
    for word in ["d", "e"] {
        strings.give(text(word)).await;
    }
    stage.sees(&run.id, "text.delta").await;
    strings.give(text("f")).await;
    strings.finish().await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(
        told(&events),
        [
            "reasoning.delta abc",
            "text.delta de",
            "text.delta f",
            "reasoning.end",
            "text.end",
            "run.finished",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a11_what_waits_goes_out_before_any_other_event() {
    let stage = merging().await;
    let (run, strings) = stage.play("s").await;
    for event in [text("a"), text("b"), of_type("other"), text("c"), reasoning("d"), text("e")] {
        strings.give(event).await;
    }
    strings.finish().await;
    let events = stage.follow(&run.id).await;
    let deltas = ["text.delta ab", "other", "text.delta c", "reasoning.delta d", "text.delta e"];
    assert_eq!(told(&events)[..5], deltas);
}

#[tokio::test(start_paused = true)]
async fn a12_the_tail_goes_out_before_the_end_by_error_panic_or_stop() {
    for how in ["error", "panic", "stop"] {
        let stage = merging().await;
        let (run, strings) = stage.play("s").await;
        for word in ["a", "b"] {
            strings.give(text(word)).await;
        }
        match how {
            "error" => strings.pull(Pull::Give(Inbound::Failed(RunError::new("e", "m")))).await,
            "panic" => strings.pull(Pull::Panic).await,
            _ => {
                let stop = StopRequest::by_user();
                stage.engine.stop_run(tenant(), &run.id, stop).await.unwrap();
            }
        }
        let events = stage.follow(&run.id).await;
        check_whole(&events);
        let told = told(&events);
        let text: String = told.iter().filter_map(|e| e.strip_prefix("text.delta ")).collect();
        let end = told.last().expect("an end");
        match how {
            "stop" => assert_eq!((text.as_str(), end.as_str()), ("ablast words", "run.stopped")),
            _ => assert_eq!((text.as_str(), end.as_str()), ("ab", "run.failed"), "{how}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_others_wrote_are_kept_as_they_are() {
    let stage = Stage::over(memory_journal(), Puppet::new(true)).await;
    let (run, strings) = stage.play("s").await;
    for word in ["a", "b"] {
        strings.give(text(word)).await;
    }
    strings.finish().await;
    let told = told(&stage.follow(&run.id).await);
    assert_eq!(told[..2], ["text.delta a", "text.delta b"]);
}
