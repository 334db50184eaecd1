//! K: stops in every race.

use std::time::Duration;

use segue_core::{
    Event, EventRecord, Inbound, Limits, Policy, RunError, RunStatus, Seq, StopReason,
};
use segue_engine::{AppendError, StartError, StartRun, StopRequest, Stopped};
use segue_journal::{Batch, Epoch, Part, ReadLimit, StreamKey};
use serde_json::{Value, json};

use super::{detached::by_user_and_wait, recovery::restart, support::*};

const PENDING: Stopped = Stopped { stopped: false, status: None, pending: true };

async fn stop(stage: &Stage, run: &str) -> Stopped {
    stage.engine.stop_run(tenant(), &run_id(run), StopRequest::by_user()).await.unwrap()
}

pub fn of_session(stage: &Stage, session: &str) -> Vec<Value> {
    let stream = StreamKey::session(tenant(), &session_id(session));
    let page = stage.journal.read(&stream, Seq::FIRST, ReadLimit::default()).unwrap();
    let fields = |record: segue_journal::Record| {
        let event = EventRecord::decode(record.bytes).unwrap();
        serde_json::from_slice(event.json()).unwrap()
    };
    page.records.into_iter().map(fields).collect()
}

#[tokio::test(start_paused = true)]
async fn k02_a_stop_of_an_ended_or_unknown_run_changes_nothing() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.finish().await;
    let before = stage.follow(&run.id).await;
    let position = stage.journal.position();
    let ended = stop(&stage, run.id.as_str()).await;
    let status = Some(RunStatus::Finished);
    assert_eq!(ended, Stopped { stopped: false, status, pending: false });
    assert_eq!(stop(&stage, "unknown").await, PENDING);
    assert_eq!(stage.journal.position(), position);
    assert_eq!(stage.follow(&run.id).await, before);
    let after = restart(&stage).await;
    assert_eq!(stop(&after, run.id.as_str()).await.status, Some(RunStatus::Finished));
}

#[tokio::test(start_paused = true)]
async fn k05_a_stop_before_the_run_exists_ends_it_before_it_begins() {
    let stage = Stage::new().await;
    assert_eq!(stop(&stage, "mine").await, PENDING);
    let request = StartRun {
        session: Some(session_id("s")),
        run: Some(run_id("mine")),
        input: json!("hello"),
        ..StartRun::of(agent("puppet"))
    };
    let started = stage.engine.start(tenant(), request.clone()).await.unwrap();
    assert!(started.is_new);
    let run = started.run;
    assert_eq!((run.status, run.reason), (RunStatus::Stopped, Some(StopReason::User)));
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(types(&events), ["run.queued", "run.stopped"]);
    assert_eq!(events[0]["at"], events[1]["at"], "one batch");
    assert_eq!(*stage.puppet.starts.borrow(), 0);
    let stored = stage.engine.run(tenant(), &run.id).await.unwrap().unwrap();
    assert_eq!(stored, run);
    let records = of_session(&stage, "s");
    let expected = ["session.changed", "message.created", "run.created", "run.ended"];
    assert_eq!(types(&records), expected);
    let again = stage.engine.start(tenant(), request).await.unwrap();
    assert_eq!((again.is_new, again.run), (false, stored));
    stage.play("s").await;
}

#[tokio::test(start_paused = true)]
async fn k05_a_stop_while_the_start_is_under_way_ends_it_before_it_begins() {
    let stage = Stage::over(small_journal(), Puppet::new(true)).await;
    let full = stage.journal.reserve(&Stage::stream(&run_id("other")), SMALL).await.unwrap();
    let opening = async {
        // The start and the stop are both under way by now.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        drop(full);
    };
    let start = stage.start_named("s", "mine", Policy::Reject);
    let mine = run_id("mine");
    let stopping = stage.engine.stop_run(tenant(), &mine, by_user_and_wait());
    let (run, stopped, ()) = tokio::join!(start, stopping, opening);
    run.unwrap();
    let stopped = stopped.unwrap();
    assert_eq!((stopped.stopped, stopped.status), (true, Some(RunStatus::Stopped)));
    let events = stage.follow(&mine).await;
    check_whole(&events);
    assert_eq!(types(&events), ["run.queued", "run.stopped"]);
    assert_eq!(events[0]["at"], events[1]["at"], "it was created stopped");
    assert_eq!(*stage.puppet.starts.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn k05_a_pending_stop_does_not_replace_anybody() {
    let stage = Stage::new().await;
    stage.start_named("s", "old", Policy::Reject).await.unwrap();
    stop(&stage, "new").await;
    let refused = stage.start_named("s", "new", Policy::Reject).await.unwrap_err();
    assert_eq!(refused, StartError::Busy(run_id("old")));
    let new = stage.start_named("s", "new", Policy::Replace).await.unwrap();
    assert_eq!(new.status, RunStatus::Stopped, "a refusal does not use the stop up");
    assert_eq!(stage.status(&run_id("old")).await, "running");
}

#[tokio::test(start_paused = true)]
async fn k06_a_pending_stop_hits_no_other_and_no_later_request() {
    let stage = Stage::new().await;
    stop(&stage, "mine").await;
    let other = stage.start_named("s", "other", Policy::Reject).await.unwrap();
    assert_eq!(other.status, RunStatus::Running);
    tokio::time::advance(Duration::from_mins(1)).await;
    let late = stage.start_named("t", "mine", Policy::Reject).await.unwrap();
    assert_eq!(late.status, RunStatus::Running, "it came after a minute");
}

#[tokio::test(start_paused = true)]
async fn k06_a_session_stop_hits_no_later_run() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    stage.start_named("s", "a", Policy::Reject).await.unwrap();
    let session = session_id("s");
    let stopping = stage.engine.stop_session(tenant(), &session, None, StopRequest::by_user());
    assert!(stopping.await.unwrap().stopped);
    stage.start_named("s", "b", Policy::Queue).await.unwrap();
    stage.puppet.strings(&run_id("a")).await.may_leave.send_replace(true);
    stage.puppet.strings(&run_id("b")).await.finish().await;
    let events = stage.follow(&run_id("b")).await;
    assert_eq!(types(&events), ["run.queued", "run.started", "run.finished"]);
}

#[tokio::test(start_paused = true)]
async fn k07_a_stop_of_an_idle_session_poisons_nothing() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.finish().await;
    stage.follow(&run.id).await;
    let session = session_id("s");
    let idle = Stopped { stopped: false, status: None, pending: false };
    let stopping = stage.engine.stop_session(tenant(), &session, None, StopRequest::by_user());
    assert_eq!(stopping.await.unwrap(), idle);
    let (run, strings) = stage.play("s").await;
    strings.finish().await;
    let events = stage.follow(&run.id).await;
    assert_eq!(types(&events), ["run.started", "run.finished"]);
}

#[tokio::test(start_paused = true)]
async fn k08_a_turn_that_is_stopped_before_its_first_event_is_kept() {
    let stage = Stage::new().await;
    let request = StartRun {
        session: Some(session_id("s")),
        input: json!("what is a segue?"),
        ..StartRun::of(agent("puppet"))
    };
    let run = stage.engine.start(tenant(), request).await.unwrap().run;
    let stopped = stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    assert_eq!(stopped.status, Some(RunStatus::Stopped));
    let records = of_session(&stage, "s");
    assert_eq!(records[1]["message"]["parts"][0]["text"], "what is a segue?");
    assert_eq!((&records[3]["type"], &records[3]["reason"]), (&json!("run.ended"), &json!("user")));
    check_whole(&stage.follow(&run.id).await);
}

#[tokio::test(start_paused = true)]
async fn k13_a_stop_at_the_moment_of_its_turn_still_ends_it_once() {
    // Whichever comes first, the turn or the stop: one terminal, and a source that was started
    // is released.
    for polls in 0..12 {
        let stage = Stage::new().await;
        stage.start_named("s", "a", Policy::Reject).await.unwrap();
        stage.start_named("s", "b", Policy::Queue).await.unwrap();
        stage.puppet.strings(&run_id("a")).await.finish().await;
        for _ in 0..polls {
            tokio::task::yield_now().await;
        }
        let waiting = run_id("b");
        let stopped = stage.engine.stop_run(tenant(), &waiting, by_user_and_wait()).await.unwrap();
        assert_eq!((stopped.stopped, stopped.status), (true, Some(RunStatus::Stopped)), "{polls}");
        check_whole(&stage.follow(&waiting).await);
        if *stage.puppet.starts.borrow() == 2 {
            stage.puppet.strings(&waiting).await.is_released().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn k03_of_stops_from_everywhere_at_once_one_is_accepted() {
    let stage = Stage::new().await;
    stage.start_named("s", "a", Policy::Reject).await.unwrap();
    stage.start_named("s", "b", Policy::Queue).await.unwrap();
    for run in [run_id("b"), run_id("a")] {
        let stops = (0..20).map(|_| stage.engine.stop_run(tenant(), &run, by_user_and_wait()));
        let answers = futures_util::future::join_all(stops).await;
        let accepted = answers.iter().filter(|answer| answer.as_ref().unwrap().stopped).count();
        assert_eq!(accepted, 1);
        check_whole(&stage.follow(&run).await);
    }
}

#[tokio::test(start_paused = true)]
async fn k19_calls_that_a_stop_cuts_off_get_an_error_result() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let call = json!({"type": "tool_call.started", "call_id": "c", "name": "rm"});
    strings.give(Event::build(&call)).await;
    stage.sees(&run.id, "tool_call.started").await;
    stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    let result = events.iter().find(|event| event["type"] == "tool_result").unwrap();
    assert_eq!(result["call_id"], "c");
    assert!(result.get("error").is_some() && result.get("output").is_none());
}

#[tokio::test(start_paused = true)]
async fn k20_each_reason_of_a_stop_is_told_by_its_name() {
    for (reason, word) in [
        (StopReason::User, "user"),
        (StopReason::Disconnected, "disconnected"),
        (StopReason::Deleted, "deleted"),
        (StopReason::Replaced, "replaced"),
        (StopReason::WallClock, "wall_clock"),
        (StopReason::Idle, "idle"),
        (StopReason::Limit, "limit"),
        (StopReason::Shutdown, "shutdown"),
    ] {
        let stage = Stage::new().await;
        let limits = match reason {
            StopReason::WallClock => Limits { wall_clock_s: 3, ..Limits::default() },
            StopReason::Idle => Limits { idle_s: 3, ..Limits::default() },
            StopReason::Limit => Limits { events: 2, ..Limits::default() },
            _ => Limits::default(),
        };
        let session = Some(session_id("s"));
        let request = StartRun { limits, session, ..StartRun::of(agent("puppet")) };
        let run = stage.engine.start(tenant(), request).await.unwrap().run;
        let strings = stage.puppet.strings(&run.id).await;
        match reason {
            StopReason::Replaced => {
                stage.start_named("s", "new", Policy::Replace).await.unwrap();
            }
            StopReason::WallClock | StopReason::Idle => {}
            StopReason::Limit => {
                for _ in 0..3 {
                    strings.give(text("too much")).await;
                }
            }
            StopReason::Shutdown => {
                stage.engine.shutdown(MINUTE).await;
            }
            StopReason::User | StopReason::Disconnected | StopReason::Deleted => {
                let request = StopRequest { reason, ..StopRequest::by_user() };
                stage.engine.stop_run(tenant(), &run.id, request).await.unwrap();
            }
        }
        let events = stage.follow(&run.id).await;
        let last = events.last().unwrap();
        assert_eq!((&last["type"], &last["reason"]), (&json!("run.stopped"), &json!(word)));
    }
}

#[tokio::test(start_paused = true)]
async fn k21_a_double_stop_keeps_what_was_said_once() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let (run, strings) = stage.play("s").await;
    let thought = json!({"type": "reasoning.delta", "part": "r", "text": "hm"});
    strings.give(Event::build(&thought)).await;
    strings.give(text("half")).await;
    stage.sees(&run.id, "text.delta").await;
    stop(&stage, run.id.as_str()).await;
    stop(&stage, run.id.as_str()).await;
    strings.may_leave.send_replace(true);
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    for (what, count) in [("hm", 1), ("half", 1), ("last words", 1)] {
        assert_eq!(events.iter().filter(|event| event["text"] == what).count(), count, "{what}");
    }
    for name in ["text.end", "reasoning.end", "run.stopped"] {
        assert_eq!(types(&events).iter().filter(|other| **other == name).count(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn i19_of_two_ends_one_holds_and_the_other_is_told() {
    let stage = Stage::new().await;
    let finished = || vec![Event::build(&json!({"type": "run.finished"}))];
    // Its producer is late: the lease is lost, and the finish comes after.
    let lost = stage.push("a").await;
    assert_eq!(stage.follow(&lost.id).await.last().unwrap()["cause"], "lease_lost");
    let late = stage.engine.append(tenant(), &lost.id, finished(), claim(0)).await;
    assert_eq!(late.err(), Some(AppendError::RunEnded));
    assert_eq!(stage.status(&lost.id).await, "interrupted");
    // It finished: neither a restart nor a writer of the journal interrupts it.
    let done = stage.push("b").await;
    stage.engine.append(tenant(), &done.id, finished(), claim(0)).await.unwrap().await.unwrap();
    let before = stage.follow(&done.id).await;
    let forged = EventRecord::encode(&Event::build(&json!({"type": "run.interrupted"})));
    let part = Part::append(Stage::stream(&done.id), Epoch(9), vec![forged]);
    let permit = stage.journal.reserve(&Stage::stream(&done.id), part.bytes()).await.unwrap();
    let refused = stage.journal.submit(permit, Batch { parts: vec![part] }).await.unwrap_err();
    assert!(matches!(refused, segue_journal::AppendError::Closed { .. }), "{refused}");
    let after = restart(&stage).await;
    assert_eq!(after.follow(&done.id).await, before);
    assert_eq!(after.status(&done.id).await, "finished");
}

#[tokio::test(start_paused = true)]
async fn i20_what_a_source_says_after_its_end_changes_nothing() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    strings.finish().await;
    strings.try_pull(Pull::Give(Inbound::Event(of_type("data"))));
    strings.try_pull(Pull::Give(Inbound::Failed(RunError::new("late", "too late"))));
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(types(&events), ["run.started", "run.finished"]);
    assert_eq!(stage.status(&run.id).await, "finished");
}

#[tokio::test(start_paused = true)]
async fn a_stop_against_a_finishing_source_leaves_one_terminal() {
    for polls in 0..12 {
        let stage = Stage::new().await;
        let (run, strings) = stage.play("s").await;
        strings.finish().await;
        for _ in 0..polls {
            tokio::task::yield_now().await;
        }
        let stopped = stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
        let events = stage.follow(&run.id).await;
        check_whole(&events);
        let last = events.last().unwrap();
        assert_eq!(last["type"] == "run.stopped", stopped.stopped, "{polls}");
        if stopped.stopped {
            assert_eq!(last["source_outcome"]["type"], "run.finished");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_against_a_terminal_in_flight_is_false() {
    let (stage, journal) = Stage::holdable().await;
    let (run, strings) = stage.play("s").await;
    let hold = journal.hold();
    strings.finish().await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let stopping = stage.engine.stop_run(tenant(), &run.id, by_user_and_wait());
    let releasing = async {
        tokio::task::yield_now().await;
        drop(hold);
    };
    let (stopped, ()) = tokio::join!(stopping, releasing);
    let stopped = stopped.unwrap();
    assert_eq!((stopped.stopped, stopped.status), (false, Some(RunStatus::Finished)));
    check_whole(&stage.follow(&run.id).await);
}
