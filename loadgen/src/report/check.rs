//! The report of `check`.

use serde::Serialize;

use crate::check::Verdict;
use crate::html::Chart;

use super::{Head, Lines, Report};

/// What `check` found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// What every report has.
    #[serde(flatten)]
    pub head: Head,
    /// Makes the same disturbances again.
    pub seed: u64,
    /// Subscribers.
    pub subscribers: u64,
    /// Channels.
    pub channels: u32,
    /// How long it took.
    pub seconds: f64,
    /// Clients killed.
    pub client_kills: u32,
    /// Readers paused.
    pub slow_readers: u32,
    /// Storms of all clients.
    pub storms: u32,
    /// Servers killed.
    pub server_kills: u32,
    /// Servers stopped for a while.
    pub freezes: u32,
    /// Cores held for a while.
    pub core_holds: u32,
    /// Subscriptions made, over all connections.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub refused: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Report for CheckReport {
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("seed", self.seed);
        let (subscribers, channels, seconds) = (self.subscribers, self.channels, self.seconds);
        lines.line(
            "subscribers",
            format_args!("{subscribers} on {channels} channels, {seconds:.1} s"),
        );
        lines.line(
            "disturbances",
            format_args!(
                "{} clients killed, {} readers paused, {} storms, {} servers killed, {} frozen, \
                 {} cores held",
                self.client_kills,
                self.slow_readers,
                self.storms,
                self.server_kills,
                self.freezes,
                self.core_holds
            ),
        );
        let (connects, refused) = (self.connects, self.refused);
        lines.line(
            "subscribed",
            format_args!("{connects} times, {refused} attempts failed"),
        );
        let verdict = &self.verdict;
        lines.line(
            "publications",
            format_args!(
                "{} acknowledged, {} without an answer, in {} epochs",
                verdict.acknowledged, verdict.unknown, verdict.epochs
            ),
        );
        lines.line("deliveries", verdict.deliveries);
        lines.line(
            "came back",
            format_args!(
                "{} with nothing missing, {} told of another epoch, {} told in the same epoch",
                verdict.resumed, verdict.told_new_epoch, verdict.told_same_epoch
            ),
        );
        let count: u64 = verdict.violations.values().map(|all| all.count).sum();
        lines.line("violations", count);
        for (kind, all) in &verdict.violations {
            lines.line(&kind.to_string(), all.count);
            for example in &all.examples {
                lines.line("  such as", example);
            }
        }
    }

    fn charts(&self) -> Vec<Chart> {
        let observed = &self.head.observed;
        vec![
            observed.rate_chart("Deliveries per second", "deliveries/s", |sample| {
                sample.messages
            }),
        ]
    }
}
