//! The body of an event stream: the loop of the design, driven by the connection.
//!
//! ```text
//! 1  hear the bell                       before the tail is looked at
//! 2  fill: frames from the cursor on      handed over without a copy
//! 3  at the end of a closed stream, or of the stream's age: end
//! 4  wait for the bell, the heartbeat or the server's close
//! ```
//! The connection asks again only when its socket took bytes, so a slow client is a client with
//! an old cursor; there is no queue here.

mod age;
mod bound;
mod heartbeat;

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use segue_engine::{Fill, Reader};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    clients::Client,
    facade::{EarlyEnd, Wire},
    fan_out,
};

pub(crate) use age::Age;
pub(crate) use bound::{Bound, Guarded};
pub(crate) use heartbeat::Heartbeat;

/// The most bytes of frames per write, and about the most that a connection buffers.
pub(crate) const BUDGET: usize = 256 << 10;

/// How a stream goes on after what is stored was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Live, to the terminal.
    Live,
    /// Not at all.
    Stop,
}

/// A subscriber: what is kept for each of them.
pub(crate) struct EventBody<W> {
    opening: std::vec::IntoIter<Bytes>,
    reader: Reader<W>,
    follow: Follow,
    heartbeat: Heartbeat,
    age: Age,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Counts the subscriber for as long as the body lives, on every path out.
    _client: Client,
}

impl<W: Wire> EventBody<W> {
    pub(crate) fn new(
        opening: Vec<Bytes>,
        reader: Reader<W>,
        follow: Follow,
        heartbeat: Heartbeat,
        age: Age,
        closing: WaitForCancellationFutureOwned,
        client: Client,
    ) -> Self {
        Self {
            opening: opening.into_iter(),
            reader,
            follow,
            heartbeat,
            age,
            closing: Box::pin(closing),
            _client: client,
        }
    }

    /// The next bytes; `None` ends the body.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.age.is_over() {
            return Poll::Ready(early_end::<W>());
        }
        loop {
            self.reader.listener().hear();
            match self.reader.fill(BUDGET) {
                Fill::Bytes(bytes) => {
                    self.heartbeat.delay();
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Fill::Silent => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Fill::End => return Poll::Ready(None),
                Fill::Failed(error) => {
                    metrics::counter!("segue_streams_failed_total").increment(1);
                    tracing::warn!(%error, cursor = %self.reader.cursor(), "a stream ends early");
                    return Poll::Ready(early_end::<W>());
                }
                Fill::Idle if self.follow == Follow::Stop => return Poll::Ready(None),
                Fill::Idle => {}
            }
            if self.reader.listener().poll_rung(cx).is_pending() {
                return self.poll_quiet(cx);
            }
        }
    }

    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(early_end::<W>());
        }
        self.heartbeat.poll_beat(cx).map(|()| Some(Ok(Bytes::from_static(W::HEARTBEAT))))
    }
}

/// The end of a stream whose run goes on. An error breaks the connection off, so that its client
/// does not take what it has for the whole.
fn early_end<W: Wire>() -> Option<io::Result<Bytes>> {
    match W::EARLY_END {
        EarlyEnd::Clean => None,
        EarlyEnd::Abort => {
            metrics::counter!("segue_streams_aborted_total").increment(1);
            Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the run goes on")))
        }
    }
}

impl<W: Wire> Body for EventBody<W> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        debug_assert!(!fan_out::is_home(), "frames are written by fan-out threads only");
        let this = self.get_mut();
        let next = match this.opening.next() {
            Some(opening) => Poll::Ready(Some(Ok(opening))),
            None => this.poll_bytes(cx),
        };
        next.map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facade::NativeSse;

    #[test]
    fn a_subscriber_is_small() {
        assert!(size_of::<EventBody<NativeSse>>() <= 384);
    }
}
