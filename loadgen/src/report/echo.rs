//! The report of `echo`.

use serde::Serialize;

use crate::counters::Causes;
use crate::html::Chart;
use crate::latency::LatencySummary;
use crate::metrics_scrape::Snapshot;

use super::{Connecting, Head, Lines, Report};

/// What `echo` found.
#[derive(Clone, Debug, Serialize)]
pub struct EchoReport {
    /// What every report has.
    #[serde(flatten)]
    pub head: Head,
    /// How connecting went.
    pub connecting: Connecting,
    /// Payload size.
    pub size_bytes: usize,
    /// Messages of a connection that could be under way at a time.
    pub in_flight: u32,
    /// Messages per second asked for; `None` for as fast as echoes came.
    pub wanted_rate_per_s: Option<f64>,
    /// From the first message to the last echo.
    pub seconds: f64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that came back.
    pub echoed: u64,
    /// Per second.
    pub echoed_per_s: f64,
    /// Messages that did not come back.
    pub missing: u64,
    /// From sending to the echo; from the time it was due for a message that had to wait for an
    /// earlier one.
    pub echo_latency: Option<LatencySummary>,
    /// Connections that ended early, by cause; `wrong_echo` if something else came back.
    pub lost: Causes,
    /// Pings answered.
    pub pings_answered: u64,
    /// What it cost the server; `None` if it did not say.
    pub server: Option<MessageCost>,
}

/// What messages cost the server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MessageCost {
    /// CPU time while messages were sent.
    pub cpu_seconds: f64,
    /// Per message received and sent back; `None` if there was none.
    pub cpu_per_message_us: Option<f64>,
}

impl MessageCost {
    /// From readings before the first message and after the last echo.
    pub fn between(before: &Snapshot, after: &Snapshot, messages: u64) -> Option<Self> {
        let cpu = "process_cpu_seconds_total";
        let cpu_seconds = after.total(cpu)? - before.total(cpu)?;
        Some(Self {
            cpu_seconds,
            cpu_per_message_us: (messages > 0).then(|| cpu_seconds * 1e6 / messages as f64),
        })
    }
}

impl Report for EchoReport {
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, lines: &mut Lines) {
        lines.connecting(&self.connecting);
        let (size, in_flight) = (self.size_bytes, self.in_flight);
        let load = format!("{size} B messages, {in_flight} in flight per connection");
        lines.line("load", load);
        let (echoed, seconds, rate) = (self.echoed, self.seconds, self.echoed_per_s);
        let wanted = self
            .wanted_rate_per_s
            .map_or(String::new(), |wanted| format!(" of {wanted}/s wanted"));
        lines.line(
            "echoed",
            format_args!("{echoed} in {seconds:.2} s, {rate:.0}/s{wanted}"),
        );
        lines.line("missing", self.missing);
        lines.latency("echo latency", self.echo_latency.as_ref());
        lines.total_of("lost connections", &self.lost);
        if let Some(server) = &self.server {
            let each = server.cpu_per_message_us;
            let each = each.map_or(String::new(), |us| format!(", {us:.2} us per message"));
            let seconds = server.cpu_seconds;
            lines.line("server CPU", format_args!("{seconds:.2} s{each}"));
        }
    }

    fn charts(&self) -> Vec<Chart> {
        let observed = &self.head.observed;
        vec![
            observed.rate_chart("Echoes per second", "echoes/s", |sample| sample.messages),
            Chart::percentiles(
                "Latency",
                &[
                    ("echo", self.echo_latency.as_ref()),
                    ("connect", self.connecting.connect_latency.as_ref()),
                ],
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_per_message() {
        let page = |cpu| Snapshot::of([("process_cpu_seconds_total", cpu)]);
        let cost = MessageCost::between(&page(1.0), &page(2.0), 1000).unwrap();
        assert_eq!(cost.cpu_per_message_us, Some(1000.0));
        let cost = MessageCost::between(&page(1.0), &page(2.0), 0).unwrap();
        assert_eq!(cost.cpu_per_message_us, None);
        assert_eq!(
            MessageCost::between(&page(1.0), &Snapshot::default(), 1),
            None
        );
    }
}
