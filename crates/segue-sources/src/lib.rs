//! What produces the events of a run.
//!
//! Each module with a `*Source` implements [`segue_core::Source`]:
//!
//! | source | its events come from |
//! | --- | --- |
//! | [`PushSource`] | appends of a program outside, which holds a lease |
//! | [`ProcessSource`] | the output of a command, run under a guard |
//! | [`ReplaySource`] | a recorded answer; the built-in `demo` is one |
//! | [`UpstreamSource`] | the answer of a model's HTTP API |
//!
//! [`decode`] has the bounded decoders that they share. This crate knows no journal, no engine
//! and no HTTP server.
//!
//! # Adding a source
//!
//! 1. One module here with a type that holds configuration only: it is shared by all runs of its
//!    agent. What belongs to one run lives in the stream that [`start`] returns.
//! 2. Do the work as the stream is polled, read through bounded buffers, and let dropping the
//!    stream release everything. What outlives this process is named in an
//!    [`Inbound::Resource`], and [`release`] finds it again.
//! 3. Foreign JSON goes through [`Event::from_producer`]; foreign bytes through [`decode`].
//! 4. End with one of the three ends, or, after the stop, without. Counters go to `metrics`.
//! 5. Add it to `tests/sources/contract.rs`, which has what holds for every source, and record
//!    its input as a fixture.
//!
//! [`start`]: segue_core::Source::start
//! [`release`]: segue_core::Source::release
//! [`Inbound::Resource`]: segue_core::Inbound::Resource
//! [`Event::from_producer`]: segue_core::Event::from_producer

pub mod decode;
#[doc(hidden)]
pub mod fuzz_entry;
pub mod process;
mod push;
pub mod replay;
pub mod upstream;

pub use process::ProcessSource;
pub use push::PushSource;
pub use replay::ReplaySource;
pub use upstream::UpstreamSource;
