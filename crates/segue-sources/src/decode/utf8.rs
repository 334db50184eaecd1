//! UTF-8 that comes in chunks, decoded without ever failing.

/// Decodes chunks to text; what is not UTF-8 becomes U+FFFD, as in [`String::from_utf8_lossy`] of
/// the whole.
#[derive(Debug, Default)]
pub struct Utf8Decoder {
    /// The beginning of a character whose end has not come: at most three bytes.
    partial: Vec<u8>,
}

impl Utf8Decoder {
    /// A decoder at the start of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `chunk` completes. A character that is cut at its end waits for the rest.
    pub fn feed(&mut self, chunk: &[u8]) -> String {
        self.partial.extend_from_slice(chunk);
        let bytes = std::mem::take(&mut self.partial);
        let whole = bytes.len() - incomplete(&bytes);
        bytes[whole..].clone_into(&mut self.partial);
        String::from_utf8_lossy(&bytes[..whole]).into_owned()
    }

    /// The replacement of a character that was cut at the end of the input.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned()
    }
}

/// How many bytes at the end begin a character that could still become whole.
fn incomplete(bytes: &[u8]) -> usize {
    // Such a beginning has at most three bytes, so only those are looked at.
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let begins = |at: &usize| tail[*at] >= 0xC0;
    let Some(start) = (0..tail.len()).rev().find(begins) else { return 0 };
    match std::str::from_utf8(&tail[start..]) {
        Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => tail.len() - start,
        _ => 0,
    }
}
