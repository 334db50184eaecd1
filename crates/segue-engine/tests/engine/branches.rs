//! Messages that take the place of others, that go on, and that are found.

use segue_core::{
    MessageId, RunId, Seq,
    fold::{Message, MessageStatus, said},
};
use segue_engine::{
    CreateMessage, ForkSession, MessageError, MessageQuery, QueryError, RunView, SearchQuery,
    SessionError, StartError, StartRun,
};
use serde_json::{Value, json};

use super::support::*;

fn message_id(id: &str) -> MessageId {
    MessageId::parse(id).unwrap()
}

fn request(input: Value) -> StartRun {
    StartRun { session: Some(session_id("s")), input, ..StartRun::of(agent("push")) }
}

fn said(id: &str, text: &str) -> CreateMessage {
    let said = said::one(&json!({"role": "user", "id": id, "content": text})).unwrap();
    CreateMessage { said, is_summary: false, replaces: None }
}

impl Stage {
    async fn begin(&self, request: StartRun) -> RunView {
        self.engine.start(tenant(), request).await.unwrap().run
    }

    /// A run that says this and finishes.
    async fn answer(&self, request: StartRun, text: &str) -> RunView {
        let run = self.begin(request).await;
        self.append(&run.id, text).await;
        self.finish(&run.id).await;
        run
    }

    async fn finish(&self, run: &RunId) {
        let finished = vec![of_type("run.finished")];
        self.engine.append(tenant(), run, finished, None).await.unwrap().await.unwrap();
    }

    async fn conversation(&self) -> Vec<Message> {
        let session = Some(session_id("s"));
        let query = MessageQuery { session, ..MessageQuery::default() };
        self.engine.messages(tenant(), query).await.unwrap().data
    }

    async fn texts(&self) -> Vec<String> {
        let messages = self.conversation().await;
        messages.iter().map(|message| message.parts.texts().collect()).collect()
    }

    async fn found(&self, text: &str) -> Vec<String> {
        let query = SearchQuery { text: text.into(), ..SearchQuery::default() };
        let found = self.engine.search(tenant(), query).await.unwrap().data;
        found.into_iter().map(|hit| hit.message_id.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_regenerated_answer_takes_the_place_of_the_old_one() {
    let stage = Stage::new().await;
    let old = stage.answer(request(json!("question")), "old").await;
    let replaces = Some(old.message_id.clone());
    let new = stage.answer(StartRun { replaces, ..request(Value::Null) }, "new").await;
    assert_eq!(stage.texts().await, ["question", "new"]);
    let kept = stage.engine.message(tenant(), &old.message_id).await.unwrap().unwrap();
    assert_eq!(kept.superseded_by, Some(new.message_id));
    assert_eq!(kept.status, MessageStatus::Complete);
}

#[tokio::test(start_paused = true)]
async fn an_edited_question_takes_the_place_of_all_that_followed() {
    let stage = Stage::new().await;
    let question = json!([{"role": "user", "id": "q", "content": "question"}]);
    stage.answer(request(question), "answer").await;
    stage.answer(request(json!("more")), "and more").await;
    let replaces = Some(message_id("q"));
    let input = json!([{"role": "user", "id": "q2", "content": "edited"}]);
    stage.answer(StartRun { replaces: replaces.clone(), ..request(input) }, "other").await;
    assert_eq!(stage.texts().await, ["edited", "other"]);
    let kept = stage.engine.message(tenant(), &message_id("q")).await.unwrap().unwrap();
    assert_eq!(kept.superseded_by, Some(message_id("q2")));
    let again = stage.engine.start(tenant(), StartRun { replaces, ..request(json!("x")) }).await;
    assert_eq!(again, Err(StartError::NothingToReplace(message_id("q"))));
    assert_eq!(stage.texts().await, ["edited", "other"]);
}

#[tokio::test(start_paused = true)]
async fn a_continued_message_is_one_that_two_runs_make() {
    let stage = Stage::new().await;
    let first = stage.answer(request(json!("question")), "one ").await;
    let before = stage.engine.message(tenant(), &first.message_id).await.unwrap().unwrap();
    let continues = Some(first.id.clone());
    let go_on = StartRun { continues, ..request(Value::Null) };
    let second = stage.begin(go_on.clone()).await;
    assert_eq!((&second.message_id, &second.continues), (&first.message_id, &Some(first.id)));
    stage.append(&second.id, "two").await;
    let whole = stage.engine.message(tenant(), &first.message_id).await.unwrap().unwrap();
    assert_eq!(whole.parts.texts().collect::<String>(), "one two");
    assert_eq!((whole.status, &whole.run_id), (MessageStatus::Streaming, &Some(second.id.clone())));
    assert!(whole.version > before.version);
    let shown = stage.engine.run(tenant(), &second.id).await.unwrap().unwrap();
    assert_eq!(shown.continues, second.continues);
    stage.finish(&second.id).await;
    let third = StartRun { continues: Some(second.id.clone()), ..go_on };
    stage.answer(third, " three").await;
    assert_eq!(stage.texts().await, ["question", "one two three"]);
    // A piece is no message of its own.
    let own = MessageId::of_run(&second.id);
    assert_eq!(stage.engine.message(tenant(), &own).await.unwrap(), None);
    assert_eq!(stage.found("two").await, [first.message_id.to_string()]);
    stage.engine.delete_message(tenant(), &first.message_id).await.unwrap();
    assert_eq!(stage.texts().await, ["question"]);
    assert_eq!(stage.found("two").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_go_on_or_be_replaced_is_refused_and_stores_nothing() {
    let stage = Stage::new().await;
    let first = stage.begin(request(json!("question"))).await;
    let go_on = |run: &str| StartRun { continues: RunId::parse(run).ok(), ..request(Value::Null) };
    let start = |request| stage.engine.start(tenant(), request);
    assert_eq!(start(go_on(first.id.as_str())).await, Err(StartError::Busy(first.id.clone())));
    stage.finish(&first.id).await;
    let nobody = start(go_on("nobody")).await;
    assert_eq!(nobody, Err(StartError::NothingToContinue(RunId::parse("nobody").unwrap())));
    let elsewhere = StartRun { session: Some(session_id("t")), ..go_on(first.id.as_str()) };
    assert_eq!(start(elsewhere).await, Err(StartError::NothingToContinue(first.id.clone())));
    let both = StartRun { replaces: Some(message_id("q")), ..go_on(first.id.as_str()) };
    assert_eq!(start(both).await, Err(StartError::ReplacesAndContinues));
    stage.engine.delete_message(tenant(), &first.message_id).await.unwrap();
    let deleted = start(go_on(first.id.as_str())).await;
    assert_eq!(deleted, Err(StartError::NothingToContinue(first.id)));
    assert_eq!(stage.texts().await, ["question"]);
    assert_eq!(stage.engine.session(tenant(), &session_id("t")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn messages_are_made_at_the_end_of_a_session_and_deleted() {
    let stage = Stage::new().await;
    let session = session_id("s");
    let create = |request| stage.engine.create_message(tenant(), &session, request);
    let made = create(said("a", "one")).await.unwrap();
    assert_eq!((made.version, made.session_id.as_ref()), (Seq(2), Some(&session)));
    assert_eq!(create(said("a", "again")).await, Err(MessageError::Exists));
    let replaces = Some(message_id("nobody"));
    let refused = create(CreateMessage { replaces, ..said("b", "two") }).await;
    assert_eq!(refused, Err(MessageError::NothingToReplace(message_id("nobody"))));
    let replaces = Some(message_id("a"));
    let summary = create(CreateMessage { replaces, is_summary: true, ..said("b", "two") }).await;
    assert!(summary.unwrap().is_summary);
    assert_eq!(stage.texts().await, ["two"]);
    stage.engine.delete_message(tenant(), &message_id("b")).await.unwrap();
    let gone = stage.engine.delete_message(tenant(), &message_id("b")).await;
    assert_eq!(gone, Err(MessageError::NotFound));
    assert_eq!(stage.texts().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn words_are_found_in_whole_messages_the_newest_first() {
    let stage = Stage::new().await;
    let session = session_id("s");
    for (id, text) in [("a", "The quick brown fox"), ("b", "a lazy FOX, quick")] {
        stage.engine.create_message(tenant(), &session, said(id, text)).await.unwrap();
    }
    let run = stage.begin(request(Value::Null)).await;
    stage.append(&run.id, "foxes are not found yet").await;
    assert_eq!(stage.found("fox").await, ["b", "a"]);
    assert_eq!(stage.found("fox*").await, ["b", "a"]);
    stage.finish(&run.id).await;
    assert_eq!(stage.found("fox*").await, [run.message_id.as_str(), "b", "a"]);
    assert_eq!(stage.found("\"quick brown\"").await, ["a"]);
    assert_eq!(stage.found("quick lazy").await, ["b"]);
    let query = |text: &str| SearchQuery { text: text.into(), limit: 1, ..SearchQuery::default() };
    let search = |query| stage.engine.search(tenant(), query);
    let page = search(query("fox")).await.unwrap();
    assert_eq!(page.data[0].snippet, "a lazy FOX, quick");
    let rest = search(SearchQuery { after: page.next, ..query("fox") }).await.unwrap();
    assert_eq!((rest.data[0].message_id.as_str(), rest.next), ("a", None));
    let elsewhere = SearchQuery { session: Some(session_id("t")), ..query("fox") };
    assert_eq!(search(elsewhere).await.unwrap().data, []);
    assert_eq!(search(query("\" - \"")).await, Err(QueryError::NoWords));
    // What is superseded is no part of the conversation.
    let replaces = Some(message_id("b"));
    let edited = CreateMessage { replaces, ..said("c", "edited fox") };
    stage.engine.create_message(tenant(), &session, edited).await.unwrap();
    assert_eq!(stage.found("fox").await, ["c", "a"]);
    stage.engine.delete_session(tenant(), &session).await.unwrap();
    assert_eq!(stage.found("fox").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_fork_has_the_conversation_up_to_a_message_and_goes_its_own_way() {
    let stage = Stage::new().await;
    let first = stage.answer(request(json!("one")), "1").await;
    stage.answer(request(json!("two")), "2").await;
    let growing = stage.begin(request(json!("three"))).await;
    let fork = |at: Option<&MessageId>, id: &str| {
        let (at, id) = (at.cloned(), Some(session_id(id)));
        let request = ForkSession { at, id, ..ForkSession::default() };
        let stage = &stage;
        async move { stage.engine.fork_session(tenant(), &session_id("s"), request).await }
    };
    let made = fork(Some(&first.message_id), "f").await.unwrap();
    let from = json!({"session_id": "s", "message_id": first.message_id});
    assert_eq!(made.metadata["forked_from"], from);
    let query = |id| MessageQuery { session: Some(session_id(id)), ..MessageQuery::default() };
    let messages = async |id| stage.engine.messages(tenant(), query(id)).await.unwrap().data;
    let texts = async |id| {
        let text = |message: &Message| message.parts.texts().collect::<String>();
        messages(id).await.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(texts("f").await, ["one", "1"]);
    let copy = &messages("f").await[1];
    assert_eq!((copy.run_id.as_ref(), copy.status), (None, MessageStatus::Complete));
    assert_ne!(copy.id, first.message_id);
    let input = json!("other");
    stage.answer(StartRun { session: Some(session_id("f")), ..request(input) }, "way").await;
    assert_eq!(texts("f").await, ["one", "1", "other", "way"]);
    fork(None, "all").await.unwrap();
    assert_eq!(texts("all").await, ["one", "1", "two", "2", "three"]);
    assert_eq!(fork(None, "f").await, Err(SessionError::Exists));
    let nobody = message_id("nobody");
    assert_eq!(fork(Some(&nobody), "g").await, Err(SessionError::NoMessage(nobody.clone())));
    let growing = growing.message_id;
    assert_eq!(fork(Some(&growing), "g").await, Err(SessionError::NotWhole(growing.clone())));
    assert_eq!(stage.engine.session(tenant(), &session_id("g")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_taken_back_leaves_no_message() {
    let stage = Stage::new().await;
    let first = stage.answer(request(json!("one")), "1").await;
    let running = stage.begin(request(json!("two"))).await;
    stage.append(&running.id, "2").await;
    let deleted = stage.engine.roll_back(tenant(), &running.id).await.unwrap();
    assert_eq!((deleted.len(), &deleted[1]), (2, &running.message_id));
    assert_eq!(stage.texts().await, ["one", "1"]);
    assert_eq!(stage.status(&running.id).await, "stopped");
    assert_eq!(stage.engine.roll_back(tenant(), &running.id).await, Ok(Vec::new()));
    let go_on = StartRun { continues: Some(first.id.clone()), ..request(Value::Null) };
    let second = stage.answer(go_on, " more").await;
    assert_eq!(stage.texts().await, ["one", "1 more"]);
    stage.engine.roll_back(tenant(), &second.id).await.unwrap();
    assert_eq!(stage.texts().await, ["one", "1"]);
    let nobody = stage.engine.roll_back(tenant(), &run_id("nobody")).await;
    assert_eq!(nobody, Err(MessageError::NoRun));
}
