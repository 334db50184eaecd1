//! The names of what this crate counts.

/// Connections of an attachment or a producer that were lost and are tried again.
pub(crate) const RECONNECTS: &str = "segue_client_reconnects_total";
/// Events that came a second time and were dropped.
pub(crate) const DUPLICATES: &str = "segue_client_duplicate_events_total";
/// Gaps that a server told of.
pub(crate) const GAPS: &str = "segue_client_gaps_total";
/// Lines that a producer sent again after a cut.
pub(crate) const RESENT: &str = "segue_client_resent_lines_total";
