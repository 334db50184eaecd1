//! N: going down in order.

use std::time::Duration;

use segue_core::Policy;
use segue_engine::{StartError, StartRun};

use super::support::*;

#[tokio::test(start_paused = true)]
async fn n02_running_runs_are_stopped_with_reason_shutdown() {
    let stage = Stage::new().await;
    let (driven, strings) = stage.play("a").await;
    strings.give(text("partial")).await;
    stage.sees(&driven.id, "text.delta").await;
    let pushed = stage.push("b").await;
    let report = stage.engine.shutdown(MINUTE).await;
    assert_eq!((report.left_running, report.views_flushed), (0, true));
    for run in [&driven.id, &pushed.id] {
        let events = stage.follow(run).await;
        check_whole(&events);
        assert_eq!(events.last().unwrap()["reason"], "shutdown");
    }
    assert!(types(&stage.follow(&driven.id).await).contains(&"text.delta"), "the partial is kept");
}

#[tokio::test(start_paused = true)]
async fn n03_a_replaced_run_that_cleans_up_is_waited_for() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    stage.start_named("s", "old", Policy::Reject).await.unwrap();
    let mut strings = stage.puppet.strings(&run_id("old")).await;
    stage.start_named("s", "new", Policy::Replace).await.unwrap();
    strings.stopped.wait_for(Option::is_some).await.unwrap();
    let report = stage.engine.shutdown(MINUTE).await;
    assert_eq!(report.left_running, 0);
    assert!(*strings.released.borrow(), "its clean-up is over");
    for (run, reason) in [("old", "replaced"), ("new", "shutdown")] {
        let events = stage.follow(&run_id(run)).await;
        check_whole(&events);
        assert_eq!(events.last().unwrap()["reason"], reason);
    }
    assert_eq!(*stage.puppet.starts.borrow(), 1);
}

#[tokio::test(start_paused = true)]
async fn n04_a_hung_run_is_left_to_the_next_start() {
    let journal = small_journal();
    let stage = Stage::over(journal.clone(), Puppet::new(true)).await;
    let (hung, _strings) = stage.play("a").await;
    // Its end hangs at the door for longer than the budget; the journal itself stays open here.
    let full = journal.reserve(&Stage::stream(&run_id("other")), SMALL).await.unwrap();
    let stops = (0..20).map(|_| {
        let stop = segue_engine::StopRequest::by_user();
        tokio::time::timeout(
            Duration::from_millis(1),
            stage.engine.stop_run(tenant(), &hung.id, stop),
        )
    });
    futures_util::future::join_all(stops).await;
    assert_eq!(stage.engine.shutdown(Duration::from_secs(2)).await.left_running, 1);
    drop(full);
    assert!(!stage.engine.status(tenant(), &hung.id).unwrap().is_terminal());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_leave_does_not_hang_the_shutdown() {
    let journal = memory_journal();
    let puppet = Puppet::new(false);
    let stage = Stage::over(journal.clone(), puppet).await;
    let (hung, _strings) = stage.play("a").await;
    // The source never leaves; its grace is cut to half of the budget, then it is dropped.
    let report = stage.engine.shutdown(Duration::from_secs(2)).await;
    assert_eq!(report.left_running, 0);
    let events = stage.follow(&hung.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["reason"], "shutdown");
}

#[tokio::test(start_paused = true)]
async fn n05_later_phases_run_although_an_earlier_one_failed() {
    let stage = Stage::over(small_journal(), Puppet::new(true)).await;
    let (_run, _strings) = stage.play("a").await;
    // Nothing fits through the door, so the run's end cannot be written in time.
    let _full = stage.journal.reserve(&Stage::stream(&run_id("other")), SMALL).await.unwrap();
    let report = stage.engine.shutdown(Duration::from_secs(2)).await;
    assert_eq!((report.left_running, report.views_flushed), (1, true));
    let refused = stage.journal.reserve(&Stage::stream(&run_id("other")), 1).await;
    assert!(refused.is_err(), "the journal was closed all the same");
}

#[tokio::test(start_paused = true)]
async fn n06_a_start_during_shutdown_is_refused_by_type() {
    let stage = Stage::new().await;
    stage.engine.shutdown(MINUTE).await;
    let refused = stage.engine.start(tenant(), StartRun::of(agent("puppet"))).await;
    assert_eq!(refused.unwrap_err(), StartError::ShuttingDown);
    assert!(!stage.engine.is_ready());
    let again = stage.engine.shutdown(MINUTE).await;
    assert_eq!(again.left_running, 0);
}
