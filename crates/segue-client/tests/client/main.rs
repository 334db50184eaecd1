//! The client against a scripted server on a real socket.

#![expect(clippy::unwrap_used, reason = "a test whose scene cannot be set has failed")]

mod attach;
mod calls;
mod produce;
mod scripted;

use std::time::Duration;

use segue_client::{Client, Timing};
use segue_core::{Cursor, RunId};

use crate::scripted::Server;

/// Waits that no test has to sit through, but the ones it is about.
fn quick() -> Timing {
    Timing {
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(4),
        ..Timing::default()
    }
}

fn client(server: &Server) -> Client {
    Client::new(&server.url(), None).unwrap().with_timing(quick())
}

fn run() -> RunId {
    RunId::parse("r").unwrap()
}

fn cursor(text: &str) -> Cursor {
    Cursor::parse(text).unwrap()
}
