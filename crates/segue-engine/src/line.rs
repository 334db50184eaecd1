//! The line of a session: its active runs in the order in which they were accepted.

use segue_core::{Policy, RunId};
use tokio::sync::oneshot;

/// How many runs may wait in a session.
const MAX_WAITING: usize = 1000;

/// The runs of a session that have not ended.
#[derive(Default)]
pub(crate) struct Line {
    /// By turn. The first is at work, and so may others be that were started beside it.
    places: Vec<Place>,
    next_turn: u64,
}

struct Place {
    turn: u64,
    run: RunId,
    /// The run's creation is durable.
    is_durable: bool,
    /// Rung when the place has become the first.
    called: Option<oneshot::Sender<()>>,
}

/// Why there is no place in a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    /// The policy does not allow it beside this run.
    Busy(RunId),
    /// The last one is not durable yet, so that the order after it is not known.
    Later,
}

/// A place that was taken.
pub(crate) struct Joined {
    pub(crate) turn: u64,
    /// Completes when the place is the first.
    pub(crate) called: oneshot::Receiver<()>,
    /// Others are before it, and its policy does not let it begin beside them.
    pub(crate) waits: bool,
}

impl Line {
    pub(crate) fn join(&mut self, run: &RunId, policy: Policy) -> Result<Joined, LineError> {
        if let Some(first) = self.places.first()
            && (policy == Policy::Reject || self.places.len() > MAX_WAITING)
        {
            return Err(LineError::Busy(first.run.clone()));
        }
        if self.places.last().is_some_and(|last| !last.is_durable) {
            return Err(LineError::Later);
        }
        Ok(self.join_at(self.next_turn, run, policy))
    }

    /// Takes a place at the end, with this turn or a higher one.
    pub(crate) fn join_at(&mut self, turn: u64, run: &RunId, policy: Policy) -> Joined {
        let turn = turn.max(self.next_turn);
        let (sender, called) = oneshot::channel();
        let is_first = self.places.is_empty();
        let place = Place { turn, run: run.clone(), is_durable: false, called: Some(sender) };
        self.places.push(place);
        self.next_turn = turn + 1;
        if is_first {
            self.call_first();
        }
        Joined { turn, called, waits: !is_first && policy != Policy::Parallel }
    }

    /// The place's run is durable: others may come after it.
    pub(crate) fn settle(&mut self, turn: u64) {
        if let Some(place) = self.places.iter_mut().find(|place| place.turn == turn) {
            place.is_durable = true;
        }
    }

    pub(crate) fn leave(&mut self, turn: u64) {
        self.places.retain(|place| place.turn != turn);
        self.call_first();
    }

    fn call_first(&mut self) {
        if let Some(called) = self.places.first_mut().and_then(|place| place.called.take()) {
            // Who does not wait does not listen.
            called.send(()).unwrap_or_default();
        }
    }

    /// The runs before this turn, newest first.
    pub(crate) fn before(&self, turn: u64) -> impl Iterator<Item = &RunId> {
        self.places.iter().rev().filter(move |place| place.turn < turn).map(|place| &place.run)
    }

    /// The runs in the order of their turns.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &RunId> {
        self.places.iter().map(|place| &place.run)
    }

    /// Whether every place's run is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.places.iter().all(|place| place.is_durable)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(name: &str) -> RunId {
        RunId::parse(name).expect("valid")
    }

    fn join(line: &mut Line, name: &str, policy: Policy) -> Joined {
        let joined = line.join(&run(name), policy).expect("a place");
        line.settle(joined.turn);
        joined
    }

    #[test]
    fn a_place_is_called_when_all_before_it_have_left() {
        let mut line = Line::default();
        let first = join(&mut line, "a", Policy::Reject);
        let beside = join(&mut line, "b", Policy::Parallel);
        let mut last = join(&mut line, "c", Policy::Queue);
        assert_eq!((first.waits, beside.waits, last.waits), (false, false, true));
        line.leave(first.turn);
        assert!(last.called.try_recv().is_err());
        line.leave(beside.turn);
        assert!(last.called.try_recv().is_ok());
    }

    #[test]
    fn rejected_while_anybody_is_there() {
        let mut line = Line::default();
        let first = join(&mut line, "a", Policy::Queue);
        assert_eq!(line.join(&run("b"), Policy::Reject).err(), Some(LineError::Busy(run("a"))));
        line.leave(first.turn);
        assert!(line.join(&run("b"), Policy::Reject).is_ok());
    }

    #[test]
    fn nobody_joins_behind_one_that_is_not_durable() {
        let mut line = Line::default();
        let first = line.join(&run("a"), Policy::Queue).expect("a place");
        assert_eq!(line.join(&run("b"), Policy::Queue).err(), Some(LineError::Later));
        line.settle(first.turn);
        assert!(line.join(&run("b"), Policy::Queue).is_ok());
    }

    #[test]
    fn a_line_has_an_end() {
        let mut line = Line::default();
        for n in 0..=MAX_WAITING {
            join(&mut line, &format!("r{n}"), Policy::Queue);
        }
        let refused = line.join(&run("more"), Policy::Parallel).err();
        assert_eq!(refused, Some(LineError::Busy(run("r0"))));
    }

    proptest! {
        /// Whoever leaves, in whatever order: a place is called if and only if it is the first.
        #[test]
        fn the_first_and_only_the_first_is_called(leaving in prop::collection::vec(0..8_usize, 0..8)) {
            let mut line = Line::default();
            let mut there: Vec<Joined> =
                (0..8).map(|n| join(&mut line, &format!("r{n}"), Policy::Queue)).collect();
            for index in leaving {
                if there.is_empty() {
                    break;
                }
                let gone = there.remove(index % there.len());
                line.leave(gone.turn);
                prop_assert_eq!(line.len(), there.len());
                for (place, joined) in there.iter_mut().enumerate().skip(1) {
                    prop_assert!(joined.called.try_recv().is_err(), "place {}", place);
                }
            }
            while !there.is_empty() {
                prop_assert!(matches!(there[0].called.try_recv(), Ok(()) | Err(oneshot::error::TryRecvError::Closed)));
                line.leave(there.remove(0).turn);
            }
            prop_assert!(line.is_empty());
        }
    }
}
