//! The headers that make a producer's retries safe: all three, or none.

use http::HeaderMap;
use segue_core::ProducerId;
use segue_journal::ProducerClaim;

use crate::error::{Code, Problem};

/// What a request says about its producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    id: ProducerId,
    epoch: u64,
    /// The number of the request's first item.
    seq: u64,
}

impl Producer {
    /// Reads `Producer-Id`, `Producer-Epoch` and `Producer-Seq`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let get = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        match (get("producer-id"), get("producer-epoch"), get("producer-seq")) {
            (None, None, None) => Ok(None),
            (Some(id), Some(epoch), Some(seq)) => {
                let id = id.parse().map_err(|error| bad(&format!("Producer-Id: {error}")))?;
                let (epoch, seq) = (number("Producer-Epoch", epoch)?, number("Producer-Seq", seq)?);
                Ok(Some(Self { id, epoch, seq }))
            }
            _ => Err(bad("Producer-Id, Producer-Epoch and Producer-Seq go together")),
        }
    }

    /// The claim for the items `first..=last` of the request, counted from 0.
    pub(super) fn claim(&self, first: u64, last: u64) -> ProducerClaim {
        ProducerClaim {
            id: self.id.clone(),
            epoch: self.epoch,
            first_seq: self.seq.saturating_add(first),
            last_seq: self.seq.saturating_add(last),
        }
    }

    /// The number of the request's first item.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }
}

/// Plain decimal of 53 bits, which every client can hold.
fn number(name: &str, text: &str) -> Result<u64, Problem> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|value| plain && *value < 1 << 53);
    value.ok_or_else(|| bad(&format!("{name} is a plain decimal number below 2^53")))
}

fn bad(detail: &str) -> Problem {
    Problem::new(Code::BadHeader, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[(&'static str, &str)]) -> Result<Option<(u64, u64)>, Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().expect("ascii"));
        }
        Producer::of(&headers)
            .map(|producer| producer.map(|p| (p.epoch, p.seq)))
            .map_err(|problem| problem.code())
    }

    #[test]
    fn all_or_none() {
        let all = [("producer-id", "p"), ("producer-epoch", "1"), ("producer-seq", "20")];
        assert_eq!(check(&all), Ok(Some((1, 20))));
        assert_eq!(check(&[]), Ok(None));
        for skip in 0..3 {
            let some: Vec<_> = (0..3).filter(|n| *n != skip).map(|n| all[n]).collect();
            assert_eq!(check(&some), Err(Code::BadHeader));
        }
    }

    #[test]
    fn odd_numbers_and_ids_are_refused() {
        for odd in ["", "-1", "+1", "1.0", "x", " 1", "9007199254740992"] {
            let fields = [("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", odd)];
            assert_eq!(check(&fields), Err(Code::BadHeader), "{odd:?}");
        }
        let fields = [("producer-id", "a/b"), ("producer-epoch", "0"), ("producer-seq", "0")];
        assert_eq!(check(&fields), Err(Code::BadHeader));
    }
}
