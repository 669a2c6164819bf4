//! The part of `idle`'s report about broadcasts.

use serde::Serialize;

use crate::html::Chart;
use crate::latency::{LatencySummary, human};

use super::{Lines, Spread};

/// Broadcasts to all connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BroadcastsReport {
    /// Payload size.
    pub size_bytes: usize,
    /// One after the other.
    pub each: Vec<Broadcast>,
    /// Broadcasts that did not arrive, over all connections that were open to the end.
    pub lost_messages: u64,
    /// Broadcasts that arrived twice or behind a later one, over all connections.
    pub duplicated_messages: u64,
    /// Messages that were no broadcast of this run.
    pub foreign_messages: u64,
    /// From the publication until a connection received it, over all broadcasts.
    pub delivery_latency: Option<LatencySummary>,
    /// CPU time of the server per delivery, pings and new connections at the same time included.
    pub server_cpu_per_delivery_us: Option<f64>,
    /// Connections made while a broadcast was under way.
    pub newcomers: u64,
    /// Their TCP and WebSocket handshakes.
    pub newcomer_latency: Option<LatencySummary>,
    /// Another channel meanwhile; `None` if nobody asked.
    pub quiet: Option<Quiet>,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// One broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Broadcast {
    /// Connections open when it was published.
    pub subscribers: u64,
    /// Connections that received it.
    pub deliveries: u64,
    /// From the publication until the last of them had it; `None` if nobody did.
    pub last_delivery_seconds: Option<f64>,
}

/// A channel with one subscriber and a message every 50 ms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quiet {
    /// Messages acknowledged.
    pub published: u64,
    /// Those of them that did not arrive.
    pub lost_messages: u64,
    /// From when a message was meant to go out until it was received, for messages under way while a
    /// broadcast was.
    pub during: Option<LatencySummary>,
    /// The same for all others.
    pub otherwise: Option<LatencySummary>,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl BroadcastsReport {
    /// True if everything arrived once and everybody got in.
    pub fn is_sound(&self) -> bool {
        let quiet = self.quiet.as_ref();
        self.lost_messages == 0
            && self.duplicated_messages == 0
            && self.failures.is_empty()
            && quiet.is_none_or(|quiet| quiet.lost_messages == 0 && quiet.failures.is_empty())
    }

    /// Adds the figures.
    pub fn write(&self, lines: &mut Lines) {
        let count = self.each.len();
        let deliveries: u64 = self.each.iter().map(|each| each.deliveries).sum();
        let size = self.size_bytes;
        lines.line(
            "broadcasts",
            format_args!("{count} of {size} B, {deliveries} deliveries"),
        );
        let last = self
            .each
            .iter()
            .filter_map(|each| each.last_delivery_seconds);
        if let Some(last) = Spread::of(&last.collect::<Vec<_>>()) {
            let [min, mean, max] = [last.min, last.mean, last.max].map(|s| human(s * 1e6));
            let value = format_args!("after min {min} mean {mean} max {max}");
            lines.line("last subscriber", value);
        }
        lines.latency("delivery latency", self.delivery_latency.as_ref());
        if let Some(us) = self.server_cpu_per_delivery_us {
            lines.line(
                "delivery CPU",
                format_args!("{us:.2} us of the server each"),
            );
        }
        let (lost, duplicated) = (self.lost_messages, self.duplicated_messages);
        let value = format_args!("{lost}, {duplicated} duplicated");
        lines.line("lost messages", value);
        if self.foreign_messages > 0 {
            lines.line("foreign messages", self.foreign_messages);
        }
        let (count, latency) = (self.newcomers, self.newcomer_latency.as_ref());
        if let Some(latency) = latency {
            let value = format_args!("{latency}  ({count} connections)");
            lines.line("connects meanwhile", value);
        }
        if let Some(quiet) = &self.quiet {
            lines.latency("quiet meanwhile", quiet.during.as_ref());
            lines.latency("quiet otherwise", quiet.otherwise.as_ref());
            let (published, lost) = (quiet.published, quiet.lost_messages);
            let value = format_args!("{published} messages, {lost} lost");
            lines.line("quiet channel", value);
        }
        let of_quiet = self.quiet.iter().flat_map(|quiet| &quiet.failures);
        for failure in self.failures.iter().chain(of_quiet) {
            lines.line("failure", failure);
        }
    }

    /// The plots.
    pub fn charts(&self) -> Vec<Chart> {
        let quiet = self.quiet.as_ref();
        vec![
            Chart::percentiles(
                "Broadcasts",
                &[
                    ("delivery", self.delivery_latency.as_ref()),
                    ("connects meanwhile", self.newcomer_latency.as_ref()),
                ],
            ),
            Chart::percentiles(
                "Another channel",
                &[
                    (
                        "during broadcasts",
                        quiet.and_then(|quiet| quiet.during.as_ref()),
                    ),
                    (
                        "otherwise",
                        quiet.and_then(|quiet| quiet.otherwise.as_ref()),
                    ),
                ],
            ),
        ]
    }
}
