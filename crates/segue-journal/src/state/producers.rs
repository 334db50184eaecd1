//! The rules of producer numbers.

use std::cmp::Ordering;

use segue_core::Seq;

use crate::api::{AppendError, ProducerClaim, ProducerState};

/// What an acceptable claim is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Its numbers follow on.
    Next,
    /// Its numbers were accepted before; where the records of the newest of them are.
    Known((Seq, Seq)),
}

/// Compares a claim with what is known of its producer.
pub(super) fn check_claim(
    known: Option<&ProducerState>,
    claim: &ProducerClaim,
) -> Result<Claim, AppendError> {
    let Some(known) = known else { return check_first(0, claim) };
    match claim.epoch.cmp(&known.epoch) {
        Ordering::Less => Err(AppendError::StaleProducer { current: known.epoch }),
        Ordering::Greater => check_first(0, claim),
        Ordering::Equal => {
            let ordered = claim.first_seq <= claim.last_seq;
            if ordered && claim.last_seq <= known.last_seq {
                return Ok(Claim::Known(known.range));
            }
            check_first(known.last_seq.saturating_add(1), claim)
        }
    }
}

/// Accepts a claim only if its numbers follow on.
pub(super) fn check_next(
    known: Option<&ProducerState>,
    claim: &ProducerClaim,
) -> Result<(), AppendError> {
    let gap = |expected| AppendError::ProducerGap { expected, received: claim.first_seq };
    match check_claim(known, claim)? {
        // Known only since an earlier part of the same batch, which commits with this one or not
        // at all: there is no original to answer with.
        Claim::Known(_) => Err(gap(known.map_or(0, |known| known.last_seq.saturating_add(1)))),
        Claim::Next => Ok(()),
    }
}

fn check_first(expected: u64, claim: &ProducerClaim) -> Result<Claim, AppendError> {
    if claim.first_seq != expected || claim.last_seq < claim.first_seq {
        return Err(AppendError::ProducerGap { expected, received: claim.first_seq });
    }
    Ok(Claim::Next)
}
