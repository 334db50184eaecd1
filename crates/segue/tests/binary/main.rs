//! The binary as its users meet it: real processes, real sockets, real signals.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod bad_input;
mod commands;
mod conversation;
mod crash;
mod curl;
mod exec;
mod failures;
mod folder;
mod full_disk;
mod idle;
mod models;
mod push;
mod restarts;
mod support;
mod terminal;
