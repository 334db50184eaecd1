//! A binary with nothing but `__guard`, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    segue_sources::process::guard::main(std::env::args_os().skip(2))
}
