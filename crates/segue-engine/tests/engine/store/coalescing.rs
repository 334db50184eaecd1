//! Many updates, few writes.

use segue_core::fold::MessageStatus;
use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn a01_the_updates_of_a_window_are_one_write_and_one_event() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    for n in 1..=5 {
        shelf.store.update(saying(&draft, &"abcde"[..n])).await.unwrap();
        sleep(MS).await;
    }
    sleep(27 * MS).await;
    assert_eq!((heard(&mut events), shelf.records()), (vec![], 0), "the window is open");
    assert_eq!(shelf.text("m").await, "");
    sleep(2 * MS).await;
    let told = updates(&mut events);
    assert_eq!(told.iter().map(|message| texts(message)).collect::<Vec<_>>(), ["abcde"]);
    assert_eq!(shelf.records(), 1);
    assert_eq!(*told[0], shelf.row("m").await, "who hears it reads the same");
    sleep(WINDOW * 10).await;
    assert_eq!((heard(&mut events), shelf.records()), (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn a02_steady_updates_are_written_once_a_window_and_no_later() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let start = Instant::now();
    let mut given = Vec::new();
    while start.elapsed() < WINDOW * 10 {
        given.push(Instant::now());
        shelf.store.update(saying(&draft, &"x".repeat(given.len()))).await.unwrap();
        sleep(10 * MS).await;
        let must_be_there = given.iter().filter(|at| at.elapsed() > WINDOW).count();
        assert!(shelf.text("m").await.len() >= must_be_there, "{must_be_there} are older");
    }
    assert!(shelf.store.counts().commits <= 11, "{:?}", shelf.store.counts());
}

#[tokio::test(start_paused = true)]
async fn a03_without_a_window_each_update_is_readable_at_once() {
    let shelf = Shelf::with_window(Duration::ZERO).await;
    let draft = shelf.draft("s", "m").await;
    for text in ["a", "ab", "abc"] {
        shelf.store.update(saying(&draft, text)).await.unwrap();
        assert_eq!(shelf.text("m").await, text);
    }
    assert_eq!(shelf.records(), 3);
}

/// What an answer with everything looks like on its way.
fn states() -> Vec<Value> {
    let thought = |text: &str, open: bool| json!({"type": "reasoning", "text": text, "open": open});
    let text = |text: &str| json!({"type": "text", "text": text});
    let call = |input: &str, open: bool| json!({"type": "tool_call", "call_id": "c", "name": "f", "text": input, "open": open});
    let result = json!({"type": "tool_result", "call_id": "c", "output": "4"});
    let think = thought("let me", false);
    vec![
        json!([thought("let", true)]),
        json!([thought("let me", true)]),
        json!([think]),
        json!([think, text("He")]),
        json!([think, text("Hello")]),
        json!([think, text("Hello"), call("{", true)]),
        json!([think, text("Hello"), call("{}", true)]),
        json!([think, text("Hello"), call("", false)]),
        json!([think, text("Hello"), call("", false), result]),
        json!([think, text("Hello"), call("", false), result, text(" wor")]),
        json!([think, text("Hello"), call("", false), result, text(" world")]),
    ]
}

#[tokio::test(start_paused = true)]
async fn a04_with_and_without_a_window_the_end_is_the_same() {
    let mut ends = Vec::new();
    for window in [20 * MS, Duration::ZERO] {
        let shelf = Shelf::with_window(window).await;
        let draft = shelf.draft("s", "m").await;
        let mut events = shelf.store.subscribe();
        let mut last = draft.clone();
        for parts in states() {
            last = with_parts(&draft, &parts);
            shelf.store.update(last.clone()).await.unwrap();
            sleep(7 * MS).await;
        }
        let last = Message { status: MessageStatus::Complete, ..last };
        shelf.store.update(last.clone()).await.unwrap();
        let told = updates(&mut events);
        check_versions(&told);
        // What a client makes of the events when it adds what each has more than the one before.
        let mut text = String::new();
        for message in &told {
            let more = texts(message);
            text.push_str(more.strip_prefix(&text).unwrap().to_owned().as_str());
        }
        let row = shelf.row("m").await;
        assert_eq!((row.parts, row.status), (last.parts.clone(), last.status));
        ends.push((text, last.parts, row.metadata));
    }
    assert_eq!(ends[0].0, "Hello world");
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test(start_paused = true)]
async fn a05_tail_during_write_is_rearmed() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    let hold = shelf.hold();
    sleep(WINDOW * 2).await;
    shelf.store.update(saying(&draft, "a tail")).await.unwrap();
    assert_eq!(shelf.records(), 0, "the write is under way");
    drop(hold);
    sleep(WINDOW + MS).await;
    let told = updates(&mut events);
    assert_eq!(told.iter().map(|message| texts(message)).collect::<Vec<_>>(), ["a", "a tail"]);
    assert_eq!(shelf.text("m").await, "a tail");
}

#[tokio::test(start_paused = true)]
async fn a06_a_failed_write_is_tried_again_and_counted() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    shelf.refuse(1);
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    sleep(WINDOW + MS).await;
    assert_eq!((shelf.store.counts().failures, shelf.records()), (1, 0));
    shelf.store.update(saying(&draft, "ab")).await.unwrap();
    assert_eq!(heard(&mut events), []);
    sleep(StoreOptions::default().first_retry).await;
    assert_eq!(texts(&updates(&mut events)[0]), "ab");
    assert_eq!(shelf.text("m").await, "ab");
    assert_eq!((shelf.store.counts().failures, shelf.records()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a06_the_tries_become_rarer() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    shelf.refuse(usize::MAX);
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    sleep(Duration::from_mins(1)).await;
    let tries = shelf.store.counts().failures;
    assert!((15..25).contains(&tries), "{tries}");
    shelf.refuse(0);
    sleep(StoreOptions::default().last_retry).await;
    assert_eq!(shelf.text("m").await, "a");
}

#[tokio::test(start_paused = true)]
async fn a07_messages_have_one_write_each_and_do_not_force_each_other() {
    let shelf = Shelf::new().await;
    let (one, two) = (shelf.draft("s", "one").await, shelf.draft("t", "two").await);
    shelf.store.update(saying(&one, "1")).await.unwrap();
    sleep(10 * MS).await;
    shelf.store.update(saying(&two, "2")).await.unwrap();
    shelf.store.flush(&one.id).await.unwrap();
    assert_eq!(shelf.text("one").await, "1");
    assert_eq!(shelf.text("two").await, "");
    sleep(WINDOW + MS).await;
    assert_eq!(shelf.text("two").await, "2");
    let count = |session, id| shelf.written(session, id).len();
    assert_eq!((count("s", "one"), count("t", "two"), shelf.records()), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn all_that_is_due_in_a_tick_is_one_commit() {
    let shelf = Shelf::new().await;
    let mut drafts = Vec::new();
    for (session, id) in [("s", "a"), ("s", "b"), ("t", "c"), ("u", "d")] {
        drafts.push(shelf.draft(session, id).await);
    }
    let before = shelf.journal.position();
    for draft in &drafts {
        shelf.store.update(saying(draft, "x")).await.unwrap();
        sleep(MS).await;
    }
    sleep(WINDOW).await;
    assert_eq!(shelf.journal.position().0, before.0 + 1);
    assert_eq!((shelf.store.counts().commits, shelf.records()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a08_what_a_caller_that_is_gone_has_said_is_still_written() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let (store, said) = (shelf.store.clone(), saying(&draft, "half"));
    let caller = beside(async move {
        store.update(said).await.unwrap();
        std::future::pending::<()>().await;
    });
    settle().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let (Shelf { stage, store, .. }, id) = (shelf, draft.id);
    // Also the last handle may go.
    drop(store);
    sleep(WINDOW + MS).await;
    assert_eq!(texts(&stage.engine.message(tenant(), &id).await.unwrap().unwrap()), "half");
}

#[tokio::test(start_paused = true)]
async fn a09_what_the_caller_does_to_its_copy_later_does_not_matter() {
    let shelf = Shelf::new().await;
    let mut message = saying(&shelf.draft("s", "m").await, "as it was given");
    message.metadata = json!({"a": [1]});
    shelf.store.update(message.clone()).await.unwrap();
    message.metadata["a"][0] = json!(2);
    message.parts = saying(&message, "changed").parts;
    shelf.store.flush(&message.id).await.unwrap();
    let row = shelf.row("m").await;
    assert_eq!((texts(&row).as_str(), row.metadata), ("as it was given", json!({"a": [1]})));
}

#[tokio::test(start_paused = true)]
async fn what_a_message_is_by_its_making_stays() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let changed = Message {
        session_id: Some(session_id("t")),
        run_id: Some(run_id("r")),
        role: segue_core::fold::Role::User,
        version: Seq(99),
        created_at: segue_core::Timestamp::from_millis(1 << 40),
        ..saying(&draft, "x")
    };
    shelf.store.update(changed).await.unwrap();
    shelf.store.flush(&draft.id).await.unwrap();
    let row = shelf.row("m").await;
    let (version, updated_at) = (row.version, row.updated_at);
    assert!(version == Seq(3) && updated_at > draft.updated_at, "{row:?}");
    assert_eq!(row, Message { version, updated_at, ..saying(&draft, "x") });
}

#[tokio::test(start_paused = true)]
async fn a13_a_growing_input_is_coalesced() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let call = |text: &str| {
        let call = json!({"type": "tool_call", "call_id": "c", "name": "f", "text": text,
                          "open": true});
        with_parts(&draft, &json!([call]))
    };
    shelf.store.update(call("")).await.unwrap();
    assert_eq!(shelf.records(), 1, "a call that begins is written");
    for n in 0..30 {
        shelf.store.update(call(&"x".repeat(n))).await.unwrap();
        sleep(MS).await;
    }
    assert_eq!(shelf.records(), 1);
    sleep(WINDOW).await;
    assert_eq!(shelf.records(), 2);
    assert_eq!(shelf.row("m").await.parts, call(&"x".repeat(29)).parts);
}

#[tokio::test(start_paused = true)]
async fn a14_a_reset_is_seen_as_a_later_version() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    for text in ["a long beginning", "anew"] {
        shelf.store.update(saying(&draft, text)).await.unwrap();
        sleep(WINDOW + MS).await;
        assert_eq!(shelf.text("m").await, text);
    }
    let told = updates(&mut events);
    assert_eq!(
        told.iter().map(|message| texts(message)).collect::<Vec<_>>(),
        ["a long beginning", "anew"]
    );
    check_versions(&told);
}

#[tokio::test(start_paused = true)]
async fn a15_messages_that_have_ended_leave_memory() {
    let shelf = Shelf::new().await;
    for n in 0..50 {
        let draft = shelf.draft("s", &format!("m{n}")).await;
        shelf.store.update(saying(&draft, "x")).await.unwrap();
        assert_eq!(shelf.store.in_hand(), 1);
        shelf.store.update(ended(&draft, "x")).await.unwrap();
        assert_eq!(shelf.store.in_hand(), 0);
    }
    // What is changed after its end comes and goes.
    let row = shelf.row("m7").await;
    shelf.store.update(Message { metadata: json!({"late": 1}), ..row }).await.unwrap();
    assert_eq!(shelf.store.in_hand(), 0);
    assert_eq!(shelf.row("m7").await.metadata, json!({"late": 1}));
}

#[tokio::test(start_paused = true)]
async fn a15_answers_that_nobody_ends_do_not_fill_memory() {
    let shelf = Shelf::new().await;
    let first = shelf.draft("s", "m").await;
    shelf.store.update(saying(&first, "unwritten")).await.unwrap();
    for n in 0..3000 {
        shelf.draft("s", &format!("m{n}")).await;
    }
    assert!(shelf.store.in_hand() <= 1100, "{}", shelf.store.in_hand());
    // Who comes back to one finds it.
    shelf.store.update(saying(&first, "unwritten, and more")).await.unwrap();
    shelf.store.flush_all().await.unwrap();
    assert_eq!(shelf.text("m").await, "unwritten, and more");
}

#[tokio::test(start_paused = true)]
async fn a16_ten_thousand_deltas_are_a_write_a_window() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let start = Instant::now();
    let mut text = String::new();
    for n in 0..10_000 {
        text = "x".repeat(n % 1_000);
        shelf.store.update(saying(&draft, &text)).await.unwrap();
        sleep(MS).await;
    }
    shelf.store.update(ended(&draft, &text)).await.unwrap();
    let windows = start.elapsed().as_millis() / WINDOW.as_millis();
    let counts = shelf.store.counts();
    assert!(u128::from(counts.records) <= windows + 1, "{counts:?} in {windows} windows");
    assert_eq!(counts.updates, 10_001);
    assert_eq!(shelf.text("m").await, text);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_has_a_longer_window() {
    let options = StoreOptions { long_message: 1000, ..StoreOptions::default() };
    let shelf = Shelf::with(options).await;
    let draft = shelf.draft("s", "m").await;
    let count = async |text: usize| {
        shelf.store.update(saying(&draft, &"x".repeat(text))).await.unwrap();
        shelf.store.flush_all().await.unwrap();
        let before = shelf.records();
        for n in 1..=1000 {
            shelf.store.update(saying(&draft, &"x".repeat(text + n % 7))).await.unwrap();
            sleep(MS).await;
        }
        shelf.store.flush_all().await.unwrap();
        shelf.records() - before
    };
    let (short, long) = (count(10).await, count(3500).await);
    assert!((29..=32).contains(&short), "{short}");
    assert!((6..=9).contains(&long), "{long}");
}
