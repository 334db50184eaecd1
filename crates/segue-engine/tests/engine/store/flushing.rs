//! Waiting until what was said is stored.

use segue_engine::{AppendError, StoreError};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::*;

#[tokio::test(start_paused = true)]
async fn c01_a_flush_writes_what_is_unwritten_once() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    shelf.store.update(saying(&draft, "new")).await.unwrap();
    assert_eq!(shelf.text("m").await, "");
    shelf.store.flush(&draft.id).await.unwrap();
    assert_eq!(shelf.text("m").await, "new");
    let position = shelf.journal.position();
    shelf.store.flush(&draft.id).await.unwrap();
    sleep(WINDOW * 2).await;
    assert_eq!((shelf.journal.position(), shelf.records()), (position, 1));
}

#[tokio::test(start_paused = true)]
async fn c02_a_flush_of_what_is_not_known_writes_nothing() {
    let shelf = Shelf::new().await;
    let position = shelf.journal.position();
    shelf.store.flush(&message_id("nobody")).await.unwrap();
    assert_eq!(shelf.journal.position(), position);
}

#[tokio::test(start_paused = true)]
async fn c03_all_that_is_unwritten_can_be_flushed() {
    let shelf = Shelf::new().await;
    for n in 0..5 {
        let draft = shelf.draft(&format!("s{}", n % 2), &format!("m{n}")).await;
        shelf.store.update(saying(&draft, "x")).await.unwrap();
    }
    shelf.store.flush_all().await.unwrap();
    for n in 0..5 {
        assert_eq!(shelf.text(&format!("m{n}")).await, "x");
    }
}

/// A store with a write under way of which nothing newer is known.
async fn writing() -> (Shelf, Message, Hold) {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    let hold = shelf.hold();
    sleep_until(Instant::now() + WINDOW + MS).await;
    (shelf, draft, hold)
}

#[tokio::test(start_paused = true)]
async fn c04_a_flush_waits_for_the_write_under_way() {
    let (shelf, draft, hold) = writing().await;
    let store = shelf.store.clone();
    let flush = beside(async move { store.flush(&draft.id).await });
    settle().await;
    assert!(!flush.is_finished());
    drop(hold);
    flush.await.unwrap().unwrap();
    assert_eq!((shelf.text("m").await.as_str(), shelf.records()), ("a", 1));
}

#[tokio::test(start_paused = true)]
async fn c05_a_flush_of_all_waits_for_the_write_under_way() {
    let (shelf, _, hold) = writing().await;
    let store = shelf.store.clone();
    let flush = beside(async move { store.flush_all().await });
    settle().await;
    assert!(!flush.is_finished());
    drop(hold);
    flush.await.unwrap().unwrap();
    assert_eq!((shelf.text("m").await.as_str(), shelf.records()), ("a", 1));
}

#[tokio::test(start_paused = true)]
async fn c06_one_that_cannot_be_written_keeps_no_other_from_it() {
    let shelf = Shelf::new().await;
    let mut drafts = Vec::new();
    for session in ["a", "b", "c"] {
        let draft = shelf.draft(session, session).await;
        shelf.store.update(saying(&draft, "x")).await.unwrap();
        drafts.push(draft);
    }
    shelf.refuse_session("b", true);
    let flushed = shelf.store.flush_all().await;
    assert_eq!(flushed, Err(StoreError::Write(AppendError::Retry)));
    assert_eq!((shelf.text("a").await.as_str(), shelf.text("c").await.as_str()), ("x", "x"));
    assert_eq!((shelf.text("b").await.as_str(), shelf.store.counts().failures), ("", 1));
    shelf.refuse_session("b", false);
    shelf.store.flush(&drafts[1].id).await.unwrap();
    assert_eq!(shelf.text("b").await, "x");
}

#[tokio::test(start_paused = true)]
async fn c06_a_message_that_is_too_large_keeps_its_session_from_nothing() {
    let shelf = Shelf::new().await;
    let (large, other) = (shelf.draft("s", "large").await, shelf.draft("s", "other").await);
    shelf.store.update(saying(&large, &"x".repeat(5000))).await.unwrap();
    shelf.store.update(saying(&other, "x")).await.unwrap();
    let flushed = shelf.store.flush_all().await;
    let is_too_large = |error: StoreError| {
        matches!(error, StoreError::Write(AppendError::EventTooLarge { max: 4096, .. }))
    };
    assert!(flushed.is_err_and(is_too_large));
    assert_eq!((shelf.text("other").await.as_str(), shelf.text("large").await.as_str()), ("x", ""));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(shelf.store.counts().commits, 1, "it is not tried again as it is");
    shelf.store.update(saying(&large, "small")).await.unwrap();
    sleep(WINDOW + MS).await;
    assert_eq!(shelf.text("large").await, "small");
}

#[tokio::test(start_paused = true)]
async fn c07_a_flush_that_takes_too_long_says_so_and_nothing_is_lost() {
    let patience = Duration::from_secs(1);
    let shelf = Shelf::with(StoreOptions { patience, ..StoreOptions::default() }).await;
    let draft = shelf.draft("s", "m").await;
    let hold = shelf.hold();
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    let start = Instant::now();
    assert_eq!(shelf.store.flush(&draft.id).await, Err(StoreError::TimedOut));
    assert_eq!(start.elapsed(), patience);
    assert_eq!(shelf.store.update(ended(&draft, "ab")).await, Err(StoreError::TimedOut));
    // A deadline of the caller's own.
    assert!(timeout(MS, shelf.store.flush_all()).await.is_err());
    drop(hold);
    shelf.store.flush(&draft.id).await.unwrap();
    let row = shelf.row("m").await;
    assert_eq!((texts(&row).as_str(), row.status), ("ab", MessageStatus::Complete));
}

#[tokio::test(start_paused = true)]
async fn c08_a_flush_does_not_chase_what_comes_later() {
    let (shelf, draft, hold) = writing().await;
    shelf.store.update(saying(&draft, "now")).await.unwrap();
    let (store, id) = (shelf.store.clone(), draft.id.clone());
    let flush = beside(async move { store.flush(&id).await });
    settle().await;
    drop(hold);
    let mut later = 0;
    while !flush.is_finished() {
        later += 1;
        shelf.store.update(saying(&draft, &format!("now, later {later}"))).await.unwrap();
        tokio::task::yield_now().await;
    }
    flush.await.unwrap().unwrap();
    assert!(shelf.text("m").await.starts_with("now"));
    assert!(later < 100, "{later}");
}

#[tokio::test(start_paused = true)]
async fn c09_a_list_has_the_newest_of_its_session_and_forces_no_other() {
    let shelf = Shelf::with_window(Duration::from_hours(1)).await;
    let user = said::one(&json!({"role": "user", "content": "hi"})).unwrap();
    shelf.store.create(&session_id("s"), user.clone()).await.unwrap();
    let (one, two) = (shelf.draft("s", "one").await, shelf.draft("t", "two").await);
    shelf.store.create(&session_id("t"), user).await.unwrap();
    for draft in [&one, &two] {
        shelf.store.update(saying(draft, "new")).await.unwrap();
    }
    let of = |messages: &[Message]| messages.iter().map(texts).collect::<Vec<_>>();
    let s = session_id("s");
    assert_eq!(of(&shelf.store.list(&s).await.unwrap()), ["hi", "new"]);
    assert_eq!(shelf.text("two").await, "", "nobody asked for it");
    assert_eq!(of(&shelf.store.list_user(&s).await.unwrap()), ["hi"]);
    assert_eq!(of(&shelf.store.list_all_user().await.unwrap()), ["hi", "hi"]);
    assert_eq!(shelf.text("two").await, "");
    shelf.store.update(saying(&one, "newer")).await.unwrap();
    let last = shelf.store.last_assistant(&s).await.unwrap().unwrap();
    assert_eq!((last.id.clone(), texts(&last).as_str()), (one.id, "newer"));
    assert_eq!(shelf.store.last_assistant(&session_id("none")).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_long_session_is_listed_whole() {
    let shelf = Shelf::new().await;
    for n in 0..1100 {
        let said = said::one(&json!({"role": "user", "content": n.to_string()})).unwrap();
        shelf.store.create(&session_id("s"), said).await.unwrap();
    }
    let listed = shelf.store.list(&session_id("s")).await.unwrap();
    let expected: Vec<_> = (0..1100).map(|n: u32| n.to_string()).collect();
    assert_eq!(listed.iter().map(texts).collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn c10_what_a_cancelled_run_said_last_is_stored() {
    let (shelf, draft, hold) = writing().await;
    let (store, said) = (shelf.store.clone(), ended(&draft, "a tail"));
    // It is cancelled while it waits for its last words to be stored.
    let run = beside(async move { store.update(said).await });
    settle().await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    let end_hook = timeout(Duration::from_secs(5), shelf.store.flush_all());
    drop(hold);
    end_hook.await.unwrap().unwrap();
    let row = shelf.row("m").await;
    assert_eq!((texts(&row).as_str(), row.status), ("a tail", MessageStatus::Complete));
}

#[tokio::test(start_paused = true)]
async fn n01_a_shutdown_writes_what_is_unwritten_first() {
    let shelf = Shelf::with_window(Duration::from_hours(1)).await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    shelf.store.update(saying(&draft, "unwritten")).await.unwrap();
    let report = shelf.stage.engine.shutdown(Duration::from_secs(5)).await;
    assert!(report.views_flushed);
    assert_eq!(texts(&shelf.written("s", "m")[0]), "unwritten");
    assert_eq!(texts(&updates(&mut events)[0]), "unwritten");
    assert_eq!(events.next().await, None, "there is nothing more to hear");
    let late = shelf.store.update(saying(&draft, "late")).await;
    assert_eq!((late, shelf.store.shutdown().await), (Err(StoreError::Closed), 0));
    assert_eq!(shelf.store.flush_all().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn n01_what_a_shutdown_cannot_write_is_told() {
    let shelf = Shelf::new().await;
    let (one, two) = (shelf.draft("s", "one").await, shelf.draft("t", "two").await);
    shelf.store.update(saying(&one, "a")).await.unwrap();
    shelf.store.update(saying(&two, "a")).await.unwrap();
    shelf.refuse_session("t", true);
    assert_eq!(shelf.store.shutdown().await, 1);
    assert_eq!((shelf.text("one").await.as_str(), shelf.text("two").await.as_str()), ("a", ""));
    assert_eq!((shelf.store.counts().lost, shelf.store.in_hand()), (1, 0));
}
