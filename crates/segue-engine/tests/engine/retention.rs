//! L: what is kept of ended runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use segue_core::{Clock, Event, Limits, RunId, Seq, Timestamp};
use segue_engine::{Retain, Settings, StartError, StartRun};
use segue_journal::{
    Journal, ReadError,
    memory::{MemoryJournal, MemoryOptions},
};
use serde_json::{Value, json};

use super::{races::of_session, support::*};

/// A clock that stands until it is moved.
#[derive(Default)]
struct Standing(AtomicU64);

impl Standing {
    fn forward(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + self.0.load(Ordering::Relaxed))
    }
}

struct Kept {
    stage: Stage,
    clock: Arc<Standing>,
    retain: Retain,
}

impl Kept {
    async fn new(retain: Retain) -> Self {
        let clock = Arc::new(Standing::default());
        let journal = Arc::new(MemoryJournal::new(MemoryOptions::new(clock.clone())));
        Self::over(journal, clock, retain).await
    }

    async fn over(journal: Arc<dyn Journal>, clock: Arc<Standing>, retain: Retain) -> Self {
        let settings = Settings { retain, ..Settings::default() };
        let stage = Stage::with(journal, Puppet::new(true), settings, clock.clone()).await;
        Self { stage, clock, retain }
    }

    async fn restart(self) -> Self {
        Self::over(self.stage.journal.clone(), self.clock, self.retain).await
    }

    /// An ended run that says this, a second after the one before.
    async fn ended(&self, session: &str, words: &str) -> RunId {
        self.clock.forward(Duration::from_secs(1));
        let (run, strings) = self.stage.play(session).await;
        strings.give(text(words)).await;
        strings.finish().await;
        self.stage.follow(&run.id).await;
        run.id
    }

    /// Lets the task do what it finds to do, until it has looked twice and found nothing.
    async fn settle(&self) {
        let mut before = None;
        while before != Some(self.stage.journal.position()) {
            before = Some(self.stage.journal.position());
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    }

    fn is_trimmed(&self, run: &RunId) -> bool {
        self.stage.journal.info(&Stage::stream(run)).unwrap().available_from > Seq::FIRST
    }

    async fn snapshot(&self, run: &RunId) -> Value {
        let attached = self.stage.engine.attach(tenant(), run).unwrap();
        serde_json::from_slice(&attached.snapshot().await.unwrap().json).unwrap()
    }
}

const RUNS: Retain = Retain { age: None, runs: 2, bytes: 0 };

#[tokio::test(start_paused = true)]
async fn l07_the_oldest_go_when_there_are_too_many() {
    let kept = Kept::new(RUNS).await;
    let mut runs = Vec::new();
    for index in 0..5 {
        runs.push(kept.ended("s", &format!("words {index}")).await);
    }
    kept.settle().await;
    let trimmed: Vec<bool> = runs.iter().map(|run| kept.is_trimmed(run)).collect();
    assert_eq!(trimmed, [true, true, true, false, false]);
    assert_eq!(kept.stage.status(&runs[0]).await, "finished", "it is shown as ever");
}

#[tokio::test(start_paused = true)]
async fn l07_the_oldest_go_when_there_are_too_many_bytes() {
    let kept = Kept::new(Retain { bytes: 3_000, ..Retain::default() }).await;
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(kept.ended("s", &"x".repeat(1_000)).await);
    }
    kept.settle().await;
    let kept_runs = runs.iter().filter(|run| !kept.is_trimmed(run)).count();
    assert_eq!(kept_runs, 2, "a run has somewhat more than a thousand bytes");
    assert!(runs.iter().rev().take(2).all(|run| !kept.is_trimmed(run)), "the newest stay");
}

#[tokio::test(start_paused = true)]
async fn l07_runs_go_by_age_and_none_that_has_not_ended() {
    let kept = Kept::new(Retain { age: Some(Duration::from_secs(100)), ..Retain::default() }).await;
    let (alive, strings) = kept.stage.play("alive").await;
    let old = kept.ended("s", "old").await;
    kept.clock.forward(MINUTE);
    let new = kept.ended("s", "new").await;
    kept.clock.forward(Duration::from_secs(50));
    kept.settle().await;
    assert!(kept.is_trimmed(&old) && !kept.is_trimmed(&new) && !kept.is_trimmed(&alive.id));
    strings.finish().await;
    kept.stage.follow(&alive.id).await;
    kept.settle().await;
    assert!(!kept.is_trimmed(&alive.id), "its age begins with its end");
}

#[tokio::test(start_paused = true)]
async fn l02_a_run_that_is_read_stays_until_its_reader_leaves() {
    let kept = Kept::new(RUNS).await;
    let first = kept.ended("s", "first").await;
    let attached = kept.stage.engine.attach(tenant(), &first).unwrap();
    let reader = attached.reader(Lines, Seq::FIRST, &kept.stage.engine.shard()).unwrap();
    let mut later = Vec::new();
    for index in 0..4 {
        later.push(kept.ended("s", &index.to_string()).await);
    }
    kept.settle().await;
    assert!(!kept.is_trimmed(&first));
    assert!(kept.is_trimmed(&later[0]), "the next oldest goes in its place");
    drop(reader);
    kept.ended("s", "one more").await;
    kept.settle().await;
    assert!(kept.is_trimmed(&first));
}

#[tokio::test(start_paused = true)]
async fn j10_what_a_trimmed_run_made_is_its_snapshot_and_its_end_still_an_event() {
    let mut kept = Kept::new(Retain { runs: 1, ..RUNS }).await;
    let (run, strings) = kept.stage.play("s").await;
    let call = json!({"type": "tool_call.started", "call_id": "c", "name": "rm"});
    strings.give(Event::build(&call)).await;
    strings.give(text("half")).await;
    strings.give(text(" and half")).await;
    strings.finish().await;
    let events = kept.stage.follow(&run.id).await;
    let whole = kept.snapshot(&run.id).await;
    kept.ended("s", "newer").await;
    kept.settle().await;
    assert!(kept.is_trimmed(&run.id));
    for _ in 0..2 {
        assert_eq!(kept.snapshot(&run.id).await, whole, "as if nothing were gone");
        let attached = kept.stage.engine.attach(tenant(), &run.id).unwrap();
        let last = attached.info().tail.next.prev();
        assert_eq!(kept.stage.follow_from(&run.id, last).await, events[events.len() - 1..]);
        let first = attached.read(Seq::FIRST, segue_journal::ReadLimit::default());
        assert_eq!(first.err(), Some(ReadError::Trimmed { available_from: last }));
        assert_eq!(attached.outcome().unwrap().unwrap().status().as_str(), "finished");
        kept = kept.restart().await;
    }
    let finals = of_session(&kept.stage, "s");
    let finals = finals.iter().filter(|record| record["type"] == "message.final").count();
    assert_eq!(finals, 1, "P2: in the batch that trims");
}

#[tokio::test(start_paused = true)]
async fn j10_the_message_of_a_trimmed_run_survives_its_views() {
    let kept = Kept::new(Retain { runs: 1, ..Retain::default() }).await;
    let first = kept.ended("s", "words that go").await;
    let id = segue_core::MessageId::of_run(&first);
    let before = kept.stage.engine.message(tenant(), &id).await.unwrap().unwrap();
    assert!(before.status.is_terminal() && !before.parts.is_empty());
    kept.ended("s", "later").await;
    kept.settle().await;
    assert!(kept.is_trimmed(&first));
    let kept = kept.restart().await;
    let after = kept.stage.engine.message(tenant(), &id).await.unwrap();
    assert_eq!(after, Some(before));
}

#[tokio::test(start_paused = true)]
async fn l05_a_snapshot_that_races_the_trim_lacks_nothing() {
    let kept = Kept::new(Retain { runs: 1, ..RUNS }).await;
    for delay in 0..200 {
        let run = kept.ended("s", "all of it").await;
        let late = async {
            for _ in 0..delay % 50 {
                tokio::task::yield_now().await;
            }
            kept.snapshot(&run).await
        };
        let (_, snapshot) = tokio::join!(kept.ended("t", "newer"), late);
        assert_eq!(snapshot["from_seq"], 1, "delay {delay}");
        assert_eq!(snapshot["message"]["parts"][0]["text"], "all of it", "delay {delay}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_was_and_trims_nothing_twice() {
    let mut kept = Kept::new(RUNS).await;
    let mut runs = Vec::new();
    for index in 0..6 {
        runs.push(kept.ended("s", &index.to_string()).await);
    }
    kept.settle().await;
    let position = kept.stage.journal.position();
    kept = kept.restart().await;
    kept.settle().await;
    assert_eq!(kept.stage.journal.position(), position, "there is nothing to do");
    runs.push(kept.ended("s", "new").await);
    kept.settle().await;
    let trimmed: Vec<bool> = runs.iter().map(|run| kept.is_trimmed(run)).collect();
    assert_eq!(trimmed, [true, true, true, true, true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn runs_of_deleted_sessions_do_not_count() {
    let kept = Kept::new(RUNS).await;
    for index in 0..2 {
        kept.ended("gone", &index.to_string()).await;
    }
    let first = kept.ended("s", "first").await;
    kept.stage.engine.delete_session(tenant(), &session_id("gone")).await.unwrap();
    kept.settle().await;
    let second = kept.ended("s", "second").await;
    kept.settle().await;
    assert!(!kept.is_trimmed(&first) || kept.is_trimmed(&second), "oldest first");
    let third = kept.ended("s", "third").await;
    kept.settle().await;
    assert!(!kept.is_trimmed(&second) && !kept.is_trimmed(&third));
}

#[tokio::test(start_paused = true)]
async fn h08_a_session_that_is_full_takes_no_run_and_the_last_one_only_what_fits() {
    let settings = Settings { session_bytes: 4_000, ..Settings::default() };
    let clock = Arc::new(TickingClock::default());
    let stage = Stage::with(memory_journal(), Puppet::new(true), settings, clock).await;
    let run = stage.push("s").await;
    let mut refused = None;
    for _ in 0..10 {
        let words = vec![text(&"x".repeat(1_000))];
        match stage.engine.append(tenant(), &run.id, words, None).await {
            Ok(pending) => drop(pending.await.unwrap()),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(refused, Some(segue_engine::AppendError::RunLimit));
    let events = stage.follow(&run.id).await;
    check_whole(&events);
    assert_eq!(events.last().unwrap()["reason"], "limit");
    let bytes: usize = events.iter().filter_map(|e| e["text"].as_str()).map(str::len).sum();
    assert_eq!(bytes, 3_000, "nothing of what did not fit");
    // Its end takes it over the limit.
    stage.engine.runs(tenant(), segue_engine::RunQuery::default()).await.unwrap();
    let start =
        |limits| StartRun { session: Some(session_id("s")), limits, ..StartRun::of(agent("push")) };
    let small = stage.engine.start(tenant(), start(Limits::default())).await.unwrap().run;
    let words = vec![text(&"x".repeat(1_000))];
    let refused = stage.engine.append(tenant(), &small.id, words, None).await;
    assert_eq!(refused.err(), Some(segue_engine::AppendError::RunLimit));
    stage.follow(&small.id).await;
    loop {
        stage.engine.runs(tenant(), segue_engine::RunQuery::default()).await.unwrap();
        match stage.engine.start(tenant(), start(Limits::default())).await {
            Err(StartError::SessionFull { bytes, max: 4_000 }) => {
                assert!(bytes >= 4_000);
                break;
            }
            Ok(one_more) => drop(stage.follow_after_stop(&one_more.run.id).await),
            Err(other) => panic!("{other}"),
        }
    }
}
