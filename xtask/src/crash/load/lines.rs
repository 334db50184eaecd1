//! A producer of NDJSON bodies: bursts of lines, answers read now and then, bodies cut anywhere
//! and taken up again behind the last answer.

use anyhow::{Context, ensure};
use fastrand::Rng;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{PRODUCER, choices};
use crate::{
    crash::{
        ledger::{Ack, Claim, Ledger},
        plan::{Plan, Push, item, terminal},
        site::{Fault, Site},
        trigger::Trigger,
    },
    live::{
        Conn,
        http::{LAST_CHUNK, chunk, request},
    },
};

/// The most lines of a burst.
const BURST: u64 = 30;
/// The most lines that have no answer.
const AHEAD: u64 = 150;

pub(super) async fn produce(
    plan: &Plan,
    push: &Push,
    site: &Site,
    ledger: &mut Ledger,
    trigger: &Trigger,
) -> Result<(), Fault> {
    let mut rng = choices(plan, u64::MAX);
    loop {
        let mut body = Body::open(plan, push, site, ledger.acked).await?;
        let cut = body.send(ledger, trigger, &mut rng).await?;
        if !cut {
            return Ok(());
        }
    }
}

/// The head of a request whose lines have the numbers from `first` on.
pub(in crate::crash) fn head(plan: &Plan, first: u64) -> Vec<u8> {
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("transfer-encoding", "chunked"),
        ("producer-id", PRODUCER),
        ("producer-epoch", "1"),
        ("producer-seq", &first.to_string()),
    ];
    request("POST", &format!("/v1/runs/{}/events", plan.run), &headers, b"")
}

/// The lines of these numbers; the one behind the last item is the terminal.
pub(in crate::crash) fn lines(plan: &Plan, push: &Push, numbers: std::ops::Range<u64>) -> Vec<u8> {
    let event = |n| if n < push.items { item(plan.seed, n) } else { terminal() };
    numbers.flat_map(|n| [event(n).to_string(), "\n".into()]).collect::<String>().into_bytes()
}

/// How many lines there are, the terminal counted.
pub(in crate::crash) fn total(push: &Push) -> u64 {
    push.items + u64::from(push.ends)
}

/// One request.
struct Body<'a> {
    plan: &'a Plan,
    push: &'a Push,
    conn: Conn,
    /// The number of its first line, and of the next.
    first: u64,
    next: u64,
    answered: bool,
    /// What of its answer has no line end yet.
    tail: Vec<u8>,
}

impl<'a> Body<'a> {
    async fn open(plan: &'a Plan, push: &'a Push, site: &Site, first: u64) -> Result<Self, Fault> {
        let mut conn = site.connect().await?;
        conn.to.write_all(&head(plan, first)).await?;
        let tail = Vec::new();
        Ok(Self { plan, push, conn, first, next: first, answered: false, tail })
    }

    /// Sends what is left, or a beginning of it: `true` if it was cut.
    async fn send(
        &mut self,
        ledger: &mut Ledger,
        trigger: &Trigger,
        rng: &mut Rng,
    ) -> Result<bool, Fault> {
        let total = total(self.push);
        while self.next < total {
            self.burst(ledger, rng).await?;
            while self.next - acked_lines(ledger) > AHEAD || rng.u8(..4) == 0 && self.waits(ledger)
            {
                self.hear(ledger, trigger).await?;
            }
            if rng.u8(..30) == 0 {
                return self.cut().await.map(|()| true);
            }
        }
        self.conn.to.write_all(LAST_CHUNK).await?;
        while self.hear(ledger, trigger).await? {}
        let told = acked_lines(ledger);
        if told < total {
            let why = format!("{}: {total} lines were sent, {told} acknowledged", self.plan.run);
            return Err(anyhow::anyhow!(why).into());
        }
        Ok(false)
    }

    async fn burst(&mut self, ledger: &mut Ledger, rng: &mut Rng) -> Result<(), Fault> {
        let end = total(self.push).min(self.next + rng.u64(1..=BURST));
        ledger.sending(&self.claim(end));
        let mut text = lines(self.plan, self.push, self.next..end);
        if rng.u8(..10) == 0 {
            text.insert(0, b'\n');
        }
        self.conn.to.write_all(&chunk(&text)).await?;
        self.next = end;
        Ok(())
    }

    /// Ends it in the middle of a line.
    async fn cut(&mut self) -> Result<(), Fault> {
        let rest = lines(self.plan, self.push, self.next..total(self.push));
        let half = &rest[..rest.iter().position(|b| *b == b'\n').unwrap_or_default() / 2];
        if !half.is_empty() {
            self.conn.to.write_all(&chunk(half)).await?;
        }
        Ok(())
    }

    /// All lines up to `end`.
    fn claim(&self, end: u64) -> Claim {
        let items = self.first.min(self.push.items)..end.min(self.push.items);
        Claim { producer_seq: self.first, items, ends: end > self.push.items }
    }

    fn waits(&self, ledger: &Ledger) -> bool {
        self.next > acked_lines(ledger)
    }

    /// Takes more of the answer; `false` at its end.
    async fn hear(&mut self, ledger: &mut Ledger, trigger: &Trigger) -> Result<bool, Fault> {
        if !self.answered {
            let head = self.conn.from.head().await?;
            if head.status != 200 {
                let why = format!("lines to {}: got {}", self.plan.run, head.status);
                return Err(anyhow::anyhow!(why).into());
            }
            self.answered = true;
        }
        let more = self.conn.from.more(&mut self.tail).await?;
        while let Some(end) = self.tail.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.tail.drain(..=end).collect();
            let ack = self.ack(&line)?;
            trigger.count(ledger.accept(ack));
        }
        Ok(more)
    }

    fn ack(&self, line: &[u8]) -> anyhow::Result<Ack> {
        let said = || format!("lines to {}: {}", self.plan.run, String::from_utf8_lossy(line));
        let json: Value = serde_json::from_slice(line).with_context(said)?;
        let number = |name: &str| json[name].as_u64().with_context(said);
        let acked = number("acked_seq")?;
        ensure!((self.first..self.next).contains(&acked), "{} of {} sent", said(), self.next);
        let (first_seq, last_seq) = (number("first_seq")?, number("last_seq")?);
        Ok(Ack { claim: self.claim(acked + 1), first_seq, last_seq })
    }
}

/// Lines that are acknowledged, the terminal counted.
fn acked_lines(ledger: &Ledger) -> u64 {
    let ended = ledger.acks.last().is_some_and(|ack| ack.claim.ends);
    ledger.acked + u64::from(ended)
}
