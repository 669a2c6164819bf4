//! `compare`: the figures of two runs side by side, from what `--json` wrote.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;
use crate::args::CompareArgs;
use crate::html::{self, Axis, Chart, Line};
use crate::latency::LatencySummary;
use crate::report::Lines;
use crate::series::Series;

/// What is compared: where it is in a report, what it is called, and how it is written.
const FIGURES: &[(&str, &str, Axis)] = &[
    ("/connecting/connected", "connected", Axis::count("")),
    ("/connecting/connects_per_s", "connects/s", Axis::count("")),
    (
        "/connecting/connect_latency/p50_us",
        "connect p50",
        Axis::latency(),
    ),
    (
        "/connecting/connect_latency/p99_us",
        "connect p99",
        Axis::latency(),
    ),
    (
        "/server/rss_per_connection_bytes",
        "memory/connection",
        Axis::bytes(""),
    ),
    ("/connect_cpu_us", "CPU/connect", Axis::latency()),
    (
        "/kernel/slab_per_connection_bytes",
        "slab/connection",
        Axis::bytes(""),
    ),
    ("/heartbeat/cpu_per_ping_us", "CPU/ping", Axis::latency()),
    (
        "/broadcasts/delivery_latency/p50_us",
        "broadcast p50",
        Axis::latency(),
    ),
    (
        "/broadcasts/delivery_latency/max_us",
        "broadcast max",
        Axis::latency(),
    ),
    ("/publications_per_s", "publications/s", Axis::count("")),
    ("/deliveries", "deliveries", Axis::count("")),
    ("/deliveries_per_s", "deliveries/s", Axis::count("")),
    ("/delivery_latency/p50_us", "delivery p50", Axis::latency()),
    ("/delivery_latency/p99_us", "delivery p99", Axis::latency()),
    ("/delivery_latency/max_us", "delivery max", Axis::latency()),
    (
        "/server/cpu_per_delivery_us",
        "CPU/delivery",
        Axis::latency(),
    ),
    ("/lost_messages", "lost messages", Axis::count("")),
    (
        "/broadcasts/lost_messages",
        "lost broadcasts",
        Axis::count(""),
    ),
    ("/reordered_subscribers", "reordered", Axis::count("")),
    ("/echoed_per_s", "echoes/s", Axis::count("")),
    ("/echo_latency/p50_us", "echo p50", Axis::latency()),
    ("/echo_latency/p99_us", "echo p99", Axis::latency()),
    ("/server/cpu_per_message_us", "CPU/message", Axis::latency()),
    ("/all_back_seconds", "all back", Axis::seconds()),
    ("/away/p99_us", "away p99", Axis::latency()),
    (
        "/reconnect_latency/p99_us",
        "reconnect p99",
        Axis::latency(),
    ),
    (
        "/stayers/delivery_latency/p99_us",
        "stayers p99",
        Axis::latency(),
    ),
    (
        "/growth/bytes_per_thousand_replaced",
        "growth/1000",
        Axis::bytes(""),
    ),
    ("/server/cpu_seconds", "server CPU", Axis::seconds()),
    ("/loadgen_cpu_seconds", "loadgen CPU", Axis::seconds()),
];

/// Distributions that are drawn.
const LATENCIES: &[(&str, &str)] = &[
    ("/delivery_latency", "Delivery latency"),
    (
        "/stayers/delivery_latency",
        "Delivery latency of those that stayed",
    ),
    ("/echo_latency", "Echo latency"),
    ("/publish_latency", "Publish latency"),
    ("/connecting/connect_latency", "Connect latency"),
];

/// Two runs: what each is called, and its report.
struct Runs([(String, Value); 2]);

/// Runs the command; always true.
pub fn run(args: &CompareArgs) -> Result<bool, Failure> {
    let read = |path: &Path| read(path).map_err(Failure::Run);
    let runs = Runs([read(&args.first)?, read(&args.second)?]);
    let rows = runs.rows();
    if rows.is_empty() {
        let reason = "the two files have no figure in common";
        return Err(Failure::Run(reason.to_owned()));
    }
    print!("{}", runs.text(&rows));
    if let Some(path) = &args.html {
        fs::write(path, runs.page(&rows))?;
    }
    Ok(true)
}

fn read(path: &Path) -> Result<(String, Value), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let report = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok((name.into_owned(), report))
}

/// A figure of both runs, as it is shown: label, first, second, ratio.
type Row = [String; 4];

impl Runs {
    /// All figures that at least one run has.
    fn rows(&self) -> Vec<Row> {
        let rows = FIGURES.iter().filter_map(|(path, label, axis)| {
            let [a, b] = self
                .0
                .each_ref()
                .map(|(_, report)| report.pointer(path)?.as_f64());
            if a.is_none() && b.is_none() {
                return None;
            }
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| axis.write(v));
            Some([(*label).to_owned(), shown(a), shown(b), ratio(a, b)])
        });
        rows.collect()
    }

    fn text(&self, rows: &[Row]) -> String {
        let [(a, _), (b, _)] = &self.0;
        let heading = [String::new(), a.clone(), b.clone(), "ratio".to_owned()];
        let table: Vec<&Row> = std::iter::once(&heading).chain(rows).collect();
        let width = |column: usize| {
            let widths = table.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths = [0, 1, 2, 3].map(width);
        let line = |row: &&Row| {
            let [label, a, b, ratio] = row;
            let [w0, w1, w2, w3] = widths;
            format!("{label:<w0$}  {a:>w1$}  {b:>w2$}  {ratio:>w3$}\n")
        };
        table.iter().map(line).collect()
    }

    fn page(&self, rows: &[Row]) -> String {
        let [(a, first), (b, second)] = &self.0;
        let mut lines = Lines::default();
        for [label, a, b, ratio] in rows {
            lines.line(label, format_args!("{a}  →  {b}    × {ratio}"));
        }
        let mut plan = Lines::default();
        for (name, report) in [(a, first), (b, second)] {
            let command = report.pointer("/command_line").and_then(Value::as_str);
            plan.line(name, command.unwrap_or("-"));
        }
        let title = format!("{a} and {b}");
        html::Page {
            title: &title,
            ok: None,
            interrupted: false,
            charts: &self.charts(),
            tables: &[("Figures", &lines), ("Commands", &plan)],
        }
        .render()
    }

    fn charts(&self) -> Vec<Chart> {
        let over_time = |title, axis, points: &dyn Fn(&Series) -> Vec<(f64, f64)>| {
            let lines = self.each::<Series>("/series");
            let lines = lines.map(|(name, series)| Line::new(name, points(&series)));
            Chart::over_time(title, axis, lines.collect())
        };
        let mut charts = vec![
            over_time("Connections", Axis::count("open"), &|series| {
                series.over_time(|sample| Some(sample.open as f64))
            }),
            over_time("Server memory", Axis::bytes("resident"), &|series| {
                series.over_time(|sample| sample.server_rss_bytes)
            }),
            over_time(
                "Messages received per second",
                Axis::count("messages/s"),
                &|series| series.rate(|sample| sample.messages),
            ),
        ];
        charts.extend(LATENCIES.iter().map(|(path, title)| {
            let found: Vec<_> = self.each::<LatencySummary>(path).collect();
            let of: Vec<_> = found
                .iter()
                .map(|(name, latency)| (*name, Some(latency)))
                .collect();
            Chart::percentiles(title, &of)
        }));
        charts
    }

    /// A part of both reports, where it is there.
    fn each<T: DeserializeOwned>(&self, path: &'static str) -> impl Iterator<Item = (&str, T)> {
        self.0.iter().filter_map(move |(name, report)| {
            let part = report.pointer(path)?.clone();
            Some((name.as_str(), serde_json::from_value(part).ok()?))
        })
    }
}

/// How many times the first the second is.
fn ratio(a: Option<f64>, b: Option<f64>) -> String {
    match a.zip(b) {
        Some((a, b)) if a > 0.0 => format!("{:.2}", b / a),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn runs() -> Runs {
        let report = |rate: f64, us: f64| {
            json!({
                "deliveries_per_s": rate,
                "delivery_latency": {
                    "p50_us": us, "p90_us": us, "p99_us": us, "p999_us": us, "max_us": us,
                    "curve": [[50.0, us], [100.0, us]],
                },
                "series": [],
            })
        };
        Runs([
            ("a".to_owned(), report(1000.0, 100.0)),
            ("b".to_owned(), report(2500.0, 50.0)),
        ])
    }

    #[test]
    fn figures_stand_side_by_side_with_their_ratio() {
        let text = runs().text(&runs().rows());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["a", "b", "ratio"]
        );
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["deliveries/s", "1000", "2500", "2.50"]
        );
        assert!(text.contains("0.50"));
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn curves_share_a_plot() {
        let page = runs().page(&runs().rows());
        assert_eq!(page.matches("class=\"curve\"").count(), 2);
    }

    #[test]
    fn what_is_missing_has_no_ratio() {
        assert_eq!(ratio(Some(0.0), Some(1.0)), "-");
        assert_eq!(ratio(None, Some(1.0)), "-");
        assert!(
            Runs([("a".to_owned(), json!({})), ("b".to_owned(), json!([]))])
                .rows()
                .is_empty()
        );
    }
}
