//! Lists: views hold every acknowledged write.

use segue_core::RunStatus;
use segue_engine::{
    CreateSession, QueryError, RunQuery, SessionError, SessionQuery, StartRun, UpdateSession,
};
use serde_json::json;

use super::support::*;

#[tokio::test(start_paused = true)]
async fn lists_see_what_was_acknowledged() {
    let stage = Stage::new().await;
    let (first, strings) = stage.play("a").await;
    strings.finish().await;
    stage.follow(&first.id).await;
    let second = stage.push("b").await;
    let runs = stage.engine.runs(tenant(), RunQuery::default()).await.unwrap();
    let ids: Vec<_> = runs.data.iter().map(|run| (&run.id, run.status)).collect();
    assert_eq!(ids, [(&second.id, RunStatus::Running), (&first.id, RunStatus::Finished)]);
    assert_eq!(runs.data[1].last_seq.0, 2);
    for (status, expected) in [(RunStatus::Finished, &first.id), (RunStatus::Running, &second.id)] {
        let query = RunQuery { status: Some(status), ..RunQuery::default() };
        let runs = stage.engine.runs(tenant(), query).await.unwrap();
        assert_eq!(runs.data.iter().map(|run| &run.id).collect::<Vec<_>>(), [expected]);
    }
    let query = RunQuery { session: Some(session_id("a")), ..RunQuery::default() };
    assert_eq!(stage.engine.runs(tenant(), query).await.unwrap().data.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pages_go_on_where_they_ended() {
    let stage = Stage::new().await;
    let mut made = Vec::new();
    for index in 0..7 {
        made.push(stage.push(&format!("s{index}")).await.id);
    }
    made.reverse();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let query = RunQuery { after, limit: 3, ..RunQuery::default() };
        let page = stage.engine.runs(tenant(), query).await.unwrap();
        seen.extend(page.data.into_iter().map(|run| run.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, made);
    let bad = RunQuery { after: Some("x".into()), ..RunQuery::default() };
    assert_eq!(stage.engine.runs(tenant(), bad).await, Err(QueryError::BadCursor));
}

#[tokio::test(start_paused = true)]
async fn a_session_shows_its_active_run() {
    let stage = Stage::new().await;
    let (run, strings) = stage.play("s").await;
    let session = stage.engine.session(tenant(), &session_id("s")).await.unwrap().unwrap();
    assert_eq!((session.status, &session.active_runs[..]), ("busy", &[run.id.clone()][..]));
    strings.finish().await;
    stage.follow(&run.id).await;
    stage.engine.shutdown(MINUTE).await;
    let list = stage.engine.sessions(tenant(), SessionQuery::default()).await;
    assert_eq!(list.unwrap().data[0].status, "idle");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_made_and_changed() {
    let stage = Stage::new().await;
    let request = || CreateSession {
        id: Some(session_id("s")),
        title: Some("one".into()),
        metadata: Some(json!({"a": 1})),
    };
    let made = stage.engine.create_session(tenant(), request()).await.unwrap();
    assert_eq!((made.title.as_deref(), made.status), (Some("one"), "idle"));
    let again = stage.engine.create_session(tenant(), request()).await;
    assert_eq!(again.unwrap_err(), SessionError::Exists);
    let update = UpdateSession { title: Some(Some("two".into())), metadata: None };
    let changed = stage.engine.update_session(tenant(), &session_id("s"), update).await.unwrap();
    assert_eq!((changed.title.as_deref(), &changed.metadata), (Some("two"), &json!({"a": 1})));
    assert_eq!(changed.created_at, made.created_at);
    let missing = UpdateSession::default();
    let missing = stage.engine.update_session(tenant(), &session_id("x"), missing).await;
    assert_eq!(missing.unwrap_err(), SessionError::NotFound);
}

#[tokio::test(start_paused = true)]
async fn changes_at_once_do_not_undo_each_other() {
    let stage = Stage::new().await;
    let id = session_id("s");
    let create = |title: &str| {
        let title = Some(title.to_owned());
        CreateSession { id: Some(session_id("s")), title, metadata: None }
    };
    let (one, two) = tokio::join!(
        stage.engine.create_session(tenant(), create("one")),
        stage.engine.create_session(tenant(), create("two")),
    );
    let made = [one, two].into_iter().flatten().count();
    assert_eq!(made, 1);
    let title = UpdateSession { title: Some(Some("new".into())), metadata: None };
    let metadata = UpdateSession { title: None, metadata: Some(json!({"b": 2})) };
    let (a, b) = tokio::join!(
        stage.engine.update_session(tenant(), &id, title),
        stage.engine.update_session(tenant(), &id, metadata),
    );
    a.unwrap();
    b.unwrap();
    let now = stage.engine.session(tenant(), &id).await.unwrap().unwrap();
    assert_eq!((now.title.as_deref(), now.metadata), (Some("new"), json!({"b": 2})));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_saw_the_end_can_start_the_next_run() {
    let stage = Stage::new().await;
    for _ in 0..20 {
        let (run, strings) = stage.play("s").await;
        strings.finish().await;
        stage.follow(&run.id).await;
        assert_eq!(stage.status(&run.id).await, "finished");
    }
}

#[tokio::test(start_paused = true)]
async fn many_starts_in_new_sessions_at_once_all_succeed() {
    let stage = Stage::new().await;
    let starts = (0..50).map(|index| {
        let session = Some(session_id(&format!("s{index}")));
        stage.engine.start(tenant(), StartRun { session, ..StartRun::of(agent("push")) })
    });
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
    let query = SessionQuery { limit: 100, ..SessionQuery::default() };
    assert_eq!(stage.engine.sessions(tenant(), query).await.unwrap().data.len(), 50);
}
