//! Whether pings come steadily, and what they cost the server.

use serde::Serialize;

use crate::metrics_scrape::Snapshot;
use crate::report::Spread;

/// Pings are counted in buckets of this length. The server's timers have whole seconds, so the pings of a
/// second come together; shorter buckets would show where they are cut.
pub const BUCKET_NS: u64 = 5_000_000_000;
/// The bucket in seconds.
const BUCKET_S: f64 = BUCKET_NS as f64 / 1e9;

/// Counts pings answered, bucket by bucket, while somebody looks often.
#[derive(Clone, Debug)]
pub struct PingCount {
    started_ns: u64,
    /// Pings answered up to the end of each bucket; the first is the start.
    totals: Vec<u64>,
    latest: u64,
}

impl PingCount {
    /// Begins with `pings` answered before.
    pub fn begin(now_ns: u64, pings: u64) -> Self {
        Self {
            started_ns: now_ns,
            totals: vec![pings],
            latest: pings,
        }
    }

    /// Takes note of the pings answered until now.
    pub fn look(&mut self, now_ns: u64, pings: u64) {
        self.latest = pings;
        if now_ns >= self.started_ns + self.totals.len() as u64 * BUCKET_NS {
            self.totals.push(pings);
        }
    }

    /// Pings answered since the beginning.
    pub fn count(&self) -> u64 {
        self.latest - self.totals[0]
    }

    /// Pings per second in each whole bucket.
    fn per_second(&self) -> Vec<f64> {
        let grown = |pair: &[u64]| (pair[1] - pair[0]) as f64 / BUCKET_S;
        self.totals.windows(2).map(grown).collect()
    }
}

/// The heartbeat while nothing else went on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heartbeat {
    /// Pings per second if all connections are pinged once per interval.
    pub expected_per_s: f64,
    /// Pings per second answered, over buckets of 5 seconds; `None` without a whole one.
    pub answered_per_s: Option<Spread>,
    /// How far the fullest and the emptiest bucket are from what is expected, in percent.
    pub flatness_percent: Option<Flatness>,
    /// CPU time of the server per ping sent and pong taken: all it used in that time, divided by pings answered.
    pub cpu_per_ping_us: Option<f64>,
    /// CPU time of the server per second in that time: 1 is a whole core.
    pub server_cores: Option<f64>,
    /// Connections the server gave up because a pong was missing; `None` if it did not say.
    pub false_timeouts: Option<f64>,
}

/// The ends of what a rate does, in percent above (below: negative) what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Flatness {
    /// The emptiest bucket.
    pub lowest: f64,
    /// The fullest bucket.
    pub highest: f64,
}

impl Heartbeat {
    /// Of `pings` in `seconds`, and of the server's figures at both ends of that time.
    pub fn of(
        expected_per_s: f64,
        pings: &PingCount,
        seconds: f64,
        server: Option<(&Snapshot, &Snapshot)>,
    ) -> Self {
        let answered_per_s = Spread::of(&pings.per_second());
        let off = |per_s: f64| (per_s / expected_per_s - 1.0) * 100.0;
        let cpu_seconds = server.and_then(|(before, after)| cpu_between(before, after));
        let count = pings.count() as f64;
        Self {
            expected_per_s,
            answered_per_s,
            flatness_percent: answered_per_s.map(|per_s| Flatness {
                lowest: off(per_s.min),
                highest: off(per_s.max),
            }),
            cpu_per_ping_us: cpu_seconds
                .filter(|_| count > 0.0)
                .map(|cpu_seconds| cpu_seconds * 1e6 / count),
            server_cores: cpu_seconds
                .filter(|_| seconds > 0.0)
                .map(|cpu_seconds| cpu_seconds / seconds),
            false_timeouts: None,
        }
    }
}

/// CPU time of the server between two readings.
pub fn cpu_between(before: &Snapshot, after: &Snapshot) -> Option<f64> {
    let total = |reading: &Snapshot| reading.total("process_cpu_seconds_total");
    Some(total(after)? - total(before)?)
}

/// Connections that the server gave up for a missing pong between two readings.
pub fn timeouts_between(before: &Snapshot, after: &Snapshot) -> Option<f64> {
    let total = |reading: &Snapshot| {
        reading.total_where("longwire_closes_total", "reason=\"heartbeat_timeout\"")
    };
    Some(total(after)? - total(before)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(seconds: f64) -> Snapshot {
        Snapshot::of([("process_cpu_seconds_total", seconds)])
    }

    #[test]
    fn only_whole_buckets_say_how_even_it_is() {
        let mut pings = PingCount::begin(100, 1000);
        pings.look(100 + BUCKET_NS - 1, 1400);
        pings.look(100 + BUCKET_NS + 20, 1500);
        pings.look(100 + 2 * BUCKET_NS + 5, 2050);
        pings.look(100 + 2 * BUCKET_NS + BUCKET_NS / 2, 2300);
        let heartbeat = Heartbeat::of(100.0, &pings, 12.5, Some((&cpu(2.0), &cpu(2.65))));
        let per_s = heartbeat.answered_per_s.unwrap();
        assert_eq!((per_s.count, per_s.min, per_s.max), (2, 100.0, 110.0));
        let flatness = heartbeat.flatness_percent.unwrap();
        assert!(flatness.lowest.abs() < 1e-9 && (flatness.highest - 10.0).abs() < 1e-9);
        assert!((heartbeat.cpu_per_ping_us.unwrap() - 500.0).abs() < 1e-6);
        assert!((heartbeat.server_cores.unwrap() - 0.052).abs() < 1e-9);
    }

    #[test]
    fn without_a_ping_nothing_is_claimed() {
        let pings = PingCount::begin(0, 5);
        let heartbeat = Heartbeat::of(1.0, &pings, 0.0, Some((&cpu(1.0), &cpu(2.0))));
        assert_eq!(heartbeat.cpu_per_ping_us, None);
        assert_eq!(heartbeat.flatness_percent, None);
        assert_eq!(heartbeat.server_cores, None);
    }

    #[test]
    fn timeouts_are_those_of_the_heartbeat() {
        let page = |heartbeat: u32| {
            Snapshot::parse(&format!(
                "longwire_closes_total{{shard=\"0\",reason=\"heartbeat_timeout\"}} {heartbeat}\n\
                 longwire_closes_total{{shard=\"0\",reason=\"client\"}} 9\n"
            ))
        };
        assert_eq!(timeouts_between(&page(1), &page(3)), Some(2.0));
        assert_eq!(timeouts_between(&cpu(1.0), &page(3)), None);
    }
}
