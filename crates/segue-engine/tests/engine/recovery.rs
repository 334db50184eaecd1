//! I: what a process that died left open.

use segue_core::{Event, Inbound, Seq};
use segue_engine::{RunQuery, StartRun};
use segue_journal::ReadLimit;
use serde_json::{Value, json};

use super::support::*;

/// The same journal under a new engine: what a restart finds, but for the files.
pub async fn restart(stage: &Stage) -> Stage {
    Stage::over(stage.journal.clone(), Puppet::new(true)).await
}

#[tokio::test(start_paused = true)]
async fn i15_an_unfinished_run_is_interrupted_once() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.give(text("half")).await;
    stage.sees(&run.id, "text.delta").await;
    let after = restart(&stage).await;
    let events = after.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(types(&events)[1..], ["text.start", "text.delta", "text.end", "run.interrupted"]);
    assert_eq!(events.last().unwrap()["cause"], "restart");
    assert_eq!(after.status(&run.id).await, "interrupted");
    let again = restart(&after).await;
    assert_eq!(again.follow(&run.id).await, events, "the second start finds nothing to do");
    assert_eq!(again.follow_from(&run.id, Seq(4)).await, events[3..], "cursors still work");
}

#[tokio::test(start_paused = true)]
async fn i16_a_finished_run_keeps_its_status() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.finish().await;
    let before = stage.follow(&run.id).await;
    let after = restart(&stage).await;
    assert_eq!(after.follow(&run.id).await, before);
    assert_eq!(after.status(&run.id).await, "finished");
}

#[tokio::test(start_paused = true)]
async fn i17_an_unfinished_tool_call_is_uncertain_and_not_run_again() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let call = json!({"type": "tool_call.started", "call_id": "c", "name": "rm"});
    strings.give(Event::build(&call)).await;
    stage.sees(&run.id, "tool_call.started").await;
    let after = restart(&stage).await;
    let events = after.follow(&run.id).await;
    let result = events.iter().find(|event| event["type"] == "tool_result").unwrap();
    assert_eq!((&result["call_id"], &result["uncertain"]), (&json!("c"), &json!(true)));
    assert_eq!(*after.puppet.starts.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_held_outside_is_released() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.pull(Pull::Give(Inbound::Resource("thing:7".into()))).await;
    stage.sees(&run.id, "run.resource").await;
    let after = restart(&stage).await;
    assert_eq!(*after.puppet.releases.lock().unwrap(), ["thing:7"]);
    check_whole(&after.follow(&run.id).await);
}

#[tokio::test(start_paused = true)]
async fn a_producer_cannot_name_a_resource() {
    let stage = Stage::new().await;
    let run = stage.push("s").await;
    let forged = json!({"type": "metadata", "resource": "process:1:1:1:1"});
    let forged = Event::build(&forged);
    stage.engine.append(tenant(), &run.id, vec![forged], None).await.unwrap().await.unwrap();
    let own = br#"{"type":"run.resource","resource":"process:1:1:1:1"}"#;
    assert!(Event::from_producer(&own[..].into(), 1000).is_err());
    let after = restart(&stage).await;
    assert!(after.puppet.releases.lock().unwrap().is_empty());
    check_whole(&after.follow(&run.id).await);
}

#[tokio::test(start_paused = true)]
async fn many_open_calls_do_not_keep_the_engine_from_starting() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    for call in 0..600 {
        let call = json!({"type": "tool_call.started", "call_id": format!("c{call}"), "name": "n"});
        strings.give(Event::build(&call)).await;
    }
    strings.give(Event::build(&json!({"type": "last"}))).await;
    stage.sees(&run.id, "last").await;
    let after = restart(&stage).await;
    check_whole(&after.follow(&run.id).await);
}

#[tokio::test(start_paused = true)]
async fn i18_a_source_does_not_start_before_its_run_is_durable() {
    let stage = Stage::over(small_journal(), Puppet::new(true)).await;
    let full = stage.journal.reserve(&Stage::stream(&run_id("other")), SMALL).await.unwrap();
    let start = stage.engine.start(tenant(), StartRun::of(agent("puppet")));
    let looking = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*stage.puppet.starts.borrow(), 0);
        drop(full);
    };
    let (run, ()) = tokio::join!(start, looking);
    stage.puppet.strings(&run.unwrap().run.id).await.finish().await;
    assert_eq!(*stage.puppet.starts.borrow(), 1);
}

#[tokio::test(start_paused = true)]
async fn i18_a_submission_is_durable_before_its_run_starts() {
    let stage = Stage::new().await;
    let request = StartRun {
        session: Some(session_id("s")),
        input: json!("what is a segue?"),
        ..StartRun::of(agent("puppet"))
    };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    // The answer of the start is there and the source has given nothing: cut here.
    let after = restart(&stage).await;
    let stream = segue_journal::StreamKey::session(tenant(), &session_id("s"));
    let page = after.journal.read(&stream, Seq::FIRST, ReadLimit::default()).unwrap();
    let records: Vec<Value> = page
        .records
        .iter()
        .map(|r| segue_core::EventRecord::decode(r.bytes.clone()).unwrap())
        .map(|event| serde_json::from_slice(event.json()).unwrap())
        .collect();
    assert_eq!(types(&records), ["session.changed", "message.created", "run.created", "run.ended"]);
    assert_eq!(records[1]["message"]["parts"][0]["text"], "what is a segue?");
    let events = after.follow(&run.id).await;
    assert_eq!(types(&events), ["run.started", "run.interrupted"], "no invented answer");
    assert_eq!(events[0]["input"], "what is a segue?");
}

#[tokio::test(start_paused = true)]
async fn l06_an_ended_run_is_replayed_from_the_journal_alone() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    for word in ["a", "b", "c"] {
        strings.give(text(word)).await;
    }
    strings.finish().await;
    let before = stage.follow(&run.id).await;
    stage.journal.frames().clear();
    let after = restart(&stage).await;
    assert_eq!(after.follow(&run.id).await, before);
}

#[tokio::test(start_paused = true)]
async fn views_are_filled_again_from_the_journal() {
    let stage = Stage::new().await;
    for session in ["a", "b", "c"] {
        let (run, strings) = stage.play(session).await;
        strings.finish().await;
        stage.follow(&run.id).await;
    }
    let before = stage.engine.runs(tenant(), RunQuery::default()).await.unwrap();
    let after = restart(&stage).await;
    assert_eq!(after.engine.runs(tenant(), RunQuery::default()).await.unwrap(), before);
}
