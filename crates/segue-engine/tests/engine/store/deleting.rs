//! What is deleted stays gone, for readers and for subscribers.

use segue_engine::{StartRun, StoreError};
use tokio::time::sleep;

use super::*;

fn deleted(session: &str, id: &str) -> MessageEvent {
    MessageEvent::Deleted { session_id: session_id(session), message_id: message_id(id) }
}

#[tokio::test(start_paused = true)]
async fn messages_are_made_and_told() {
    let shelf = Shelf::new().await;
    let mut events = shelf.store.subscribe();
    let said = said::one(&json!({"role": "user", "content": "hi", "id": "mine"})).unwrap();
    let made = shelf.store.create(&session_id("s"), said.clone()).await.unwrap();
    assert_eq!((made.id.as_str(), made.status), ("mine", MessageStatus::Complete));
    assert_eq!(heard(&mut events), [MessageEvent::Created(Arc::new(made))]);
    let again = shelf.store.create(&session_id("t"), said).await;
    assert_eq!(again, Err(StoreError::Message(segue_engine::MessageError::Exists)));
    let draft = shelf.draft("s", "draft").await;
    assert_eq!(draft.status, MessageStatus::Streaming);
    assert_eq!(shelf.store.in_hand(), 1, "only what goes on is kept in memory");
    let unknown = Message { id: message_id("nobody"), ..draft };
    assert_eq!(shelf.store.update(unknown).await, Err(StoreError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn what_a_run_makes_is_read_and_not_changed() {
    let shelf = Shelf::new().await;
    let request = StartRun { session: Some(session_id("s")), ..StartRun::of(agent("push")) };
    let run = shelf.stage.engine.start(tenant(), request).await.unwrap().run;
    shelf.stage.append(&run.id, "hello").await;
    let message = shelf.store.last_assistant(&session_id("s")).await.unwrap().unwrap();
    assert_eq!(texts(&message), "hello");
    assert_eq!(shelf.store.update(saying(&message, "x")).await, Err(StoreError::OfRun));
    let mut events = shelf.store.subscribe();
    shelf.store.delete(&message.id).await.unwrap();
    assert_eq!(heard(&mut events), [deleted("s", message.id.as_str())]);
    assert_eq!(shelf.store.get(&message.id).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn o01_what_was_unwritten_of_a_deleted_message_goes_with_it() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    shelf.store.update(saying(&draft, "unwritten")).await.unwrap();
    shelf.store.delete(&draft.id).await.unwrap();
    shelf.store.flush_all().await.unwrap();
    sleep(WINDOW * 2).await;
    assert_eq!(shelf.store.get(&draft.id).await, Ok(None));
    assert_eq!((heard(&mut events), shelf.records()), (vec![deleted("s", "m")], 0));
    assert_eq!(shelf.store.in_hand(), 0);
    assert_eq!(shelf.store.update(saying(&draft, "late")).await, Err(StoreError::NotFound));
    assert_eq!(shelf.store.delete(&draft.id).await, Err(StoreError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn o02_a_deletion_waits_for_the_write_under_way_and_is_told_last() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    shelf.store.update(saying(&draft, "a")).await.unwrap();
    let hold = shelf.hold();
    sleep(WINDOW + MS).await;
    shelf.store.update(saying(&draft, "ab")).await.unwrap();
    let (store, id, waiting) = (shelf.store.clone(), draft.id.clone(), shelf.store.clone());
    let flush = beside({
        let id = id.clone();
        async move { waiting.flush(&id).await }
    });
    settle().await;
    let delete = beside(async move { store.delete(&id).await });
    settle().await;
    assert!(!delete.is_finished());
    assert_eq!(shelf.store.update(saying(&draft, "late")).await, Err(StoreError::NotFound));
    drop(hold);
    delete.await.unwrap().unwrap();
    flush.await.unwrap().unwrap();
    sleep(WINDOW * 2).await;
    let told = heard(&mut events);
    assert!(matches!(&told[..], [MessageEvent::Updated(_), last] if *last == deleted("s", "m")));
    assert_eq!(shelf.store.get(&draft.id).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_leaves_what_was_unwritten() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    shelf.store.update(saying(&draft, "unwritten")).await.unwrap();
    shelf.refuse(1);
    assert!(shelf.store.delete(&draft.id).await.is_err());
    sleep(WINDOW).await;
    assert_eq!(shelf.text("m").await, "unwritten");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_goes_on_without_who_asked_for_it() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    let hold = shelf.hold();
    assert!(tokio::time::timeout(MS, shelf.store.delete(&draft.id)).await.is_err());
    drop(hold);
    settle().await;
    assert_eq!(shelf.store.get(&draft.id).await, Ok(None));
    assert_eq!(heard(&mut events), [deleted("s", "m")]);
}

#[tokio::test(start_paused = true)]
async fn o03_what_was_unwritten_of_a_deleted_session_goes_and_others_stay() {
    let shelf = Shelf::new().await;
    let (gone, stays) = (shelf.draft("s", "gone").await, shelf.draft("t", "stays").await);
    let mut events = shelf.store.subscribe();
    for draft in [&gone, &stays] {
        shelf.store.update(saying(draft, "x")).await.unwrap();
    }
    shelf.store.delete_session(&session_id("s")).await.unwrap();
    assert_eq!(shelf.store.update(saying(&gone, "late")).await, Err(StoreError::NotFound));
    sleep(WINDOW * 2).await;
    let told = heard(&mut events);
    let session_id = session_id("s");
    assert!(matches!(&told[..], [MessageEvent::SessionDeleted { session_id: of },
        MessageEvent::Updated(message)] if *of == session_id && message.id == stays.id));
    assert_eq!(shelf.store.get(&gone.id).await, Ok(None));
    assert_eq!((shelf.text("stays").await.as_str(), shelf.store.in_hand()), ("x", 1));
    assert_eq!(shelf.store.delete_session(&session_id).await, Err(StoreError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn o03_a_session_that_somebody_else_deletes_leaves_nothing_to_be_tried_again() {
    let shelf = Shelf::new().await;
    let draft = shelf.draft("s", "m").await;
    let mut events = shelf.store.subscribe();
    shelf.store.update(saying(&draft, "unwritten")).await.unwrap();
    shelf.stage.engine.delete_session(tenant(), &session_id("s")).await.unwrap();
    assert_eq!(shelf.store.flush(&draft.id).await, Ok(()));
    let late = shelf.store.update(ended(&draft, "late")).await;
    assert_eq!((late, shelf.store.in_hand()), (Err(StoreError::NotFound), 0));
    assert_eq!((heard(&mut events), shelf.store.counts().failures), (vec![], 0));
}
