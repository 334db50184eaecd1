//! Sources as a whole: their contract, and commands as real processes.

mod contract;
mod guard;
mod mutations;
mod process;
mod scripted;
mod support;
mod upstream;
