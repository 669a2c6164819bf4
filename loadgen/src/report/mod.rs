//! What a run found: as JSON with stable names, as a summary for people, and as a page with plots.

mod agents;
mod broadcasts;
mod check;
mod churn;
mod echo;
mod fanout;
mod head;
mod idle;
mod lines;
mod recovery;
mod storm;

pub use agents::AgentFigures;
pub use broadcasts::{Broadcast, BroadcastsReport, Quiet};
pub use check::CheckReport;
pub use churn::{ChurnReport, Growth};
pub use echo::{EchoReport, MessageCost};
pub use fanout::FanoutReport;
pub use head::Head;
pub use idle::IdleReport;
pub use lines::Lines;
pub use recovery::ReturnWork;
pub use storm::{Returning, Stayers, StormReport};

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::args::CommonArgs;
use crate::counters::Causes;
use crate::html::{self, Axis, Chart, Line};
use crate::latency::LatencySummary;
use crate::machine::Machine;
use crate::metrics_scrape::Snapshot;
use crate::run::Run;
use crate::sampler::Sampled;
use crate::series::{Sample, Series};

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
    /// Each agent's part; empty if this program made the connections itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentFigures>,
}

impl Connecting {
    /// True if every connection was made.
    pub fn is_complete(&self) -> bool {
        self.connected == self.wanted
    }
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

/// What every command finds beside its own figures.
#[derive(Clone, Debug, Serialize)]
pub struct Observed {
    /// The command line, without its secrets.
    pub command_line: String,
    /// Local addresses that connections came from; 0 if the system chose, `None` if agents did.
    pub source_addresses: Option<usize>,
    /// Where this program ran.
    pub machine: Machine,
    /// The run over time.
    pub series: Series,
    /// Open connections of each of the server's shards at the end; empty if it did not say.
    pub shard_connections: Vec<f64>,
}

impl Observed {
    /// Of a run that was sampled.
    pub fn new(run: &Run, sampled: Sampled) -> Self {
        Self {
            command_line: command_line(std::env::args()),
            source_addresses: run.agents.is_none().then(|| run.local.source_count()),
            machine: Machine::read(),
            series: sampled.series,
            shard_connections: sampled.shard_connections,
        }
    }

    /// The plot of a rate, in `unit`, of what was counted.
    fn rate_chart(&self, title: &str, unit: &'static str, count: fn(&Sample) -> u64) -> Chart {
        let rate = Line::new(unit.trim_end_matches("/s"), self.series.rate(count));
        Chart::over_time(title, Axis::count(unit), vec![rate])
    }

    /// The plots every command has.
    fn charts(&self) -> Vec<Chart> {
        let series = &self.series;
        vec![
            Chart::over_time(
                "Connections",
                Axis::count("open"),
                vec![Line::new("open", series.over_time(|s| Some(s.open as f64)))],
            ),
            Chart::over_time(
                "Server memory",
                Axis::bytes("resident"),
                vec![Line::new(
                    "resident",
                    series.over_time(|s| s.server_rss_bytes),
                )],
            ),
            Chart::bars(
                "Connections per shard",
                Axis::count("connections"),
                &self.shard_connections,
            ),
        ]
    }
}

/// Arguments whose values are nobody's business.
const SECRETS: &[&str] = &["--api-key", "--hmac-secret", "--publish-header", "--token"];

fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut hide = false;
    let shown = arguments.enumerate().map(|(position, argument)| {
        if position == 0 {
            return "longwire-loadgen".to_owned();
        }
        if std::mem::take(&mut hide) {
            return "…".to_owned();
        }
        let (name, value) = argument
            .split_once('=')
            .map_or((argument.as_str(), None), |(name, value)| {
                (name, Some(value))
            });
        match (SECRETS.contains(&name), value) {
            (true, Some(_)) => format!("{name}=…"),
            (secret, _) => {
                hide = secret;
                quoted(argument)
            }
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// As a shell would take it.
fn quoted(argument: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

/// What a command found, for programs and for people.
pub trait Report: Serialize {
    /// What every report has.
    fn head(&self) -> &Head;
    /// Adds the figures that are the command's own, line by line.
    fn write(&self, lines: &mut Lines);
    /// The plots that are the command's own.
    fn charts(&self) -> Vec<Chart>;

    /// All figures, line by line.
    fn lines(&self) -> Lines {
        let head = self.head();
        let mut lines = Lines::default();
        lines.line(head.command, &head.url);
        self.write(&mut lines);
        lines.end(head.loadgen_cpu_seconds, head.ok, head.interrupted);
        lines
    }
}

/// Prints the summary, unless JSON goes to stdout, and writes the files that were asked for.
pub fn publish(report: &impl Report, args: &CommonArgs) -> io::Result<()> {
    if let Some(path) = &args.html {
        std::fs::write(path, html_page(report, args))?;
    }
    if let Some(path) = &args.markdown {
        std::fs::write(path, report.lines().markdown())?;
    }
    let json = args.json.as_deref();
    if json != Some(Path::new("-")) {
        write!(io::stdout().lock(), "{}", report.lines())?;
    }
    json.map_or(Ok(()), |path| write_json(report, path))
}

fn write_json(report: &impl Serialize, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    if path.as_os_str() == "-" {
        return io::stdout().lock().write_all(text.as_bytes());
    }
    std::fs::write(path, text)
}

fn html_page(report: &impl Report, args: &CommonArgs) -> String {
    let head = report.head();
    let observed = &head.observed;
    let mut charts = observed.charts();
    charts.extend(report.charts());
    let mut plan = Lines::default();
    plan.line("command", &observed.command_line);
    plan.line("connections", args.connections);
    match observed.source_addresses {
        None => plan.line("source addresses", "each agent's own"),
        Some(0) => plan.line("source addresses", "the system's choice"),
        Some(count) => plan.line("source addresses", count),
    }
    plan.line("machine", &observed.machine);
    html::Page {
        title: &format!("{} {}", head.command, head.url),
        ok: Some(head.ok),
        interrupted: head.interrupted,
        charts: &charts,
        tables: &[("Figures", &report.lines()), ("Plan and machine", &plan)],
    }
    .render()
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
    fn secrets_stay_out_of_reports() {
        let shown = |line: &str| command_line(line.split(' ').map(str::to_owned));
        assert_eq!(
            shown("/x/lg idle --api-key s3cret --size=1"),
            "longwire-loadgen idle --api-key … --size=1"
        );
        assert_eq!(shown("lg --token=s3cret"), "longwire-loadgen --token=…");
        assert_eq!(
            shown("lg ws://h/{channel}"),
            "longwire-loadgen 'ws://h/{channel}'"
        );
        assert_eq!(quoted("it's".to_owned()), r"'it'\''s'");
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
