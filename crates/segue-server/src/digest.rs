//! What stands for a text where the text itself would be too long, or no id.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// SHA-256, in hexadecimal digits.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to memory that grows does not fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    })
}
