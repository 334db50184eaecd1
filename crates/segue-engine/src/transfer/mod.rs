//! Sessions from one server to another, with their runs.
//!
//! An export is NDJSON, a line an object:
//!
//! ```text
//! {"segue_export": 1, "session_id", "runs": [{"run_id", "from", "last_seq"}]}   once, first
//! {"run_id", "seq", "at", "event": {...}}       each run's events, run by run, by seq
//! {"seq", "at", "record": {...}}                the session's records, by seq
//! {"end": {"lines", "sha256"}}                  once, last: of every line before, its LF included
//! ```
//! `event` and `record` are what the journal has, byte for byte. An import writes the same streams.

mod export;
mod import;
mod lines;
mod stage;

use segue_core::{RunId, Seq, SessionId};
use serde::{Deserialize, Serialize};

pub use export::Export;
pub use import::ImportError;

/// The version of the format.
const VERSION: u32 = 1;

/// The type of what stands in place of a record that is left out.
const LEFT_OUT: &str = "left_out";

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    segue_export: u32,
    session_id: SessionId,
    runs: Vec<RunHead>,
}

/// A run of the export.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RunHead {
    run_id: RunId,
    /// Its first event that is there.
    from: Seq,
    last_seq: Seq,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    end: Sum,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    lines: u64,
    sha256: String,
}
