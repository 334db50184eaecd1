//! Sources as a whole: their contract, and commands as real processes.

mod contract;
mod guard;
mod process;
mod support;
