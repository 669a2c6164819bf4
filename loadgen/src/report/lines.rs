//! The figures of a report, line by line.

use std::fmt::{self, Display};

use crate::counters::Causes;
use crate::latency::LatencySummary;
use crate::order::Verdict;

use super::{Connecting, ServerMemory, Spread};

/// `label    value` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(Vec<(String, String)>);

impl Lines {
    /// All labels and values.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// As a table in Markdown.
    pub fn markdown(&self) -> String {
        let rows = self.0.iter().map(|(label, value)| {
            let value = value.replace('|', "\\|");
            format!("| {label} | {value} |\n")
        });
        format!("| | |\n|---|---|\n{}", rows.collect::<String>())
    }

    /// Adds a line.
    pub fn line(&mut self, label: &str, value: impl Display) {
        self.0.push((label.to_owned(), value.to_string()));
    }

    /// Adds a distribution, if there is one.
    pub fn latency(&mut self, label: &str, latency: Option<&LatencySummary>) {
        if let Some(latency) = latency {
            self.line(label, latency);
        }
    }

    /// Adds what came up; no line if nothing did.
    pub fn causes(&mut self, label: &str, causes: &Causes) {
        match causes.total() {
            0 => {}
            total => self.line(label, format_args!("{total}  ({causes})")),
        }
    }

    /// Adds a total and, unless it is 0, what it is made of.
    pub fn total_of(&mut self, label: &str, causes: &Causes) {
        match causes.total() {
            0 => self.line(label, 0),
            total => self.line(label, format_args!("{total}  ({causes})")),
        }
    }

    /// Adds those of some counts that are not 0.
    pub fn counts(&mut self, counts: &[(&str, u64)]) {
        for (label, count) in counts {
            if *count > 0 {
                self.line(label, count);
            }
        }
    }

    /// Adds what did not arrive.
    pub fn lost(&mut self, verdict: &Verdict) {
        let (messages, subscribers) = (verdict.lost_messages, verdict.lost_subscribers);
        self.line(
            "lost",
            format_args!("{messages} messages, on {subscribers} subscribers"),
        );
    }

    /// Adds how connecting went.
    pub fn connecting(&mut self, connecting: &Connecting) {
        let Connecting {
            threads,
            wanted,
            connected,
            ..
        } = connecting;
        self.line(
            "connected",
            format_args!("{connected} of {wanted} on {threads} threads"),
        );
        self.causes("failed", &connecting.failed);
        let (rate, seconds) = (connecting.connects_per_s, connecting.connect_seconds);
        self.line("connects", format_args!("{rate:.0}/s over {seconds:.2} s"));
        self.latency("connect latency", connecting.connect_latency.as_ref());
        for agent in &connecting.agents {
            self.line("agent", agent);
        }
    }

    /// Adds the server's memory and how it spread the connections.
    pub fn server_memory(&mut self, server: &ServerMemory) {
        self.line(
            "server memory",
            format_args!(
                "{:.0} B per connection ({:.1} MiB -> {:.1} MiB resident)",
                server.rss_per_connection_bytes,
                server.rss_before_bytes / 1_048_576.0,
                server.rss_after_bytes / 1_048_576.0
            ),
        );
        if let Some(Spread {
            count,
            min,
            mean,
            max,
        }) = server.shards
        {
            let spread = format_args!("min {min} mean {mean:.0} max {max} over {count} shards");
            self.line("connections", spread);
        }
    }

    /// Adds the CPU time of this program and the verdict.
    pub fn end(&mut self, loadgen_cpu_seconds: f64, ok: bool, interrupted: bool) {
        self.line("loadgen CPU", format_args!("{loadgen_cpu_seconds:.2} s"));
        let early = if interrupted { " (ended early)" } else { "" };
        self.line(
            "result",
            format_args!("{}{early}", if ok { "ok" } else { "FAILED" }),
        );
    }
}

impl Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(label, value)| writeln!(f, "{label:<18} {value}"))
    }
}
