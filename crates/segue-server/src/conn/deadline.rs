//! The deadline of a slow client: *no byte accepted by the kernel for so long while a write is
//! pending*.
//!
//! A body cannot see what the kernel accepted, so the mark stands below the HTTP library. A client
//! that takes one byte within each span lives on, however slow it is; one that takes none is cut,
//! and its cursor loses nothing. A client that sends is alive as well, also if it does not read:
//! so a producer that looks at its acks only at the end is not cut in the middle.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

/// A socket whose writes have to make progress.
pub(super) struct Deadline<I> {
    io: I,
    limit: Duration,
    /// Runs while a write is pending.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Deadline<I> {
    pub(super) fn new(io: I, limit: Duration) -> Self {
        Self { io, limit, stalled: None }
    }

    fn mark<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        if stalled.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        metrics::counter!("segue_connections_cut_total", "cause" => "write_deadline").increment(1);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<I: Read + Unpin> Read for Deadline<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.stalled = None;
        }
        read
    }
}

impl<I: Write + Unpin> Write for Deadline<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.mark(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.mark(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.mark(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn pair() -> (Deadline<TokioIo<DuplexStream>>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(8);
        (Deadline::new(TokioIo::new(ours), LIMIT), theirs)
    }

    async fn write(io: &mut Deadline<TokioIo<DuplexStream>>) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, b"12345678")).await
    }

    #[tokio::test(start_paused = true)]
    async fn h11_a_client_that_takes_nothing_is_cut() {
        let (mut io, _theirs) = pair();
        assert_eq!(write(&mut io).await.expect("there is room"), 8);
        let error = write(&mut io).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn h11_a_byte_within_each_span_is_enough() {
        let (mut io, mut theirs) = pair();
        assert_eq!(write(&mut io).await.expect("there is room"), 8);
        for _ in 0..10 {
            let slow = async {
                tokio::time::sleep(LIMIT / 20 * 19).await;
                theirs.read_u8().await.expect("written before")
            };
            let (written, _) = tokio::join!(write(&mut io), slow);
            assert_eq!(written.expect("one byte left"), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_is_not_cut() {
        let (mut io, mut theirs) = pair();
        assert_eq!(write(&mut io).await.expect("there is room"), 8);
        for _ in 0..10 {
            let stalled = tokio::time::timeout(LIMIT / 20 * 19, write(&mut io)).await;
            assert!(stalled.is_err(), "nobody reads, and it is not over yet");
            theirs.write_u8(7).await.expect("there is room");
            let mut space = [0; 8];
            let mut buf = hyper::rt::ReadBuf::new(&mut space);
            poll_fn(|cx| Pin::new(&mut io).poll_read(cx, buf.unfilled())).await.expect("a byte");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_no_deadline() {
        let (mut io, mut theirs) = pair();
        assert_eq!(write(&mut io).await.expect("there is room"), 8);
        let mut taken = [0; 8];
        theirs.read_exact(&mut taken).await.expect("written before");
        tokio::time::sleep(LIMIT * 10).await;
        assert_eq!(write(&mut io).await.expect("there is room"), 8);
    }
}
