//! What a run looked like over time: samples at a steady pace, however long the run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Samples kept; with one more, every second one goes and the pace halves.
const SAMPLES_MAX: usize = 600;
/// Time between two samples of a short run.
const INTERVAL: Duration = Duration::from_secs(1);
/// Two samples nearer than this are not a whole interval apart.
const WHOLE_INTERVAL_S: f64 = 0.8;

/// One look at all figures. Those that only grow are totals since the start, so that leaving samples
/// out loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Connections open.
    pub open: u64,
    /// Connections made so far.
    pub connected: u64,
    /// Attempts to connect that failed so far.
    pub failed: u64,
    /// Connections that ended before they should, so far.
    pub lost: u64,
    /// Connections cut or closed on purpose so far, to be made again.
    pub replaced: u64,
    /// Pings answered so far.
    pub pings: u64,
    /// Data messages received so far.
    pub messages: u64,
    /// Resident memory of the server; `None` if it did not say.
    pub server_rss_bytes: Option<f64>,
    /// CPU time of the server so far; `None` if it did not say.
    pub server_cpu_seconds: Option<f64>,
}

/// Samples in order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Series {
    samples: Vec<Sample>,
    /// How often the pace was halved.
    #[serde(skip)]
    halvings: u32,
}

impl Series {
    /// Adds a sample.
    pub fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
        if self.samples.len() > SAMPLES_MAX {
            let mut position = 0;
            self.samples.retain(|_| {
                position += 1;
                position % 2 == 1
            });
            self.halvings += 1;
        }
    }

    /// Time from one sample to the next, from now on.
    pub fn interval(&self) -> Duration {
        INTERVAL * 2_u32.saturating_pow(self.halvings)
    }

    /// All samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// A figure over time: (seconds, value).
    pub fn over_time(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
        let points = self.samples.iter();
        points
            .filter_map(|sample| Some((sample.at_s, figure(sample)?)))
            .collect()
    }

    /// How fast a total grew, per second, at the end of each interval. What is left at the end of a run is
    /// no whole interval and says little.
    pub fn rate(&self, total: impl Fn(&Sample) -> u64) -> Vec<(f64, f64)> {
        let grown = |pair: &[Sample]| {
            let [before, after] = pair else { return None };
            let seconds = after.at_s - before.at_s;
            let more = total(after).saturating_sub(total(before));
            (seconds >= WHOLE_INTERVAL_S).then(|| (after.at_s, more as f64 / seconds))
        };
        self.samples.windows(2).filter_map(grown).collect()
    }
}

/// By how much `y` grows per unit of `x`: the slope of the line through the points with the least
/// squared error; `None` if all points have the same `x`.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let common: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u32) -> Sample {
        Sample {
            at_s: f64::from(second),
            messages: 10 * u64::from(second),
            ..Sample::default()
        }
    }

    #[test]
    fn a_long_run_keeps_its_ends_and_its_pace() {
        let mut series = Series::default();
        let mut second = 0;
        while second < 5000 {
            series.push(at(second));
            second += u32::try_from(series.interval().as_secs()).unwrap();
        }
        let samples = series.samples();
        assert!(samples.len() <= SAMPLES_MAX && samples.len() > SAMPLES_MAX / 3);
        assert_eq!(series.interval(), Duration::from_secs(16));
        assert_eq!(samples[0].at_s, 0.0);
        assert!(samples.last().unwrap().at_s > 4900.0);
        let rate = series.rate(|sample| sample.messages);
        assert!(rate.iter().all(|(_, per_s)| *per_s == 10.0));
    }

    #[test]
    fn figures_that_are_not_known_are_left_out() {
        let mut series = Series::default();
        series.push(at(0));
        series.push(Sample {
            server_rss_bytes: Some(5.0),
            ..at(1)
        });
        assert_eq!(
            series.over_time(|sample| sample.server_rss_bytes),
            [(1.0, 5.0)]
        );
        assert_eq!(Series::default().rate(|sample| sample.messages), []);
    }

    #[test]
    fn slopes_are_those_of_the_line() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[]), None);
    }
}
