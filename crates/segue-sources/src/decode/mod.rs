//! Bounded push-decoders, shared by everything that reads bytes from outside.
//!
//! All have one shape: `feed` a chunk, take what is whole with `next` until it gives nothing,
//! then feed again; `finish` at the end of the input. The result does not depend on where the
//! chunks are cut, time is linear in the bytes, and memory is one chunk and what the cap allows.

mod lines;
mod split;
mod sse;
mod utf8;

pub use lines::LineDecoder;
pub use split::LineTooLong;
pub use sse::{SseDecoder, SseError, SseEvent};
pub use utf8::Utf8Decoder;

#[cfg(test)]
mod tests;
