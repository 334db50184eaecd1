//! Sessions that are exported and imported.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use segue_core::{MessageId, fold::said};
use segue_engine::{
    CreateMessage, ImportError, MessageQuery, Retain, RunQuery, SearchQuery, SessionQuery,
    SessionView, Settings, StartRun, UpdateSession,
};
use serde_json::{Value, json};

use super::support::*;

fn request(input: &str) -> StartRun {
    let (session, input) = (Some(session_id("s")), json!(input));
    StartRun { session, input, ..StartRun::of(agent("puppet")) }
}

impl Stage {
    async fn ended_turn(&self, request: StartRun, answer: &str) -> segue_engine::RunView {
        let run = self.engine.start(tenant(), request).await.unwrap().run;
        let strings = self.puppet.strings(&run.id).await;
        strings.give(text(answer)).await;
        strings.finish().await;
        self.follow(&run.id).await;
        run
    }

    async fn note(&self, id: &str, words: &str) {
        let said = said::one(&json!({"role": "user", "id": id, "content": words})).unwrap();
        let request = CreateMessage { said, is_summary: false, replaces: None };
        self.engine.create_message(tenant(), &session_id("s"), request).await.unwrap();
    }

    fn export(&self) -> Vec<u8> {
        let mut export = self.engine.export_session(tenant(), &session_id("s")).unwrap().unwrap();
        let mut all = Vec::new();
        while let Some(lines) = export.next_lines().unwrap() {
            all.extend_from_slice(&lines);
        }
        all
    }

    /// Imports, in pieces of a few bytes.
    async fn import(&self, bytes: &[u8]) -> Result<SessionView, ImportError> {
        let pieces: Vec<_> = bytes.chunks(77).map(Bytes::copy_from_slice).collect();
        let pieces = pieces.into_iter().map(Ok::<_, Infallible>);
        self.engine.import_session(tenant(), stream::iter(pieces)).await
    }

    /// Everything that is to be seen of the session and its runs.
    async fn seen(&self) -> Value {
        let session = Some(session_id("s"));
        let query =
            MessageQuery { session: session.clone(), superseded: true, ..MessageQuery::default() };
        let messages = self.engine.messages(tenant(), query).await.unwrap().data;
        let query = RunQuery { session, ..RunQuery::default() };
        let runs = self.engine.runs(tenant(), query).await.unwrap().data;
        let mut events = Vec::new();
        for run in &runs {
            let info = self.journal.info(&Self::stream(&run.id)).unwrap();
            events.push(self.follow_from(&run.id, info.available_from).await);
        }
        let view = self.engine.session(tenant(), &session_id("s")).await.unwrap();
        json!({"session": view, "messages": messages, "runs": runs, "events": events})
    }

    /// That nothing of the session is there, nor of the run.
    async fn sees_nothing(&self, run: &str) {
        assert_eq!(self.engine.session(tenant(), &session_id("s")).await.unwrap(), None);
        assert_eq!(self.engine.run(tenant(), &run_id(run)).await.unwrap(), None);
        assert!(self.engine.attach(tenant(), &run_id(run)).is_err());
        let page = self.engine.sessions(tenant(), SessionQuery::default()).await.unwrap();
        assert_eq!(page.data, []);
    }
}

fn named(name: &str, input: &str) -> StartRun {
    StartRun { run: Some(run_id(name)), ..request(input) }
}

/// A session with everything in it that travels.
async fn filled() -> Stage {
    let stage = Stage::new().await;
    stage.note("hello", "hello").await;
    let first = stage.ended_turn(named("r1", "one"), "1 of them").await;
    let replaces = Some(first.message_id.clone());
    let second =
        stage.ended_turn(StartRun { replaces, input: Value::Null, ..named("r2", "") }, "2").await;
    let continues = Some(second.id.clone());
    stage.ended_turn(StartRun { continues, input: Value::Null, ..named("r3", "") }, "3").await;
    let (title, metadata) = (Some(Some("Title".to_owned())), Some(json!({"a": 1})));
    let update = UpdateSession { title, metadata };
    stage.engine.update_session(tenant(), &session_id("s"), update).await.unwrap();
    stage
}

#[tokio::test(start_paused = true)]
async fn what_is_imported_is_what_was_exported() {
    let stage = filled().await;
    let export = stage.export();
    let other = Stage::new().await;
    let view = other.import(&export).await.unwrap();
    assert_eq!(Some(view), stage.engine.session(tenant(), &session_id("s")).await.unwrap());
    assert_eq!(other.seen().await, stage.seen().await);
    assert_eq!(other.export(), export);
    let query = SearchQuery { text: "hello".into(), ..SearchQuery::default() };
    assert_eq!(other.engine.search(tenant(), query).await.unwrap().data.len(), 1);
    other.ended_turn(named("r4", "four"), "4").await;
    let run = other.engine.runs(tenant(), RunQuery::default()).await.unwrap().data;
    assert_eq!(run.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_or_not_whole_does_not_travel() {
    let stage = filled().await;
    stage.note("secret", "a secret").await;
    stage.engine.delete_message(tenant(), &MessageId::parse("secret").unwrap()).await.unwrap();
    let before = stage.seen().await;
    let live = stage.engine.start(tenant(), named("live", "live")).await.unwrap().run;
    let strings = stage.puppet.strings(&live.id).await;
    strings.give(text("on its way")).await;
    stage.sees(&live.id, "text.delta").await;
    let export = String::from_utf8(stage.export()).unwrap();
    assert!(!export.contains("a secret"), "{export}");
    assert!(!export.contains("on its way"));
    let other = Stage::new().await;
    other.import(export.as_bytes()).await.unwrap();
    let after = other.seen().await;
    assert_eq!((&after["runs"], &after["events"]), (&before["runs"], &before["events"]));
    let count = |seen: &Value| seen["messages"].as_array().unwrap().len();
    assert_eq!(count(&after), count(&before) + 1, "with what the live run was asked");
}

#[tokio::test(start_paused = true)]
async fn a_trimmed_run_keeps_its_message_and_its_numbers() {
    let retain = Retain { runs: 1, ..Retain::default() };
    let settings = Settings { retain, ..Settings::default() };
    let clock = Arc::new(TickingClock::default());
    let stage = Stage::with(memory_journal(), Puppet::new(true), settings, clock).await;
    stage.ended_turn(named("r1", "one"), "1").await;
    stage.ended_turn(named("r2", "two"), "2").await;
    let of_first = Stage::stream(&run_id("r1"));
    while stage.journal.info(&of_first).unwrap().available_from.0 == 1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let other = Stage::new().await;
    other.import(&stage.export()).await.unwrap();
    assert_eq!(other.seen().await, stage.seen().await);
    let [there, here] = [&other, &stage].map(|stage| {
        let info = stage.journal.info(&of_first).unwrap();
        (info.available_from, info.tail)
    });
    assert_eq!(there, here);
    assert_eq!(other.export(), stage.export());
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_cut_anywhere_leaves_nothing_and_can_be_tried_again() {
    let stage = filled().await;
    let export = stage.export();
    let other = Stage::new().await;
    let cuts = (0..export.len()).step_by(97).chain([export.len() - 1]);
    for cut in cuts {
        let refused = other.import(&export[..cut]).await;
        assert!(matches!(refused, Err(ImportError::Cut { .. })), "{cut}: {refused:?}");
        other.sees_nothing("r1").await;
    }
    other.import(&export).await.unwrap();
    assert_eq!(other.seen().await, stage.seen().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_foreign_newer_altered_or_taken_is_refused_by_its_name() {
    let stage = filled().await;
    let export = String::from_utf8(stage.export()).unwrap();
    let lines: Vec<&str> = export.split_inclusive('\n').collect();
    let other = Stage::new().await;
    let refused = async |text: String| {
        let error = other.import(text.as_bytes()).await.unwrap_err();
        other.sees_nothing("r1").await;
        error.to_string()
    };
    let without = |at: usize| {
        let kept = lines.iter().enumerate().filter(|(index, _)| *index != at);
        kept.map(|(_, line)| *line).collect::<String>()
    };
    for (text, told) in [
        ("{}\n".to_owned(), "line 1 is no line of an export"),
        ("hello\n".to_owned(), "line 1 is no line of an export"),
        (without(0), "line 1 is not the head of an export"),
        (lines[0].repeat(2), "line 2 is a second head"),
        (without(2), "line 3 has the seq 3, 2 is to come"),
        (
            export.replacen("export\":1", "export\":2", 1),
            "the export has the format 2, this server reads up to 1",
        ),
        (export.replacen("1 of them", "2 of them", 1), "the export was altered"),
        (export.replacen("\"r3\"", "\"r9\"", 1), "is of a run that is not to come"),
        (export.clone() + lines[1], "comes after the end"),
        (without(lines.len() - 2), "the export was altered"),
        (
            export.replacen("\"session_id\":\"s\"", "\"session_id\":\"t\"", 1),
            "does not begin a run of this session",
        ),
    ] {
        let error = refused(text).await;
        assert!(error.contains(told), "{error}, not {told}");
    }
    other.ended_turn(StartRun { session: None, ..named("r2", "mine") }, "x").await;
    let taken = other.import(export.as_bytes()).await;
    assert_eq!(taken, Err(ImportError::RunExists(run_id("r2"))));
    assert_eq!(
        stage.import(export.as_bytes()).await,
        Err(ImportError::SessionExists(session_id("s")))
    );
    let third = Stage::new().await;
    let said = said::one(&json!({"role": "user", "id": "hello", "content": "x"})).unwrap();
    let request = CreateMessage { said, is_summary: false, replaces: None };
    third.engine.create_message(tenant(), &session_id("t"), request).await.unwrap();
    let taken = third.import(export.as_bytes()).await;
    assert_eq!(taken, Err(ImportError::MessageExists(MessageId::parse("hello").unwrap())));
    assert_eq!(third.engine.session(tenant(), &session_id("s")).await.unwrap(), None);
    assert!(third.engine.attach(tenant(), &run_id("r1")).is_err());
}

#[test]
fn after_a_kill_nothing_of_an_import_is_left() {
    let killed = |life: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap().block_on(life);
    };
    let journal = memory_journal();
    let (first, second) = (journal.clone(), journal.clone());
    let export = Arc::new(std::sync::OnceLock::<Vec<u8>>::new());
    let (given, taken) = (export.clone(), export);
    killed(Box::pin(async move {
        let source = filled().await;
        given.set(source.export()).unwrap();
        let bytes = given.get().unwrap();
        let stage = Stage::over(first.clone(), Puppet::new(true)).await;
        // The body never ends.
        let half = Bytes::copy_from_slice(&bytes[..bytes.len() * 2 / 3]);
        let body = stream::once(async move { Ok::<_, Infallible>(half) });
        let body = futures_util::StreamExt::chain(body, stream::pending());
        let import = stage.engine.import_session(tenant(), body);
        let staged = async {
            while first.info(&Stage::stream(&run_id("r1"))).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            done = import => panic!("{done:?}"),
            () = staged => {}
        }
        stage.sees_nothing("r1").await;
    }));
    killed(Box::pin(async move {
        let stage = Stage::over(second.clone(), Puppet::new(true)).await;
        stage.sees_nothing("r1").await;
        while second.info(&Stage::stream(&run_id("r1"))).is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stage.import(taken.get().unwrap()).await.unwrap();
        assert_eq!(stage.export(), *taken.get().unwrap());
    }));
}
