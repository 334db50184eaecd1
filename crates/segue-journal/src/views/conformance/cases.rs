//! The cases. Each is given a new, empty store and panics where it breaks a rule.

use segue_core::Seq;

use super::{ViewFixture, model};
use crate::{
    api::Position,
    conformance::support::block_on,
    stream::StreamKey,
    views::{Change, Checkpoint, Compare, Phrase, Row, Select, Value, ViewError},
};

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn song(id: &str, year: Option<i64>, title: &str) -> Row {
    vec![text(id), year.map_or(Value::Null, Value::Int), text(title)]
}

fn put(row: Row) -> Change {
    Change::Put { table: "songs", row }
}

fn stream(id: &str) -> StreamKey {
    StreamKey::parse(&format!("default/s/{id}")).expect("a well-formed key")
}

impl dyn ViewFixture + '_ {
    fn apply(&self, changes: Vec<Change>) -> Result<(), ViewError> {
        block_on(self.store().apply(changes, Vec::new(), Position(1)))
    }

    fn songs(&self, rows: &[Row]) {
        self.apply(rows.iter().cloned().map(put).collect()).expect("an allowed change");
    }

    /// The ids of the rows that a query gives.
    fn ids(&self, query: &Select) -> Vec<String> {
        let rows = self.store().select(query).expect("an allowed query");
        let id = |row: Row| match row.into_iter().next() {
            Some(Value::Text(id)) => id,
            other => panic!("{other:?} is not an id"),
        };
        rows.into_iter().map(id).collect()
    }
}

fn by(order_by: &'static str) -> Select {
    let (filter, phrases, after) = (Vec::new(), Vec::new(), None);
    Select { table: "songs", filter, phrases, order_by, descending: false, after, limit: 100 }
}

/// A row is found by its key; putting replaces it whole; removing removes it, if it is there.
pub fn rows_are_put_replaced_and_removed(fixture: &mut dyn ViewFixture) {
    fixture.songs(&[song("a", Some(1), "A"), song("b", None, "")]);
    let get = |fixture: &dyn ViewFixture, id| fixture.store().get("songs", &text(id));
    assert_eq!(get(fixture, "a"), Ok(Some(song("a", Some(1), "A"))));
    fixture.songs(&[song("a", None, "A2")]);
    let remove = |id| Change::Delete { table: "songs", key: text(id) };
    fixture.apply(vec![remove("b"), remove("never there")]).expect("an allowed change");
    let number = vec![Value::Int(i64::MIN)];
    let plays = Change::Put { table: "plays", row: number.clone() };
    fixture.apply(vec![plays.clone(), plays]).expect("an allowed change");
    for _ in 0..2 {
        assert_eq!(get(fixture, "a"), Ok(Some(song("a", None, "A2"))));
        assert_eq!(get(fixture, "b"), Ok(None));
        assert_eq!(fixture.store().get("plays", &number[0]), Ok(Some(number.clone())));
        fixture.reopen();
    }
}

/// An update writes the cells it names of a row that is there, and makes none.
pub fn updates_change_some_cells_of_rows_that_are_there(fixture: &mut dyn ViewFixture) {
    fixture.songs(&[song("a", Some(1), "A"), song("b", Some(2), "B")]);
    let update = |id, cells| Change::Update { table: "songs", key: text(id), cells };
    let changes = vec![
        update("a", vec![("title", text("A2"))]),
        update("b", vec![("title", Value::Null), ("year", Value::Int(3))]),
        update("b", vec![]),
        update("c", vec![("title", text("C"))]),
    ];
    fixture.apply(changes).expect("allowed changes");
    let by_id = Select { table: "songs", ..by("id") };
    let b = vec![text("b"), Value::Int(3), Value::Null];
    let expected = vec![song("a", Some(1), "A2"), b];
    for _ in 0..2 {
        assert_eq!(fixture.store().select(&by_id), Ok(expected.clone()));
        fixture.reopen();
    }
}

/// All filters hold; rows come in order, ties by key in the same direction, as many as asked.
pub fn selects_filter_order_and_limit(fixture: &mut dyn ViewFixture) {
    let rows = [("a", 3), ("b", 1), ("c", 2), ("d", 2), ("e", 5)];
    fixture.songs(&rows.map(|(id, year)| song(id, Some(year), "t")));
    assert_eq!(fixture.ids(&by("id")), ["a", "b", "c", "d", "e"]);
    assert_eq!(fixture.ids(&by("year")), ["b", "c", "d", "a", "e"]);
    let descending = Select { descending: true, ..by("year") };
    assert_eq!(fixture.ids(&descending), ["e", "a", "d", "c", "b"]);
    assert_eq!(fixture.ids(&Select { limit: 2, ..descending }), ["e", "a"]);
    assert_eq!(fixture.ids(&Select { limit: 0, ..by("id") }), Vec::<String>::new());
    for (compare, expected) in [
        (Compare::Eq, vec!["c", "d"]),
        (Compare::Lt, vec!["b"]),
        (Compare::Le, vec!["b", "c", "d"]),
        (Compare::Gt, vec!["a", "e"]),
        (Compare::Ge, vec!["a", "c", "d", "e"]),
    ] {
        let filter = vec![("year", compare, Value::Int(2))];
        assert_eq!(fixture.ids(&Select { filter, ..by("id") }), expected, "{compare:?}");
    }
    let filter = vec![("year", Compare::Ge, Value::Int(2)), ("id", Compare::Lt, text("d"))];
    assert_eq!(fixture.ids(&Select { filter, ..by("id") }), ["a", "c"]);
}

fn index(id: &str, words: &str) -> Change {
    Change::Index { table: "songs", key: text(id), text: words.to_owned() }
}

/// The songs that have each of these phrases; `*` at the end of one makes it a beginning.
fn with(phrases: &[&str]) -> Select {
    let phrase = |text: &&str| Phrase::new(text, text.ends_with('*')).expect("words");
    Select { phrases: phrases.iter().map(phrase).collect(), ..by("id") }
}

/// Every phrase is there, its words next to each other, whatever stands between them; other
/// conditions hold beside.
pub fn rows_are_found_by_their_words(fixture: &mut dyn ViewFixture) {
    fixture.songs(&[song("a", Some(1), ""), song("b", Some(2), ""), song("c", Some(3), "")]);
    let changes = vec![
        index("a", "The quick, brown FOX"),
        index("b", "A fox; quick as\u{0} light"),
        index("d", "the fox that is not there"),
    ];
    fixture.apply(changes).expect("allowed changes");
    for _ in 0..2 {
        for (phrases, expected) in [
            (&["fox"] as &[&str], vec!["a", "b"]),
            (&["FOX", "quick"], vec!["a", "b"]),
            (&["quick brown"], vec!["a"]),
            (&["brown quick"], vec![]),
            (&["fo"], vec![]),
            (&["fo*"], vec!["a", "b"]),
            (&["quick br*"], vec!["a"]),
            (&["as-light", "a"], vec!["b"]),
            (&["there"], vec![]),
        ] {
            assert_eq!(fixture.ids(&with(phrases)), expected, "{phrases:?}");
        }
        let filter = vec![("year", Compare::Gt, Value::Int(1))];
        assert_eq!(fixture.ids(&Select { filter, ..with(&["fox"]) }), ["b"]);
        let last = Select { descending: true, limit: 1, ..with(&["fox"]) };
        assert_eq!(fixture.ids(&last), ["b"]);
        let after = Some((text("b"), text("b")));
        assert_eq!(fixture.ids(&Select { after, ..last }), ["a"]);
        fixture.reopen();
    }
}

/// New words take the place of the old ones; a row put again keeps its words, and one that was
/// removed has none.
pub fn words_stay_with_their_row_and_go_with_it(fixture: &mut dyn ViewFixture) {
    fixture.songs(&[song("a", Some(1), ""), song("b", Some(2), "")]);
    fixture.apply(vec![index("a", "old"), index("b", "old")]).expect("allowed changes");
    fixture.apply(vec![index("a", "new")]).expect("an allowed change");
    fixture.songs(&[song("b", None, "again")]);
    assert_eq!(fixture.ids(&with(&["old"])), ["b"]);
    assert_eq!(fixture.ids(&with(&["new"])), ["a"]);
    let remove = Change::Delete { table: "songs", key: text("b") };
    fixture.apply(vec![remove, put(song("b", None, "")), index("a", "")]).expect("allowed");
    for words in ["old", "new"] {
        assert_eq!(fixture.ids(&with(&[words])), Vec::<String>::new());
    }
    fixture.apply(vec![index("b", "old")]).expect("an allowed change");
    block_on(fixture.store().clear()).expect("cleared");
    fixture.songs(&[song("a", None, ""), song("b", None, "")]);
    assert_eq!(fixture.ids(&with(&["old"])), Vec::<String>::new());
}

/// Null is before everything, equals null, and is neither less nor greater than anything.
pub fn nulls_come_first_and_match_only_themselves(fixture: &mut dyn ViewFixture) {
    let rows = [("a", Some(1)), ("b", None), ("c", None), ("d", Some(-1))];
    fixture.songs(&rows.map(|(id, year)| song(id, year, "t")));
    assert_eq!(fixture.ids(&by("year")), ["b", "c", "d", "a"]);
    let filtered = |compare, value| {
        let filter = vec![("year", compare, value)];
        fixture.ids(&Select { filter, ..by("id") })
    };
    assert_eq!(filtered(Compare::Eq, Value::Null), ["b", "c"]);
    assert_eq!(filtered(Compare::Le, Value::Null), Vec::<String>::new());
    assert_eq!(filtered(Compare::Lt, Value::Int(1)), ["d"]);
}

/// Page by page, in either direction, each row comes once and in order.
pub fn paging_visits_every_row_once(fixture: &mut dyn ViewFixture) {
    let rows: Vec<Row> = (0..23)
        .map(|n: i64| song(&format!("s{n:02}"), (n % 5 > 1).then_some(n % 5), "t"))
        .collect();
    fixture.songs(&rows);
    for (order_by, column) in [("year", 1), ("id", 0), ("title", 2)] {
        for descending in [false, true] {
            let whole = Select { descending, ..by(order_by) };
            let whole_rows = fixture.store().select(&whole).expect("an allowed query");
            let mut paged: Vec<Row> = Vec::new();
            loop {
                let after = paged.last().map(|row| (row[column].clone(), row[0].clone()));
                let page = Select { after, limit: 4, ..whole.clone() };
                let page = fixture.store().select(&page).expect("an allowed query");
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(paged.len(), 23, "by {order_by}, descending {descending}");
            assert_eq!(paged, whole_rows, "by {order_by}, descending {descending}");
        }
    }
}

/// The checkpoints and the position are those of the last apply, and outlive the store.
pub fn checkpoints_and_position_come_with_the_rows(fixture: &mut dyn ViewFixture) {
    let store = fixture.store();
    assert_eq!(store.checkpoint(&stream("a")), Ok(Seq::ZERO));
    assert_eq!(store.position(), Ok(Position(0)));
    let at = |id, seq| Checkpoint { stream: stream(id), seq: Seq(seq) };
    let first = store.apply(Vec::new(), vec![at("a", 3), at("b", 1)], Position(7));
    block_on(first).expect("an allowed change");
    let change = vec![put(song("a", None, ""))];
    block_on(store.apply(change, vec![at("a", 5)], Position(9))).expect("an allowed change");
    drop(store);
    for _ in 0..2 {
        let store = fixture.store();
        assert_eq!(store.checkpoint(&stream("a")), Ok(Seq(5)));
        assert_eq!(store.checkpoint(&stream("b")), Ok(Seq(1)));
        assert_eq!(store.position(), Ok(Position(9)));
        drop(store);
        fixture.reopen();
    }
}

/// A change that does not fit the schema refuses its whole apply.
pub fn a_change_outside_the_schema_changes_nothing(fixture: &mut dyn ViewFixture) {
    let misfits = [
        Change::Put { table: "films", row: vec![text("a")] },
        put(vec![text("a"), Value::Int(1)]),
        put(vec![Value::Null, Value::Int(1), text("t")]),
        put(vec![Value::Int(1), Value::Int(1), text("t")]),
        put(vec![text("a"), text("1"), text("t")]),
        Change::Update { table: "songs", key: text("a"), cells: vec![("id", text("b"))] },
        Change::Update { table: "songs", key: text("a"), cells: vec![("length", Value::Null)] },
        Change::Update { table: "songs", key: text("a"), cells: vec![("year", text("1"))] },
        Change::Update { table: "songs", key: text("a"), cells: vec![("year", Value::Null); 2] },
        Change::Delete { table: "films", key: text("a") },
        Change::Delete { table: "songs", key: Value::Int(1) },
    ];
    for misfit in misfits {
        let changes = vec![put(song("good", None, "")), misfit.clone()];
        let at = Checkpoint { stream: stream("a"), seq: Seq(1) };
        let applied = block_on(fixture.store().apply(changes, vec![at], Position(1)));
        assert!(matches!(applied, Err(ViewError::Schema(_))), "{misfit:?}");
    }
    assert_eq!(fixture.store().get("songs", &text("good")), Ok(None));
    assert_eq!(fixture.store().checkpoint(&stream("a")), Ok(Seq::ZERO));
    assert_eq!(fixture.store().position(), Ok(Position(0)));
}

/// Tables and columns that do not exist are named.
pub fn queries_outside_the_schema_are_refused(fixture: &mut dyn ViewFixture) {
    let filter = vec![("length", Compare::Eq, Value::Null)];
    let unsearched = Select { table: "plays", order_by: "number", ..with(&["a"]) };
    for query in [
        Select { table: "films", ..by("id") },
        by("length"),
        Select { filter, ..by("id") },
        unsearched,
    ] {
        let refused = fixture.store().select(&query);
        assert!(matches!(refused, Err(ViewError::Schema(_))), "{query:?}");
    }
    let refused = fixture.store().get("films", &Value::Null);
    assert!(matches!(refused, Err(ViewError::Schema(_))));
}

/// Applies that are not waited for take effect one after the other.
pub fn applies_take_effect_in_call_order(fixture: &mut dyn ViewFixture) {
    let store = fixture.store();
    let mut last = None;
    for n in 0..300 {
        let at = Checkpoint { stream: stream("a"), seq: Seq(n) };
        let row = song("a", i64::try_from(n).ok(), "");
        last = Some(store.apply(vec![put(row)], vec![at], Position(n)));
    }
    block_on(last.expect("the last of 300")).expect("an allowed change");
    assert_eq!(store.get("songs", &text("a")), Ok(Some(song("a", Some(299), ""))));
    assert_eq!(store.checkpoint(&stream("a")), Ok(Seq(299)));
    assert_eq!(store.position(), Ok(Position(299)));
}

/// After a clear the store is as new.
pub fn clearing_leaves_nothing(fixture: &mut dyn ViewFixture) {
    let store = fixture.store();
    let at = Checkpoint { stream: stream("a"), seq: Seq(4) };
    let applied = store.apply(vec![put(song("a", None, ""))], vec![at], Position(5));
    let cleared = store.clear();
    block_on(applied).expect("an allowed change");
    block_on(cleared).expect("a cleared store");
    drop(store);
    for _ in 0..2 {
        let store = fixture.store();
        assert_eq!(store.select(&by("id")), Ok(Vec::new()));
        assert_eq!(store.checkpoint(&stream("a")), Ok(Seq::ZERO));
        assert_eq!(store.position(), Ok(Position(0)));
        drop(store);
        fixture.reopen();
    }
    fixture.songs(&[song("a", None, "again")]);
    assert_eq!(fixture.ids(&by("id")), ["a"]);
}

/// Random changes and queries have the results that the store in memory gives.
pub fn the_store_agrees_with_its_model(fixture: &mut dyn ViewFixture) {
    model::check(fixture);
}
