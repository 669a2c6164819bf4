//! The report of `storm`.

use serde::Serialize;

use crate::counters::Causes;
use crate::html::{Axis, Chart, Line};
use crate::latency::LatencySummary;
use crate::order::Verdict;
use crate::worker::PositionTally;

use super::{Connecting, Head, Lines, Report, ReturnWork};

/// What `storm` found.
#[derive(Clone, Debug, Serialize)]
pub struct StormReport {
    /// What every report has.
    #[serde(flatten)]
    pub head: Head,
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
    /// Connections that came back per second: (seconds since the cut, per second).
    pub reconnects: Vec<(f64, f64)>,
    /// How coming back went.
    #[serde(flatten)]
    pub returning: Returning,
    /// Publications on each channel while all that were cut stayed away.
    pub missed: Option<u32>,
    /// What it cost the server that they came back; `None` if it did not say.
    pub return_work: Option<ReturnWork>,
    /// What those that stayed found, and those that recovered what they missed.
    pub stayers: Stayers,
    /// What Centrifuge clients found by offsets and epochs; `None` with another protocol.
    pub positions: Option<PositionTally>,
}

/// How it went for connections that were made again.
#[derive(Clone, Debug, Serialize)]
pub struct Returning {
    /// Their TCP and WebSocket handshakes.
    pub reconnect_latency: Option<LatencySummary>,
    /// Attempts that failed, by cause.
    pub refusals: Causes,
    /// Connections that ended before they should, by cause.
    pub lost: Causes,
}

impl Returning {
    /// Adds it, line by line.
    pub fn write(&self, lines: &mut Lines) {
        lines.latency("reconnect latency", self.reconnect_latency.as_ref());
        lines.total_of("refused attempts", &self.refusals);
        lines.total_of("lost connections", &self.lost);
    }
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

    /// The plot of what deliveries took, and coming back.
    pub fn latency_chart(&self, returning: &Returning) -> Chart {
        Chart::percentiles(
            "Latency",
            &[
                ("delivery before", self.calm_latency.as_ref()),
                ("delivery since", self.delivery_latency.as_ref()),
                ("reconnect", returning.reconnect_latency.as_ref()),
            ],
        )
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
        lines.lost(verdict);
        lines.counts(&[
            ("duplicated", verdict.duplicated_messages),
            ("reordered", verdict.reordered_subscribers),
            ("refused, yet seen", verdict.invented_subscribers),
            ("wrong channel", self.misdelivered_messages),
        ]);
        for failure in &self.failures {
            lines.line("failure", failure);
        }
    }
}

impl StormReport {
    /// With its verdict.
    pub fn judged(mut self, interrupted: bool) -> Self {
        self.head.interrupted = interrupted;
        self.head.ok = self.connecting.is_complete()
            && self.all_back_seconds.is_some()
            && self.returning.lost.total() == 0
            && self.positions.is_none_or(|positions| positions.is_sound())
            && self.stayers.are_sound();
        self
    }
}

impl Report for StormReport {
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, lines: &mut Lines) {
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
        self.returning.write(lines);
        if let Some(work) = &self.return_work {
            work.write(lines);
        }
        self.stayers.write(lines);
        if let Some(positions) = &self.positions {
            positions.write(lines);
        }
    }

    fn charts(&self) -> Vec<Chart> {
        vec![
            Chart::over_time(
                "Coming back, by time since the cut",
                Axis::count("connections/s"),
                vec![Line::new("reconnects", self.reconnects.clone())],
            ),
            self.stayers.latency_chart(&self.returning),
        ]
    }
}
