//! One suite for every journal.
//!
//! An implementation gives a [`Fixture`] and runs the whole suite with
//! [`journal_conformance!`](crate::journal_conformance), which makes one test of each case.

pub mod cases;
mod model;
pub(crate) mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use segue_core::{Clock, Timestamp};

use crate::api::Journal;

/// A journal under test.
pub trait Fixture: Send + Sync {
    /// The journal. New and empty at first.
    fn journal(&self) -> Arc<dyn Journal>;

    /// The clock that it was given.
    fn clock(&self) -> &ManualClock;

    /// Closes the journal and opens it again from what it stored. One that stores nothing stays
    /// as it is, open.
    fn reopen(&mut self);

    /// Lets a writer that is driven by the test do all that it has to do.
    fn settle(&self) {}
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `millis` since the Unix epoch.
    pub fn new(millis: u64) -> Self {
        Self(AtomicU64::new(millis))
    }

    /// Moves it on.
    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }

    /// Puts it anywhere, also back.
    pub fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Makes one test of each case of the suite. The expression gives a new [`Fixture`] each time.
#[macro_export]
macro_rules! journal_conformance {
    ($fixture:expr) => {
        $crate::journal_conformance! { @cases $fixture;
            append::i01_seqs_are_dense_from_one,
            append::records_keep_the_time_of_their_commit,
            append::a_new_stream_is_empty_at_one,
            append::unknown_and_existing_streams_are_told_apart,
            append::a_refused_batch_takes_no_seq,
            append::checks_run_in_order,
            append::an_expected_seq_must_be_the_tail,
            append::a_closed_stream_takes_nothing_more,
            append::a_raised_epoch_fences_the_writers_before,
            append::a_batch_over_its_permit_is_refused,
            batch::a_batch_commits_whole_over_streams,
            batch::a_refused_part_refuses_all,
            batch::later_parts_see_earlier_ones,
            batch::a_stream_can_be_replaced_in_one_batch,
            producers::a_retry_gets_the_original_answer,
            producers::a_retry_gets_the_original_answer_after_close_and_reopen,
            producers::numbers_that_do_not_follow_on_are_refused,
            producers::a_new_producer_epoch_begins_at_zero,
            producers::a_claim_without_records_counts,
            producers::a_duplicate_part_applies_nothing_of_its_batch,
            producers::a_duplicate_beats_all_but_a_stale_epoch,
            producers::the_same_claim_twice_in_a_batch_is_refused,
            producers::producers_are_listed_and_kept,
            read::i02_reads_begin_at_from_and_end_at_the_limit,
            read::a_page_is_empty_exactly_at_the_tail,
            read::a_trimmed_range_is_named,
            read::a_deleted_stream_is_unknown_and_its_name_free,
            read::reopening_keeps_every_stream,
            bells::i03_a_tail_that_is_seen_can_be_read,
            bells::listeners_hear_of_appends_and_of_the_end,
            bells::a_listener_starts_at_the_tail,
            bells::listeners_of_a_deleted_stream_are_rung,
            bells::followers_take_each_changed_stream_once,
            whole::i08_concurrent_appends_are_unique_and_gapless,
            whole::the_order_of_submits_is_the_order_of_seqs,
            whole::dropping_a_ticket_drops_only_the_answer,
            whole::no_stream_shuts_the_door_for_others,
            whole::what_can_never_fit_is_refused_at_the_door,
            whole::open_runs_are_those_not_closed,
            whole::changed_streams_are_found_by_kind_and_position,
            whole::a_closed_journal_takes_nothing_more,
            whole::the_journal_agrees_with_its_model,
        }
    };
    (@cases $fixture:expr; $($group:ident::$case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                let mut fixture = $fixture;
                $crate::conformance::cases::$group::$case(&mut fixture);
            }
        )*
    };
}
