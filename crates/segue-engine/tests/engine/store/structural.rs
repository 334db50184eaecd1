//! What begins or ends something is written before the update returns.

use tokio::time::sleep;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// A store whose windows do not end by themselves.
async fn patient() -> (Shelf, Message, Subscription<MessageEvent>) {
    let shelf = Shelf::with_window(HOUR).await;
    let draft = shelf.draft("s", "m").await;
    let events = shelf.store.subscribe();
    (shelf, draft, events)
}

fn call(id: &str, text: &str, open: bool) -> Value {
    let mut call = json!({"type": "tool_call", "call_id": id, "name": "f", "open": open});
    call[if open { "text" } else { "input" }] = json!(text);
    call
}

/// Gives a state and checks that it is stored and told.
async fn check_written(shelf: &Shelf, events: &mut Subscription<MessageEvent>, state: &Message) {
    let before = shelf.records();
    shelf.store.update(state.clone()).await.unwrap();
    let told = updates(events);
    assert_eq!((told.len(), shelf.records()), (1, before + 1));
    assert_eq!(told[0].parts, state.parts);
    assert_eq!(shelf.row(state.id.as_str()).await, *told[0]);
}

#[tokio::test(start_paused = true)]
async fn b01_an_end_is_written_and_told_before_the_update_returns() {
    let (shelf, draft, mut events) = patient().await;
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    assert_eq!(heard(&mut events), []);
    check_written(&shelf, &mut events, &ended(&draft, "ab")).await;
    assert_eq!(shelf.row("m").await.status, MessageStatus::Complete);
}

#[tokio::test(start_paused = true)]
async fn b02_a_call_that_begins_is_written() {
    let (shelf, draft, mut events) = patient().await;
    check_written(&shelf, &mut events, &with_parts(&draft, &json!([call("c", "", true)]))).await;
}

#[tokio::test(start_paused = true)]
async fn b03_a_call_that_ends_is_written_with_its_input() {
    let (shelf, draft, mut events) = patient().await;
    check_written(&shelf, &mut events, &with_parts(&draft, &json!([call("c", "", true)]))).await;
    shelf.store.update(with_parts(&draft, &json!([call("c", "{\"a", true)]))).await.unwrap();
    assert_eq!(heard(&mut events), [], "its input grows");
    let whole = with_parts(&draft, &json!([call("c", "{\"a\":1}", false)]));
    check_written(&shelf, &mut events, &whole).await;
}

#[tokio::test(start_paused = true)]
async fn b04_the_end_of_what_is_thought_is_written_and_nothing_of_it_before() {
    let (shelf, draft, mut events) = patient().await;
    let thought = |text: &str, open: bool| {
        with_parts(&draft, &json!([{"type": "reasoning", "text": text, "open": open}]))
    };
    for text in ["let", "let me", "let me see"] {
        shelf.store.update(thought(text, true)).await.unwrap();
        sleep(WINDOW * 2).await;
    }
    assert_eq!((heard(&mut events), shelf.records()), (vec![], 0));
    check_written(&shelf, &mut events, &thought("let me see.", false)).await;
    assert!(shelf.row("m").await.updated_at > draft.updated_at, "the time of its end is kept");
}

#[tokio::test(start_paused = true)]
async fn b05_calls_that_go_or_are_exchanged_are_written() {
    let (shelf, draft, mut events) = patient().await;
    let two = json!([call("a", "", true), call("b", "", true)]);
    check_written(&shelf, &mut events, &with_parts(&draft, &two)).await;
    let other = json!([call("a", "", true), call("c", "", true)]);
    check_written(&shelf, &mut events, &with_parts(&draft, &other)).await;
    check_written(&shelf, &mut events, &with_parts(&draft, &json!([call("c", "", true)]))).await;
}

#[tokio::test(start_paused = true)]
async fn b06_what_comes_after_the_end_is_written_at_once_and_ends_nothing_again() {
    let (shelf, draft, mut events) = patient().await;
    check_written(&shelf, &mut events, &ended(&draft, "a")).await;
    let late = Message { metadata: json!({"title": "t"}), ..ended(&draft, "a") };
    check_written(&shelf, &mut events, &late).await;
    // A straggler that does not know of the end changes what is said, and not that it has ended.
    check_written(&shelf, &mut events, &saying(&draft, "ab")).await;
    let row = shelf.row("m").await;
    assert_eq!((row.status, texts(&row).as_str()), (MessageStatus::Complete, "ab"));
    let other = Message { status: MessageStatus::Failed, ..ended(&draft, "ab") };
    check_written(&shelf, &mut events, &other).await;
    assert_eq!(shelf.row("m").await.status, MessageStatus::Complete, "an end is for ever");
}

#[tokio::test(start_paused = true)]
async fn b07_a_structural_update_waits_for_the_write_under_way_and_comes_after_it() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    let hold = shelf.hold();
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    sleep(WINDOW + MS).await;
    let (store, end) = (shelf.store.clone(), ended(&draft, "ab"));
    let update = beside(async move { store.update(end).await });
    settle().await;
    assert!(!update.is_finished());
    drop(hold);
    update.await.unwrap().unwrap();
    let told = updates(&mut events);
    assert_eq!(told.iter().map(|message| texts(message)).collect::<Vec<_>>(), ["a", "ab"]);
    check_versions(&told);
}

#[tokio::test(start_paused = true)]
async fn b08_a_saturated_subscriber_misses_what_must_be_delivered_and_drops_nothing() {
    let feed = FeedOptions { capacity: 1, ..FeedOptions::default() };
    let shelf = Shelf::with(StoreOptions { feed, ..StoreOptions::default() }).await;
    let draft = shelf.draft("s", "m").await;
    let mut saturated = shelf.store.subscribe();
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    sleep(WINDOW + MS).await;
    shelf.store.update(ended(&draft, "ab")).await.unwrap();
    let counts = shelf.store.feed_counts();
    assert_eq!((counts.dropped, counts.missed), (0, 1));
    assert!(matches!(saturated.next().await, Some(Heard::Value(MessageEvent::Updated(_)))));
    assert_eq!(saturated.next().await, Some(Heard::Lost(1)), "it knows that it has to look");
    assert_eq!(shelf.text("m").await, "ab");
}

#[tokio::test(start_paused = true)]
async fn b08_who_waits_for_a_subscriber_keeps_nobody_else_waiting() {
    let feed = FeedOptions { capacity: 1, patience: HOUR };
    let shelf = Shelf::with(StoreOptions { feed, ..StoreOptions::default() }).await;
    let (one, two) = (shelf.draft("s", "one").await, shelf.draft("s", "two").await);
    let saturated = shelf.store.subscribe();
    shelf.store.update(saying(&one, "a")).await.unwrap();
    sleep(WINDOW + MS).await;
    let (store, end) = (shelf.store.clone(), ended(&one, "ab"));
    let update = beside(async move { store.update(end).await });
    settle().await;
    assert!(!update.is_finished(), "the subscriber has no room");
    shelf.store.update(saying(&two, "2")).await.unwrap();
    shelf.store.flush(&two.id).await.unwrap();
    assert_eq!((shelf.text("one").await.as_str(), shelf.text("two").await.as_str()), ("ab", "2"));
    drop(saturated);
    update.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b09_however_flushes_race_no_reader_sees_a_version_go_back() {
    let feed = FeedOptions { capacity: 4096, ..FeedOptions::default() };
    let shelf = Shelf::with(StoreOptions { feed, ..StoreOptions::default() }).await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    let flusher = |store: MessageStore, draft: Message| async move {
        for n in 0..1000 {
            store.update(saying(&draft, &n.to_string())).await.unwrap();
            store.flush(&draft.id).await.unwrap();
        }
    };
    let flushers: Vec<_> =
        (0..2).map(|_| beside(flusher(shelf.store.clone(), draft.clone()))).collect();
    let (store, id) = (shelf.store.clone(), draft.id.clone());
    let reader = beside(async move {
        let mut last = Seq::ZERO;
        while last.0 < 1000 {
            let version = store.get(&id).await.unwrap().unwrap().version;
            assert!(version >= last, "{version} after {last}");
            last = version;
        }
    });
    for task in flushers.into_iter().chain([reader]) {
        task.await.unwrap();
    }
    let told = updates(&mut events);
    check_versions(&told);
    assert!(told.len() >= 1000, "{}", told.len());
}
