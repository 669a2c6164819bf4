//! The report of `storm`.

use serde::Serialize;

use crate::counters::Causes;
use crate::html::{Axis, Chart, Line};
use crate::latency::LatencySummary;
use crate::order::Verdict;
use crate::worker::PositionTally;

use super::{Connecting, Lines, Observed, Report, ReturnWork};

/// What `storm` found.
#[derive(Clone, Debug, Serialize)]
pub struct StormReport {
    /// Everything went as asked for.
    pub ok: bool,
    /// Ended early by ctrl-C.
    pub interrupted: bool,
    /// Where subscribers connected.
    pub url: String,
    /// How connecting went the first time.
    pub connecting: Connecting,
    /// The part of the connections that was to be cut.
    pub share: f64,
    /// Connections cut.
    pub cut: u64,
    /// Connections that were made again.
    pub back: u64,
    /// From the cut until all were back; `None` if they never were.
    pub all_back_seconds: Option<f64>,
    /// From the cut until a connection was back, over all that came back.
    pub away: Option<LatencySummary>,
    /// TCP and WebSocket handshake of those.
    pub reconnect_latency: Option<LatencySummary>,
    /// Connections that came back per second: (seconds since the cut, per second).
    pub reconnects: Vec<(f64, f64)>,
    /// Attempts to come back that failed, by cause.
    pub refusals: Causes,
    /// Connections that ended before they should, by cause.
    pub lost: Causes,
    /// Publications on each channel while all that were cut stayed away.
    pub missed: Option<u32>,
    /// What it cost the server that they came back; `None` if it did not say.
    pub return_work: Option<ReturnWork>,
    /// What those that stayed found, and those that recovered what they missed.
    pub stayers: Stayers,
    /// What Centrifuge clients found by offsets and epochs; `None` with another protocol.
    pub positions: Option<PositionTally>,
    /// CPU time of this program.
    pub loadgen_cpu_seconds: f64,
    /// What every command finds.
    #[serde(flatten)]
    pub observed: Observed,
}

/// What connections found that stayed while others went.
#[derive(Clone, Debug, Serialize)]
pub struct Stayers {
    /// How many were not to go.
    pub stayed: u64,
    /// Those whose connection ended all the same.
    pub lost_connections: u64,
    /// Publications acknowledged.
    pub publications: u64,
    /// Answers 503; each publication was retried.
    pub refused: u64,
    /// Publications without an answer.
    pub unknown: u64,
    /// From when a message was meant to go out until they got it, before the others began to go.
    pub calm_latency: Option<LatencySummary>,
    /// The same from then on.
    pub delivery_latency: Option<LatencySummary>,
    /// Whether each got every message once and in order.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Messages that came on another channel than they were published to.
    pub misdelivered_messages: u64,
    /// Publishers that gave up, and why.
    pub failures: Vec<String>,
}

impl Stayers {
    /// True if nothing happened to them.
    pub fn are_sound(&self) -> bool {
        self.lost_connections == 0
            && self.verdict.is_sound()
            && self.misdelivered_messages == 0
            && self.failures.is_empty()
    }

    /// Adds what they found, line by line.
    pub fn write(&self, lines: &mut Lines) {
        let (stayed, lost) = (self.stayed, self.lost_connections);
        lines.line("stayers", format_args!("{stayed}, lost connections {lost}"));
        let (publications, refused, unknown) = (self.publications, self.refused, self.unknown);
        lines.line(
            "publications",
            format_args!(
                "{publications}, {refused} refused (retried), {unknown} without an answer"
            ),
        );
        lines.latency("delivery before", self.calm_latency.as_ref());
        lines.latency("delivery since", self.delivery_latency.as_ref());
        let verdict = &self.verdict;
        lines.line(
            "lost",
            format_args!(
                "{} messages, on {} subscribers",
                verdict.lost_messages, verdict.lost_subscribers
            ),
        );
        for (label, count) in [
            ("duplicated", verdict.duplicated_messages),
            ("reordered", verdict.reordered_subscribers),
            ("refused, yet seen", verdict.invented_subscribers),
            ("wrong channel", self.misdelivered_messages),
        ] {
            if count > 0 {
                lines.line(label, count);
            }
        }
        for failure in &self.failures {
            lines.line("failure", failure);
        }
    }
}

impl StormReport {
    /// With its verdict.
    pub fn judged(mut self, interrupted: bool) -> Self {
        self.interrupted = interrupted;
        self.ok = self.connecting.is_complete()
            && self.all_back_seconds.is_some()
            && self.lost.total() == 0
            && self.positions.is_none_or(|positions| positions.is_sound())
            && self.stayers.are_sound();
        self
    }
}

impl Report for StormReport {
    fn title(&self) -> String {
        format!("storm {}", self.url)
    }

    fn is_ok(&self) -> bool {
        self.ok
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.line("storm", &self.url);
        lines.connecting(&self.connecting);
        let (cut, back) = (self.cut, self.back);
        lines.line("cut", format_args!("{cut} at once, by reset"));
        if let Some(missed) = self.missed {
            lines.line(
                "missed",
                format_args!("{missed} on each channel, all while away"),
            );
        }
        match self.all_back_seconds {
            Some(seconds) => lines.line("back", format_args!("{back}, all after {seconds:.2} s")),
            None => lines.line("back", format_args!("{back}, never all")),
        }
        let most = self.reconnects.iter().map(|(_, per_s)| *per_s);
        lines.line(
            "reconnects",
            format_args!("up to {:.0}/s", most.fold(0.0, f64::max)),
        );
        lines.latency("away", self.away.as_ref());
        lines.latency("reconnect latency", self.reconnect_latency.as_ref());
        lines.total_of("refused attempts", &self.refusals);
        lines.total_of("lost connections", &self.lost);
        if let Some(work) = &self.return_work {
            work.write(&mut lines);
        }
        self.stayers.write(&mut lines);
        if let Some(positions) = &self.positions {
            positions.write(&mut lines);
        }
        lines.end(self.loadgen_cpu_seconds, self.ok, self.interrupted);
        lines
    }

    fn charts(&self) -> Vec<Chart> {
        vec![
            Chart::over_time(
                "Coming back, by time since the cut",
                Axis::count("connections/s"),
                vec![Line::new("reconnects", self.reconnects.clone())],
            ),
            Chart::percentiles(
                "Latency",
                &[
                    ("delivery before", self.stayers.calm_latency.as_ref()),
                    ("delivery since", self.stayers.delivery_latency.as_ref()),
                    ("reconnect", self.reconnect_latency.as_ref()),
                ],
            ),
        ]
    }

    fn observed(&self) -> &Observed {
        &self.observed
    }
}
