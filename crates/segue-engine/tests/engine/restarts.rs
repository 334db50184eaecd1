//! Runs that asked to go on after a restart, and the line they stand in.

use segue_core::{Limits, OnRestart, Policy, RunStatus};
use segue_engine::{AppendError, StartError, StartRun};
use segue_journal::{ProducerClaim, disk::FaultyDisk};
use serde_json::{Value, json};

use super::{faults::open_log, recovery::restart, support::*};

fn queued(name: &str, on_restart: Option<OnRestart>) -> StartRun {
    StartRun {
        session: Some(session_id("s")),
        run: Some(run_id(name)),
        policy: Policy::Queue,
        on_restart,
        input: json!(name),
        metadata: json!({"of": name}),
        ..StartRun::of(agent("puppet"))
    }
}

fn awaiting(name: &str) -> StartRun {
    let on_restart = Some(OnRestart::Await);
    StartRun { on_restart, ..StartRun { agent: Some(agent("push")), ..queued(name, None) } }
}

async fn start(stage: &Stage, request: StartRun) {
    stage.engine.start(tenant(), request).await.unwrap();
}

/// `a` at work, `b`, `c` and `d` behind it; `b` and `d` are to be started after a restart.
async fn line(stage: &Stage) {
    start(stage, queued("a", None)).await;
    start(stage, queued("b", Some(OnRestart::Start))).await;
    start(stage, queued("c", None)).await;
    start(stage, queued("d", Some(OnRestart::Start))).await;
}

/// `b` and `d` are started in their order, with what they were asked with.
async fn goes_on(after: &Stage) {
    assert_eq!(after.status(&run_id("d")).await, "queued");
    start(after, queued("e", None)).await;
    let mut order = Vec::new();
    for name in ["b", "d", "e"] {
        after.puppet.strings(&run_id(name)).await.finish().await;
        let events = after.follow(&run_id(name)).await;
        check_whole(&events);
        assert_eq!(types(&events), ["run.queued", "run.started", "run.finished"]);
        assert_eq!(events[1]["input"], name);
        assert!(events[1].get("restart").is_none(), "it stands in the first event only");
        order.push(events[1]["at"].as_str().unwrap().to_owned());
        let view = after.engine.run(tenant(), &run_id(name)).await.unwrap().unwrap();
        assert_eq!(view.metadata, json!({"of": name}));
    }
    assert!(order.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn queued_runs_are_interrupted_unless_they_asked_to_be_started() {
    let stage = Stage::new().await;
    line(&stage).await;
    let after = restart(&stage).await;
    for name in ["a", "c"] {
        let events = after.follow(&run_id(name)).await;
        check_whole(&events);
        assert_eq!(events.last().unwrap()["cause"], "restart");
    }
    goes_on(&after).await;
}

#[tokio::test(start_paused = true)]
async fn a_queued_run_survives_any_number_of_restarts() {
    let stage = Stage::new().await;
    // Its producer is awaited, so that the others wait on.
    start(&stage, awaiting("a")).await;
    start(&stage, queued("b", Some(OnRestart::Start))).await;
    start(&stage, queued("d", Some(OnRestart::Start))).await;
    let after = restart(&restart(&restart(&stage).await).await).await;
    assert_eq!(after.status(&run_id("b")).await, "queued");
    assert_eq!(*after.puppet.starts.borrow(), 0);
    let finished = segue_core::Event::build(&json!({"type": "run.finished"}));
    after.engine.append(tenant(), &run_id("a"), vec![finished], None).await.unwrap().await.unwrap();
    goes_on(&after).await;
}

#[tokio::test]
async fn an_orderly_shutdown_leaves_them_as_a_crash_does() {
    let disk = FaultyDisk::new(7);
    let stage = Stage::over(open_log(&disk, 1 << 20), Puppet::new(true)).await;
    line(&stage).await;
    let producing = StartRun { session: Some(session_id("t")), ..awaiting("p") };
    start(&stage, producing).await;
    let report = stage.engine.shutdown(MINUTE).await;
    assert_eq!(report.left_running, 0);
    let refused = stage.engine.append(tenant(), &run_id("p"), vec![text("x")], None).await;
    assert_eq!(refused.err(), Some(AppendError::Unavailable), "it has not ended");
    assert_eq!(*stage.puppet.starts.borrow(), 1, "nothing begins while it goes down");
    drop(stage);
    let after = Stage::over(open_log(&disk, 1 << 20), Puppet::new(true)).await;
    for name in ["a", "c"] {
        assert_eq!(after.follow(&run_id(name)).await.last().unwrap()["reason"], "shutdown");
    }
    assert_eq!(after.status(&run_id("p")).await, "running");
    goes_on(&after).await;
}

fn epoch(epoch: u64) -> Option<ProducerClaim> {
    claim(0).map(|claim| ProducerClaim { epoch, ..claim })
}

#[tokio::test(start_paused = true)]
async fn an_awaited_producer_goes_on_with_a_higher_epoch() {
    let stage = Stage::new().await;
    start(&stage, awaiting("p")).await;
    let run = run_id("p");
    let append = async |stage: &Stage, words: &str, claim| {
        stage.engine.append(tenant(), &run, vec![text(words)], claim).await?.await
    };
    append(&stage, "before", epoch(0)).await.unwrap();
    let after = restart(&stage).await;
    let view = after.engine.run(tenant(), &run).await.unwrap().unwrap();
    assert_eq!((view.status, &view.metadata), (RunStatus::Running, &json!({"of": "p"})));
    append(&after, "after", epoch(1)).await.unwrap();
    let refused = append(&after, "stale", epoch(0)).await.unwrap_err();
    assert_eq!(refused, AppendError::StaleProducer { current: 1 });
    let events = after.follow(&run).await;
    check_whole(&events);
    let words: Vec<&Value> = events.iter().filter_map(|event| event.get("text")).collect();
    assert_eq!(words, ["before", "after"]);
    assert_eq!(events.last().unwrap()["cause"], "lease_lost", "it is awaited for one lease");
}

#[tokio::test(start_paused = true)]
async fn an_awaited_run_keeps_its_limits() {
    let stage = Stage::new().await;
    let limits = Limits { wall_clock_s: 50, lease_s: 0, ..Limits::default() };
    start(&stage, StartRun { limits, ..awaiting("p") }).await;
    let after = restart(&stage).await;
    let events = after.follow(&run_id("p")).await;
    assert_eq!(events.last().unwrap()["reason"], "wall_clock");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_go_on_is_interrupted_or_refused() {
    let stage = Stage::new().await;
    // At work, and so not to be started again.
    start(&stage, queued("a", Some(OnRestart::Start))).await;
    let of_puppet = StartRun { on_restart: Some(OnRestart::Await), ..queued("b", None) };
    let refused = stage.engine.start(tenant(), of_puppet).await.unwrap_err();
    assert_eq!(refused, StartError::AwaitNeedsPush);
    // Queued, and so nobody's producer can have been cut off.
    start(&stage, awaiting("c")).await;
    let after = restart(&stage).await;
    for name in ["a", "c"] {
        let events = after.follow(&run_id(name)).await;
        check_whole(&events);
        assert_eq!(events.last().unwrap()["cause"], "restart");
    }
}
