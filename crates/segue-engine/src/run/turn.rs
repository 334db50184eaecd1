//! A queued run: it waits for those before it, and can be stopped before its source is started.

use std::pin::pin;

use futures_util::{
    FutureExt,
    future::{FusedFuture, join_all},
};
use segue_core::{Event, Outcome, RunStatus, StopReason, lifecycle::Lifecycle};
use segue_journal::{Batch, Epoch, Op, Part, StreamKey};
use tokio::sync::mpsc;

use super::{Command, FIRST_EPOCH, Phase, Run, StopCommand};
use crate::{append::AppendError, supervisor::Seat};

/// What became of a run that waited.
pub(crate) enum Turn {
    /// Its turn has come.
    Come,
    /// It was stopped before it began; of several stops the first is the one that is accepted.
    Stopped(Vec<StopCommand>),
    /// It could not begin.
    Failed(Outcome),
    /// The engine goes down and the next one goes on with it.
    Left,
}

impl Run {
    /// Waits until all runs before it have ended; with `replaces`, stops them first, newest
    /// first, so that none of them begins meanwhile. Who is stopped itself replaces nobody that
    /// it has not stopped by then.
    pub(crate) async fn wait_for_turn(
        &self,
        inbox: &mut mpsc::Receiver<Command>,
        seat: &mut Seat,
        replaces: bool,
    ) -> Turn {
        let before = if replaces { seat.before(&self.facts.tenant) } else { Vec::new() };
        let mut replacing = pin!(join_all(before.iter().map(|run| run.stop_replaced())).fuse());
        loop {
            tokio::select! {
                biased;
                command = inbox.recv() => match command {
                    Some(Command::Stop(stop)) if self.is_left_by(&stop) => {
                        stop.answer(false);
                        return Turn::Left;
                    }
                    Some(Command::Stop(stop)) => return Turn::Stopped(vec![stop]),
                    // A producer's last words cannot come before its run.
                    Some(Command::End(words)) => {
                        drop(words.answer.send(Err(AppendError::NotStarted)));
                    }
                    None => return Turn::Left,
                },
                _ = &mut replacing, if !replacing.is_terminated() => {}
                () = seat.called() => return Turn::Come,
            }
        }
    }

    /// Ends a run that was stopped before it began. The stops are answered when that is durable:
    /// before, a crash would forget them, and the next start of the engine begin the run.
    pub(crate) async fn end_stopped(&self, stops: Vec<StopCommand>) {
        if let Some(first) = stops.first() {
            self.enter(Phase::Stopping(first.reason));
            self.end_as_is(first.outcome()).await;
        }
        let is_durable = matches!(self.phase(), Phase::Ended(_));
        for (index, stop) in stops.into_iter().enumerate() {
            stop.answer(index == 0 && is_durable);
        }
    }

    /// Asks the owner to end the run because a newer one takes its place.
    async fn stop_replaced(&self) {
        // A run without an owner has ended.
        drop(self.command(Command::Stop(StopCommand::new(StopReason::Replaced))).await);
    }

    /// Writes that the run begins: its own event and its session's record, in one batch.
    pub(crate) async fn begin(&self, started: &Event) -> Result<(), AppendError> {
        let changed =
            Lifecycle::RunChanged { run_id: self.facts.run.clone(), status: RunStatus::Running };
        let session = StreamKey::session(&self.facts.tenant, &self.facts.session);
        let in_session = vec![changed.encode()];
        let (records, expect) = {
            let mut log = self.log();
            let expect = log.next();
            (log.take(std::slice::from_ref(started)), expect)
        };
        let op = Op::Append {
            records,
            create: false,
            close: false,
            expect: Some(expect),
            producer: None,
        };
        let parts = vec![
            Part { stream: self.stream.clone(), op, epoch: Epoch(FIRST_EPOCH) },
            Part::append(session, Epoch(0), in_session),
        ];
        let committed = async {
            let permit = self.journal.reserve(&self.stream, parts.iter().map(Part::bytes).sum());
            let permit = permit.await?;
            Ok(self.journal.submit(permit, Batch { parts }).await?)
        };
        match committed.await {
            Ok(committed) => {
                let at = committed.parts.first().map_or(self.facts.created_at, |part| part.at);
                // Set once: a run begins once.
                self.started_at.get_or_init(|| at);
                self.activity.begin();
                self.enter(Phase::Running);
                Ok(())
            }
            Err(error) => {
                self.log().mark_stale();
                Err(error)
            }
        }
    }
}
