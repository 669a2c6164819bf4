//! The report of `fanout`.

use serde::Serialize;

use crate::counters::Causes;
use crate::html::Chart;
use crate::latency::LatencySummary;
use crate::order::Verdict;
use crate::worker::PositionTally;

use super::{Connecting, Head, Lines, Report, ServerWork};

/// What `fanout` found.
#[derive(Clone, Debug, Serialize)]
pub struct FanoutReport {
    /// What every report has.
    #[serde(flatten)]
    pub head: Head,
    /// How connecting went.
    pub connecting: Connecting,
    /// Channels.
    pub channels: u32,
    /// Publishers.
    pub publishers: u32,
    /// Payload size.
    pub size_bytes: usize,
    /// Messages per second asked for; `None` for as fast as answered.
    pub wanted_rate_per_s: Option<f64>,
    /// From the first publication to the last answer.
    pub publish_seconds: f64,
    /// Publications acknowledged.
    pub publications: u64,
    /// Publications acknowledged per second.
    pub publications_per_s: f64,
    /// Answers 503; each publication was retried.
    pub refused: u64,
    /// Publications without an answer.
    pub unknown: u64,
    /// Messages received by all subscribers.
    pub deliveries: u64,
    /// Per second, from the first publication to the last delivery.
    pub deliveries_per_s: f64,
    /// From when a message was meant to go out until it was acknowledged.
    pub publish_latency: Option<LatencySummary>,
    /// From when a message was meant to go out until a subscriber received it.
    pub delivery_latency: Option<LatencySummary>,
    /// The same for the last subscriber of each message; `None` with more than one channel.
    pub last_delivery_latency: Option<LatencySummary>,
    /// Whether every subscriber got every message once and in order.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Messages of another run or of no run of this program.
    pub foreign_messages: u64,
    /// Messages that came on another channel than they were published to.
    pub misdelivered_messages: u64,
    /// Acknowledgements whose offset did not go up.
    pub offset_regressions: u64,
    /// Subscribers whose connection ended early, by cause.
    pub dropped: Causes,
    /// Pings answered.
    pub pings_answered: u64,
    /// Publishers that gave up, and why.
    pub failures: Vec<String>,
    /// What the server says about itself; `None` without /metrics.
    pub server: Option<ServerWork>,
    /// What Centrifuge clients found by offsets and epochs; `None` with another protocol.
    pub positions: Option<PositionTally>,
}

impl FanoutReport {
    /// True if nothing is wrong with what was measured.
    pub fn is_sound(&self) -> bool {
        self.connecting.is_complete()
            && self.verdict.is_sound()
            && self.dropped.total() == 0
            && self.misdelivered_messages == 0
            && self.offset_regressions == 0
            && self.failures.is_empty()
            && self.positions.is_none_or(|positions| positions.is_sound())
    }
}

impl Report for FanoutReport {
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, lines: &mut Lines) {
        let Self {
            channels,
            publishers,
            size_bytes,
            ..
        } = self;
        lines.connecting(&self.connecting);
        lines.line(
            "load",
            format_args!("{publishers} publishers, {channels} channels, {size_bytes} B payloads"),
        );
        self.write_publishing(lines);
        self.write_check(lines);
        self.write_server(lines);
        for failure in &self.failures {
            lines.line("failure", failure);
        }
        if let Some(positions) = &self.positions {
            positions.write(lines);
        }
    }

    fn charts(&self) -> Vec<Chart> {
        let observed = &self.head.observed;
        vec![
            observed.rate_chart("Deliveries per second", "deliveries/s", |sample| {
                sample.messages
            }),
            Chart::percentiles(
                "Latency",
                &[
                    ("delivery", self.delivery_latency.as_ref()),
                    ("publish", self.publish_latency.as_ref()),
                    ("connect", self.connecting.connect_latency.as_ref()),
                ],
            ),
        ]
    }
}

impl FanoutReport {
    fn write_publishing(&self, lines: &mut Lines) {
        let (count, rate) = (self.publications, self.publications_per_s);
        let seconds = self.publish_seconds;
        match self.wanted_rate_per_s {
            Some(wanted) => lines.line(
                "publications",
                format_args!("{count} in {seconds:.2} s, {rate:.1}/s of {wanted}/s wanted"),
            ),
            None => lines.line(
                "publications",
                format_args!("{count} in {seconds:.2} s, {rate:.1}/s"),
            ),
        }
        let (refused, unknown) = (self.refused, self.unknown);
        lines.line(
            "refused",
            format_args!("{refused} (retried), {unknown} without an answer"),
        );
        lines.latency("publish latency", self.publish_latency.as_ref());
        let (count, rate) = (self.deliveries, self.deliveries_per_s);
        lines.line("deliveries", format_args!("{count}, {rate:.0}/s"));
        lines.latency("delivery latency", self.delivery_latency.as_ref());
    }

    fn write_check(&self, lines: &mut Lines) {
        let verdict = &self.verdict;
        lines.lost(verdict);
        lines.line(
            "duplicated",
            format_args!(
                "{} messages, on {} subscribers",
                verdict.duplicated_messages, verdict.duplicated_subscribers
            ),
        );
        lines.line(
            "reordered",
            format_args!("{} subscribers", verdict.reordered_subscribers),
        );
        lines.counts(&[
            ("refused, yet seen", verdict.invented_subscribers),
            ("wrong channel", self.misdelivered_messages),
            ("offset not rising", self.offset_regressions),
            ("foreign messages", self.foreign_messages),
        ]);
        lines.total_of("dropped", &self.dropped);
    }

    fn write_server(&self, lines: &mut Lines) {
        let Some(server) = &self.server else {
            return;
        };
        let each = server.cpu_per_delivery_us;
        let each = each.map_or(String::new(), |us| format!(", {us:.2} us per delivery"));
        lines.line(
            "server CPU",
            format_args!("{:.2} s{each}", server.cpu_seconds),
        );
        if let (Some(share), Some(per_send)) = (server.coalesced_share, server.deliveries_per_send)
        {
            let percent = share * 100.0;
            let value = format_args!("{percent:.1} % of sends, {per_send:.2} deliveries per send");
            lines.line("coalesced", value);
        }
    }
}
