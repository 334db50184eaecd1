//! Whatever comes in whatever order: the rows are the last states, and nobody hears of the past.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segue_engine::StoreError;
use tokio::time::{Instant, sleep_until};

use super::*;

const MESSAGES: usize = 4;

#[derive(Clone, Debug)]
enum Act {
    Say(usize, u8),
    Call(usize, u8),
    End(usize, u8),
    Delete(usize),
    Flush(usize),
    FlushAll,
    Wait(u64),
    Refuse(usize),
    RefuseSession(usize, bool),
    Hold,
    LetGo,
}

fn act() -> impl Strategy<Value = Act> {
    let which = 0..MESSAGES;
    prop_oneof![
        6 => (which.clone(), any::<u8>()).prop_map(|(which, n)| Act::Say(which, n)),
        2 => (which.clone(), 0..3u8).prop_map(|(which, n)| Act::Call(which, n)),
        1 => (which.clone(), any::<u8>()).prop_map(|(which, n)| Act::End(which, n)),
        1 => which.clone().prop_map(Act::Delete),
        2 => which.prop_map(Act::Flush),
        1 => Just(Act::FlushAll),
        4 => (1..100u64).prop_map(Act::Wait),
        1 => (1..4usize).prop_map(Act::Refuse),
        1 => (0..2usize, any::<bool>()).prop_map(|(s, is)| Act::RefuseSession(s, is)),
        1 => Just(Act::Hold),
        2 => Just(Act::LetGo),
    ]
}

/// What the store has to come to.
#[derive(Default)]
struct Model {
    /// The last state of each message; none of one that is deleted.
    last: BTreeMap<usize, Option<Message>>,
    hold: Option<Hold>,
}

struct Play {
    shelf: Shelf,
    model: Model,
    /// Updates and deletions that wait.
    tasks: Vec<tokio::task::JoinHandle<Result<(), StoreError>>>,
}

fn name(which: usize) -> String {
    format!("m{which}")
}

fn session(which: usize) -> String {
    format!("s{}", which % 2)
}

impl Play {
    async fn new() -> Self {
        let shelf = Shelf::new().await;
        let mut model = Model::default();
        for which in 0..MESSAGES {
            let draft = shelf.draft(&session(which), &name(which)).await;
            model.last.insert(which, Some(draft));
        }
        Self { shelf, model, tasks: Vec::new() }
    }

    /// A task that may wait; it has got as far as it can when this returns.
    async fn begin(&mut self, work: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        self.tasks.push(beside(work));
        settle().await;
    }

    async fn update(&mut self, which: usize, change: impl Fn(&Message) -> Message) {
        let Some(Some(last)) = self.model.last.get(&which) else { return };
        let next = change(last);
        // Its end stays whatever comes later.
        let status = if last.status.is_terminal() { last.status } else { next.status };
        self.model.last.insert(which, Some(Message { status, ..next.clone() }));
        let store = self.shelf.store.clone();
        self.begin(async move { store.update(next).await }).await;
    }

    async fn act(&mut self, act: Act) {
        let store = self.shelf.store.clone();
        match act {
            Act::Say(which, n) => self.update(which, |m| saying(m, &n.to_string())).await,
            Act::Call(which, n) => {
                let call = json!({"type": "tool_call", "call_id": n.to_string(), "name": "f"});
                self.update(which, |m| with_parts(m, &json!([call]))).await;
            }
            Act::End(which, n) => self.update(which, |m| ended(m, &n.to_string())).await,
            Act::Delete(which) => self.delete(which).await,
            Act::Flush(which) => {
                let id = message_id(&name(which));
                self.begin(async move { store.flush(&id).await }).await;
            }
            Act::FlushAll => self.begin(async move { store.flush_all().await }).await,
            Act::Wait(ms) => sleep_until(Instant::now() + MS * u32::try_from(ms).unwrap()).await,
            Act::Refuse(batches) => self.shelf.refuse(batches),
            Act::RefuseSession(which, is) => self.shelf.refuse_session(&session(which), is),
            Act::Hold => self.model.hold = Some(self.shelf.hold()),
            Act::LetGo => self.model.hold = None,
        }
    }

    /// Deletes a message, for certain: what may fail is put off meanwhile.
    async fn delete(&mut self, which: usize) {
        self.calm();
        if self.model.last.insert(which, None).flatten().is_some() {
            self.shelf.store.delete(&message_id(&name(which))).await.unwrap();
        }
    }

    fn calm(&mut self) {
        self.model.hold = None;
        self.shelf.refuse(0);
        (0..2).for_each(|which| self.shelf.refuse_session(&session(which), false));
    }
}

/// After what is deleted comes nothing, and versions rise.
fn check_told(told: &[MessageEvent]) {
    let mut last: BTreeMap<&MessageId, Option<Seq>> = BTreeMap::new();
    for event in told {
        match event {
            MessageEvent::Updated(message) => {
                let before = last.insert(&message.id, Some(message.version));
                assert_ne!(before, Some(None), "told after its deletion");
                assert!(before.flatten() < Some(message.version), "{before:?} {message:?}");
            }
            MessageEvent::Deleted { message_id, .. } => {
                assert_ne!(last.insert(message_id, None), Some(None), "deleted twice");
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn check(acts: Vec<Act>) {
    let mut play = Play::new().await;
    let feed = &mut play.shelf.store.subscribe();
    let mut told = Vec::new();
    for act in acts {
        play.act(act).await;
        told.extend(heard(feed));
    }
    play.calm();
    for task in std::mem::take(&mut play.tasks) {
        // Some of the writes they waited for were refused.
        task.await.unwrap().ok();
    }
    // One may have waited for a write that was refused while it was under way.
    while let Err(error) = play.shelf.store.flush_all().await {
        assert!(matches!(error, StoreError::Write(_)), "{error}");
    }
    told.extend(heard(feed));
    check_told(&told);
    let mut going_on = 0;
    for (which, last) in &play.model.last {
        let row = play.shelf.store.get(&message_id(&name(*which))).await.unwrap();
        let said = |message: &Message| (message.parts.clone(), message.status);
        assert_eq!(row.as_ref().map(said), last.as_ref().map(said));
        going_on += usize::from(row.is_some_and(|row| !row.status.is_terminal()));
    }
    assert!(play.shelf.store.in_hand() <= going_on);
    assert_eq!(play.shelf.store.counts().lost, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn rows_equal_the_last_states(acts in proptest::collection::vec(act(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(check(acts));
    }
}
