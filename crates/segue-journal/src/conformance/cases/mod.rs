//! The cases. Each is given a new, empty journal and panics where it breaks a rule.

pub mod append;
pub mod batch;
pub mod bells;
pub mod producers;
pub mod read;
pub mod whole;
