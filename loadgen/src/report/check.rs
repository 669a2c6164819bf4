//! The report of `check`.

use serde::Serialize;

use crate::check::Verdict;
use crate::html::{Axis, Chart, Line};

use super::{Lines, Observed, Report};

/// What `check` found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Nothing is wrong.
    pub ok: bool,
    /// Ended early by ctrl-C.
    pub interrupted: bool,
    /// Where subscribers connected.
    pub url: String,
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
    /// CPU time of this program.
    pub loadgen_cpu_seconds: f64,
    /// What every command finds.
    #[serde(flatten)]
    pub observed: Observed,
}

impl Report for CheckReport {
    fn title(&self) -> String {
        format!("check {}", self.url)
    }

    fn is_ok(&self) -> bool {
        self.ok
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.line("check", &self.url);
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
        lines.end(self.loadgen_cpu_seconds, self.ok, self.interrupted);
        lines
    }

    fn charts(&self) -> Vec<Chart> {
        let deliveries = self.observed.series.rate(|sample| sample.messages);
        vec![Chart::over_time(
            "Deliveries per second",
            Axis::count("deliveries/s"),
            vec![Line::new("deliveries", deliveries)],
        )]
    }

    fn observed(&self) -> &Observed {
        &self.observed
    }
}
