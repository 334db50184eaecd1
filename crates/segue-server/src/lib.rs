//! The HTTP server of Segue.
//!
//! Routes (one file per resource), facades (one file per protocol), fan-out on its own threads,
//! principals, problems, counters, and the page at `/`. `docs/wire.md` is the contract. This crate
//! knows no storage and no concrete source.

mod accept;
mod app;
mod auth;
mod body;
mod clients;
mod conn;
mod digest;
mod error;
mod extract;
mod facade;
mod fan_out;
mod metrics;
mod routes;
mod server;
mod wait;

pub use conn::Activity;
pub use metrics::install as install_metrics;
pub use server::{BindError, Server, ServerOptions};
