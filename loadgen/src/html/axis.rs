//! Axes: where a value lies, which values are marked, and how they are written.

use std::f64::consts::LOG10_2;

/// Most marks of a linear axis.
const MARKS_MAX: usize = 6;

/// One direction of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// What is measured.
    pub label: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Count,
    Bytes,
    Seconds,
    /// Microseconds, on a logarithmic scale.
    Latency,
    /// Percent, on the logarithmic scale of what is above; 100 lies a little beyond the last other value.
    Percentile,
}

/// An axis with the values it has to hold.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    /// Where the last value below 100 % lies.
    nines: f64,
}

impl Axis {
    /// Plain numbers from 0.
    pub const fn count(label: &'static str) -> Self {
        let kind = Kind::Count;
        Self { label, kind }
    }

    /// Bytes from 0.
    pub const fn bytes(label: &'static str) -> Self {
        let kind = Kind::Bytes;
        Self { label, kind }
    }

    /// Seconds from 0.
    pub const fn seconds() -> Self {
        Self {
            label: "seconds",
            kind: Kind::Seconds,
        }
    }

    /// Microseconds, logarithmic.
    pub const fn latency() -> Self {
        Self {
            label: "latency",
            kind: Kind::Latency,
        }
    }

    /// Percentiles from p50 on.
    pub const fn percentile() -> Self {
        Self {
            label: "percentile; the dot is the longest",
            kind: Kind::Percentile,
        }
    }

    /// The scale on which all of `values` fit.
    pub fn scale(&self, values: impl Iterator<Item = f64> + Clone) -> Scale {
        let kind = self.kind;
        let nines = match kind {
            Kind::Percentile => values
                .clone()
                .filter(|p| *p < 100.0)
                .map(nines)
                .fold(nines(50.0), f64::max),
            _ => 0.0,
        };
        let mut scale = Scale {
            kind,
            low: 0.0,
            high: 1.0,
            nines,
        };
        let placed = values.map(|value| scale.place(value));
        let most = placed.clone().fold(f64::MIN, f64::max);
        let least = placed.fold(f64::MAX, f64::min);
        (scale.low, scale.high) = match kind {
            Kind::Count | Kind::Bytes => (0.0, most.max(1.0) * 1.05),
            Kind::Seconds => (0.0, if most > 0.0 { most } else { 1.0 }),
            Kind::Latency => ((least - 0.05).floor_to_step(), (most + 0.05).ceil_to_step()),
            Kind::Percentile => (self::nines(50.0), nines + BEYOND_NINES),
        };
        scale
    }

    /// A value as a reader wants it.
    pub fn write(&self, value: f64) -> String {
        match self.kind {
            Kind::Count => count(value),
            Kind::Bytes => bytes(value),
            Kind::Seconds => format!("{} s", short(value)),
            Kind::Latency => latency(value),
            Kind::Percentile if value >= 100.0 => "max".to_owned(),
            Kind::Percentile => format!("p{}", short_percent(value)),
        }
    }
}

/// How far beyond the last percentile the longest value lies, in decades.
const BEYOND_NINES: f64 = 0.2;

/// Decades of what is above a percentile: 1 for p90, 2 for p99.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

/// Ends of a logarithmic axis: 1, 2 or 5 times a power of ten.
trait LogStep {
    fn floor_to_step(self) -> f64;
    fn ceil_to_step(self) -> f64;
}

/// log10 of 1, 2, 5 and 10.
const LOG_STEPS: [f64; 4] = [0.0, LOG10_2, 1.0 - LOG10_2, 1.0];

impl LogStep for f64 {
    fn floor_to_step(self) -> f64 {
        let rest = self - self.floor();
        let steps = LOG_STEPS.iter().rev();
        self.floor() + steps.copied().find(|step| *step <= rest).unwrap_or(0.0)
    }

    fn ceil_to_step(self) -> f64 {
        let rest = self - self.floor();
        let mut steps = LOG_STEPS.iter();
        self.floor() + steps.find(|step| **step >= rest).unwrap_or(&1.0)
    }
}

impl Scale {
    /// Where `value` lies, from 0 to 1.
    pub fn position(&self, value: f64) -> f64 {
        (self.place(value) - self.low) / (self.high - self.low)
    }

    /// The values to mark.
    pub fn marks(&self) -> Vec<f64> {
        match self.kind {
            Kind::Count => linear_marks(self.high, 10.0, 0),
            Kind::Seconds => linear_marks(self.high, 10.0, -2),
            Kind::Bytes => linear_marks(self.high, 1024.0, 0),
            Kind::Latency => self.log_marks(),
            Kind::Percentile => PERCENTILES
                .into_iter()
                .filter(|percent| nines(*percent) <= self.nines + 1e-9)
                .collect(),
        }
    }

    fn place(&self, value: f64) -> f64 {
        match self.kind {
            Kind::Count | Kind::Bytes | Kind::Seconds => value,
            // Whatever took less than a tenth of a microsecond took that.
            Kind::Latency => value.max(0.1).log10(),
            Kind::Percentile if value >= 100.0 => self.nines + BEYOND_NINES,
            Kind::Percentile => nines(value),
        }
    }

    fn log_marks(&self) -> Vec<f64> {
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        let steps: &[f64] = if self.high - self.low > 2.5 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let values =
            decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        let holds = |value: &f64| (-1e-9..=1.0 + 1e-9).contains(&self.position(*value));
        values.filter(holds).collect()
    }
}

const PERCENTILES: [f64; 8] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999, 99.99999];

/// Round values from 0 up to `high`, apart by 1, 2 or 5 times a power of ten from the `finest` on, in units
/// that are powers of `base`.
fn linear_marks(high: f64, base: f64, finest: i32) -> Vec<f64> {
    let mut unit = 1.0;
    while unit * base <= high / MARKS_MAX as f64 {
        unit *= base;
    }
    let mut steps =
        (finest..).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)));
    let small = high / MARKS_MAX as f64 / unit;
    let step = unit * steps.find(|step| *step >= small).unwrap_or(1.0);
    (0..)
        .map(|n| f64::from(n) * step)
        .take_while(|mark| *mark <= high)
        .collect()
}

fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{}G", short(v / 1e9)),
        v if v >= 1e6 => format!("{}M", short(v / 1e6)),
        v if v >= 1e4 => format!("{}k", short(v / 1e3)),
        v => short(v),
    }
}

fn bytes(value: f64) -> String {
    match value {
        v if v >= 1_073_741_824.0 => format!("{} GiB", short(v / 1_073_741_824.0)),
        v if v >= 1_048_576.0 => format!("{} MiB", short(v / 1_048_576.0)),
        v if v >= 1024.0 => format!("{} KiB", short(v / 1024.0)),
        v => format!("{} B", short(v)),
    }
}

fn latency(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", short(us)),
        us if us < 999_500.0 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// Three digits at least, no zeros behind the point.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    trimmed(format!("{value:.decimals$}"))
}

fn short_percent(value: f64) -> String {
    trimmed(format!("{value:.5}"))
}

fn trimmed(digits: String) -> String {
    if digits.contains('.') {
        digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    } else {
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(
            linear_marks(10_500.0, 10.0, 0),
            [0.0, 2000.0, 4000.0, 6000.0, 8000.0, 10_000.0].map(|v| v)
        );
        assert_eq!(linear_marks(1.05, 10.0, 0), [0.0, 1.0]);
        assert_eq!(linear_marks(0.5, 10.0, -2).len(), 6);
        let mib = 1_048_576.0;
        assert_eq!(
            linear_marks(21.0 * mib, 1024.0, 0),
            [0.0, 5.0 * mib, 10.0 * mib, 15.0 * mib, 20.0 * mib]
        );
        for high in [1.0, 7.3, 123.0, 1e6, 3.3e9] {
            assert!(linear_marks(high, 10.0, 0).len() <= MARKS_MAX + 1, "{high}");
        }
    }

    #[test]
    fn values_are_written_short() {
        let count = |value| Axis::count("n").write(value);
        assert_eq!(
            [count(0.0), count(1234.0), count(25_000.0), count(1.5e6)],
            ["0", "1234", "25k", "1.5M"]
        );
        assert_eq!(Axis::bytes("b").write(5_242_880.0), "5 MiB");
        assert_eq!(Axis::latency().write(1500.0), "1.5 ms");
        assert_eq!(Axis::percentile().write(99.9), "p99.9");
        assert_eq!(Axis::percentile().write(100.0), "max");
    }

    #[test]
    fn percentiles_spread_by_what_is_above() {
        let scale = Axis::percentile().scale([50.0, 90.0, 99.0, 100.0].into_iter());
        let [p50, p90, p99, max] = [50.0, 90.0, 99.0, 100.0].map(|p| scale.position(p));
        assert_eq!((p50, max), (0.0, 1.0));
        assert!((p99 - p90 - (1.0 / (2.2 - LOG10_2))).abs() < 1e-3);
        assert_eq!(scale.marks(), [50.0, 90.0, 99.0]);
    }

    #[test]
    fn latencies_are_logarithmic_between_round_ends() {
        let scale = Axis::latency().scale([130.0, 900.0].into_iter());
        assert_eq!(scale.marks(), [100.0, 200.0, 500.0, 1000.0, 2000.0]);
        assert!(scale.position(100.0).abs() < 1e-9);
        assert!((scale.position(2000.0) - 1.0).abs() < 1e-9);
    }
}
