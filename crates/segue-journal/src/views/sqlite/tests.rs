use std::{os::unix::fs::PermissionsExt, sync::Arc};

use super::*;
use crate::{
    conformance::support::block_on,
    views::{
        Phrase,
        conformance::{SCHEMA, ViewFixture},
    },
};

struct InFile {
    folder: tempfile::TempDir,
    store: Option<Arc<SqliteViews>>,
}

impl InFile {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut fixture = Self { folder, store: None };
        fixture.reopen();
        fixture
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("views.db")
    }

    fn open(&mut self, schema: Schema) -> Arc<SqliteViews> {
        self.store = None;
        let store = Arc::new(SqliteViews::open(&self.path(), schema).expect("a store"));
        self.store = Some(Arc::clone(&store));
        store
    }

    /// What a person would ask in a shell.
    fn ask(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.path()).expect("a database");
        connection.query_row(sql, [], |row| row.get(0)).expect("one number")
    }
}

impl ViewFixture for InFile {
    fn store(&self) -> Arc<dyn ViewStore> {
        self.store.clone().expect("an open store")
    }

    fn reopen(&mut self) {
        self.open(SCHEMA);
    }
}

crate::view_conformance!(InFile::new());

fn put(id: &str) -> Change {
    let row = vec![Value::Text(id.into()), Value::Int(1970), Value::Null];
    Change::Put { table: "songs", row }
}

fn fill(store: &dyn ViewStore) {
    let stream = StreamKey::parse("default/s/a").expect("well-formed");
    let at = Checkpoint { stream, seq: Seq(8) };
    block_on(store.apply(vec![put("a"), put("b")], vec![at], Position(9))).expect("applied");
}

#[test]
fn a_person_can_ask_it() {
    let fixture = InFile::new();
    fill(&*fixture.store());
    assert_eq!(fixture.ask("SELECT count(*) FROM songs WHERE year = 1970 AND title IS NULL"), 2);
    assert_eq!(fixture.ask("SELECT seq FROM checkpoints WHERE stream = 'default/s/a'"), 8);
    assert_eq!(fixture.ask("SELECT value FROM meta WHERE key = 'position'"), 9);
}

#[test]
fn words_are_found_without_their_accents_and_a_prefix_is_no_command() {
    let fixture = InFile::new();
    let store = fixture.store();
    fill(&*store);
    let text = "Crème brûlée AND \"more\"".to_owned();
    let index = Change::Index { table: "songs", key: Value::Text("a".into()), text };
    block_on(store.apply(vec![index], Vec::new(), Position(10))).expect("applied");
    let found = |text: &str, is_prefix| {
        let phrases = Phrase::new(text, is_prefix).into_iter().collect();
        store.select(&Select { phrases, ..all() }).expect("an allowed query").len()
    };
    for (text, is_prefix, count) in [
        ("creme BRULEE", false, 1),
        ("brûl", false, 0),
        ("brul", true, 1),
        ("and", false, 1),
        ("NOT more", false, 0),
        ("more*", false, 1),
    ] {
        assert_eq!(found(text, is_prefix), count, "{text}");
    }
    assert_eq!(fixture.ask("SELECT count(*) FROM songs_words WHERE songs_words MATCH 'creme'"), 1);
}

#[test]
fn another_version_is_emptied() {
    let mut fixture = InFile::new();
    fill(&*fixture.store());
    let store = fixture.open(Schema { version: 2, ..SCHEMA });
    assert_eq!(store.position(), Ok(Position(0)));
    assert_eq!(fixture.ask("SELECT count(*) FROM songs"), 0);
    assert_eq!(fixture.ask("SELECT value FROM meta WHERE key = 'schema_version'"), 2);
    fill(&*store);
    assert_eq!(fixture.open(SCHEMA).position(), Ok(Position(0)));
}

#[test]
fn a_table_that_is_missing_empties_it() {
    let mut fixture = InFile::new();
    fill(&*fixture.store());
    fixture.store = None;
    let connection = Connection::open(fixture.path()).expect("a database");
    connection.execute_batch("DROP TABLE plays").expect("dropped");
    drop(connection);
    assert_eq!(fixture.open(SCHEMA).position(), Ok(Position(0)));
}

#[test]
fn what_is_not_a_database_is_replaced() {
    for garbage in ["", "garbage".repeat(1_000).as_str()] {
        let mut fixture = InFile::new();
        fill(&*fixture.store());
        fixture.store = None;
        fs::write(fixture.path(), garbage).expect("written");
        let store = fixture.open(SCHEMA);
        assert_eq!(store.position(), Ok(Position(0)));
        fill(&*store);
        assert_eq!(fixture.open(SCHEMA).position(), Ok(Position(9)));
    }
}

#[test]
fn a_file_found_damaged_while_in_use_is_begun_anew_at_the_next_open() {
    for write in [false, true] {
        let mut fixture = InFile::new();
        fill(&*fixture.store());
        fixture.store = None;
        // Its page of rows; the schema and the position stay sound.
        let mut image = fs::read(fixture.path()).expect("read");
        let page = |number: i64| (usize::try_from(number).expect("small") - 1) * 4096;
        let songs = fixture.ask("SELECT rootpage FROM sqlite_schema WHERE name = 'songs'");
        image[page(songs)..page(songs + 1)].fill(0xa5);
        fs::write(fixture.path(), image).expect("written");
        let store = fixture.open(SCHEMA);
        let met = if write {
            block_on(store.apply(vec![put("a")], Vec::new(), Position(10)))
        } else {
            store.get("songs", &Value::Text("a".into())).map(drop)
        };
        assert!(matches!(met, Err(ViewError::Damaged(_))), "{met:?}");
        drop(store);
        assert_eq!(fixture.open(SCHEMA).position(), Ok(Position(0)));
        fill(&*fixture.store());
        assert_eq!(fixture.store().position(), Ok(Position(9)));
    }
}

#[test]
fn a_busy_file_is_left_alone() {
    let fixture = InFile::new();
    fill(&*fixture.store());
    let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    let busy = rusqlite::Error::SqliteFailure(busy, None);
    assert!(matches!(Unusable::from(busy), Unusable::Busy(_)));
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    let corrupt = rusqlite::Error::SqliteFailure(corrupt, None);
    assert!(matches!(Unusable::from(corrupt), Unusable::Broken(_)));
}

#[test]
fn i22_its_files_are_private() {
    let mut fixture = InFile::new();
    fill(&*fixture.store());
    let modes = |fixture: &InFile| {
        let entries = fs::read_dir(fixture.folder.path()).expect("a folder");
        let mode = |entry: io::Result<fs::DirEntry>| {
            entry.and_then(|entry| entry.metadata()).expect("a file").permissions().mode() & 0o777
        };
        entries.map(mode).collect::<Vec<_>>()
    };
    assert_eq!(modes(&fixture), [0o600; 3]);
    fixture.store = None;
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o644)).expect("changed");
    fixture.reopen();
    fill(&*fixture.store());
    assert_eq!(modes(&fixture), [0o600; 3]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing/views.db");
    assert!(matches!(SqliteViews::open(&missing, SCHEMA), Err(ViewError::Store(_))));
}

#[test]
fn a_failed_write_fails_what_is_queued_behind_it_and_leaves_no_trace() {
    let fixture = InFile::new();
    let store = fixture.store();
    fill(&*store);
    let other = Connection::open(fixture.path()).expect("a database");
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON songs WHEN new.id = 'bad'
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    other.execute_batch(refuse).expect("a trigger");
    let apply = |id: &str, position| store.apply(vec![put(id)], Vec::new(), Position(position));
    assert!(matches!(block_on(apply("bad", 20)), Err(ViewError::Store(_))));
    assert_eq!(store.position(), Ok(Position(9)));
    assert_eq!(store.get("songs", &Value::Text("bad".into())), Ok(None));
    block_on(apply("good", 21)).expect("applied");
    assert_eq!(store.position(), Ok(Position(21)));
}

fn all() -> Select {
    Select {
        table: "songs",
        filter: Vec::new(),
        phrases: Vec::new(),
        order_by: "year",
        descending: true,
        after: None,
        limit: 10,
    }
}

#[test]
fn queries_walk_along_indexes() {
    let fixture = InFile::new();
    let select = all();
    let (sql, _) = sql::select(&SCHEMA.tables[0], &select);
    let connection = Connection::open(fixture.path()).expect("a database");
    let plan: String = connection
        .query_row(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get(3))
        .expect("a plan");
    assert!(plan.contains("songs_by_year"), "{plan}");
}

#[test]
fn unusable_schemas_are_refused() {
    use crate::views::{Column, ColumnKind, Table};
    const ID: Column = Column { name: "id", kind: ColumnKind::Int };
    const BAD: Column = Column { name: "id; --", kind: ColumnKind::Int };
    const fn table(
        name: &'static str,
        columns: &'static [Column],
        indexes: &'static [&'static [&'static str]],
    ) -> Table {
        Table { name, columns, indexes, is_searched: false }
    }
    const TABLES: [&[Table]; 7] = [
        &[table("Songs", &[ID], &[])],
        &[table("meta", &[ID], &[])],
        &[table("songs_words", &[ID], &[])],
        &[table("songs", &[], &[])],
        &[table("songs", &[BAD], &[])],
        &[table("songs", &[ID], &[&["year"]])],
        &[table("songs", &[ID], &[]), table("songs", &[ID], &[])],
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for tables in TABLES {
        let opened = SqliteViews::open(&folder.path().join("v"), Schema { version: 1, tables });
        assert!(matches!(opened, Err(ViewError::Schema(_))), "{tables:?}");
    }
}
