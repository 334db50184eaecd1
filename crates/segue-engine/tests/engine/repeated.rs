//! E10: a start that is sent again.

use segue_core::{Policy, RunStatus};
use segue_engine::{RunQuery, StartError, StartKey, StartRun, Started};
use serde_json::json;

use super::{detached::by_user_and_wait, recovery::restart, support::*};

fn keyed(key: &str) -> StartRun {
    let principal = "local".to_owned();
    StartRun {
        session: Some(session_id("s")),
        input: json!("hello"),
        key: Some(StartKey { principal, key: key.into() }),
        ..StartRun::of(agent("push"))
    }
}

async fn start(stage: &Stage, request: StartRun) -> Result<Started, StartError> {
    stage.engine.start(tenant(), request).await
}

#[tokio::test(start_paused = true)]
async fn e10_the_same_key_means_the_same_run_alive_and_ended() {
    let stage = Stage::new().await;
    let first = start(&stage, keyed("k")).await.unwrap();
    assert!(first.is_new);
    let again = start(&stage, keyed("k")).await.unwrap();
    assert_eq!((again.is_new, &again.run.id), (false, &first.run.id));
    assert_eq!(again.run.status, RunStatus::Running);
    stage.engine.stop_run(tenant(), &first.run.id, by_user_and_wait()).await.unwrap();
    let ended = start(&stage, keyed("k")).await.unwrap();
    assert_eq!((ended.is_new, ended.run.status), (false, RunStatus::Stopped));
    assert_eq!(ended.run.id, first.run.id);
    let other = start(&stage, keyed("k2")).await.unwrap();
    assert!(other.is_new && other.run.id != first.run.id);
}

#[tokio::test(start_paused = true)]
async fn e10_a_key_holds_over_a_restart() {
    let stage = Stage::new().await;
    let first = start(&stage, keyed("k")).await.unwrap();
    let after = restart(&stage).await;
    let again = start(&after, keyed("k")).await.unwrap();
    assert_eq!((again.is_new, &again.run.id), (false, &first.run.id));
    assert_eq!(again.run.status, RunStatus::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn e10_another_request_under_the_same_key_is_refused() {
    let stage = Stage::new().await;
    let first = start(&stage, keyed("k")).await.unwrap();
    let base = || keyed("k");
    for other in [
        StartRun { input: json!("bye"), ..base() },
        StartRun { policy: Policy::Queue, ..base() },
        StartRun { metadata: json!({"a": 1}), ..base() },
        StartRun { run: Some(run_id("mine")), ..base() },
    ] {
        let refused = start(&stage, other).await.unwrap_err();
        assert_eq!(refused, StartError::Different(first.run.id.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn e10_a_key_is_of_its_session_and_its_principal() {
    let stage = Stage::new().await;
    let first = start(&stage, keyed("k")).await.unwrap();
    let elsewhere = StartRun { session: Some(session_id("t")), ..keyed("k") };
    assert!(start(&stage, elsewhere).await.unwrap().is_new);
    let key = Some(StartKey { principal: "admin".into(), key: "k".into() });
    let of_another = StartRun { key, policy: Policy::Parallel, ..keyed("k") };
    let of_another = start(&stage, of_another).await.unwrap();
    assert!(of_another.is_new && of_another.run.id != first.run.id);
}

#[tokio::test(start_paused = true)]
async fn e10_of_any_number_of_equal_starts_at_once_one_is_new() {
    let stage = Stage::new().await;
    let starts = futures_util::future::join_all((0..20).map(|_| start(&stage, keyed("k")))).await;
    let started: Vec<Started> = starts.into_iter().map(Result::unwrap).collect();
    assert_eq!(started.iter().filter(|started| started.is_new).count(), 1);
    assert!(started.iter().all(|other| other.run.id == started[0].run.id));
    assert_eq!(stage.engine.runs(tenant(), RunQuery::default()).await.unwrap().data.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn e10_a_run_id_makes_a_start_safe_to_send_again() {
    let stage = Stage::new().await;
    let named = || StartRun {
        session: Some(session_id("s")),
        run: Some(run_id("mine")),
        ..StartRun::of(agent("push"))
    };
    let at_once = futures_util::future::join_all((0..5).map(|_| start(&stage, named()))).await;
    let new = at_once.iter().filter(|started| started.as_ref().unwrap().is_new).count();
    assert_eq!(new, 1);
    let other = StartRun { input: json!("x"), ..named() };
    let refused = start(&stage, other).await.unwrap_err();
    assert_eq!(refused, StartError::Different(run_id("mine")));
    let elsewhere = StartRun { session: Some(session_id("t")), ..named() };
    assert_eq!(start(&stage, elsewhere).await.unwrap_err(), StartError::RunExists);
    let after = restart(&stage).await;
    let again = start(&after, named()).await.unwrap();
    assert_eq!((again.is_new, again.run.status), (false, RunStatus::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn e10_a_refused_start_leaves_its_key_free() {
    let stage = Stage::new().await;
    let busy = stage.push("s").await;
    assert_eq!(start(&stage, keyed("k")).await.unwrap_err(), StartError::Busy(busy.id.clone()));
    stage.engine.stop_run(tenant(), &busy.id, by_user_and_wait()).await.unwrap();
    assert!(start(&stage, keyed("k")).await.unwrap().is_new);
}
