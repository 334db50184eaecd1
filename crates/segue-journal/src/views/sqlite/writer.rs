//! The one thread that writes.
//!
//! It takes what is queued, in order, and commits it in one transaction: rows, checkpoints and
//! position together, so that none is ever ahead of another.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, Transaction, TransactionBehavior, params_from_iter};
use tokio::sync::oneshot;

use super::{sql, told};
use crate::{
    api::Position,
    views::{Applied, Change, Checkpoint, Schema, ViewError, words},
};

/// Writes that may be queued before a caller has to wait.
const QUEUE: usize = 1_024;

/// Writes of one transaction.
const GROUP: usize = 256;

/// What is to be written.
pub(super) enum Work {
    Apply { changes: Vec<Change>, checkpoints: Vec<Checkpoint>, position: Position },
    Clear,
}

struct Job {
    work: Work,
    answer: oneshot::Sender<Result<(), ViewError>>,
}

/// The thread. Dropping it lets it finish what is queued.
pub(super) struct Writer {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn spawn(
        connection: Connection,
        path: &Path,
        schema: &Schema,
    ) -> Result<Self, ViewError> {
        let (jobs, queue) = sync_channel(QUEUE);
        let state = State { connection, path: path.to_owned(), schema: *schema };
        let thread = thread::Builder::new().name("segue-views".into());
        let thread = thread.spawn(move || state.run(&queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(super) fn submit(&self, work: Work) -> Applied {
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // Refused only by a thread that is gone, which the answer tells.
            drop(jobs.send(Job { work, answer }));
        }
        Box::pin(async { answered.await.unwrap_or_else(|_| Err(gone())) })
    }
}

fn gone() -> ViewError {
    ViewError::Store("the writer went away".into())
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the views' writer panicked");
        }
    }
}

struct State {
    connection: Connection,
    path: PathBuf,
    schema: Schema,
}

impl State {
    fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let mut jobs = vec![first];
            jobs.extend(queue.try_iter().take(GROUP - 1));
            let written = self.write(&jobs).map_err(|error| told(&self.path, error));
            if let Err(error) = &written {
                // What is queued behind builds on what failed: its rows without these would be
                // ahead of their checkpoints.
                jobs.extend(queue.try_iter());
                tracing::error!(%error, "the views cannot be written");
                metrics::counter!("segue_views_failed_writes_total").increment(1);
            }
            for job in jobs {
                drop(job.answer.send(written.clone()));
            }
        }
    }

    fn write(&mut self, jobs: &[Job]) -> Result<(), ViewError> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        for job in jobs {
            match &job.work {
                Work::Clear => clear(&transaction, &self.schema)?,
                Work::Apply { changes, checkpoints, position } => {
                    for change in changes {
                        write_change(&transaction, &self.schema, change)?;
                    }
                    note(&transaction, checkpoints, *position)?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

fn write_change(
    transaction: &Transaction<'_>,
    schema: &Schema,
    change: &Change,
) -> Result<(), ViewError> {
    match change {
        Change::Put { table, row } => {
            let sql = sql::put(schema.table(table)?);
            transaction.prepare_cached(&sql)?.execute(params_from_iter(row))?;
        }
        Change::Update { cells, .. } if cells.is_empty() => {}
        Change::Update { table, key, cells } => {
            let columns: Vec<&str> = cells.iter().map(|(column, _)| *column).collect();
            let sql = sql::update(schema.table(table)?, &columns);
            let values = [key].into_iter().chain(cells.iter().map(|(_, value)| value));
            transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        }
        Change::Index { table, key, text } => {
            let sql = sql::index(schema.table(table)?);
            transaction.prepare_cached(&sql)?.execute((key, words(text).join(" ")))?;
        }
        Change::Delete { table, key } => {
            let table = schema.table(table)?;
            if table.is_searched {
                transaction.prepare_cached(&sql::forget(table))?.execute([key])?;
            }
            let sql = sql::delete(table);
            transaction.prepare_cached(&sql)?.execute([key])?;
        }
    }
    Ok(())
}

fn note(
    transaction: &Transaction<'_>,
    checkpoints: &[Checkpoint],
    position: Position,
) -> Result<(), ViewError> {
    let sql = "INSERT INTO checkpoints VALUES (?1, ?2)
               ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq";
    let mut statement = transaction.prepare_cached(sql)?;
    for Checkpoint { stream, seq } in checkpoints {
        statement.execute((stream.as_str(), seq.0.cast_signed()))?;
    }
    let sql = "UPDATE meta SET value = ?1 WHERE key = 'position'";
    transaction.prepare_cached(sql)?.execute([position.0.cast_signed()])?;
    Ok(())
}

fn clear(transaction: &Transaction<'_>, schema: &Schema) -> Result<(), ViewError> {
    for table in schema.tables {
        transaction.execute_batch(&sql::clear(table))?;
    }
    transaction.execute("DELETE FROM checkpoints", [])?;
    note(transaction, &[], Position(0))
}
