//! Messages of every role: what a session's records make of them.

use segue_core::{
    MessageId, Seq,
    fold::{Message, MessageStatus, Role, said},
    lifecycle::Lifecycle,
};
use segue_engine::{MessageQuery, RunQuery, StartRun};
use segue_journal::{Batch, Epoch, Part, StreamKey};
use serde_json::{Value, json};

use super::support::*;

fn message_id(id: &str) -> MessageId {
    MessageId::parse(id).unwrap()
}

/// A message that no run makes.
fn said_by(role: &str, id: &str, text: &str) -> Message {
    let said = said::one(&json!({"role": role, "content": text})).unwrap();
    let at = segue_core::Timestamp::from_millis(7);
    Message::said(message_id(id), session_id("s"), said, at)
}

fn created(role: &str, id: &str, text: &str) -> Lifecycle {
    Lifecycle::MessageCreated { message: Box::new(said_by(role, id, text)), replaces: None }
}

async fn write(stage: &Stage, records: &[Lifecycle]) {
    let stream = StreamKey::session(tenant(), &session_id("s"));
    let records: Vec<_> = records.iter().map(Lifecycle::encode).collect();
    let exists = stage.journal.info(&stream).is_ok();
    let part = if exists { Part::append } else { Part::create };
    let bytes = records.iter().map(bytes::Bytes::len).sum();
    let permit = stage.journal.reserve(&stream, bytes).await.unwrap();
    let batch = Batch { parts: vec![part(stream, Epoch(0), records)] };
    stage.journal.submit(permit, batch).await.unwrap();
}

async fn list(stage: &Stage, query: MessageQuery) -> Vec<Message> {
    let session = query.session.or_else(|| Some(session_id("s")));
    stage.engine.messages(tenant(), MessageQuery { session, ..query }).await.unwrap().data
}

async fn texts(stage: &Stage, query: MessageQuery) -> Vec<String> {
    let text = |message: &Message| {
        let texts = message.parts.iter().filter_map(segue_core::fold::Part::text);
        texts.map(std::borrow::Cow::into_owned).collect()
    };
    list(stage, query).await.iter().map(text).collect()
}

async fn ask(stage: &Stage, input: Value) -> segue_engine::RunView {
    let session = Some(session_id("s"));
    let request = StartRun { session, input, ..StartRun::of(agent("push")) };
    stage.engine.start(tenant(), request).await.unwrap().run
}

#[tokio::test(start_paused = true)]
async fn a_start_makes_the_messages_of_its_input_and_its_own() {
    let stage = Stage::new().await;
    let input = json!([
        {"role": "system", "content": "be brief"},
        {"role": "user", "parts": [{"type": "text", "text": "hi"}], "id": "mine"},
    ]);
    let run = ask(&stage, input).await;
    let messages = list(&stage, MessageQuery::default()).await;
    let roles: Vec<_> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant]);
    assert_eq!((&messages[1].id, &messages[2].id), (&message_id("mine"), &run.message_id));
    assert_eq!(messages[2].status, MessageStatus::Streaming);
    assert!(messages.iter().all(|message| message.run_id.as_ref() == Some(&run.id)));
    let one = stage.engine.message(tenant(), &message_id("mine")).await.unwrap();
    assert_eq!(one.as_ref(), Some(&messages[1]));
    assert_eq!(stage.engine.message(tenant(), &message_id("x")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn j13_order_is_that_of_the_records_whatever_the_clock_says() {
    let stage = Stage::new().await;
    write(&stage, &[created("user", "b", "one"), created("user", "a", "two")]).await;
    let mut early = said_by("assistant", "0", "three");
    early.created_at = segue_core::Timestamp::from_millis(1);
    write(&stage, &[Lifecycle::MessageCreated { message: Box::new(early), replaces: None }]).await;
    assert_eq!(texts(&stage, MessageQuery::default()).await, ["one", "two", "three"]);
    let newest = MessageQuery { newest_first: true, ..MessageQuery::default() };
    assert_eq!(texts(&stage, newest).await, ["three", "two", "one"]);
    let users = MessageQuery { role: Some(Role::User), ..MessageQuery::default() };
    assert_eq!(texts(&stage, users).await, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn updates_replace_the_whole_message_and_raise_its_version() {
    let stage = Stage::new().await;
    write(&stage, &[created("user", "a", "one"), created("user", "b", "two")]).await;
    let mut changed = said_by("user", "a", "1");
    changed.created_at = segue_core::Timestamp::from_millis(9);
    let unknown = said_by("user", "x", "no");
    let update = |message| Lifecycle::MessageUpdated { message: Box::new(message) };
    write(&stage, &[update(changed), update(unknown)]).await;
    assert_eq!(texts(&stage, MessageQuery::default()).await, ["1", "two"]);
    let now = stage.engine.message(tenant(), &message_id("a")).await.unwrap().unwrap();
    assert_eq!((now.version, now.created_at.as_millis()), (Seq(3), 7));
}

#[tokio::test(start_paused = true)]
async fn o01_what_is_deleted_stays_gone() {
    let stage = Stage::new().await;
    let run = ask(&stage, json!("hi")).await;
    write(&stage, &[created("user", "a", "one")]).await;
    let delete = |id: &MessageId| Lifecycle::MessageDeleted { message_id: id.clone() };
    let late = Lifecycle::MessageUpdated { message: Box::new(said_by("user", "a", "late")) };
    write(&stage, &[delete(&message_id("a")), late, delete(&run.message_id)]).await;
    assert_eq!(texts(&stage, MessageQuery::default()).await, ["hi"]);
    stage.append(&run.id, "late").await;
    assert_eq!(texts(&stage, MessageQuery::default()).await, ["hi"]);
    assert_eq!(stage.engine.message(tenant(), &run.message_id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_replaces_supersedes_all_from_there_on_once() {
    let stage = Stage::new().await;
    let replacing = |id: &str, text: &str, first: &str| Lifecycle::MessageCreated {
        message: Box::new(said_by("user", id, text)),
        replaces: Some(message_id(first)),
    };
    write(&stage, &[created("user", "a", "one"), created("user", "b", "two")]).await;
    // In one batch with what it supersedes, and in another.
    write(&stage, &[created("user", "c", "three"), replacing("d", "2", "b")]).await;
    assert_eq!(texts(&stage, MessageQuery::default()).await, ["one", "2"]);
    write(&stage, &[replacing("e", "1", "a"), replacing("f", "0", "nobody")]).await;
    assert_eq!(texts(&stage, MessageQuery::default()).await, ["1", "0"]);
    let all = MessageQuery { superseded: true, ..MessageQuery::default() };
    let all = list(&stage, all).await;
    let by: Vec<_> = all.iter().map(|message| message.superseded_by.as_ref()).collect();
    let (d, e) = (message_id("d"), message_id("e"));
    assert_eq!(by, [Some(&e), Some(&d), Some(&d), Some(&e), None, None]);
}

#[tokio::test(start_paused = true)]
async fn o03_a_deleted_sessions_messages_go_with_it() {
    let stage = Stage::new().await;
    write(&stage, &[created("user", "a", "one")]).await;
    let other = stage.push("other").await;
    stage.engine.delete_session(tenant(), &session_id("s")).await.unwrap();
    assert_eq!(list(&stage, MessageQuery::default()).await, []);
    assert_eq!(stage.engine.message(tenant(), &message_id("a")).await.unwrap(), None);
    let runs = stage.engine.runs(tenant(), RunQuery::default()).await.unwrap();
    assert_eq!(runs.data.len(), 1);
    assert!(stage.engine.message(tenant(), &other.message_id).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn pages_are_stable_while_the_session_grows() {
    let stage = Stage::new().await;
    for index in 0..7 {
        write(&stage, &[created("user", &format!("m{index}"), &index.to_string())]).await;
    }
    for newest_first in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let session = Some(session_id("s"));
            let query =
                MessageQuery { session, newest_first, after, limit: 3, ..MessageQuery::default() };
            let page = stage.engine.messages(tenant(), query).await.unwrap();
            seen.extend(page.data.into_iter().map(|message| message.id.to_string()));
            after = page.next;
            if after.is_none() {
                break;
            }
            write(&stage, &[created("user", &format!("n{newest_first}{}", seen.len()), "n")]).await;
        }
        let old: Vec<_> = seen.iter().filter(|id| id.starts_with('m')).collect();
        let mut expected: Vec<_> = (0..7).map(|index| format!("m{index}")).collect();
        if newest_first {
            expected.reverse();
        }
        assert_eq!(old, expected.iter().collect::<Vec<_>>());
    }
}
