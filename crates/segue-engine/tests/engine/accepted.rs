//! Stops that are accepted while the journal takes its time, and that outlive a crash.

use segue_core::{OnRestart, Policy, RunStatus, StopReason};
use segue_engine::{AppendError, Engine, StartRun, StopError, StopRequest, Stopped};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{detached::by_user_and_wait, recovery::restart, support::*};

const ACCEPTED: Stopped =
    Stopped { stopped: true, status: Some(RunStatus::Stopped), pending: false };

/// Lets everything go on as far as it can without time.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn request(run: &str, name: &str, policy: Policy) -> StartRun {
    StartRun {
        session: Some(session_id("s")),
        run: Some(run_id(run)),
        policy,
        ..StartRun::of(agent(name))
    }
}

#[expect(clippy::disallowed_methods, reason = "awaited by the test")]
fn start(stage: &Stage, request: StartRun) -> JoinHandle<segue_engine::RunView> {
    let engine: Engine = stage.engine.clone();
    tokio::spawn(async move { engine.start(tenant(), request).await.unwrap().run })
}

#[expect(clippy::disallowed_methods, reason = "awaited by the test")]
fn stop(stage: &Stage, run: &str, request: StopRequest) -> JoinHandle<Result<Stopped, StopError>> {
    let (engine, run) = (stage.engine.clone(), run_id(run));
    tokio::spawn(async move { engine.stop_run(tenant(), &run, request).await })
}

#[tokio::test(start_paused = true)]
async fn k05_a_stop_of_a_start_that_hangs_is_pending_and_kept() {
    let (stage, journal) = Stage::holdable().await;
    let hold = journal.hold();
    let starting = start(&stage, request("mine", "puppet", Policy::Reject));
    settle().await;
    for _ in 0..3 {
        let stopped = stop(&stage, "mine", StopRequest::by_user()).await.unwrap().unwrap();
        assert_eq!(stopped, Stopped { stopped: false, status: None, pending: true });
    }
    drop(hold);
    starting.await.unwrap();
    let events = stage.follow(&run_id("mine")).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["reason"], "user");
    assert_eq!(*stage.puppet.starts.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn k05_a_stop_while_the_run_is_being_written_ends_it_before_its_source_is_started() {
    for (policy, first) in [(Policy::Parallel, "run.started"), (Policy::Replace, "run.queued")] {
        let (stage, journal) = Stage::holdable().await;
        stage.start_named("s", "old", Policy::Reject).await.unwrap();
        let _held = stage.puppet.strings(&run_id("old")).await;
        let hold = journal.hold();
        let starting = start(&stage, request("mine", "puppet", policy));
        settle().await;
        let stops = [0, 1].map(|_| stop(&stage, "mine", by_user_and_wait()));
        settle().await;
        let early = stage.engine.append(tenant(), &run_id("mine"), vec![text("x")], None).await;
        assert_eq!(early.err(), Some(AppendError::Retry), "it may exist in a moment");
        drop(hold);
        starting.await.unwrap();
        let mut accepted = 0;
        for stopped in stops {
            let stopped = stopped.await.unwrap().unwrap();
            assert_eq!(stopped.status, Some(RunStatus::Stopped));
            accepted += usize::from(stopped.stopped);
        }
        assert_eq!(accepted, 1);
        let events = stage.follow(&run_id("mine")).await;
        check_whole(&events);
        assert_eq!(types(&events), [first, "run.stopped"]);
        assert_eq!(*stage.puppet.starts.borrow(), 1);
        assert_eq!(stage.status(&run_id("old")).await, "running", "it replaces nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn k12_a_waiting_run_takes_nothing_while_its_end_is_being_written() {
    let (stage, journal) = Stage::holdable().await;
    for name in ["old", "new"] {
        start(&stage, request(name, "push", Policy::Queue)).await.unwrap();
    }
    let hold = journal.hold();
    let stopping = stop(&stage, "new", by_user_and_wait());
    settle().await;
    for _ in 0..2 {
        let refused = stage.engine.append(tenant(), &run_id("new"), vec![text("x")], None).await;
        assert_eq!(refused.err(), Some(AppendError::NotStarted));
    }
    drop(hold);
    assert_eq!(stopping.await.unwrap().unwrap(), ACCEPTED);
    assert_eq!(types(&stage.follow(&run_id("new")).await), ["run.queued", "run.stopped"]);
}

#[tokio::test(start_paused = true)]
async fn k12_a_stop_of_a_waiting_run_is_answered_when_its_end_is_durable() {
    let (stage, journal) = Stage::holdable().await;
    start(&stage, request("old", "puppet", Policy::Reject)).await.unwrap();
    let on_restart = Some(OnRestart::Start);
    let waiting = StartRun { on_restart, ..request("new", "puppet", Policy::Queue) };
    start(&stage, waiting).await.unwrap();
    let hold = journal.hold();
    let stopping = stop(&stage, "new", StopRequest::by_user());
    settle().await;
    assert!(!stopping.is_finished(), "a crash now would begin it");
    assert_eq!(stage.status(&run_id("new")).await, "stopping");
    drop(hold);
    assert!(stopping.await.unwrap().unwrap().stopped);
    let after = restart(&stage).await;
    assert_eq!(after.status(&run_id("new")).await, "stopped");
    assert_eq!(types(&after.follow(&run_id("new")).await), ["run.queued", "run.stopped"]);
}

#[tokio::test(start_paused = true)]
async fn an_accepted_stop_of_an_awaited_run_outlives_a_crash() {
    let (stage, journal) = Stage::holdable().await;
    let on_restart = Some(OnRestart::Await);
    start(&stage, StartRun { on_restart, ..request("p", "push", Policy::Reject) }).await.unwrap();
    stage.append(&run_id("p"), "half").await;
    let hold = journal.hold();
    let by = Some("tab".to_owned());
    let stopping = stop(&stage, "p", StopRequest { by, ..StopRequest::by_user() });
    settle().await;
    assert!(!stopping.is_finished(), "a crash now would forget it");
    drop(hold);
    let stopped = stopping.await.unwrap().unwrap();
    assert_eq!((stopped.stopped, stopped.status), (true, Some(RunStatus::Stopping)));
    // Its grace: it still takes last words, and a second stop changes nothing.
    stage.append(&run_id("p"), "last words").await;
    assert!(!stop(&stage, "p", StopRequest::by_user()).await.unwrap().unwrap().stopped);
    let after = restart(&stage).await;
    let events = after.follow(&run_id("p")).await;
    check_whole(&events);
    let expected = ["run.started", "text.start", "text.delta", "run.stopping", "text.delta"];
    assert_eq!(types(&events)[..5], expected);
    let last = events.last().unwrap();
    assert_eq!((&last["reason"], &last["by"]), (&json!("user"), &json!("tab")));
    let view = after.engine.run(tenant(), &run_id("p")).await.unwrap().unwrap();
    assert_eq!((view.status, view.reason), (RunStatus::Stopped, Some(StopReason::User)));
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_place_before_it_to_be_durable() {
    let (stage, journal) = Stage::holdable().await;
    let hold = journal.hold();
    let first = start(&stage, request("a", "puppet", Policy::Reject));
    settle().await;
    let second = start(&stage, request("b", "puppet", Policy::Queue));
    settle().await;
    let session = stage.engine.session(tenant(), &session_id("s")).await.unwrap();
    assert!(session.is_none() && !first.is_finished() && !second.is_finished());
    drop(hold);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.status, second.status), (RunStatus::Running, RunStatus::Queued));
    let session = stage.engine.session(tenant(), &session_id("s")).await.unwrap().unwrap();
    assert_eq!(session.active_runs, [run_id("a"), run_id("b")]);
}
