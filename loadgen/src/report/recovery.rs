//! What subscribers of the Centrifuge protocol found by their positions, and what it cost to recover.

use serde::Serialize;

use crate::metrics_scrape::Snapshot;
use crate::worker::PositionTally;

use super::Lines;

impl PositionTally {
    /// Adds what they found, line by line.
    pub fn write(&self, lines: &mut Lines) {
        lines.line(
            "positions",
            format_args!(
                "{} jumped over untold, {} passed twice, {} epochs changed untold",
                self.gaps, self.repeated, self.untold_epochs
            ),
        );
        let went_on = self.recovered + self.told + self.unsubscribed;
        if went_on > 0 {
            lines.line(
                "recovered",
                format_args!(
                    "{} subscriptions, {} publications; {} told that something is missing",
                    self.recovered, self.recovered_publications, self.told
                ),
            );
        }
        if self.unsubscribed > 0 {
            lines.line("unsubscribed", self.unsubscribed);
        }
    }
}

/// What it cost the server that subscribers came back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReturnWork {
    /// CPU time of the server until all were back.
    pub cpu_seconds: f64,
    /// Per connection that came back.
    pub cpu_per_connection_us: f64,
    /// Publications it says it gave out again; `None` if it does not say.
    pub recovered_publications: Option<f64>,
    /// Calls to the application's backend; `None` if it counts none: without a backend it does not.
    pub backend_calls: Option<f64>,
}

impl ReturnWork {
    /// From readings before the first of `back` connections came back and behind the last.
    pub fn between(before: &Snapshot, after: &Snapshot, back: u64) -> Option<Self> {
        let more = |name| Some(after.total(name)? - before.total(name).unwrap_or_default());
        let cpu_seconds = more("process_cpu_seconds_total")?;
        Some(Self {
            cpu_seconds,
            cpu_per_connection_us: cpu_seconds * 1e6 / back.max(1) as f64,
            recovered_publications: more("longwire_recovered_publications_total"),
            backend_calls: more("longwire_hook_calls_total"),
        })
    }

    /// Adds it, line by line.
    pub fn write(&self, lines: &mut Lines) {
        lines.line(
            "return CPU",
            format_args!(
                "{:.2} s of the server, {:.1} us per connection",
                self.cpu_seconds, self.cpu_per_connection_us
            ),
        );
        let known = |count: Option<f64>| count.map_or("?".to_owned(), |count| count.to_string());
        lines.line(
            "server's count",
            format_args!(
                "{} publications recovered, {} calls to the backend",
                known(self.recovered_publications),
                match self.recovered_publications {
                    // It says other things, so that it would say this too.
                    Some(_) => self.backend_calls.unwrap_or_default().to_string(),
                    None => known(self.backend_calls),
                }
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_a_difference_of_readings() {
        let page = |cpu: f64, recovered: u32| {
            Snapshot::parse(&format!(
                "process_cpu_seconds_total {cpu}\n\
                 longwire_recovered_publications_total{{shard=\"0\"}} {recovered}\n"
            ))
        };
        let work = ReturnWork::between(&page(1.0, 5), &page(1.5, 25), 10).unwrap();
        assert_eq!(work.cpu_per_connection_us, 50_000.0);
        assert_eq!(work.recovered_publications, Some(20.0));
        assert_eq!(work.backend_calls, None);
    }
}
