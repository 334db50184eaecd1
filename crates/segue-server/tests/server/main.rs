//! The server over real sockets, with an engine on the memory journal.
//!
//! Readings of the conformance cases, where one is not obvious:
//! - D11, D12: a client that is cut or leaves has no effect on the run or on other clients.
//! - F10: cursors name their run, so items of another run cannot be mistaken.
//! - F16: a refused append has no seq, so that no frame can carry a borrowed one.
//! - G03, P04: "freed" is read off the count of attached clients.
//! - H11: the deadline itself is tested under a paused clock in `conn::deadline`.
//! - H01 to H06: the only cap on memory is that of the journal in memory, which trims; a hole in
//!   the embedded log is damage, and told as such.
//! - P03: the head and the first comment come before there is any event to send.
//! - Q02: every attached client ends with the error's terminal.

mod ai_sdk;
mod append;
mod auth;
mod control;
mod cursors;
mod disk;
mod events;
mod kept;
mod late;
mod messages;
mod openai;
mod openai_chat;
mod page;
mod policies;
mod sessions;
mod shutdown;
mod snapshots;
mod start;
mod stop;
mod support;
mod tabs;
mod transfer;
mod transport;
