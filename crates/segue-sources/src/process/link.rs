//! The server's end of a guard.

use std::{io, os::fd::OwnedFd, os::unix::net::UnixStream as StdUnixStream, process::Stdio};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
};

use super::{
    ProcessSource,
    wire::{Order, Word},
};
use crate::decode::LineDecoder;

/// The longest line that a guard says.
const WORD_BYTES: usize = 256;

/// A socket to a guard. Dropping it ends the guard's command.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    lines: LineDecoder,
    buffer: BytesMut,
}

impl Link {
    /// Starts a guard for the command of `source`.
    pub(super) fn spawn(source: &ProcessSource) -> io::Result<(Self, Child)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let order = Order {
            grace: source.limits.grace,
            cwd: source.spec.cwd.clone(),
            command: source.spec.command.iter().map(Into::into).collect(),
        };
        let guard = Command::new(&source.guard)
            .arg("__guard")
            .args(order.into_args())
            .env_clear()
            .envs(source.spec.environment())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let socket = UnixStream::from_std(ours)?;
        let link = Self { socket, lines: LineDecoder::new(WORD_BYTES), buffer: BytesMut::new() };
        Ok((link, guard))
    }

    /// What the guard says next; `None` once it is gone. Nothing is lost when this is dropped.
    pub(super) async fn hear(&mut self) -> Option<Word> {
        loop {
            if let Some(line) = self.lines.next().ok()? {
                return Word::parse(std::str::from_utf8(&line).ok()?);
            }
            self.buffer.clear();
            if self.socket.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
            self.lines.feed(&self.buffer);
        }
    }

    /// Tells the guard to stop its command.
    pub(super) async fn ask_to_stop(&mut self) {
        // An error means that the guard is gone, which `hear` tells.
        self.socket.shutdown().await.ok();
    }
}
