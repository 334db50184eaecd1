//! O: deleted sessions.

use std::sync::Arc;

use segue_core::{Policy, StopReason};
use segue_engine::{
    AppendError, DeleteError, Fill, RunQuery, SessionError, SessionQuery, StartError, StartRun,
    StopRequest, UpdateSession,
};
use segue_journal::{
    Journal, ReadError, StreamKey,
    memory::{MemoryJournal, MemoryOptions},
};
use serde_json::json;
use tokio::{runtime::Builder, sync::watch};

use super::{races::of_session, recovery::restart, support::*};

async fn delete(stage: &Stage, session: &str) -> Result<(), DeleteError> {
    stage.engine.delete_session(tenant(), &session_id(session)).await
}

/// Waits until nothing of the session is left in the journal.
async fn erased(stage: &Stage, session: &str) {
    let stream = StreamKey::session(tenant(), &session_id(session));
    let is_done = || {
        let deletions = stage.journal.info(&StreamKey::deletions(tenant())).unwrap();
        stage.journal.info(&stream).is_err() && deletions.available_from == deletions.tail.next
    };
    // What follows its last commit is done when nobody has anything left to do.
    while !is_done() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    tokio::time::advance(std::time::Duration::from_millis(1)).await;
}

/// An ended run in this session.
async fn ended(stage: &Stage, session: &str) -> segue_core::RunId {
    let (run, strings) = stage.play(session).await;
    strings.give(text("words")).await;
    strings.finish().await;
    stage.follow(&run.id).await;
    run.id
}

/// Nobody sees anything of it.
async fn check_unknown(stage: &Stage, session: &str, runs: &[&segue_core::RunId]) {
    let engine = &stage.engine;
    let id = session_id(session);
    assert_eq!(engine.session(tenant(), &id).await, Ok(None));
    let sessions = engine.sessions(tenant(), SessionQuery::default()).await.unwrap();
    assert!(sessions.data.iter().all(|session| session.id != id));
    let query = RunQuery { session: Some(id.clone()), ..RunQuery::default() };
    assert_eq!(engine.runs(tenant(), query).await.unwrap().data, []);
    let stopped = engine.stop_session(tenant(), &id, None, StopRequest::by_user()).await;
    assert!(stopped.is_err(), "{stopped:?}");
    for run in runs {
        assert_eq!(engine.run(tenant(), run).await, Ok(None));
        assert!(matches!(engine.attach(tenant(), run).err(), Some(ReadError::NotFound(_))));
        assert!(matches!(engine.control(tenant(), run).err(), Some(ReadError::NotFound(_))));
        let append = engine.append(tenant(), run, vec![text("late")], None).await;
        assert_eq!(append.err(), Some(AppendError::NotFound));
    }
    assert_eq!(delete(stage, session).await, Err(DeleteError::NotFound));
    let renamed = engine.update_session(tenant(), &id, UpdateSession::default()).await;
    assert_eq!(renamed.err(), Some(SessionError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn o03_a_deleted_session_goes_with_all_of_its_own_and_nothing_else() {
    let stage = Stage::new().await;
    let (first, second) = (ended(&stage, "s").await, ended(&stage, "s").await);
    let other = ended(&stage, "t").await;
    let before = stage.follow(&other).await;
    delete(&stage, "s").await.unwrap();
    check_unknown(&stage, "s", &[&first, &second]).await;
    erased(&stage, "s").await;
    check_unknown(&stage, "s", &[&first, &second]).await;
    for run in [&first, &second] {
        assert!(stage.journal.info(&Stage::stream(run)).is_err(), "erased");
    }
    assert_eq!(stage.follow(&other).await, before);
    assert_eq!(stage.status(&other).await, "finished");
    let after = restart(&stage).await;
    check_unknown(&after, "s", &[&first, &second]).await;
    assert_eq!(after.follow(&other).await, before);
}

#[tokio::test(start_paused = true)]
async fn o04_its_running_runs_are_stopped_and_their_clients_get_the_end() {
    let stage = Stage::over(memory_journal(), Puppet::new(false)).await;
    let (run, mut strings) = stage.play("s").await;
    let waits = stage.start_named("s", "waits", Policy::Queue).await.unwrap();
    let attached = stage.engine.attach(tenant(), &run.id).unwrap();
    let shard = stage.engine.shard();
    let mut reader = attached.reader(Lines, segue_core::Seq::FIRST, &shard).unwrap();
    delete(&stage, "s").await.unwrap();
    check_unknown(&stage, "s", &[&run.id, &waits.id]).await;
    let told = strings.stopped.wait_for(Option::is_some).await.unwrap().unwrap();
    assert_eq!(told, StopReason::Deleted);
    strings.may_leave.send_replace(true);
    let mut seen = Vec::new();
    loop {
        reader.listener().hear();
        match reader.fill(1 << 20) {
            Fill::Bytes(bytes) => seen.extend(lines(&bytes)),
            Fill::Silent => {}
            Fill::End => break,
            // It read the terminal before, or comes back and is told that it is gone.
            Fill::Failed(error) => {
                assert!(matches!(error, ReadError::NotFound(_)), "{error}");
                break;
            }
            Fill::Idle => {
                shard.rung().await;
                shard.pump();
            }
        }
    }
    if let Some(end) = seen.last().filter(|event| event["type"] == "run.stopped") {
        assert_eq!(end["reason"], "deleted");
    }
    strings.is_released().await;
    erased(&stage, "s").await;
}

#[tokio::test(start_paused = true)]
async fn o05_the_session_begins_anew_and_its_runs_never_do() {
    let stage = Stage::new().await;
    let run = ended(&stage, "s").await;
    delete(&stage, "s").await.unwrap();
    erased(&stage, "s").await;
    for stage in [&stage, &restart(&stage).await] {
        let again = stage.start_named("t", run.as_str(), Policy::Parallel).await;
        assert_eq!(again.err(), Some(StartError::RunExists));
    }
    let new = stage.play("s").await.0;
    assert_eq!(new.last_seq.0, 1);
    let records = of_session(&stage, "s");
    assert_eq!(types(&records), ["session.changed", "run.created"]);
    let runs = RunQuery { session: Some(session_id("s")), ..RunQuery::default() };
    let runs = stage.engine.runs(tenant(), runs).await.unwrap().data;
    assert_eq!(runs.iter().map(|run| &run.id).collect::<Vec<_>>(), [&new.id]);
    assert!(stage.engine.session(tenant(), &session_id("s")).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn o07_appends_elsewhere_go_on_beside_a_deletion() {
    let stage = Stage::new().await;
    let beside = stage.push("t").await;
    for _ in 0..300 {
        ended(&stage, "s").await;
    }
    let (done, mut is_done) = watch::channel(false);
    let deletion = async {
        delete(&stage, "s").await.unwrap();
        erased(&stage, "s").await;
        done.send_replace(true);
    };
    let appends = async {
        let mut appended = 0;
        while !*is_done.borrow_and_update() {
            stage.append(&beside.id, "x").await;
            appended += 1;
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
        }
        appended
    };
    let ((), appended) = tokio::join!(deletion, appends);
    let info = stage.journal.info(&Stage::stream(&beside.id)).unwrap();
    assert_eq!(info.tail.next.0, 3 + appended, "its start, its part's start, and each of them");
}

/// The first life of a server deletes; all of its tasks end with it, after so many commits of the
/// deletion. Gives a run of the session, and whether the deletion was answered.
fn cut_off(journal: &Arc<MemoryJournal>, cut: u64) -> (segue_core::RunId, bool) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let stage = Stage::over(journal.clone(), Puppet::new(true)).await;
        for _ in 0..200 {
            ended(&stage, "s").await;
        }
        let run = ended(&stage, "s").await;
        let until = journal.position().0 + cut;
        let hold = async {
            while journal.position().0 < until {
                tokio::task::yield_now().await;
            }
            journal.hold()
        };
        let deletion = tokio::time::timeout(MINUTE, delete(&stage, "s"));
        let (deleted, hold) = tokio::join!(deletion, hold);
        drop(hold);
        (run, deleted.is_ok())
    })
}

#[test]
fn o08_a_deletion_that_was_cut_off_is_gone_on_with() {
    for cut in 0..5 {
        let journal =
            Arc::new(MemoryJournal::new(MemoryOptions::new(Arc::new(TickingClock::default()))));
        let (run, is_answered) = cut_off(&journal, cut);
        // What was on its way is committed or not: so is what a crash finds.
        let is_begun = journal.info(&StreamKey::deletions(tenant())).is_ok();
        assert!(is_begun || !is_answered);
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let after = Stage::over(journal.clone(), Puppet::new(true)).await;
            if is_begun {
                check_unknown(&after, "s", &[&run]).await;
                erased(&after, "s").await;
                check_unknown(&after, "s", &[&run]).await;
                let deletions = after.journal.info(&StreamKey::deletions(tenant())).unwrap();
                assert_eq!(deletions.available_from, deletions.tail.next, "it is done");
            } else {
                assert_eq!(after.status(&run).await, "finished");
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_races_a_deletion_is_part_of_it_or_comes_after_it() {
    for delay in 0..40 {
        let stage = Stage::new().await;
        ended(&stage, "s").await;
        let late = async {
            for _ in 0..delay {
                tokio::task::yield_now().await;
            }
            stage.start_named("s", "late", Policy::Parallel).await
        };
        let (deleted, started) = tokio::join!(delete(&stage, "s"), late);
        assert_eq!(deleted, Ok(()));
        match started {
            Ok(run) => {
                // Deleted with the others, or begun in a session of the same name.
                erased_or_new(&stage, &run.id).await;
            }
            Err(StartError::Journal(AppendError::Retry) | StartError::RunExists) => {}
            Err(other) => panic!("delay {delay}: {other}"),
        }
        let deletions = stage.journal.info(&StreamKey::deletions(tenant())).unwrap();
        assert!(deletions.tail.next.0 >= 2);
    }
}

async fn erased_or_new(stage: &Stage, run: &segue_core::RunId) {
    loop {
        let seen = stage.engine.run(tenant(), run).await.unwrap();
        let stored = stage.journal.info(&Stage::stream(run));
        match (seen, stored) {
            (None, Err(_)) | (Some(_), Ok(_)) => return,
            _ => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_a_deleted_session_starts_anew() {
    let stage = Stage::new().await;
    let keyed = || StartRun {
        session: Some(session_id("s")),
        input: json!("x"),
        key: Some(segue_engine::StartKey { principal: "p".into(), key: "k".into() }),
        ..StartRun::of(agent("push"))
    };
    let first = stage.engine.start(tenant(), keyed()).await.unwrap();
    delete(&stage, "s").await.unwrap();
    erased(&stage, "s").await;
    let second = stage.engine.start(tenant(), keyed()).await.unwrap();
    assert!(second.is_new && second.run.id != first.run.id);
}
