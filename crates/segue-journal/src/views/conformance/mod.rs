//! One suite for every view store.
//!
//! An implementation gives a [`ViewFixture`] over [`SCHEMA`] and runs the whole suite with
//! [`view_conformance!`](crate::view_conformance), which makes one test of each case.

pub mod cases;
mod model;

use std::sync::Arc;

use super::{Column, ColumnKind, Schema, Table, ViewStore};

/// A view store under test, of [`SCHEMA`].
pub trait ViewFixture {
    /// The store. New and empty at first.
    fn store(&self) -> Arc<dyn ViewStore>;

    /// Closes the store and opens it again. One that stores nothing stays as it is.
    fn reopen(&mut self);
}

/// The tables that the suite uses.
pub const SCHEMA: Schema = Schema {
    version: 1,
    tables: &[
        Table {
            name: "songs",
            columns: &[
                Column { name: "id", kind: ColumnKind::Text },
                Column { name: "year", kind: ColumnKind::Int },
                Column { name: "title", kind: ColumnKind::Text },
            ],
            indexes: &[&["year"], &["title", "year"]],
            is_searched: true,
        },
        Table {
            name: "plays",
            columns: &[Column { name: "number", kind: ColumnKind::Int }],
            indexes: &[],
            is_searched: false,
        },
    ],
};

/// Makes one test of each case of the suite. The expression gives a new [`ViewFixture`] each time.
#[macro_export]
macro_rules! view_conformance {
    ($fixture:expr) => {
        $crate::view_conformance! { @cases $fixture;
            rows_are_put_replaced_and_removed,
            updates_change_some_cells_of_rows_that_are_there,
            selects_filter_order_and_limit,
            nulls_come_first_and_match_only_themselves,
            rows_are_found_by_their_words,
            words_stay_with_their_row_and_go_with_it,
            paging_visits_every_row_once,
            checkpoints_and_position_come_with_the_rows,
            a_change_outside_the_schema_changes_nothing,
            queries_outside_the_schema_are_refused,
            applies_take_effect_in_call_order,
            clearing_leaves_nothing,
            the_store_agrees_with_its_model,
        }
    };
    (@cases $fixture:expr; $($case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                let mut fixture = $fixture;
                $crate::views::conformance::cases::$case(&mut fixture);
            }
        )*
    };
}
