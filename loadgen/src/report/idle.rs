//! The report of `idle`.

use serde::Serialize;

use crate::counters::Causes;
use crate::heartbeat::Heartbeat;
use crate::html::Chart;
use crate::kernel::KernelCost;
use crate::worker::PositionTally;

use super::{BroadcastsReport, Connecting, Head, Lines, Report, ServerMemory};

/// What `idle` found.
#[derive(Clone, Debug, Serialize)]
pub struct IdleReport {
    /// What every report has.
    #[serde(flatten)]
    pub head: Head,
    /// How connecting went.
    pub connecting: Connecting,
    /// CPU time of the server per connection made: accept, handshake and subscription; `None` if it did not say.
    pub connect_cpu_us: Option<f64>,
    /// How long all connections were held.
    pub held_seconds: f64,
    /// Connections open at the end.
    pub held: u64,
    /// Connections that ended before they should, by cause.
    pub lost: Causes,
    /// Pings answered.
    pub pings_answered: u64,
    /// The heartbeat before the first broadcast.
    pub heartbeat: Heartbeat,
    /// What the server says about itself; `None` without /metrics.
    pub server: Option<ServerMemory>,
    /// What the kernel keeps, for both ends; `None` if the server is elsewhere, or nothing can be read.
    pub kernel: Option<KernelCost>,
    /// Resident memory of this program per connection.
    pub loadgen_rss_per_connection_bytes: Option<f64>,
    /// Messages to all connections; `None` if nobody asked.
    pub broadcasts: Option<BroadcastsReport>,
    /// What Centrifuge clients found by offsets and epochs; `None` with another protocol.
    pub positions: Option<PositionTally>,
}

impl Report for IdleReport {
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, lines: &mut Lines) {
        lines.connecting(&self.connecting);
        if let Some(us) = self.connect_cpu_us {
            let value = format_args!("{us:.1} us of the server each");
            lines.line("connect CPU", value);
        }
        let (held, seconds) = (self.held, self.held_seconds);
        lines.line("held", format_args!("{held} for {seconds:.1} s"));
        lines.total_of("lost", &self.lost);
        self.write_heartbeat(lines);
        if let Some(server) = &self.server {
            lines.server_memory(server);
        }
        self.write_kernel(lines);
        if let Some(bytes) = self.loadgen_rss_per_connection_bytes {
            let value = format_args!("{bytes:.0} B per connection");
            lines.line("loadgen memory", value);
        }
        if let Some(broadcasts) = &self.broadcasts {
            broadcasts.write(lines);
        }
        if let Some(positions) = &self.positions {
            positions.write(lines);
        }
    }

    fn charts(&self) -> Vec<Chart> {
        let observed = &self.head.observed;
        let mut charts = vec![
            Chart::percentiles(
                "Connect latency",
                &[("connect", self.connecting.connect_latency.as_ref())],
            ),
            observed.rate_chart("Pings answered per second", "pings/s", |sample| {
                sample.pings
            }),
        ];
        charts.extend(self.broadcasts.iter().flat_map(BroadcastsReport::charts));
        charts
    }
}

impl IdleReport {
    fn write_heartbeat(&self, lines: &mut Lines) {
        lines.line("pings answered", self.pings_answered);
        let heartbeat = &self.heartbeat;
        if let Some(per_s) = &heartbeat.answered_per_s {
            let (min, mean, max) = (per_s.min, per_s.mean, per_s.max);
            let expected = heartbeat.expected_per_s;
            lines.line(
                "pings",
                format_args!("{mean:.0}/s, min {min:.0} max {max:.0}, expected {expected:.0}/s"),
            );
        }
        if let Some(flatness) = &heartbeat.flatness_percent {
            let (lowest, highest) = (flatness.lowest, flatness.highest);
            lines.line(
                "flatness",
                format_args!("{lowest:+.1} % to {highest:+.1} % of expected, in buckets of 5 s"),
            );
        }
        if let (Some(us), Some(cores)) = (heartbeat.cpu_per_ping_us, heartbeat.server_cores) {
            let percent = cores * 100.0;
            lines.line(
                "heartbeat CPU",
                format_args!(
                    "{us:.2} us of the server per ping and pong, {percent:.1} % of a core"
                ),
            );
        }
        if let Some(timeouts) = heartbeat.false_timeouts {
            lines.line("false time-outs", timeouts);
        }
    }

    fn write_kernel(&self, lines: &mut Lines) {
        let Some(kernel) = &self.kernel else {
            let why = "not known: the server is on another machine, or /proc cannot be read";
            return lines.line("kernel memory", why);
        };
        let KernelCost {
            slab_per_connection_bytes: slab,
            unreclaimable_per_connection_bytes: unreclaimable,
            tcp_buffers_per_connection_bytes: buffers,
            caches,
        } = kernel;
        lines.line(
            "kernel memory",
            format_args!(
                "{slab:.0} B of slab per connection, both ends ({unreclaimable:.0} B unreclaimable), \
                 {buffers:.0} B of TCP buffers"
            ),
        );
        for cache in caches {
            let (name, bytes) = (&cache.name, cache.per_connection_bytes);
            let (objects, size) = (cache.objects_per_connection, cache.object_bytes);
            lines.line(
                "  cache",
                format_args!("{bytes:.0} B {name}: {objects:.2} objects of {size:.0} B"),
            );
        }
    }
}
