//! The binary: a server and the commands that talk to it.
//!
//! A shell around the libraries: it parses, resolves the configuration once, connects the crates
//! in [`wiring`], and prints.

mod cli;
mod config;
mod idle;
mod place;
mod wiring;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let mut args = env::args_os();
    // The guard is not a command for people: what follows its name is a command line of its own
    // that must reach it untouched.
    if args.nth(1).is_some_and(|name| name == wiring::GUARD) {
        return wiring::guard(args);
    }
    cli::run()
}
