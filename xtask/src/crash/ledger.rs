//! What the clients of one run know, to be held against the journal.

use std::ops::Range;

/// How far something that is said once got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Said {
    #[default]
    No,
    /// Sent, and the answer never came.
    Sent,
    /// Sent and acknowledged.
    Acked,
}

/// What one append carries: items, with a terminal behind them or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Its number by the producer's count.
    pub(super) producer_seq: u64,
    pub(super) items: Range<u64>,
    pub(super) ends: bool,
}

/// An acknowledged append and the positions it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) claim: Claim,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

/// What a producer knows of its run.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) started: Said,
    /// Items below this were sent.
    pub(super) sent: u64,
    /// Items below this were acknowledged.
    pub(super) acked: u64,
    pub(super) acks: Vec<Ack>,
    /// The append that has no answer yet.
    pub(super) pending: Option<Claim>,
    pub(super) ended: Said,
    pub(super) stopped: Said,
}

impl Ledger {
    /// The append is on its way.
    pub(super) fn sending(&mut self, claim: &Claim) {
        self.sent = self.sent.max(claim.items.end);
        if claim.ends && self.ended == Said::No {
            self.ended = Said::Sent;
        }
        self.pending = Some(claim.clone());
    }

    /// What a person needs to see of it.
    pub(super) fn brief(&self) -> String {
        let Self { started, sent, acked, pending, ended, stopped, .. } = self;
        format!(
            "start {started:?}, {acked} of {sent} items acknowledged, pending {pending:?}, \
             end {ended:?}, stop {stopped:?}"
        )
    }

    /// It is acknowledged. Gives how many items are so for the first time.
    pub(super) fn accept(&mut self, ack: Ack) -> u64 {
        let news = ack.claim.items.end.saturating_sub(self.acked);
        self.acked += news;
        if ack.claim.ends {
            self.ended = Said::Acked;
        }
        self.pending = None;
        self.acks.push(ack);
        news
    }
}

/// What a reader saw of a run: frames in the order they came, `(seq, data)`.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) frames: Vec<(u64, String)>,
    /// How often it went away and came back.
    pub(super) returns: u32,
}

impl Seen {
    /// The position of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.frames.last().map_or(0, |(seq, _)| *seq)
    }
}
