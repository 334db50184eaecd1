//! Which cursor counts, and what a bad one is answered. Pure.
//!
//! - An `after` that is malformed, foreign, ahead or trimmed gives its error. Else with a valid
//!   header too, the later position wins: a browser repeats its URL and only the header moves.
//! - A bad header counts only without `after`. A browser cannot read an error, so the stream
//!   begins with a gap, then a snapshot of what there is, and goes on from there.
//! - A valid header beats `from`; `after` with `from` is refused.

use segue_core::{Cursor, CursorError, RunId, Seq};
use segue_journal::StreamInfo;

/// Where a client without a cursor wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The run's first event.
    Start,
    /// Whatever comes next.
    Tail,
    /// The last so many events.
    Last(u64),
    /// A snapshot of all events so far, then what comes.
    Snapshot,
}

/// What a request says about its place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// `?after=`
    pub(crate) after: Option<&'a str>,
    /// `Last-Event-ID`. An empty one says nothing, as in a browser that has seen no id.
    pub(crate) header: Option<&'a str>,
    /// `?from=`
    pub(crate) from: Option<Begin>,
}

/// Where a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The first event to give, at most the tail; of a snapshot, the first that is in it.
    pub(crate) from: Seq,
    /// How many frames of that event the client has.
    pub(crate) frames: u32,
    /// Why that is not what the client asked for.
    pub(crate) gap: Option<Gap>,
    /// A snapshot is given first, and the events after it.
    pub(crate) snapshot: bool,
}

impl Start {
    /// The events from one on.
    pub(crate) fn at(from: Seq) -> Self {
        Self { from, frames: 0, gap: None, snapshot: false }
    }

    /// The gap path: what is told, then a snapshot.
    fn after(gap: Gap, info: &StreamInfo) -> Self {
        Self { gap: Some(gap), snapshot: true, ..Self::at(info.available_from) }
    }

    /// Whether it begins at the run's first event.
    pub(crate) fn is_first(&self) -> bool {
        self.from <= Seq::FIRST
    }
}

/// Why a cursor cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorRefusal {
    #[error("give either `after` or `from`")]
    AfterWithFrom,
    #[error(transparent)]
    Malformed(CursorError),
    #[error("the cursor is of another run")]
    Foreign,
    #[error("the cursor is ahead of the run, whose last event is {last}")]
    Ahead { last: Seq },
    #[error("what follows the cursor was trimmed")]
    Trimmed {
        /// The first event that there is; `None` if there is none left.
        available_from: Option<Seq>,
    },
}

/// A cursor in a header that could not be followed.
pub(crate) type Gap = CursorRefusal;

impl CursorRefusal {
    /// One word for a control frame.
    pub(crate) fn why(&self) -> &'static str {
        match self {
            Self::AfterWithFrom | Self::Malformed(_) => "malformed",
            Self::Foreign => "foreign",
            Self::Ahead { .. } => "ahead",
            Self::Trimmed { .. } => "trimmed",
        }
    }
}

/// Decides where a stream begins.
pub(crate) fn decide(
    run: &RunId,
    info: &StreamInfo,
    wanted: Wanted<'_>,
) -> Result<Start, CursorRefusal> {
    if wanted.after.is_some() && wanted.from.is_some() {
        return Err(CursorRefusal::AfterWithFrom);
    }
    let header = wanted.header.filter(|text| !text.is_empty()).map(|text| place(run, info, text));
    if let Some(after) = wanted.after {
        let after = place(run, info, after)?;
        let from = header.and_then(Result::ok).map_or(after, |header| header.max(after));
        return Ok(Start::at(from));
    }
    match header {
        Some(Ok(from)) => Ok(Start::at(from)),
        Some(Err(gap)) => Ok(Start::after(gap, info)),
        None => Ok(begin(info, wanted.from.unwrap_or(Begin::Start))),
    }
}

/// The first event after a cursor.
fn place(run: &RunId, info: &StreamInfo, text: &str) -> Result<Seq, CursorRefusal> {
    let cursor = Cursor::parse(text).map_err(CursorRefusal::Malformed)?;
    // Compared as text: whether the other run exists is nobody's business.
    if cursor.run != *run {
        return Err(CursorRefusal::Foreign);
    }
    if cursor.seq >= info.tail.next {
        return Err(CursorRefusal::Ahead { last: info.tail.next.prev() });
    }
    available(info, cursor.seq.next())
}

fn available(info: &StreamInfo, from: Seq) -> Result<Seq, CursorRefusal> {
    if from >= info.available_from {
        return Ok(from);
    }
    let left = info.available_from < info.tail.next;
    Err(CursorRefusal::Trimmed { available_from: left.then_some(info.available_from) })
}

/// Without a cursor. Where the run's first events are gone, that is told and not passed over.
fn begin(info: &StreamInfo, from: Begin) -> Start {
    let next = info.tail.next;
    let from = match from {
        Begin::Start => match available(info, Seq::FIRST) {
            Ok(first) => first,
            Err(gap) => return Start::after(gap, info),
        },
        Begin::Snapshot => {
            return Start { snapshot: true, ..Start::at(info.available_from) };
        }
        Begin::Tail => next,
        Begin::Last(count) => {
            Seq(next.0.saturating_sub(count)).max(Seq::FIRST).max(info.available_from)
        }
    };
    Start::at(from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use segue_journal::{Epoch, Incarnation, Tail};

    use super::*;

    fn run() -> RunId {
        RunId::parse("r").expect("valid")
    }

    /// A run with events `first..next`.
    fn info(first: u64, next: u64) -> StreamInfo {
        StreamInfo {
            incarnation: Incarnation(1),
            epoch: Epoch(1),
            available_from: Seq(first),
            tail: Tail { next: Seq(next), closed: false },
        }
    }

    fn check(info: &StreamInfo, after: Option<&str>, header: Option<&str>) -> Result<u64, String> {
        let start = decide(&run(), info, Wanted { after, header, from: None });
        let start = start.map_err(|refusal| format!("{} {refusal}", refusal.why()))?;
        match start.gap {
            Some(gap) => Err(format!("gap {} from {}", gap.why(), start.from)),
            None => Ok(start.from.0),
        }
    }

    #[test]
    fn f05_the_event_of_the_cursor_is_not_sent_again() {
        assert_eq!(check(&info(1, 10), Some("r:4"), None), Ok(5));
        assert_eq!(check(&info(1, 10), Some("r:0"), None), Ok(1));
        assert_eq!(check(&info(1, 10), Some("r:9"), None), Ok(10));
    }

    #[test]
    fn j02_of_two_valid_cursors_the_later_wins() {
        assert_eq!(check(&info(1, 10), Some("r:4"), Some("r:7")), Ok(8));
        assert_eq!(check(&info(1, 10), Some("r:7"), Some("r:4")), Ok(8));
    }

    #[test]
    fn j03_a_bad_after_is_refused_whatever_the_header_says() {
        for header in [None, Some("r:4"), Some("junk")] {
            let answer = check(&info(1, 10), Some("junk"), header);
            assert!(answer.expect_err("malformed").starts_with("malformed"));
        }
        assert!(check(&info(1, 10), Some(""), Some("r:4")).is_err());
    }

    #[test]
    fn j04_the_header_alone_is_used() {
        assert_eq!(check(&info(1, 10), None, Some("r:4")), Ok(5));
        assert_eq!(check(&info(1, 10), None, Some("")), Ok(1));
        assert_eq!(check(&info(1, 10), None, None), Ok(1));
    }

    #[test]
    fn a_bad_header_counts_only_without_after() {
        for header in ["junk", "x:3", "r:10", "r:99"] {
            assert_eq!(check(&info(1, 10), Some("r:4"), Some(header)), Ok(5), "{header}");
        }
    }

    #[test]
    fn a_bad_header_takes_the_gap_path() {
        let gap = |header| check(&info(3, 10), None, Some(header)).expect_err("gap");
        assert_eq!(gap("junk"), "gap malformed from 3");
        assert_eq!(gap("x:5"), "gap foreign from 3");
        assert_eq!(gap("r:10"), "gap ahead from 3");
        assert_eq!(gap("r:1"), "gap trimmed from 3");
        assert_eq!(check(&info(3, 10), None, Some("r:2")), Ok(3));
    }

    #[test]
    fn j07_another_run_is_named_as_such() {
        let answer = check(&info(1, 10), Some("x:5"), None);
        assert_eq!(answer.expect_err("foreign"), "foreign the cursor is of another run");
    }

    #[test]
    fn j09_ahead_of_the_run_is_refused() {
        let answer = check(&info(1, 10), Some("r:10"), None).expect_err("ahead");
        assert_eq!(answer, "ahead the cursor is ahead of the run, whose last event is 9");
        assert!(check(&info(1, 10), Some("r:18446744073709551615"), None).is_err());
    }

    #[test]
    fn j05_every_odd_spelling_of_after_is_malformed() {
        for text in ["r", "r:", "r:-1", "r: 1", "r:1 ", "r:x", "a:b:1", "r:18446744073709551616"] {
            let answer = check(&info(1, 10), Some(text), None).expect_err("odd");
            assert!(answer.starts_with("malformed"), "{text:?}: {answer}");
        }
    }

    #[test]
    fn a_trimmed_run_says_what_is_left() {
        let refusal = |info: &StreamInfo| {
            let wanted = Wanted { after: Some("r:1"), ..Wanted::default() };
            decide(&run(), info, wanted).expect_err("trimmed")
        };
        let some = CursorRefusal::Trimmed { available_from: Some(Seq(5)) };
        assert_eq!(refusal(&info(5, 10)), some);
        assert_eq!(refusal(&info(10, 10)), CursorRefusal::Trimmed { available_from: None });
        assert_eq!(check(&info(5, 10), None, None), Err("gap trimmed from 5".into()));
    }

    #[test]
    fn from_is_used_where_there_is_no_cursor() {
        let begin = |info: StreamInfo, from, header| {
            let wanted = Wanted { after: None, header, from: Some(from) };
            decide(&run(), &info, wanted).map(|start| start.from.0)
        };
        assert_eq!(begin(info(1, 10), Begin::Start, None), Ok(1));
        assert_eq!(begin(info(1, 10), Begin::Tail, None), Ok(10));
        assert_eq!(begin(info(1, 10), Begin::Last(3), None), Ok(7));
        assert_eq!(begin(info(1, 10), Begin::Last(99), None), Ok(1));
        assert_eq!(begin(info(1, 10), Begin::Last(0), None), Ok(10));
        assert_eq!(begin(info(8, 10), Begin::Last(9), None), Ok(8));
        assert_eq!(begin(info(1, 10), Begin::Tail, Some("r:2")), Ok(3));
        assert_eq!(begin(info(3, 10), Begin::Snapshot, None), Ok(3));
        let both = Wanted { after: Some("r:1"), header: None, from: Some(Begin::Start) };
        assert_eq!(decide(&run(), &info(1, 10), both), Err(CursorRefusal::AfterWithFrom));
    }

    proptest! {
        /// Whatever a request says, the stream begins at an event that exists or at the tail, and
        /// nothing that a valid cursor has yet to see is passed over.
        #[test]
        fn a_start_is_within_the_run_and_skips_nothing(
            first in 1..20_u64,
            length in 0..20_u64,
            after in proptest::option::of("(r|x):[0-9]{1,2}|[a-z:]{0,4}"),
            header in proptest::option::of("(r|x):[0-9]{1,2}|[a-z:]{0,4}"),
        ) {
            let info = info(first, first + length);
            let wanted = Wanted { after: after.as_deref(), header: header.as_deref(), from: None };
            if let Ok(start) = decide(&run(), &info, wanted) {
                prop_assert_eq!(start.snapshot, start.gap.is_some(), "a gap comes with a snapshot");
                prop_assert!(start.from >= info.available_from && start.from <= info.tail.next);
                let seen = |text: &Option<String>| {
                    text.as_deref().and_then(|text| place(&run(), &info, text).ok())
                };
                let latest = seen(&after).max(seen(&header));
                if let (None, Some(latest)) = (&start.gap, latest) {
                    prop_assert_eq!(start.from, latest);
                }
            }
        }
    }
}
