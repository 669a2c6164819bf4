//! The report of `churn`.

use serde::Serialize;

use crate::html::Chart;
use crate::series::{Series, slope};

use super::{Connecting, Head, Lines, Report, Returning, Stayers};

/// What `churn` found.
#[derive(Clone, Debug, Serialize)]
pub struct ChurnReport {
    /// What every report has.
    #[serde(flatten)]
    pub head: Head,
    /// How connecting went the first time.
    pub connecting: Connecting,
    /// Connections to replace per minute, in percent of all.
    pub replace_percent_per_minute: f64,
    /// How long connections were replaced.
    pub replace_seconds: f64,
    /// Connections that went, half by reset and half by Close.
    pub replaced: u64,
    /// Replacements that got in.
    pub back: u64,
    /// Connections that the server did not end after a Close frame.
    pub unclosed: u64,
    /// How the server's memory grew; `None` if the run was too short or the server did not say.
    pub growth: Option<Growth>,
    /// Growth per thousand replaced connections that is too much; `None` for no limit.
    pub max_growth_bytes: Option<f64>,
    /// How coming back went.
    #[serde(flatten)]
    pub returning: Returning,
    /// What those found that were never replaced.
    pub stayers: Stayers,
}

/// How the server's memory grew once it had settled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// Slope of the line through all samples, per thousand connections replaced.
    pub bytes_per_thousand_replaced: f64,
    /// Samples in it.
    pub samples: usize,
    /// Resident memory at the first of them.
    pub rss_first_bytes: f64,
    /// Resident memory at the last.
    pub rss_last_bytes: f64,
}

impl Growth {
    /// From the samples taken at `settled_s` or later.
    pub fn of(series: &Series, settled_s: f64) -> Option<Self> {
        let settled = series.samples().iter().filter(|s| s.at_s >= settled_s);
        let points: Vec<_> = settled
            .filter_map(|s| Some((s.replaced as f64 / 1000.0, s.server_rss_bytes?)))
            .collect();
        Some(Self {
            bytes_per_thousand_replaced: slope(&points)?,
            samples: points.len(),
            rss_first_bytes: points.first()?.1,
            rss_last_bytes: points.last()?.1,
        })
    }
}

impl ChurnReport {
    /// With its verdict.
    pub fn judged(mut self, interrupted: bool) -> Self {
        self.head.interrupted = interrupted;
        self.head.ok = self.connecting.is_complete()
            && self.back == self.replaced
            && self.unclosed == 0
            && self.returning.lost.total() == 0
            && self.stayers.are_sound()
            && self.is_growth_within_limit();
        self
    }

    /// A limit that nothing was measured for is not kept.
    fn is_growth_within_limit(&self) -> bool {
        self.max_growth_bytes.is_none_or(|limit| {
            self.growth
                .is_some_and(|growth| growth.bytes_per_thousand_replaced <= limit)
        })
    }

    fn write_growth(&self, lines: &mut Lines) {
        match self.growth {
            None => lines.line("memory growth", "not measured"),
            Some(Growth {
                bytes_per_thousand_replaced: bytes,
                samples,
                rss_first_bytes,
                rss_last_bytes,
            }) => lines.line(
                "memory growth",
                format_args!(
                    "{bytes:.0} B per thousand replaced ({samples} samples, {:.2} MiB -> {:.2} MiB resident)",
                    rss_first_bytes / 1_048_576.0,
                    rss_last_bytes / 1_048_576.0
                ),
            ),
        }
    }
}

impl Report for ChurnReport {
    fn head(&self) -> &Head {
        &self.head
    }

    fn write(&self, lines: &mut Lines) {
        lines.connecting(&self.connecting);
        let (replaced, back, seconds) = (self.replaced, self.back, self.replace_seconds);
        lines.line(
            "replaced",
            format_args!("{replaced} in {seconds:.0} s, half by reset; {back} back"),
        );
        if self.unclosed > 0 {
            lines.line("not ended by Close", self.unclosed);
        }
        self.returning.write(lines);
        self.write_growth(lines);
        self.stayers.write(lines);
    }

    fn charts(&self) -> Vec<Chart> {
        let observed = &self.head.observed;
        vec![
            observed.rate_chart("Connections replaced per second", "replaced/s", |sample| {
                sample.replaced
            }),
            self.stayers.latency_chart(&self.returning),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Sample;

    #[test]
    fn growth_counts_once_memory_has_settled() {
        let mut series = Series::default();
        for second in 0..20_u32 {
            let settled = second.saturating_sub(10);
            series.push(Sample {
                at_s: f64::from(second),
                replaced: u64::from(second) * 500,
                server_rss_bytes: Some(1e6 + f64::from(settled) * 50.0),
                ..Sample::default()
            });
        }
        let growth = Growth::of(&series, 10.0).unwrap();
        assert!((growth.bytes_per_thousand_replaced - 100.0).abs() < 1e-6);
        assert_eq!((growth.samples, growth.rss_first_bytes), (10, 1e6));
        assert_eq!(Growth::of(&series, 19.0), None);
        assert_eq!(Growth::of(&Series::default(), 0.0), None);
    }
}
