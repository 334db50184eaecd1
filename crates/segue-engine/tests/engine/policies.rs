//! K: what happens to a run that is started in a busy session.

use segue_core::{Inbound, Policy, RunError, RunId, RunStatus, StopReason};
use segue_engine::{AppendError, RunQuery, StartError, StartRun, StopRequest};
use segue_journal::{Epoch, Part};
use serde_json::{Value, json};

use super::{detached::by_user_and_wait, support::*};

/// The runs of session `s` that have not ended.
async fn active(stage: &Stage) -> Vec<String> {
    let session = stage.engine.session(tenant(), &session_id("s")).await.unwrap().unwrap();
    assert_eq!(session.status, if session.active_runs.is_empty() { "idle" } else { "busy" });
    session.active_runs.iter().map(ToString::to_string).collect()
}

/// A run's events, from its first to its terminal.
async fn ended(stage: &Stage, run: &str) -> Vec<Value> {
    let events = stage.follow(&run_id(run)).await;
    check_whole(&events);
    events
}

#[tokio::test(start_paused = true)]
async fn k10_a_replaced_run_saves_its_words_before_the_new_one_begins() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let old = stage.start_named("s", "old", Policy::Reject).await.unwrap();
    let mut strings = stage.puppet.strings(&old.id).await;
    strings.give(text("half")).await;
    let new = stage.start_named("s", "new", Policy::Replace).await.unwrap();
    assert_eq!((new.status, new.started_at), (RunStatus::Queued, None));
    strings.stopped.wait_for(Option::is_some).await.unwrap();
    assert_eq!(*strings.stopped.borrow(), Some(StopReason::Replaced));
    assert_eq!((stage.status(&old.id).await, stage.status(&new.id).await), ("stopping", "queued"));
    assert_eq!(active(&stage).await, ["old", "new"]);
    assert_eq!(*stage.puppet.starts.borrow(), 1, "the new one waits for the clean-up");
    strings.may_leave.send_replace(true);
    stage.puppet.strings(&new.id).await.finish().await;
    let (old, new) = (ended(&stage, "old").await, ended(&stage, "new").await);
    let last = old.last().unwrap();
    assert_eq!((&last["type"], &last["reason"]), (&json!("run.stopped"), &json!("replaced")));
    assert!(old.iter().any(|event| event["text"] == "last words"));
    assert_eq!(types(&new), ["run.queued", "run.started", "run.finished"]);
    assert!(last["at"].as_str() <= new[1]["at"].as_str());
    assert!(*strings.released.borrow());
}

#[tokio::test(start_paused = true)]
async fn k11_three_quick_starts_leave_the_last_and_no_clean_ups_overlap() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    stage.start_named("s", "a", Policy::Reject).await.unwrap();
    let mut first = stage.puppet.strings(&run_id("a")).await;
    for name in ["b", "c", "d"] {
        stage.start_named("s", name, Policy::Replace).await.unwrap();
    }
    for replaced in ["b", "c"] {
        let events = ended(&stage, replaced).await;
        assert_eq!(types(&events), ["run.queued", "run.stopped"]);
        assert_eq!(events[1]["reason"], "replaced");
    }
    assert_eq!(active(&stage).await, ["a", "d"]);
    assert_eq!(*stage.puppet.starts.borrow(), 1);
    first.may_leave.send_replace(true);
    let last = stage.puppet.strings(&run_id("d")).await;
    assert!(*first.released.borrow_and_update(), "the last begins after the first is gone");
    assert_eq!(*stage.puppet.starts.borrow(), 2, "nobody between them was started");
    last.finish().await;
    assert_eq!(ended(&stage, "d").await.last().unwrap()["type"], "run.finished");
    assert_eq!(active(&stage).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn k12_a_stop_of_a_waiting_run_ends_it_and_leaves_the_others() {
    let stage = Stage::new().await;
    stage.start_named("s", "a", Policy::Reject).await.unwrap();
    for name in ["b", "c"] {
        stage.start_named("s", name, Policy::Queue).await.unwrap();
    }
    let waiting = run_id("b");
    let following = stage.follow(&waiting);
    let stopping = stage.engine.stop_run(tenant(), &waiting, by_user_and_wait());
    let (events, stopped) = tokio::join!(following, stopping);
    let stopped = stopped.unwrap();
    assert_eq!((stopped.stopped, stopped.status), (true, Some(RunStatus::Stopped)));
    check_whole(&events);
    assert_eq!(types(&events), ["run.queued", "run.stopped"], "who follows it wakes");
    assert_eq!(active(&stage).await, ["a", "c"], "and nothing of it is left");
    stage.puppet.strings(&run_id("a")).await.finish().await;
    stage.puppet.strings(&run_id("c")).await.finish().await;
    ended(&stage, "c").await;
    assert_eq!(*stage.puppet.starts.borrow(), 2);
}

#[tokio::test(start_paused = true)]
async fn k14_a_replacement_that_cannot_be_created_leaves_the_old_run() {
    let stage = Stage::new().await;
    stage.start_named("s", "old", Policy::Reject).await.unwrap();
    let strings = stage.puppet.strings(&run_id("old")).await;
    let request = StartRun {
        session: Some(session_id("s")),
        policy: Policy::Replace,
        ..StartRun::of(agent("puppet"))
    };
    let large = StartRun { input: json!("x".repeat(5000)), ..request.clone() };
    let unknown = StartRun { agent: Some(agent("nobody")), ..request.clone() };
    for refused in [large, unknown] {
        stage.engine.start(tenant(), refused).await.unwrap_err();
    }
    let elsewhere = StartRun { session: None, run: Some(run_id("used")), ..request.clone() };
    stage.engine.start(tenant(), elsewhere).await.unwrap();
    let used = StartRun { run: Some(run_id("used")), ..request };
    assert_eq!(stage.engine.start(tenant(), used).await.unwrap_err(), StartError::RunExists);
    strings.give(text("still here")).await;
    stage.sees(&run_id("old"), "text.delta").await;
    assert_eq!(stage.status(&run_id("old")).await, "running");
    assert_eq!(active(&stage).await, ["old"]);
}

#[tokio::test(start_paused = true)]
async fn k15_queued_runs_come_in_order_and_a_session_stop_clears_the_queue() {
    let stage = Stage::new().await;
    for name in ["a", "b", "c", "d"] {
        let policy = if name == "a" { Policy::Reject } else { Policy::Queue };
        stage.start_named("s", name, policy).await.unwrap();
    }
    assert_eq!(active(&stage).await, ["a", "b", "c", "d"]);
    let queued = RunQuery { status: Some(RunStatus::Queued), ..RunQuery::default() };
    let listed = stage.engine.runs(tenant(), queued).await.unwrap().data;
    assert_eq!(listed.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["d", "c", "b"]);
    stage.puppet.strings(&run_id("a")).await.finish().await;
    let strings = stage.puppet.strings(&run_id("b")).await;
    stage.sees(&run_id("b"), "run.started").await;
    let view = stage.engine.run(tenant(), &run_id("b")).await.unwrap().unwrap();
    assert_eq!(view.status, RunStatus::Running);
    assert!(view.started_at > Some(view.created_at));
    let session = session_id("s");
    let stop = stage.engine.stop_session(tenant(), &session, None, by_user_and_wait());
    let stopped = stop.await.unwrap();
    assert_eq!((stopped.stopped, stopped.status), (true, Some(RunStatus::Stopped)));
    for (run, first) in [("b", "run.queued"), ("c", "run.queued"), ("d", "run.queued")] {
        let events = ended(&stage, run).await;
        assert_eq!((types(&events)[0], &events.last().unwrap()["reason"]), (first, &json!("user")));
    }
    assert_eq!(*stage.puppet.starts.borrow(), 2, "c and d were never started");
    assert_eq!(*strings.stopped.borrow(), Some(StopReason::User));
    let stored = stage.engine.run(tenant(), &run_id("b")).await.unwrap().unwrap();
    assert_eq!((stored.created_at, stored.started_at), (view.created_at, view.started_at));
}

#[tokio::test(start_paused = true)]
async fn parallel_runs_are_waited_for_by_those_that_queue() {
    let stage = Stage::new().await;
    stage.start_named("s", "a", Policy::Reject).await.unwrap();
    let beside = stage.start_named("s", "b", Policy::Parallel).await.unwrap();
    assert_eq!(beside.status, RunStatus::Running);
    stage.start_named("s", "c", Policy::Queue).await.unwrap();
    stage.puppet.strings(&run_id("a")).await.finish().await;
    ended(&stage, "a").await;
    assert_eq!(stage.status(&run_id("c")).await, "queued");
    stage.puppet.strings(&run_id("b")).await.finish().await;
    stage.puppet.strings(&run_id("c")).await.finish().await;
    ended(&stage, "c").await;
}

#[tokio::test(start_paused = true)]
async fn any_policy_starts_at_once_in_an_idle_session() {
    let stage = Stage::new().await;
    for (name, policy) in [
        ("a", Policy::Reject),
        ("b", Policy::Queue),
        ("c", Policy::Replace),
        ("d", Policy::Parallel),
    ] {
        let run = stage.start_named("s", name, policy).await.unwrap();
        assert_eq!(run.status, RunStatus::Running, "{policy:?}");
        stage.puppet.strings(&run.id).await.finish().await;
        assert_eq!(types(&ended(&stage, name).await), ["run.started", "run.finished"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_it_does_not_keep_a_queued_run_from_beginning() {
    let stage = Stage::new().await;
    stage.start_named("s", "a", Policy::Reject).await.unwrap();
    stage.start_named("s", "b", Policy::Queue).await.unwrap();
    let error = Inbound::Failed(RunError::new("upstream", "no"));
    stage.puppet.strings(&run_id("a")).await.pull(Pull::Give(error)).await;
    stage.puppet.strings(&run_id("b")).await.pull(Pull::Panic).await;
    assert_eq!(ended(&stage, "a").await.last().unwrap()["type"], "run.failed");
    assert_eq!(ended(&stage, "b").await.last().unwrap()["type"], "run.failed");
}

/// A push run that was replaced, and the one that replaced it.
async fn replaced_push(stage: &Stage) -> (RunId, RunId) {
    let request = |name: &str, policy| StartRun {
        session: Some(session_id("s")),
        run: Some(run_id(name)),
        policy,
        ..StartRun::of(agent("push"))
    };
    stage.engine.start(tenant(), request("old", Policy::Reject)).await.unwrap();
    stage.engine.start(tenant(), request("new", Policy::Replace)).await.unwrap();
    (run_id("old"), run_id("new"))
}

#[tokio::test(start_paused = true)]
async fn k18_a_late_writer_of_a_replaced_run_is_refused() {
    let stage = Stage::new().await;
    let (old, new) = replaced_push(&stage).await;
    let early = stage.engine.append(tenant(), &new, vec![text("too early")], None).await;
    assert_eq!(early.err(), Some(AppendError::NotStarted));
    // Its grace: last words are taken, and the answer says that it is to stop.
    let words = stage.engine.append(tenant(), &old, vec![text("last words")], claim(0)).await;
    assert!(words.unwrap().await.unwrap().stop_requested);
    stage.engine.until_started(tenant(), &new).await.unwrap();
    let late = stage.engine.append(tenant(), &old, vec![text("late")], claim(1)).await;
    assert_eq!(late.err(), Some(AppendError::RunEnded));
    // A writer that knows the journal but not the run's end comes with the old epoch.
    let part = Part::append(Stage::stream(&old), Epoch(1), vec!["late".into()]);
    let permit = stage.journal.reserve(&Stage::stream(&old), 4).await.unwrap();
    let fenced = stage.journal.submit(permit, segue_journal::Batch { parts: vec![part] }).await;
    let error = fenced.unwrap_err();
    assert!(matches!(error, segue_journal::AppendError::StaleEpoch { .. }), "{error}");
    let events = ended(&stage, "old").await;
    assert_eq!(events.last().unwrap()["reason"], "replaced");
    assert!(!events.iter().any(|event| event["text"] == "late"));
    stage.append(&new, "mine").await;
}

#[tokio::test(start_paused = true)]
async fn a_queued_push_run_has_its_whole_lease_when_it_begins() {
    let stage = Stage::new().await;
    let (_, new) = replaced_push(&stage).await;
    // The old one is silent: it ends with its grace, after 10 s of the lease of 60 s.
    stage.engine.until_started(tenant(), &new).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(59)).await;
    stage.append(&new, "in time").await;
    let events = stage.follow(&new).await;
    assert_eq!(events.last().unwrap()["cause"], "lease_lost");
}

#[tokio::test(start_paused = true)]
async fn k17_a_session_is_busy_until_the_clean_up_is_over_or_its_time_is() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    stage.start_named("s", "old", Policy::Reject).await.unwrap();
    let mut strings = stage.puppet.strings(&run_id("old")).await;
    stage.engine.stop_run(tenant(), &run_id("old"), StopRequest::by_user()).await.unwrap();
    assert_eq!(active(&stage).await, ["old"]);
    let refused = stage.start_named("s", "new", Policy::Reject).await.unwrap_err();
    assert_eq!(refused, StartError::Busy(run_id("old")));
    // The worker never leaves: when its time is over it is dropped, and not before.
    assert!(!*strings.released.borrow());
    let before = tokio::time::Instant::now();
    strings.is_released().await;
    assert_eq!(before.elapsed().as_secs(), 10);
    ended(&stage, "old").await;
    let new = stage.start_named("s", "new", Policy::Reject).await.unwrap();
    assert_eq!(new.status, RunStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn k17_a_worker_that_is_alive_is_never_taken_for_a_dead_one() {
    let stage = Stage::new().await;
    stage.start_named("s", "old", Policy::Reject).await.unwrap();
    let strings = stage.puppet.strings(&run_id("old")).await;
    tokio::time::advance(std::time::Duration::from_hours(24)).await;
    let refused = stage.start_named("s", "new", Policy::Reject).await.unwrap_err();
    assert_eq!(refused, StartError::Busy(run_id("old")));
    strings.finish().await;
    ended(&stage, "old").await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_a_run_that_is_open() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let first = stage.play("s").await;
    let second = stage.start_named("s", "second", Policy::Parallel).await.unwrap();
    first.1.finish().await;
    stage.follow(&first.0.id).await;
    let refused = stage.start_named("s", "third", Policy::Reject).await;
    assert_eq!(refused.err(), Some(StartError::Busy(second.id)));
}

#[tokio::test(start_paused = true)]
async fn queued_runs_that_are_being_stopped_are_listed_as_such() {
    let (stage, journal) = Stage::holdable().await;
    stage.play("s").await;
    let waits = stage.start_named("s", "waits", Policy::Queue).await.unwrap();
    let hold = journal.hold();
    let stop = StopRequest::by_user();
    let stopped = stage.engine.stop_run(tenant(), &waits.id, stop);
    let listed = async {
        let query = || RunQuery { status: Some(RunStatus::Stopping), ..RunQuery::default() };
        loop {
            let runs = stage.engine.runs(tenant(), query()).await.unwrap().data;
            match runs.first() {
                Some(run) => break drop((hold, assert_eq!(run.id, waits.id))),
                None => tokio::task::yield_now().await,
            }
        }
    };
    let (stopped, ()) = tokio::join!(stopped, listed);
    assert!(stopped.unwrap().stopped);
}
