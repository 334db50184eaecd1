use segue_core::{
    AgentName, MessageId, RunId, RunStatus, SessionId, TenantId,
    lifecycle::{Lifecycle, StartMark},
};
use segue_journal::{
    Batch, Epoch, MemoryJournal, MemoryOptions, Op, Part,
    views::{MemoryViews, Value as Cell},
};
use serde_json::json;

use super::*;
use crate::SystemClock;

/// A session with a run, as its stream says it.
fn session_records() -> Vec<bytes::Bytes> {
    let run_id = RunId::parse("r").expect("valid");
    let changed = Lifecycle::SessionChanged { title: Some(Some("t".into())), metadata: None };
    let created = Lifecycle::RunCreated {
        message_id: MessageId::of_run(&run_id),
        run_id,
        agent: AgentName::parse("demo").expect("valid"),
        status: RunStatus::Running,
        metadata: json!({}),
        mark: StartMark::default(),
        continues: None,
        replaces: None,
    };
    vec![changed.encode(), created.encode()]
}

async fn commit(journal: &dyn Journal, part: Part) {
    let permit = journal.reserve(&part.stream, part.bytes()).await.expect("room");
    journal.submit(permit, Batch { parts: vec![part] }).await.expect("committed");
}

/// The catalogue says that a session is erased, but a fold may have read it just before.
#[tokio::test]
async fn rows_go_with_a_stream_that_is_erased_while_others_are_folded() {
    let journal = MemoryJournal::new(MemoryOptions::new(Arc::new(SystemClock)));
    let views = MemoryViews::new(SCHEMA).expect("a schema");
    let tenant = TenantId::parse("default").expect("valid");
    let stream = StreamKey::session(&tenant, &SessionId::parse("s").expect("valid"));
    let key = |id: &str| Cell::Text(rows::key(&tenant, id));
    let streams = BTreeSet::from([stream.clone()]);
    let fold = async || {
        let (before, position) = (views.position().expect("views"), journal.position());
        fold_all(&journal, &views, &streams, before, position).await.expect("folded");
    };

    commit(&journal, Part::create(stream.clone(), Epoch(0), session_records())).await;
    fold().await;
    assert!(views.get(SESSIONS, &key("s")).expect("views").is_some());
    assert!(views.get(RUNS, &key("r")).expect("views").is_some());

    let erased = Part { stream: stream.clone(), op: Op::Delete, epoch: Epoch(u64::MAX) };
    commit(&journal, erased).await;
    fold().await;
    assert_eq!(views.get(SESSIONS, &key("s")), Ok(None));
    assert_eq!(views.get(RUNS, &key("r")), Ok(None));
    assert_eq!(views.checkpoint(&stream), Ok(segue_core::Seq::ZERO));
}
