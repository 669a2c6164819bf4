//! What a run found: as JSON with stable names, and as a summary for people.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::counters::Causes;
use crate::latency::LatencySummary;
use crate::metrics_scrape::Snapshot;
use crate::order::Verdict;

/// How connecting went.
#[derive(Clone, Debug, Serialize)]
pub struct Connecting {
    /// Threads that held connections.
    pub threads: usize,
    /// Connections asked for.
    pub wanted: u64,
    /// Connections made.
    pub connected: u64,
    /// Connections that could not be made, by cause.
    pub failed: Causes,
    /// From the first attempt to the last connection.
    pub connect_seconds: f64,
    /// Connections made per second in that time.
    pub connects_per_s: f64,
    /// TCP and WebSocket handshake.
    pub connect_latency: Option<LatencySummary>,
}

impl Connecting {
    /// True if every connection was made.
    pub fn is_complete(&self) -> bool {
        self.connected == self.wanted
    }
}

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
}

/// The server's memory and how it spread the connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerMemory {
    /// Resident before the first connection.
    pub rss_before_bytes: f64,
    /// Resident with all connections held.
    pub rss_after_bytes: f64,
    /// The difference per held connection. Sockets are the kernel's and not in it.
    pub rss_per_connection_bytes: f64,
    /// Connections per shard.
    pub shards: Option<Spread>,
}

/// How even something is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// The average.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let (first, count) = (*values.first()?, values.len());
        Some(Self {
            count,
            min: values.iter().copied().fold(first, f64::min),
            mean: values.iter().sum::<f64>() / count as f64,
            max: values.iter().copied().fold(first, f64::max),
        })
    }
}

impl ServerMemory {
    /// From readings before the first connection and with `held` of them.
    pub fn between(before: &Snapshot, after: &Snapshot, held: u64) -> Option<Self> {
        let rss = "process_resident_memory_bytes";
        let (rss_before_bytes, rss_after_bytes) = (before.total(rss)?, after.total(rss)?);
        Some(Self {
            rss_before_bytes,
            rss_after_bytes,
            rss_per_connection_bytes: (rss_after_bytes - rss_before_bytes) / held.max(1) as f64,
            shards: Spread::of(&after.per_shard("longwire_connections")),
        })
    }
}

/// What `fanout` found.
#[derive(Clone, Debug, Serialize)]
pub struct FanoutReport {
    /// Everything went as asked for.
    pub ok: bool,
    /// Ended early by ctrl-C.
    pub interrupted: bool,
    /// Where subscribers connected.
    pub url: String,
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
    /// CPU time of this program.
    pub loadgen_cpu_seconds: f64,
}

/// What publishing cost the server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ServerWork {
    /// CPU time while publishing.
    pub cpu_seconds: f64,
    /// Per message received by a subscriber; `None` if none was.
    pub cpu_per_delivery_us: Option<f64>,
    /// Sends that carried more than one message, of all sends.
    pub coalesced_share: Option<f64>,
    /// Messages per send.
    pub deliveries_per_send: Option<f64>,
}

impl ServerWork {
    /// From readings before the first publication and after the last delivery.
    pub fn between(before: &Snapshot, after: &Snapshot, deliveries: u64) -> Option<Self> {
        let more = |name| Some(after.total(name)? - before.total(name)?);
        let cpu_seconds = more("process_cpu_seconds_total")?;
        let sends = more("longwire_sends_total").filter(|sends| *sends > 0.0);
        let per_send = |name| Some(more(name)? / sends?);
        Some(Self {
            cpu_seconds,
            cpu_per_delivery_us: (deliveries > 0).then(|| cpu_seconds * 1e6 / deliveries as f64),
            coalesced_share: per_send("longwire_coalesced_sends_total"),
            deliveries_per_send: per_send("longwire_deliveries_total"),
        })
    }
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
    }
}

/// Prints the summary, unless JSON goes to stdout, and writes the JSON to where it goes.
pub fn publish(report: &(impl Serialize + fmt::Display), json: Option<&Path>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let Some(path) = json else {
        return write!(stdout, "{report}");
    };
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    if path.as_os_str() == "-" {
        return stdout.write_all(text.as_bytes());
    }
    write!(stdout, "{report}")?;
    std::fs::write(path, text)
}

/// `label    value` lines.
struct Lines<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Lines<'_, '_> {
    fn line(&mut self, label: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        writeln!(self.0, "{label:<18} {value}")
    }

    fn latency(&mut self, label: &str, latency: Option<&LatencySummary>) -> fmt::Result {
        latency.map_or(Ok(()), |latency| {
            self.line(label, format_args!("{latency}"))
        })
    }

    fn causes(&mut self, label: &str, causes: &Causes) -> fmt::Result {
        match causes.total() {
            0 => Ok(()),
            total => self.line(label, format_args!("{total}  ({causes})")),
        }
    }

    fn connecting(&mut self, connecting: &Connecting) -> fmt::Result {
        let Connecting {
            threads,
            wanted,
            connected,
            ..
        } = connecting;
        self.line(
            "connected",
            format_args!("{connected} of {wanted} on {threads} threads"),
        )?;
        self.causes("failed", &connecting.failed)?;
        let (rate, seconds) = (connecting.connects_per_s, connecting.connect_seconds);
        self.line("connects", format_args!("{rate:.0}/s over {seconds:.2} s"))?;
        self.latency("connect latency", connecting.connect_latency.as_ref())
    }

    fn verdict(&mut self, ok: bool, interrupted: bool) -> fmt::Result {
        let early = if interrupted { " (ended early)" } else { "" };
        self.line(
            "result",
            format_args!("{}{early}", if ok { "ok" } else { "FAILED" }),
        )
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines(f);
        lines.line("idle", format_args!("{}", self.url))?;
        lines.connecting(&self.connecting)?;
        lines.line("held", format_args!("{:.1} s", self.held_seconds))?;
        lines.line("lost", format_args!("{}  {}", self.lost.total(), self.lost))?;
        lines.line("pings answered", format_args!("{}", self.pings_answered))?;
        if let Some(server) = &self.server {
            lines.line(
                "server memory",
                format_args!(
                    "{:.0} B per connection ({:.1} MiB -> {:.1} MiB resident)",
                    server.rss_per_connection_bytes,
                    server.rss_before_bytes / 1_048_576.0,
                    server.rss_after_bytes / 1_048_576.0
                ),
            )?;
            if let Some(Spread {
                count,
                min,
                mean,
                max,
            }) = server.shards
            {
                let spread = format_args!("min {min} mean {mean:.0} max {max} over {count} shards");
                lines.line("connections", spread)?;
            }
        }
        lines.line(
            "loadgen CPU",
            format_args!("{:.2} s", self.loadgen_cpu_seconds),
        )?;
        lines.verdict(self.ok, self.interrupted)
    }
}

impl fmt::Display for FanoutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines(f);
        let Self {
            channels,
            publishers,
            size_bytes,
            ..
        } = self;
        lines.line("fanout", format_args!("{}", self.url))?;
        lines.connecting(&self.connecting)?;
        lines.line(
            "load",
            format_args!("{publishers} publishers, {channels} channels, {size_bytes} B payloads"),
        )?;
        self.write_publishing(&mut lines)?;
        self.write_check(&mut lines)?;
        self.write_server(&mut lines)?;
        lines.line(
            "loadgen CPU",
            format_args!("{:.2} s", self.loadgen_cpu_seconds),
        )?;
        for failure in &self.failures {
            lines.line("failure", format_args!("{failure}"))?;
        }
        lines.verdict(self.ok, self.interrupted)
    }
}

impl FanoutReport {
    fn write_publishing(&self, lines: &mut Lines<'_, '_>) -> fmt::Result {
        let (count, rate) = (self.publications, self.publications_per_s);
        let seconds = self.publish_seconds;
        match self.wanted_rate_per_s {
            Some(wanted) => lines.line(
                "publications",
                format_args!("{count} in {seconds:.2} s, {rate:.1}/s of {wanted}/s wanted"),
            )?,
            None => lines.line(
                "publications",
                format_args!("{count} in {seconds:.2} s, {rate:.1}/s"),
            )?,
        }
        let (refused, unknown) = (self.refused, self.unknown);
        lines.line(
            "refused",
            format_args!("{refused} (retried), {unknown} without an answer"),
        )?;
        lines.latency("publish latency", self.publish_latency.as_ref())?;
        let (count, rate) = (self.deliveries, self.deliveries_per_s);
        lines.line("deliveries", format_args!("{count}, {rate:.0}/s"))?;
        lines.latency("delivery latency", self.delivery_latency.as_ref())
    }

    fn write_check(&self, lines: &mut Lines<'_, '_>) -> fmt::Result {
        let verdict = &self.verdict;
        lines.line(
            "lost",
            format_args!(
                "{} messages, on {} subscribers",
                verdict.lost_messages, verdict.lost_subscribers
            ),
        )?;
        lines.line(
            "duplicated",
            format_args!(
                "{} messages, on {} subscribers",
                verdict.duplicated_messages, verdict.duplicated_subscribers
            ),
        )?;
        lines.line(
            "reordered",
            format_args!("{} subscribers", verdict.reordered_subscribers),
        )?;
        for (label, count) in [
            ("refused, yet seen", verdict.invented_subscribers),
            ("wrong channel", self.misdelivered_messages),
            ("offset not rising", self.offset_regressions),
            ("foreign messages", self.foreign_messages),
        ] {
            if count > 0 {
                lines.line(label, format_args!("{count}"))?;
            }
        }
        lines.line(
            "dropped",
            format_args!("{}  {}", self.dropped.total(), self.dropped),
        )
    }

    fn write_server(&self, lines: &mut Lines<'_, '_>) -> fmt::Result {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let each = server.cpu_per_delivery_us;
        let each = each.map_or(String::new(), |us| format!(", {us:.2} us per delivery"));
        lines.line(
            "server CPU",
            format_args!("{:.2} s{each}", server.cpu_seconds),
        )?;
        if let (Some(share), Some(per_send)) = (server.coalesced_share, server.deliveries_per_send)
        {
            let percent = share * 100.0;
            let value = format_args!("{percent:.1} % of sends, {per_send:.2} deliveries per send");
            lines.line("coalesced", value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_per_held_connection() {
        let before = Snapshot::parse("process_resident_memory_bytes 1000\n");
        let after = Snapshot::parse(
            "process_resident_memory_bytes 4000\nlongwire_connections{shard=\"0\"} 4\n\
             longwire_connections{shard=\"1\"} 6\n",
        );
        let memory = ServerMemory::between(&before, &after, 10).unwrap();
        assert_eq!(memory.rss_per_connection_bytes, 300.0);
        assert_eq!(
            memory.shards,
            Some(Spread {
                count: 2,
                min: 4.0,
                mean: 5.0,
                max: 6.0
            })
        );
        assert_eq!(
            ServerMemory::between(&before, &Snapshot::default(), 10),
            None
        );
    }

    #[test]
    fn work_is_a_difference_of_readings() {
        let page = |cpu: f64, sends: u32, coalesced: u32, deliveries: u32| {
            Snapshot::parse(&format!(
                "process_cpu_seconds_total {cpu}\nlongwire_sends_total{{shard=\"0\"}} {sends}\n\
                 longwire_coalesced_sends_total{{shard=\"0\"}} {coalesced}\n\
                 longwire_deliveries_total{{shard=\"0\"}} {deliveries}\n"
            ))
        };
        let work = ServerWork::between(&page(1.0, 10, 1, 10), &page(1.5, 20, 6, 110), 100).unwrap();
        assert_eq!(work.cpu_per_delivery_us, Some(5000.0));
        assert_eq!(work.coalesced_share, Some(0.5));
        assert_eq!(work.deliveries_per_send, Some(10.0));
        let still = ServerWork::between(&page(1.0, 1, 0, 1), &page(1.0, 1, 0, 1), 0).unwrap();
        assert_eq!(
            (still.coalesced_share, still.cpu_per_delivery_us),
            (None, None)
        );
        assert_eq!(
            ServerWork::between(&Snapshot::default(), &Snapshot::default(), 1),
            None
        );
    }
}
