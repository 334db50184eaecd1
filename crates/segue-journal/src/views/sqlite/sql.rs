//! The statements that a schema stands for.
//!
//! Names come from the schema alone, which holds nothing but `[a-z_]+`; every value is bound.
//! Every index ends with the primary key, so that "ordered by this column, ties by key" is a walk
//! along one. Only tables that are searched have a number for each row, `doc`, that their words are
//! kept under.

use std::{borrow::Cow, fmt::Write as _};

use crate::views::{
    Column, ColumnKind, Compare, Phrase, Schema, Select, Table, Value, schema::WORDS,
};

/// What every store has beside the schema's tables.
const OWN_TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (stream TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// The whole layout of an empty store.
pub(super) fn create(schema: &Schema) -> String {
    let mut sql = OWN_TABLES.to_owned();
    for table in schema.tables {
        create_table(&mut sql, table);
    }
    sql
}

/// An index of words: what is found stands in the row that has its number, `doc`. The text is
/// given to it with its words already apart, so that every store finds the same. It keeps the text:
/// an index without it needs an `SQLite` that people's shells may not have yet.
const FTS: &str = "text, tokenize='unicode61 remove_diacritics 2'";

/// The index of a table's words.
fn words_of(table: &Table) -> String {
    format!("{}{WORDS}", table.name)
}

fn create_table(sql: &mut String, table: &Table) {
    let name = table.name;
    let key = if table.is_searched { " NOT NULL UNIQUE" } else { " PRIMARY KEY NOT NULL" };
    let column = |at| column(at, key);
    let columns: Vec<String> = table.columns.iter().enumerate().map(column).collect();
    let columns = columns.join(", ");
    if table.is_searched {
        let words = words_of(table);
        push(
            sql,
            format_args!("CREATE TABLE {name} (doc INTEGER PRIMARY KEY, {columns}) STRICT;\n"),
        );
        push(sql, format_args!("CREATE VIRTUAL TABLE {words} USING fts5({FTS});\n"));
    } else {
        push(sql, format_args!("CREATE TABLE {name} ({columns}) STRICT, WITHOUT ROWID;\n"));
    }
    for columns in table.indexes {
        let index = format!("{name}_by_{}", columns.join("_"));
        let mut columns = columns.to_vec();
        if table.is_searched {
            columns.push(table.key().name);
        }
        push(sql, format_args!("CREATE INDEX {index} ON {name} ({});\n", columns.join(", ")));
    }
}

fn column((index, column): (usize, &Column), key: &str) -> String {
    let kind = match column.kind {
        ColumnKind::Int => "INTEGER",
        ColumnKind::Text => "TEXT",
    };
    let key = if index == 0 { key } else { "" };
    format!("{} {kind}{key}", column.name)
}

/// Writes a whole row, over the one of the same key.
pub(super) fn put(table: &Table) -> String {
    let names = names(table);
    let places: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
    let mut sql =
        format!("INSERT INTO {} ({}) VALUES ({})", table.name, names.join(", "), places.join(", "));
    let (key, rest) = (names[0], &names[1..]);
    if rest.is_empty() {
        push(&mut sql, format_args!(" ON CONFLICT ({key}) DO NOTHING"));
    } else {
        let sets: Vec<String> =
            rest.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        push(&mut sql, format_args!(" ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(", ")));
    }
    sql
}

/// Writes these columns of the row of a key. The key comes first, then the cells.
pub(super) fn update(table: &Table, columns: &[&str]) -> String {
    let set = |(at, column): (usize, &&str)| format!("{column} = ?{}", at + 2);
    let sets: Vec<String> = columns.iter().enumerate().map(set).collect();
    format!("UPDATE {} SET {} WHERE {} = ?1", table.name, sets.join(", "), table.key().name)
}

/// Removes the row of a key.
pub(super) fn delete(table: &Table) -> String {
    format!("DELETE FROM {} WHERE {} = ?1", table.name, table.key().name)
}

/// Writes the words of the row of a key. The key comes first, then the words.
pub(super) fn index(table: &Table) -> String {
    let (name, words, key) = (table.name, words_of(table), table.key().name);
    format!(
        "INSERT OR REPLACE INTO {words} (rowid, text) SELECT doc, ?2 FROM {name} WHERE {key} = ?1"
    )
}

/// Removes the words of the row of a key.
pub(super) fn forget(table: &Table) -> String {
    let (name, words, key) = (table.name, words_of(table), table.key().name);
    format!("DELETE FROM {words} WHERE rowid = (SELECT doc FROM {name} WHERE {key} = ?1)")
}

/// Empties a table.
pub(super) fn clear(table: &Table) -> String {
    let mut sql = format!("DELETE FROM {};", table.name);
    if table.is_searched {
        let words = words_of(table);
        push(&mut sql, format_args!(" DELETE FROM {words};"));
    }
    sql
}

/// Reads the row of a key.
pub(super) fn get(table: &Table) -> String {
    let names = names(table).join(", ");
    format!("SELECT {names} FROM {} WHERE {} = ?1", table.name, table.key().name)
}

/// A query, and its values in the order of their places.
pub(super) fn select<'q>(table: &Table, query: &'q Select) -> (String, Vec<Cow<'q, Value>>) {
    let mut values: Vec<Cow<'_, Value>> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    if !query.phrases.is_empty() {
        let phrases: Vec<String> = query.phrases.iter().map(matching).collect();
        values.push(Cow::Owned(Value::Text(phrases.join(" AND "))));
        let words = words_of(table);
        let found = format!("doc IN (SELECT rowid FROM {words} WHERE {words} MATCH ?1)");
        conditions.push(found);
    }
    for (column, compare, value) in &query.filter {
        values.push(Cow::Borrowed(value));
        conditions.push(format!("{column} {} ?{}", operator(*compare), values.len()));
    }
    if let Some((at, key)) = &query.after {
        conditions.push(after(table, query, at, key, &mut values));
    }
    let mut sql = format!("SELECT {} FROM {}", names(table).join(", "), table.name);
    if !conditions.is_empty() {
        push(&mut sql, format_args!(" WHERE {}", conditions.join(" AND ")));
    }
    let (column, key) = (query.order_by, table.key().name);
    let direction = if query.descending { "DESC" } else { "ASC" };
    push(&mut sql, format_args!(" ORDER BY {column} {direction}, {key} {direction}"));
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    push(&mut sql, format_args!(" LIMIT {limit}"));
    (sql, values)
}

/// A phrase in the language of the index. Words have no quotation marks in them.
fn matching(phrase: &Phrase) -> String {
    let prefix = if phrase.is_prefix { "*" } else { "" };
    format!("\"{}\"{prefix}", phrase.words.join(" "))
}

/// The rows that come after a place. Null is less than everything in the order of rows, but in
/// no comparison, so it is said apart.
fn after<'q>(
    table: &Table,
    query: &Select,
    at: &'q Value,
    last: &'q Value,
    values: &mut Vec<Cow<'q, Value>>,
) -> String {
    let (column, key) = (query.order_by, table.key().name);
    if *at == Value::Null {
        values.push(Cow::Borrowed(last));
        let place = values.len();
        return if query.descending {
            format!("({column} IS NULL AND {key} < ?{place})")
        } else {
            format!("({column} IS NOT NULL OR {key} > ?{place})")
        };
    }
    values.extend([Cow::Borrowed(at), Cow::Borrowed(last)]);
    let (first, second) = (values.len() - 1, values.len());
    if !query.descending {
        format!("({column}, {key}) > (?{first}, ?{second})")
    } else if column == key {
        format!("({column}, {key}) < (?{first}, ?{second})")
    } else {
        format!("(({column}, {key}) < (?{first}, ?{second}) OR {column} IS NULL)")
    }
}

fn operator(compare: Compare) -> &'static str {
    match compare {
        Compare::Eq => "IS",
        Compare::Lt => "<",
        Compare::Le => "<=",
        Compare::Gt => ">",
        Compare::Ge => ">=",
    }
}

fn names(table: &Table) -> Vec<&'static str> {
    table.columns.iter().map(|column| column.name).collect()
}

/// Writing to a string cannot fail.
fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes every text");
}
