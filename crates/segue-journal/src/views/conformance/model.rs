//! Random changes and queries, compared with the store in memory, whose code is plain enough to
//! be believed.

use std::cell::RefCell;

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use super::{SCHEMA, ViewFixture};
use crate::{
    api::Position,
    conformance::support::block_on,
    views::{Change, Compare, MemoryViews, Phrase, Select, Value, ViewStore},
};

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Change>),
    Select(Select),
    Clear,
    Reopen,
}

fn a_text() -> impl Strategy<Value = Value> {
    select(vec!["", "a", "b", "ab", "B", "é", "'"]).prop_map(|text| Value::Text(text.into()))
}

fn a_year() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 3 => (-2..3i64).prop_map(Value::Int)]
}

fn a_change() -> impl Strategy<Value = Change> {
    let title = prop_oneof![1 => Just(Value::Null), 3 => a_text()];
    prop_oneof![
        4 => (a_text(), a_year(), title)
            .prop_map(|(id, year, title)| Change::Put { table: "songs", row: vec![id, year, title] }),
        2 => (a_text(), a_year(), a_text()).prop_map(|(key, year, title)| Change::Update {
            table: "songs",
            key,
            cells: vec![("title", title), ("year", year)],
        }),
        2 => (a_text(), some_words()).prop_map(|(key, text)| Change::Index {
            table: "songs",
            key,
            text,
        }),
        1 => a_text().prop_map(|key| Change::Delete { table: "songs", key }),
    ]
}

fn some_words() -> impl Strategy<Value = String> {
    let word = select(vec!["a", "ab", "B", "b1", "-", "語", "\""]);
    prop::collection::vec(word, 0..6).prop_map(|words| words.join(" "))
}

fn a_phrase() -> impl Strategy<Value = Option<Phrase>> {
    (some_words(), any::<bool>()).prop_map(|(text, is_prefix)| Phrase::new(&text, is_prefix))
}

fn a_filter() -> impl Strategy<Value = (&'static str, Compare, Value)> {
    let compare = select(vec![Compare::Eq, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge]);
    let value = prop_oneof![
        a_year().prop_map(|year| ("year", year)),
        a_text().prop_map(|id| ("id", id)),
        a_text().prop_map(|title| ("title", title)),
        Just(("title", Value::Null)),
    ];
    (compare, value).prop_map(|(compare, (column, value))| (column, compare, value))
}

fn a_select() -> impl Strategy<Value = Select> {
    let order = prop_oneof![
        a_year().prop_map(|year| ("year", year)),
        a_text().prop_map(|title| ("title", title)),
        Just(("title", Value::Null)),
        a_text().prop_map(|id| ("id", id)),
    ];
    let filter = prop::collection::vec(a_filter(), 0..3);
    let phrases = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(a_phrase(), 0..3),
    ];
    (order, any::<bool>(), any::<bool>(), a_text(), 0..6usize, filter, phrases).prop_map(
        |((order_by, at), descending, paged, id, limit, filter, phrases)| Select {
            table: "songs",
            filter,
            phrases: phrases.into_iter().flatten().collect(),
            order_by,
            descending,
            after: paged.then_some((at, id)),
            limit,
        },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => prop::collection::vec(a_change(), 0..6).prop_map(Step::Apply),
        40 => a_select().prop_map(Step::Select),
        1 => Just(Step::Clear),
        1 => Just(Step::Reopen),
    ]
}

/// Runs random steps with a fixed seed, each round on a cleared store.
pub(super) fn check(fixture: &mut dyn ViewFixture) {
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    // The runner takes a closure that changes nothing, so the fixture hides in a cell.
    let shared = RefCell::new(fixture);
    let result = runner.run(&prop::collection::vec(a_step(), 1..60), |steps| {
        let mut fixture = shared.borrow_mut();
        block_on(fixture.store().clear()).expect("a cleared store");
        play(&mut **fixture, steps)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn play(fixture: &mut dyn ViewFixture, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let model = MemoryViews::new(SCHEMA).expect("a usable schema");
    for step in steps {
        match step {
            Step::Apply(changes) => {
                let apply = |store: &dyn ViewStore| {
                    block_on(store.apply(changes.clone(), vec![], Position(1)))
                };
                prop_assert_eq!(apply(&*fixture.store()), apply(&model));
            }
            Step::Select(query) => {
                let expected = model.select(&query);
                prop_assert_eq!(fixture.store().select(&query), expected, "{:?}", query);
            }
            Step::Clear => {
                prop_assert_eq!(block_on(fixture.store().clear()), block_on(model.clear()));
            }
            Step::Reopen => fixture.reopen(),
        }
    }
    Ok(())
}
