//! The answers to an NDJSON append: cumulative, at most one pending, never waited for.
//!
//! The newest answer replaces one that the client has not taken yet, so that a client that does
//! not read holds nothing up.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use segue_engine::Appended;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Answer;
use crate::error::Problem;

/// Whether the client wants one answer at the end: `Prefer: ack=final` (RFC 7240).
pub(super) fn at_end(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    preferences.any(|preference| preference.eq_ignore_ascii_case("ack=final"))
}

/// What there is to tell.
#[derive(Clone, Default)]
struct News {
    ack: Option<Answer>,
    error: Option<Value>,
    over: bool,
}

/// The side that tells.
pub(super) struct Acks {
    news: watch::Sender<News>,
    /// Everything so far, as one append.
    so_far: Option<Appended>,
}

impl Acks {
    /// A teller, and the body that its client reads.
    pub(super) fn new(at_end: bool) -> (Self, Body) {
        let (news, heard) = watch::channel(News::default());
        (Self { news, so_far: None }, body(heard, at_end))
    }

    /// Everything up to the producer's number `acked` is durable.
    pub(super) fn accept(&mut self, appended: &Appended, acked: u64) {
        let so_far = self.so_far.map_or(*appended, |so_far| Appended {
            first_seq: so_far.first_seq.min(appended.first_seq),
            last_seq: so_far.last_seq.max(appended.last_seq),
            duplicate: so_far.duplicate && appended.duplicate,
            stop_requested: appended.stop_requested,
        });
        self.so_far = Some(so_far);
        let ack = Answer { acked_seq: Some(acked), ..Answer::from(&so_far) };
        self.news.send_modify(|news| news.ack = Some(ack));
    }

    /// Nothing more will be accepted: the body came to its end, or this line is at fault.
    pub(super) fn finish(&self, error: Option<(&Problem, u64)>) {
        let error = error.map(|(problem, line)| json!({"error": problem.to_json(), "line": line}));
        self.news.send_modify(|news| (news.error, news.over) = (error, true));
    }
}

/// What the client has yet to hear.
struct Heard {
    news: watch::Receiver<News>,
    at_end: bool,
    over: bool,
}

impl Heard {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            // An error means that the teller broke down: the body ends without an end.
            self.news.changed().await.ok()?;
            let news = self.news.borrow_and_update().clone();
            self.over = news.over;
            if news.over || !self.at_end {
                return Some(lines_of(&news)).filter(|lines| !lines.is_empty());
            }
        }
        None
    }
}

fn body(news: watch::Receiver<News>, at_end: bool) -> Body {
    let heard = Heard { news, at_end, over: false };
    Body::from_stream(stream::unfold(heard, async |mut heard| {
        let lines = heard.next().await?;
        Some((Ok::<_, Infallible>(lines), heard))
    }))
}

fn lines_of(news: &News) -> Bytes {
    let mut lines = Vec::new();
    let ack = news.ack.as_ref().map(serde_json::to_vec);
    let error = news.error.as_ref().map(serde_json::to_vec);
    for line in [ack, error].into_iter().flatten() {
        lines.extend(line.expect("numbers and text are JSON"));
        lines.push(b'\n');
    }
    lines.into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use segue_core::Seq;

    use super::*;
    use crate::error::Code;

    fn appended(first: u64, last: u64, duplicate: bool) -> Appended {
        let (first_seq, last_seq) = (Seq(first), Seq(last));
        Appended { first_seq, last_seq, duplicate, stop_requested: false }
    }

    async fn rest(body: Body) -> Vec<Value> {
        let bytes = body.collect().await.expect("never fails").to_bytes();
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("json")).collect()
    }

    #[tokio::test]
    async fn what_was_not_read_is_replaced() {
        let (mut acks, body) = Acks::new(false);
        acks.accept(&appended(2, 4, true), 2);
        acks.accept(&appended(5, 9, false), 7);
        acks.finish(None);
        let expected = json!({
            "first_seq": 2, "last_seq": 9, "stop_requested": false, "acked_seq": 7,
        });
        assert_eq!(rest(body).await, [expected]);
    }

    #[tokio::test]
    async fn each_answer_is_told_to_who_reads() {
        let (mut acks, mut body) = Acks::new(false);
        for acked in 0..3 {
            acks.accept(&appended(acked + 1, acked + 1, false), acked);
            let frame = body.frame().await.expect("open").expect("never fails");
            let line: Value =
                serde_json::from_slice(frame.data_ref().expect("data")).expect("json");
            assert_eq!(line["acked_seq"], acked);
        }
        let problem = Problem::new(Code::BadEvent, "no");
        acks.finish(Some((&problem, 4)));
        let last = rest(body).await;
        assert_eq!(last.last().expect("the error")["line"], 4);
    }

    #[tokio::test]
    async fn at_the_end_there_is_one_answer() {
        let (mut acks, mut body) = Acks::new(true);
        acks.accept(&appended(1, 1, false), 0);
        let early = futures_util::future::poll_immediate(body.frame()).await;
        assert!(early.is_none());
        acks.accept(&appended(2, 2, false), 1);
        acks.finish(None);
        assert_eq!(rest(body).await.len(), 1);
    }

    #[test]
    fn the_preference_is_found_among_others() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", value.parse().expect("ascii"));
            at_end(&headers)
        };
        assert!(check("ack=final"));
        assert!(check("respond-async, Ack=Final; wait=10"));
        assert!(!check("ack=each"));
    }
}
