//! The lines of an import.

use bytes::{Bytes, BytesMut};
use segue_core::{EventRecord, RunId, Seq, Timestamp};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{End, Head, Sum, VERSION, import::ImportError};
use crate::known::hex_of;

/// What a line may have beside the JSON of its record.
const ENVELOPE: usize = 1 << 10;

/// Cuts what comes into lines, and sums them.
pub(super) struct Lines {
    buffer: BytesMut,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
    max: usize,
    count: u64,
    digest: Sha256,
}

/// A line.
pub(super) enum Line {
    Head(Head),
    Event { run: RunId, seq: Seq, record: Bytes },
    Session { seq: Seq, record: Bytes },
    End(Sum),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    run_id: Option<RunId>,
    seq: Seq,
    at: Timestamp,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
}

/// What a first line is, of whatever version.
#[derive(Deserialize)]
struct Versioned {
    segue_export: Option<u32>,
    end: Option<IgnoredAny>,
}

impl Lines {
    /// Of records of at most so many bytes.
    pub(super) fn new(max: usize) -> Self {
        let (buffer, digest) = (BytesMut::new(), Sha256::new());
        Self { buffer, searched: 0, max: max.saturating_add(ENVELOPE), count: 0, digest }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether something is left that is no whole line.
    pub(super) fn has_rest(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// How many lines there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The next whole line, if it is there. The end's sum is checked.
    pub(super) fn next(&mut self) -> Result<Option<Line>, ImportError> {
        let rest = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(at) = rest.map(|at| self.searched + at) else {
            self.searched = self.buffer.len();
            return if self.searched > self.max { Err(self.bad("is too long")) } else { Ok(None) };
        };
        let line = self.buffer.split_to(at + 1).freeze();
        self.searched = 0;
        let read = self.read(&line)?;
        if let Line::End(sum) = &read {
            let sha256 = hex_of(&self.digest.clone().finalize());
            if *sum != (Sum { lines: self.count, sha256 }) {
                return Err(ImportError::Altered);
            }
        }
        self.digest.update(&line);
        self.count += 1;
        Ok(Some(read))
    }

    /// What is wrong with the line that was not counted yet.
    pub(super) fn bad(&self, what: impl Into<String>) -> ImportError {
        ImportError::Line { line: self.count + 1, what: what.into() }
    }

    fn read(&self, line: &[u8]) -> Result<Line, ImportError> {
        let not_ours = |_| self.bad("is no line of an export");
        let kind: Versioned = serde_json::from_slice(line).map_err(not_ours)?;
        match kind.segue_export {
            Some(version) if version > VERSION => return Err(ImportError::Newer { version }),
            Some(_) => return serde_json::from_slice(line).map(Line::Head).map_err(not_ours),
            None => {}
        }
        if kind.end.is_some() {
            let end = serde_json::from_slice(line).map_err(not_ours);
            return end.map(|End { end }| Line::End(end));
        }
        let Raw { run_id, seq, at, event, record } =
            serde_json::from_slice(line).map_err(not_ours)?;
        let no_record = || self.bad("has a record that is none");
        let encode = |json: &RawValue| {
            EventRecord::encode_foreign(json.get().as_bytes(), at).ok_or_else(no_record)
        };
        match (run_id, event, record) {
            (Some(run), Some(event), None) => Ok(Line::Event { run, seq, record: encode(event)? }),
            (None, None, Some(record)) => Ok(Line::Session { seq, record: encode(record)? }),
            _ => Err(self.bad("is no line of an export")),
        }
    }
}
