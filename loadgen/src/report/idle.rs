//! The report of `idle`.

use serde::Serialize;

use crate::counters::Causes;
use crate::html::{Axis, Chart, Line};

use super::{Connecting, Lines, Observed, Report, ServerMemory};

/// What `idle` found.
#[derive(Clone, Debug, Serialize)]
pub struct IdleReport {
    /// Everything went as asked for.
    pub ok: bool,
    /// Ended early by ctrl-C.
    pub interrupted: bool,
    /// Where it connected.
    pub url: String,
    /// How connecting went.
    pub connecting: Connecting,
    /// How long all connections were held.
    pub held_seconds: f64,
    /// Connections that ended before they should, by cause.
    pub lost: Causes,
    /// Pings answered.
    pub pings_answered: u64,
    /// What the server says about itself; `None` without /metrics.
    pub server: Option<ServerMemory>,
    /// CPU time of this program.
    pub loadgen_cpu_seconds: f64,
    /// What every command finds.
    #[serde(flatten)]
    pub observed: Observed,
}

impl Report for IdleReport {
    fn title(&self) -> String {
        format!("idle {}", self.url)
    }

    fn is_ok(&self) -> bool {
        self.ok
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.line("idle", &self.url);
        lines.connecting(&self.connecting);
        lines.line("held", format_args!("{:.1} s", self.held_seconds));
        lines.total_of("lost", &self.lost);
        lines.line("pings answered", self.pings_answered);
        if let Some(server) = &self.server {
            lines.server_memory(server);
        }
        lines.end(self.loadgen_cpu_seconds, self.ok, self.interrupted);
        lines
    }

    fn charts(&self) -> Vec<Chart> {
        let pings = self.observed.series.rate(|sample| sample.pings);
        vec![
            Chart::percentiles(
                "Connect latency",
                &[("connect", self.connecting.connect_latency.as_ref())],
            ),
            Chart::over_time(
                "Pings answered per second",
                Axis::count("pings/s"),
                vec![Line::new("pings", pings)],
            ),
        ]
    }

    fn observed(&self) -> &Observed {
        &self.observed
    }
}
