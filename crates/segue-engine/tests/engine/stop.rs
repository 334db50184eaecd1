//! K: stops.

use segue_core::{RunStatus, StopReason};
use segue_engine::{StartError, StartRun, StopError, StopRequest};

use super::{detached::by_user_and_wait, support::*};

#[tokio::test(start_paused = true)]
async fn k01_a_stop_cleans_up_and_ends_stopped() {
    let stage = Stage::new().await;
    let (run, mut strings) = stage.play("s").await;
    strings.give(text("half")).await;
    let stopped = stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    assert_eq!((stopped.stopped, stopped.status), (true, Some(RunStatus::Stopped)));
    strings.is_released().await;
    assert_eq!(*strings.stopped.borrow(), Some(StopReason::User));
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["reason"], "user");
}

#[tokio::test(start_paused = true)]
async fn k03_of_two_stops_the_second_is_false() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let (run, strings) = stage.play("s").await;
    let stop = || stage.engine.stop_run(tenant(), &run.id, StopRequest::by_user());
    assert!(stop().await.unwrap().stopped);
    let second = stop().await.unwrap();
    assert_eq!((second.stopped, second.status), (false, Some(RunStatus::Stopping)));
    strings.may_leave.send_replace(true);
    check_whole(&stage.follow(&run.id).await);
    let third = stop().await.unwrap();
    assert_eq!((third.stopped, third.status), (false, Some(RunStatus::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn k04_a_stop_of_another_run_leaves_the_current_one() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let session = session_id("s");
    let other = run_id("other");
    let stop = stage.engine.stop_session(tenant(), &session, Some(&other), StopRequest::by_user());
    let stopped = stop.await.unwrap();
    assert_eq!((stopped.stopped, stopped.status), (false, None));
    strings.give(text("still here")).await;
    stage.sees(&run.id, "text.delta").await;
    let stop = stage.engine.stop_session(tenant(), &session, Some(&run.id), by_user_and_wait());
    assert!(stop.await.unwrap().stopped);
}

#[tokio::test(start_paused = true)]
async fn k09_stop_and_wait_returns_after_clean_up_or_at_its_deadline() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let (run, mut strings) = stage.play("s").await;
    let wait = Some(std::time::Duration::from_secs(2));
    let request = StopRequest { wait, ..StopRequest::by_user() };
    let hasty = stage.engine.stop_run(tenant(), &run.id, request).await.unwrap();
    assert_eq!((hasty.stopped, hasty.status), (true, Some(RunStatus::Stopping)));
    assert!(!*strings.released.borrow());
    strings.may_leave.send_replace(true);
    let patient = stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    assert_eq!((patient.stopped, patient.status), (false, Some(RunStatus::Stopped)));
    strings.is_released().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_leave_is_dropped_after_its_grace() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let (run, mut strings) = stage.play("s").await;
    let stopped = stage.engine.stop_run(tenant(), &run.id, by_user_and_wait()).await.unwrap();
    assert_eq!(stopped.status, Some(RunStatus::Stopped));
    strings.is_released().await;
    check_whole(&stage.follow(&run.id).await);
}

#[tokio::test(start_paused = true)]
async fn k13_a_stop_before_the_first_poll_still_cleans_up() {
    let stage = Stage::over(small_journal(), Puppet::new(false)).await;
    // The door is shut, so that the start waits while the engine begins to go down.
    let full = stage.journal.reserve(&Stage::stream(&run_id("other")), SMALL).await.unwrap();
    let start = async {
        let request = StartRun { run: Some(run_id("mine")), ..StartRun::of(agent("puppet")) };
        stage.engine.start(tenant(), request).await.unwrap().run
    };
    let shutdown = async {
        let opening = async {
            while stage.engine.is_ready() {
                tokio::task::yield_now().await;
            }
            drop(full);
        };
        tokio::join!(stage.engine.shutdown(MINUTE), opening).0
    };
    let (run, report) = tokio::join!(start, shutdown);
    assert_eq!(report.left_running, 0);
    let mut strings = stage.puppet.strings(&run.id).await;
    strings.is_released().await;
    assert_eq!(*strings.stopped.borrow(), None, "it was never polled");
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["reason"], "shutdown");
}

#[tokio::test(start_paused = true)]
async fn k16_a_busy_session_refuses_a_second_run() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let request = || StartRun { session: Some(session_id("s")), ..StartRun::of(agent("puppet")) };
    let refused = stage.engine.start(tenant(), request()).await.unwrap_err();
    assert_eq!(refused, StartError::Busy(run.id.clone()));
    strings.finish().await;
    check_whole(&stage.follow(&run.id).await);
    let seated = stage.engine.start(tenant(), request()).await;
    assert_ne!(seated.unwrap().run.id, run.id);
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_a_run_that_is_being_started_stops_it() {
    let stage = Stage::over(small_journal(), Puppet::new(true)).await;
    let full = stage.journal.reserve(&Stage::stream(&run_id("other")), SMALL).await.unwrap();
    let start = async {
        let request = StartRun { run: Some(run_id("mine")), ..StartRun::of(agent("puppet")) };
        stage.engine.start(tenant(), request).await.unwrap().run
    };
    let mine = run_id("mine");
    let stop = stage.engine.stop_run(tenant(), &mine, by_user_and_wait());
    let open = async {
        // The start and the stop are both under way by now.
        tokio::task::yield_now().await;
        drop(full);
    };
    let (_, stopped, ()) = tokio::join!(start, stop, open);
    let stopped = stopped.unwrap();
    assert_eq!((stopped.stopped, stopped.status), (true, Some(RunStatus::Stopped)));
    check_whole(&stage.follow(&mine).await);
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_a_session_that_does_not_exist_says_so() {
    let stage = Stage::new().await;
    let session = session_id("none");
    let stop = stage.engine.stop_session(tenant(), &session, None, StopRequest::by_user()).await;
    assert_eq!(stop, Err(StopError::NotFound));
}
