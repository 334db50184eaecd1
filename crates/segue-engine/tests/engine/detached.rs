//! E: runs go on without clients.

use segue_core::{Inbound, Limits, RunError};
use segue_engine::{StartError, StartRun};
use serde_json::json;

use super::support::*;

#[tokio::test(start_paused = true)]
async fn e01_a_run_without_clients_runs_to_its_end() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.give(text("hello")).await;
    strings.finish().await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(
        types(&events),
        ["run.started", "text.start", "text.delta", "text.end", "run.finished"]
    );
    assert_eq!(stage.status(&run.id).await, "finished");
}

#[tokio::test(start_paused = true)]
async fn e02_the_last_client_leaves_and_the_run_goes_on() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.give(text("a")).await;
    stage.sees(&run.id, "text.delta").await;
    assert_eq!(stage.status(&run.id).await, "running");
    strings.give(of_type("data")).await;
    stage.sees(&run.id, "data").await;
    let stopped = stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    assert!(stopped.stopped);
    check_whole(&stage.follow(&run.id).await);
}

pub fn by_user_and_wait() -> segue_engine::StopRequest {
    segue_engine::StopRequest { wait: Some(MINUTE), ..segue_engine::StopRequest::by_user() }
}

#[tokio::test(start_paused = true)]
async fn e04_done_once_and_the_terminal_is_last() {
    let stage = Stage::new().await;
    let (run, mut strings) = stage.play("s").await;
    strings.finish().await;
    strings.is_released().await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    let terminal = events.last().unwrap();
    assert_eq!(terminal["finish_reason"], "stop");
    assert_eq!(terminal["message_id"], run.message_id.as_str());
    assert_eq!(terminal["status"], "finished");
}

#[tokio::test(start_paused = true)]
async fn e05_a_source_that_panics_or_fails_ends_its_run_only() {
    let stage = Stage::new().await;
    let (broken, strings) = stage.play("a").await;
    let (failing, failing_strings) = stage.play("b").await;
    let (other, other_strings) = stage.play("c").await;
    strings.give(text("partial")).await;
    strings.pull(Pull::Panic).await;
    failing_strings.pull(Pull::Give(Inbound::Failed(RunError::new("upstream", "no")))).await;
    let events = stage.follow(&broken.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["error"]["code"], "source_panicked");
    assert_eq!(types(&events)[3], "text.end", "what was open is closed");
    let events = stage.follow(&failing.id).await;
    assert_eq!(events.last().unwrap()["error"], json!({"code": "upstream", "message": "no"}));
    other_strings.finish().await;
    check_whole(&stage.follow(&other.id).await);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_without_a_word_has_failed() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    drop(strings);
    let events = stage.follow(&run.id).await;
    assert_eq!(events.last().unwrap()["error"]["code"], "source_ended");
}

#[tokio::test(start_paused = true)]
async fn e11_the_terminal_is_stored_before_the_status_shows_it() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let looking = async {
        loop {
            let view = stage.engine.run(tenant(), &run.id).await.unwrap().unwrap();
            if view.status.is_terminal() {
                return view;
            }
            tokio::task::yield_now().await;
        }
    };
    let (view, ()) = tokio::join!(looking, strings.finish());
    let attached = stage.engine.attach(tenant(), &run.id).unwrap();
    assert!(attached.info().tail.closed);
    assert_eq!(attached.outcome().unwrap().unwrap().status(), view.status);
    assert_eq!(view.last_seq, attached.info().tail.next.prev());
    assert!(view.ended_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn e11_no_status_shows_an_end_that_cannot_be_stored() {
    let stage = Stage::over(small_journal(), Puppet::new(true)).await;
    let (run, strings) = stage.play("s").await;
    // Nothing fits through the door, so the source's end stays unwritten.
    let full = stage.journal.reserve(&Stage::stream(&run_id("other")), SMALL).await.unwrap();
    strings.finish().await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.status(&run.id).await, "running");
    assert!(!stage.engine.status(tenant(), &run.id).unwrap().is_terminal());
    drop(full);
    check_whole(&stage.follow(&run.id).await);
    assert_eq!(stage.status(&run.id).await, "finished");
}

#[tokio::test(start_paused = true)]
async fn e12_the_end_comes_after_the_sources_clean_up() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let (run, mut strings) = stage.play("s").await;
    let stop = stage.engine.stop_run(tenant(), &run.id, segue_engine::StopRequest::by_user());
    assert!(stop.await.unwrap().stopped);
    strings.stopped.wait_for(Option::is_some).await.unwrap();
    stage.sees(&run.id, "text.delta").await;
    assert!(stage.engine.attach(tenant(), &run.id).unwrap().outcome().unwrap().is_none());
    assert_eq!(stage.status(&run.id).await, "stopping");
    strings.may_leave.send_replace(true);
    let events = stage.follow(&run.id).await;
    assert_eq!(
        types(&events),
        ["run.started", "text.start", "text.delta", "text.end", "run.stopped"]
    );
    assert!(*strings.released.borrow());
}

#[tokio::test(start_paused = true)]
async fn bad_starts_are_refused_and_leave_no_trace() {
    let stage = Stage::new().await;
    let start = |request: StartRun| stage.engine.start(tenant(), request);
    let unknown = start(StartRun::of(agent("nobody"))).await.unwrap_err();
    assert_eq!(unknown, StartError::UnknownAgent(agent("nobody")));
    let both = StartRun { source: Some(json!({"kind": "x"})), ..StartRun::of(agent("puppet")) };
    assert_eq!(start(both).await.unwrap_err(), StartError::AgentAndSource);
    let inline = StartRun {
        source: Some(json!({"kind": "x"})),
        agent: None,
        ..StartRun::of(agent("puppet"))
    };
    assert!(matches!(start(inline).await.unwrap_err(), StartError::BadSource(_)));
    let large = StartRun { input: json!("x".repeat(5000)), ..StartRun::of(agent("puppet")) };
    assert!(matches!(start(large).await.unwrap_err(), StartError::InputTooLarge { max: 4096, .. }));
    assert_eq!(stage.journal.position().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_id_is_used_once() {
    let stage = Stage::new().await;
    let request = |session: &str| StartRun {
        run: Some(run_id("mine")),
        session: Some(session_id(session)),
        ..StartRun::of(agent("puppet"))
    };
    stage.engine.start(tenant(), request("a")).await.unwrap();
    let again = stage.engine.start(tenant(), request("b")).await.unwrap_err();
    assert_eq!(again, StartError::RunExists);
    assert!(stage.engine.session(tenant(), &session_id("b")).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn e07_a_run_over_its_wall_clock_is_stopped_and_zero_is_no_limit() {
    let stage = Stage::new().await;
    let start = async |wall_clock_s| {
        let limits = Limits { wall_clock_s, ..Limits::default() };
        let request = StartRun { limits, ..StartRun::of(agent("puppet")) };
        stage.engine.start(tenant(), request).await.unwrap().run
    };
    let limited = start(5).await;
    let strings = stage.puppet.strings(&limited.id).await;
    strings.give(text("half")).await;
    let events = stage.follow(&limited.id).await;
    check_whole(&events);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["reason"]), (&json!("run.stopped"), &json!("wall_clock")));
    assert!(events.iter().any(|event| event["text"] == "half"));
    let unlimited = start(0).await;
    let strings = stage.puppet.strings(&unlimited.id).await;
    tokio::time::advance(std::time::Duration::from_hours(1000)).await;
    strings.finish().await;
    assert_eq!(types(&stage.follow(&unlimited.id).await), ["run.started", "run.finished"]);
}

#[tokio::test(start_paused = true)]
async fn e08_a_run_that_is_silent_for_its_idle_limit_is_stopped() {
    let stage = Stage::new().await;
    let limits = Limits { idle_s: 5, ..Limits::default() };
    let request = StartRun { limits, ..StartRun::of(agent("puppet")) };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    let _strings = stage.puppet.strings(&run.id).await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["reason"], "idle");
}

#[tokio::test(start_paused = true)]
async fn e08_progress_keeps_an_idle_run_alive() {
    let stage = Stage::new().await;
    let limits = Limits { idle_s: 5, ..Limits::default() };
    let run = stage.engine.start(tenant(), StartRun { limits, ..StartRun::of(agent("puppet")) });
    let run = run.await.unwrap().run;
    let strings = stage.puppet.strings(&run.id).await;
    for _ in 0..5 {
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        strings.pull(Pull::Give(Inbound::Progress)).await;
        tokio::task::yield_now().await;
    }
    strings.finish().await;
    assert_eq!(types(&stage.follow(&run.id).await), ["run.started", "run.finished"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_over_its_event_limit_is_stopped_before_a_partial_record() {
    let stage = Stage::new().await;
    let limits = Limits { events: 4, ..Limits::default() };
    let request = StartRun { limits, ..StartRun::of(agent("puppet")) };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    let strings = stage.puppet.strings(&run.id).await;
    for _ in 0..6 {
        strings.give(text("x")).await;
    }
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["reason"], "limit");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_over_its_limit_is_told_of_as_stopped() {
    let stage = Stage::new().await;
    let limits = Limits { events: 4, ..Limits::default() };
    let request = StartRun { limits, ..StartRun::of(agent("puppet")) };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    let strings = stage.puppet.strings(&run.id).await;
    for _ in 0..6 {
        strings.try_pull(Pull::Give(Inbound::Event(text("x"))));
    }
    strings.finish().await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    let terminal = events.last().unwrap();
    assert_eq!((&terminal["type"], &terminal["reason"]), (&json!("run.stopped"), &json!("limit")));
    assert!(types(&events).contains(&"text.delta"), "what fits is kept");
}

#[tokio::test(start_paused = true)]
async fn limits_beyond_all_clocks_are_none() {
    let stage = Stage::new().await;
    let most = u64::MAX;
    let limits = Limits { wall_clock_s: most, idle_s: most, lease_s: most, ..Limits::default() };
    let request = StartRun { limits, ..StartRun::of(agent("puppet")) };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    stage.puppet.strings(&run.id).await.finish().await;
    assert_eq!(types(&stage.follow(&run.id).await), ["run.started", "run.finished"]);
}

#[tokio::test(start_paused = true)]
async fn any_number_of_open_calls_is_closed_by_the_end() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    for call in 0..600 {
        let call = json!({"type": "tool_call.started", "call_id": format!("c{call}"), "name": "n"});
        strings.give(segue_core::Event::build(&call)).await;
    }
    strings.pull(Pull::Give(Inbound::Failed(RunError::new("e", "m".repeat(200_000))))).await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(types(&events).iter().filter(|name| **name == "tool_result").count(), 600);
}

#[tokio::test(start_paused = true)]
async fn an_event_over_the_cap_ends_the_run_and_keeps_those_before_it() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.give(text("fine")).await;
    strings.give(text(&"x".repeat(5000))).await;
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["error"]["code"], "event_too_large");
    assert!(types(&events).contains(&"text.delta"));
}

#[tokio::test(start_paused = true)]
async fn what_a_run_shows_does_not_change_with_its_end() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let usage = json!({"type": "usage", "input": 3, "output": 4});
    strings.give(segue_core::Event::build(&usage)).await;
    stage.sees(&run.id, "usage").await;
    let alive = stage.engine.run(tenant(), &run.id).await.unwrap().unwrap();
    stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    let ended = stage.engine.run(tenant(), &run.id).await.unwrap().unwrap();
    assert_eq!(ended.created_at, alive.created_at);
    assert_eq!(
        (ended.usage.clone(), ended.usage),
        (alive.usage, Some(json!({"input": 3, "output": 4})))
    );
}
