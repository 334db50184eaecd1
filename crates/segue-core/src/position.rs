//! Positions in a stream.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{IdError, RunId};

/// The position of a record in its stream, dense from 1. Zero is "before the first".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first record.
    pub const ZERO: Seq = Seq(0);
    /// The first record.
    pub const FIRST: Seq = Seq(1);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// The position before this one; zero stays zero.
    #[must_use]
    pub fn prev(self) -> Seq {
        Seq(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// "I have everything of this run up to and including `seq`".
///
/// On the wire `<run_id>:<seq>`, opaque to clients. `<run_id>:0` is valid: nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The run it belongs to.
    pub run: RunId,
    /// The last position the client has.
    pub seq: Seq,
}

/// Why a text is not a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// There is no `:`.
    #[error("a cursor is <run_id>:<seq>, there is no `:`")]
    NoColon,
    /// What stands before the last `:` is not a run id.
    #[error("a cursor is <run_id>:<seq>, the run id is malformed: {0}")]
    BadRun(IdError),
    /// What stands after the last `:` is not a plain decimal number of 64 bits.
    #[error("a cursor is <run_id>:<seq>, the seq is not a plain decimal number below 2^64")]
    BadSeq,
}

impl Cursor {
    /// Reads `<run_id>:<seq>`, split at the last colon.
    ///
    /// The number is plain decimal ASCII: no sign, no spaces, no other digits; leading zeros are
    /// refused so that each position has one spelling.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let (run, seq) = text.rsplit_once(':').ok_or(CursorError::NoColon)?;
        let run = RunId::parse(run).map_err(CursorError::BadRun)?;
        Ok(Self { run, seq: parse_seq(seq)? })
    }
}

fn parse_seq(text: &str) -> Result<Seq, CursorError> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let one_spelling = text == "0" || !text.starts_with('0');
    if !plain || !one_spelling {
        return Err(CursorError::BadSeq);
    }
    text.parse().map(Seq).map_err(|_| CursorError::BadSeq)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.run, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn j01_run_and_seq_is_accepted() {
        let cursor = Cursor::parse("run-1:42").expect("valid");
        assert_eq!((cursor.run.as_str(), cursor.seq), ("run-1", Seq(42)));
        assert_eq!(Cursor::parse("r:0").expect("valid").seq, Seq::ZERO);
        assert_eq!(Cursor::parse("r:18446744073709551615").expect("valid").seq, Seq(u64::MAX));
    }

    #[test]
    fn j05_every_odd_spelling_has_an_answer() {
        use CursorError::{BadRun, BadSeq, NoColon};
        let cases = [
            ("", NoColon),
            ("r", NoColon),
            ("r:", BadSeq),
            ("r:-1", BadSeq),
            ("r:+1", BadSeq),
            ("r: 1", BadSeq),
            ("r:1 ", BadSeq),
            ("r:x", BadSeq),
            ("r:01", BadSeq),
            ("r:00", BadSeq),
            ("r:1.0", BadSeq),
            ("r:\u{0661}", BadSeq),
            ("r:18446744073709551616", BadSeq),
            (":1", BadRun(IdError::Empty)),
            (" r:1", BadRun(IdError::BadCharacter { at: 0 })),
        ];
        for (text, error) in cases {
            assert_eq!(Cursor::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn j12_a_colon_in_the_run_id_is_impossible() {
        assert_eq!(
            Cursor::parse("a:b:1"),
            Err(CursorError::BadRun(IdError::BadCharacter { at: 1 }))
        );
        assert_eq!(RunId::parse("a:b"), Err(IdError::BadCharacter { at: 1 }));
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(run in "[A-Za-z0-9_-]{1,128}", seq: u64) {
            let cursor = Cursor { run: RunId::parse(&run).expect("valid"), seq: Seq(seq) };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn any_text_has_an_answer(text: String) {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
