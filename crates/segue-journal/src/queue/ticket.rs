//! The answer to a submit: given by the writer, and told to who waits for it in a second step, so
//! that a commit's answers are all given before anyone is woken.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use crate::{
    api::{AppendError, Committed},
    sync::held,
};

/// What became of a batch.
pub(crate) type Outcome = Result<Committed, AppendError>;

/// The result of a submitted batch, once it is known.
///
/// Dropping it drops only the answer: what was submitted commits all the same.
#[derive(Debug)]
pub struct Ticket(Arc<Mutex<State>>);

/// The writer's end of a ticket. Dropped without an answer it says that the writer went away.
pub(crate) struct Answer(Option<Arc<Mutex<State>>>);

/// Who waits for an answer that was given; woken when this is dropped.
#[must_use = "who waits is woken when this is dropped"]
pub(crate) struct Told(Option<Waker>);

#[derive(Debug)]
enum State {
    /// Nothing is known; who waits.
    Open(Option<Waker>),
    Given(Outcome),
    Taken,
}

impl Ticket {
    /// A ticket and the end that answers it.
    pub(crate) fn pair() -> (Answer, Self) {
        let state = Arc::new(Mutex::new(State::Open(None)));
        (Answer(Some(Arc::clone(&state))), Self(state))
    }

    /// Waits on the calling thread. For programs without a runtime; never call it in one.
    pub fn wait(mut self) -> Result<Committed, AppendError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut cx) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => thread::park(),
            }
        }
    }
}

impl Future for Ticket {
    type Output = Result<Committed, AppendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = held(&self.0);
        match &mut *state {
            State::Open(waiting) => {
                match waiting {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waiting = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Given(_) => match mem::replace(&mut *state, State::Taken) {
                State::Given(outcome) => Poll::Ready(outcome),
                State::Open(_) | State::Taken => Poll::Ready(Err(lost())),
            },
            State::Taken => Poll::Ready(Err(lost())),
        }
    }
}

impl Answer {
    /// Gives the answer: from here on a look at the ticket finds it.
    pub(crate) fn give(mut self, outcome: Outcome) -> Told {
        self.settle(outcome)
    }

    fn settle(&mut self, outcome: Outcome) -> Told {
        let Some(state) = self.0.take() else { return Told(None) };
        match mem::replace(&mut *held(&state), State::Given(outcome)) {
            State::Open(waiting) => Told(waiting),
            State::Given(_) | State::Taken => Told(None),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.0.is_some() {
            drop(self.settle(Err(lost())));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

fn lost() -> AppendError {
    AppendError::Poisoned("the writer went away".into())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::api::Position;

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    const DONE: Outcome =
        Ok(Committed { position: Position(1), parts: Vec::new(), duplicate: false });

    #[test]
    fn an_answer_is_there_before_anyone_is_woken() {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let (answer, mut ticket) = Ticket::pair();
        assert!(Pin::new(&mut ticket).poll(&mut cx).is_pending());
        let told = answer.give(DONE);
        assert!(!woken.0.load(Ordering::Relaxed));
        drop(told);
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!(Pin::new(&mut ticket).poll(&mut cx), Poll::Ready(DONE));
    }

    #[test]
    fn a_thread_waits_for_its_answer() {
        let (answer, ticket) = Ticket::pair();
        let waiting = thread::spawn(|| ticket.wait());
        drop(answer.give(DONE));
        assert_eq!(waiting.join().expect("no panic"), DONE);
    }

    #[test]
    fn an_answer_that_is_dropped_says_that_the_writer_went_away() {
        let (answer, ticket) = Ticket::pair();
        drop(answer);
        assert_eq!(ticket.wait(), Err(lost()));
        let (answer, ticket) = Ticket::pair();
        drop(ticket);
        drop(answer.give(DONE));
    }
}
