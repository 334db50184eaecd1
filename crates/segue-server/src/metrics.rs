//! The names of what is counted here, and their text form.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The counters of this crate.
const COUNTERS: [(&str, &str); 11] = [
    ("segue_connections_total", "Connections that were accepted."),
    ("segue_connections_cut_total", "Connections that the server cut, by cause."),
    ("segue_accept_failures_total", "Connections that could not be accepted."),
    ("segue_attaches_total", "Clients that attached to a run."),
    ("segue_attaches_turned_away_total", "Clients told to come back while the server drains."),
    ("segue_streams_failed_total", "Event streams that ended early because of a failed read."),
    ("segue_unreadable_records_total", "Stored records that this version cannot read."),
    ("segue_problems_total", "Answers that are a problem document, by code."),
    ("segue_handler_panics_total", "Requests whose handler panicked."),
    ("segue_ingest_lines_total", "Lines of NDJSON that were accepted."),
    ("segue_ingest_cut_total", "NDJSON bodies that stopped half-way."),
];

/// The gauges of this crate.
const GAUGES: [(&str, &str); 2] = [
    ("segue_connections", "Connections that are open."),
    ("segue_subscribers", "Clients that are attached to a run."),
];

/// Makes this process count, unless the program that embeds the server installed a recorder of
/// its own: then that one counts, and `/metrics` here stays empty. Binding a server does it; call
/// it before anything that should be counted earlier, such as opening a journal.
pub fn install() {
    RECORDER.get_or_init(|| {
        let handle = PrometheusBuilder::new().install_recorder().ok();
        for (name, what) in COUNTERS {
            describe_counter!(name, what);
        }
        for (name, what) in GAUGES {
            describe_gauge!(name, what);
        }
        handle
    });
}

/// Everything that was counted so far, in the text form of Prometheus.
pub(crate) fn render() -> String {
    RECORDER.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}
