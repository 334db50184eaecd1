//! The engine as an embedder sees it, over the memory journal and, where a restart matters, the
//! embedded log.
#![expect(unreachable_pub, reason = "one test binary, its modules are its own")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]
#![expect(clippy::unnecessary_wraps, reason = "claims are given as the engine takes them")]

mod accepted;
mod append;
mod branches;
mod delete;
mod detached;
mod faults;
mod feed;
mod folding;
mod history;
mod merging;
mod messages;
mod policies;
mod projection;
mod races;
mod recovery;
mod repeated;
mod restarts;
mod retention;
mod shutdown;
mod sim;
mod snapshot;
mod stop;
mod store;
mod support;
mod terminal;
mod transfer;
