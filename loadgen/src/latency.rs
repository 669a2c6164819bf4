//! Latency distributions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as Decoder, Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest latency told apart; longer ones count as this.
const LONGEST_NS: u64 = 600_000_000_000;
/// Shortest slice of time that values are counted in.
const SLICE_S: f64 = 0.05;
/// Points of a curve from p50 to p95, from p95 to p99.5, and so on.
const CURVE_POINTS_PER_DECADE: f64 = 8.0;

/// A distribution of latencies, to three significant digits.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// Made on first use: most threads of most runs never record one of each kind.
    histogram: Option<Box<Histogram<u64>>>,
}

impl Latency {
    /// Adds one.
    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram().saturating_record(nanoseconds);
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        if let Some(other) = &other.histogram {
            // Cannot fail: all have the same bounds.
            let _ = self.histogram().add(other.as_ref());
        }
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, |latency| latency.len())
    }

    /// The figures of a report; `None` if nothing was recorded.
    pub fn summary(&self) -> Option<LatencySummary> {
        let histogram = self.histogram.as_deref()?;
        let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Some(LatencySummary {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
            curve: curve(histogram.len())
                .map(|percent| (percent, at(percent / 100.0)))
                .chain([(100.0, us(histogram.max()))])
                .collect(),
        })
    }

    /// How many were recorded per second, as (seconds, per second) at the end of each of up to `slices`
    /// slices of at least `SLICE_S` from 0 to the longest.
    pub fn over_time(&self, slices: u32) -> Vec<(f64, f64)> {
        let Some(histogram) = self.histogram.as_deref() else {
            return Vec::new();
        };
        let longest_s = histogram.max() as f64 / 1e9;
        let slice_s = (longest_s / f64::from(slices)).max(SLICE_S);
        let mut counts = vec![0; (longest_s / slice_s) as usize + 1];
        for value in histogram.iter_recorded() {
            let at = value.value_iterated_to() as f64 / 1e9 / slice_s;
            let last = counts.len() - 1;
            counts[(at as usize).min(last)] += value.count_at_value();
        }
        (1..)
            .zip(counts)
            .map(|(n, count)| (f64::from(n) * slice_s, count as f64 / slice_s))
            .collect()
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.histogram.get_or_insert_with(|| {
            let made = Histogram::new_with_bounds(1, LONGEST_NS, 3);
            Box::new(made.expect("the bounds are constants that fit"))
        })
    }
}

/// As other tools write histograms: HdrHistogram's V2 encoding in base64; `null` if nothing was recorded.
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Some(histogram) = self.histogram.as_deref() else {
            return to.serialize_none();
        };
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(S::Error::custom)?;
        to.serialize_some(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut latency = Self::default();
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(latency);
        };
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let read: Histogram<u64> = Decoder::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(D::Error::custom)?;
        // One with other bounds would lose something.
        latency
            .histogram()
            .add(&read)
            .map_err(|_| D::Error::custom("a histogram with other bounds"))?;
        Ok(latency)
    }
}

/// The percentiles of a curve from p50 up, evenly spaced in the logarithm of what is above them, as far as
/// `count` recorded values tell them apart.
fn curve(count: u64) -> impl Iterator<Item = f64> {
    let above =
        (0..).map(|step: i32| 0.5 * 10_f64.powf(f64::from(-step) / CURVE_POINTS_PER_DECADE));
    above
        .take_while(move |above| above * count as f64 >= 1.0)
        .map(|above| 100.0 * (1.0 - above))
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Half took at most this.
    pub p50_us: f64,
    /// 90 % took at most this.
    pub p90_us: f64,
    /// 99 % took at most this.
    pub p99_us: f64,
    /// 99.9 % took at most this.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// (percent, microseconds) from p50 to the longest, which is at 100.
    pub curve: Vec<(f64, f64)>,
}

impl std::fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us,
            ..
        } = self;
        write!(
            f,
            "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            human(*p50_us),
            human(*p90_us),
            human(*p99_us),
            human(*p999_us),
            human(*max_us)
        )
    }
}

/// Microseconds with the unit that reads best.
pub fn human(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_merge_into_one_distribution() {
        let (mut all, mut other) = (Latency::default(), Latency::default());
        assert_eq!(all.summary(), None);
        for ms in 1..=500 {
            all.record(ms * 1_000_000);
            other.record((500 + ms) * 1_000_000);
        }
        all.merge(&other);
        all.merge(&Latency::default());
        let summary = all.summary().unwrap();
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.002;
        assert!(near(summary.p50_us, 500_000.0), "{summary:?}");
        assert!(near(summary.p99_us, 990_000.0), "{summary:?}");
        assert!(near(summary.max_us, 1_000_000.0), "{summary:?}");
    }

    #[test]
    fn figures_of_another_host_merge_exactly() {
        let (mut here, mut there) = (Latency::default(), Latency::default());
        let mut all = Latency::default();
        for step in 0..10_000 {
            let (near, far) = (step * 1_234, step * step * 56_789);
            here.record(near);
            there.record(far);
            all.record(near);
            all.record(far);
        }
        let sent = serde_json::to_string(&there).unwrap();
        here.merge(&serde_json::from_str(&sent).unwrap());
        assert_eq!(here.summary(), all.summary());
        assert_eq!(here.over_time(20), all.over_time(20));
        let nothing: Latency = serde_json::from_str("null").unwrap();
        assert_eq!(nothing.summary(), None);
        assert!(serde_json::from_str::<Latency>("\"AAAA\"").is_err());
    }

    #[test]
    fn a_curve_ends_where_the_values_do() {
        let mut latency = Latency::default();
        for us in 1..=100 {
            latency.record(us * 1000);
        }
        let curve = latency.summary().unwrap().curve;
        let percents: Vec<_> = curve.iter().map(|(percent, _)| *percent).collect();
        assert_eq!((percents[0], percents[percents.len() - 1]), (50.0, 100.0));
        assert!(percents.is_sorted() && percents[percents.len() - 2] <= 99.0);
        assert!(curve.is_sorted_by_key(|(_, us)| *us));
    }

    #[test]
    fn values_are_counted_by_time() {
        let mut latency = Latency::default();
        assert!(latency.over_time(10).is_empty());
        for ms in 0..1000 {
            latency.record(ms * 1_000_000);
        }
        let slices = latency.over_time(10);
        assert!((10..=11).contains(&slices.len()), "{slices:?}");
        let all: f64 = slices.iter().map(|(_, per_s)| per_s * slices[0].0).sum();
        assert!((all - 1000.0).abs() < 1e-6, "{all}");
        assert!((slices[4].1 - 1000.0).abs() < 30.0, "{slices:?}");
    }

    #[test]
    fn extremes_are_kept_within_bounds() {
        let mut latency = Latency::default();
        latency.record(0);
        latency.record(u64::MAX);
        assert!(latency.summary().unwrap().max_us >= 600_000_000.0);
    }

    #[test]
    fn units_follow_the_size() {
        assert_eq!(human(12.4), "12 us");
        assert_eq!(human(1234.0), "1.23 ms");
        assert_eq!(human(2_500_000.0), "2.50 s");
    }
}
