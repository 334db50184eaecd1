//! The statements that a schema stands for.
//!
//! Names come from the schema alone, which holds nothing but `[a-z_]+`; every value is bound.
//! Tables have no hidden row number: the primary key is the row's place, and every index ends
//! with it, so that "ordered by this column, ties by key" is a walk along one index.

use std::fmt::Write as _;

use crate::views::{Column, ColumnKind, Compare, Schema, Select, Table, Value};

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

fn create_table(sql: &mut String, table: &Table) {
    let name = table.name;
    let columns: Vec<String> = table.columns.iter().enumerate().map(column).collect();
    push(
        sql,
        format_args!("CREATE TABLE {name} ({}) STRICT, WITHOUT ROWID;\n", columns.join(", ")),
    );
    for columns in table.indexes {
        let index = format!("{name}_by_{}", columns.join("_"));
        push(sql, format_args!("CREATE INDEX {index} ON {name} ({});\n", columns.join(", ")));
    }
}

fn column((index, column): (usize, &Column)) -> String {
    let kind = match column.kind {
        ColumnKind::Int => "INTEGER",
        ColumnKind::Text => "TEXT",
    };
    let key = if index == 0 { " PRIMARY KEY NOT NULL" } else { "" };
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

/// Reads the row of a key.
pub(super) fn get(table: &Table) -> String {
    let names = names(table).join(", ");
    format!("SELECT {names} FROM {} WHERE {} = ?1", table.name, table.key().name)
}

/// A query, and its values in the order of their places.
pub(super) fn select<'q>(table: &Table, query: &'q Select) -> (String, Vec<&'q Value>) {
    let mut values: Vec<&Value> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    for (column, compare, value) in &query.filter {
        values.push(value);
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

/// The rows that come after a place. Null is less than everything in the order of rows, but in
/// no comparison, so it is said apart.
fn after<'q>(
    table: &Table,
    query: &Select,
    at: &'q Value,
    last: &'q Value,
    values: &mut Vec<&'q Value>,
) -> String {
    let (column, key) = (query.order_by, table.key().name);
    if *at == Value::Null {
        values.push(last);
        let place = values.len();
        return if query.descending {
            format!("({column} IS NULL AND {key} < ?{place})")
        } else {
            format!("({column} IS NOT NULL OR {key} > ?{place})")
        };
    }
    values.extend([at, last]);
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
