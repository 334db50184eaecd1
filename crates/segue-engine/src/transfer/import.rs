//! Reading a session in.

use std::pin::pin;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use segue_core::{MessageId, RunId, SessionId, TenantId};
use segue_journal::views::ViewError;
use tokio::sync::oneshot;

use super::{
    lines::{Line, Lines},
    stage::Stage,
};
use crate::{
    append::AppendError,
    engine::Engine,
    query::{QueryError, SessionView},
};

/// Why nothing was imported. Nothing of it stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A line is not one of an export, or not the one that has to come.
    #[error("line {line} {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A later format.
    #[error("the export has the format {version}, this server reads up to {}", super::VERSION)]
    Newer {
        /// Its format.
        version: u32,
    },
    /// It ends before its last line.
    #[error("the export is cut off after {lines} lines")]
    Cut {
        /// How many whole lines came.
        lines: u64,
    },
    /// Its sum is another one.
    #[error("the export was altered, or lines of it are missing: its sum is another one")]
    Altered,
    /// The tenant has a session of this id.
    #[error("the session {0} exists already")]
    SessionExists(SessionId),
    /// The tenant has or had a run of this id.
    #[error("the run id {0} was used before")]
    RunExists(RunId),
    /// The tenant has a message of this id.
    #[error("the message id {0} was used before")]
    MessageExists(MessageId),
    /// The session's own records are more than one batch takes.
    #[error("the session's own records have over {max} bytes")]
    TooLarge {
        /// The cap.
        max: usize,
    },
    /// The engine shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The journal did not take it.
    #[error(transparent)]
    Journal(#[from] AppendError),
    /// The views could not be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl From<ViewError> for ImportError {
    fn from(error: ViewError) -> Self {
        Self::Query(error.into())
    }
}

impl Engine {
    /// Imports a session with its runs, as an export has given it. All of it is there when this
    /// returns, or nothing; while it is on its way nobody sees any of it.
    ///
    /// A body that ends with an error is cut off. Dropping the future does not stop it.
    pub async fn import_session<E: Send + 'static>(
        &self,
        tenant: &TenantId,
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<SessionView, ImportError> {
        if !self.is_ready() {
            return Err(ImportError::ShuttingDown);
        }
        let reading = Reading {
            lines: Lines::new(self.inner.settings.event_bytes),
            engine: self.clone(),
            tenant: tenant.clone(),
            stage: None,
        };
        let (answer, imported) = oneshot::channel();
        self.inner.spawner.spawn(async move {
            // Who asked may have gone.
            drop(answer.send(reading.run(body).await));
        });
        let session = imported.await.unwrap_or(Err(ImportError::ShuttingDown))?;
        self.session(tenant, &session).await?.ok_or(ImportError::ShuttingDown)
    }
}

/// An import on its way.
struct Reading {
    engine: Engine,
    tenant: TenantId,
    lines: Lines,
    stage: Option<Stage>,
}

impl Reading {
    async fn run<E>(
        mut self,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<SessionId, ImportError> {
        let read = self.read(body).await;
        let Some(stage) = self.stage.take() else {
            return Err(read.err().unwrap_or(ImportError::Cut { lines: self.lines.count() }));
        };
        let done = match read {
            Ok(()) => stage.finish().await,
            Err(error) => Err((error, stage)),
        };
        match done {
            Ok(session) => {
                metrics::counter!("segue_imports_total").increment(1);
                Ok(session)
            }
            Err((error, stage)) => {
                metrics::counter!("segue_imports_undone_total").increment(1);
                stage.undo().await;
                Err(error)
            }
        }
    }

    /// Up to the last line, after which nothing may come.
    async fn read<E>(
        &mut self,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<(), ImportError> {
        let mut body = pin!(body);
        let mut is_over = false;
        loop {
            while let Some(line) = self.lines.next()? {
                if is_over {
                    return Err(self.lines.bad("comes after the end"));
                }
                is_over = self.take(line).await?;
            }
            match body.next().await {
                Some(Ok(bytes)) => self.lines.feed(&bytes),
                None if is_over && !self.lines.has_rest() => return Ok(()),
                Some(Err(_)) | None => {
                    return Err(ImportError::Cut { lines: self.lines.count() });
                }
            }
        }
    }

    /// Whether it was the last one.
    async fn take(&mut self, line: Line) -> Result<bool, ImportError> {
        let at = self.lines.count();
        let misplaced = |what: &str| ImportError::Line { line: at, what: what.to_owned() };
        match (line, &mut self.stage) {
            (Line::Head(head), None) => {
                self.stage = Some(Stage::begin(&self.engine, &self.tenant, head, at).await?);
            }
            (Line::Head(_), Some(_)) => return Err(misplaced("is a second head")),
            (_, None) => return Err(misplaced("is not the head of an export")),
            (Line::Event { run, seq, record }, Some(stage)) => {
                stage.event(&run, seq, record, at).await?;
            }
            (Line::Session { seq, record }, Some(stage)) => stage.record(seq, record, at)?,
            (Line::End(_), Some(stage)) => {
                stage.check_whole(at)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}
