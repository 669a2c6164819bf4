//! How far two hosts' clocks are apart. CLOCK_MONOTONIC starts with each machine, so what is stamped on one
//! host and received on another says nothing until the difference is known.

use std::fs;

use serde::{Deserialize, Serialize};

/// A clock compared with the one of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// What the other clock is ahead.
    pub ahead_ns: i64,
    /// How wrong that can be; 0 if it is the same clock.
    pub error_ns: u64,
}

impl ClockOffset {
    /// From one round trip: asked and answered by this clock, and the other's time in between. Wherever
    /// in between that was, it was at most half of the time from the middle.
    pub fn of_round_trip(asked_ns: u64, other_ns: u64, answered_ns: u64) -> Self {
        let took_ns = answered_ns.saturating_sub(asked_ns);
        let middle_ns = asked_ns + took_ns / 2;
        Self {
            ahead_ns: other_ns.wrapping_sub(middle_ns).cast_signed(),
            error_ns: took_ns.div_ceil(2),
        }
    }

    /// The better of two.
    pub fn or(self, other: Self) -> Self {
        if other.error_ns < self.error_ns {
            other
        } else {
            self
        }
    }

    /// The same clock, if it can be: both sides are within one boot of one machine, and the times agree.
    pub fn unless_same(self, boots: (Option<&str>, Option<&str>)) -> Self {
        let (ours, theirs) = boots;
        let is_same = ours.is_some() && ours == theirs;
        if is_same && self.ahead_ns.unsigned_abs() <= self.error_ns {
            Self::default()
        } else {
            self
        }
    }

    /// With what the clocks may have drifted apart until a later estimate.
    pub fn widened_by(self, later: Self) -> Self {
        if self == Self::default() {
            return self;
        }
        let drift_ns = self.ahead_ns.abs_diff(later.ahead_ns);
        Self {
            error_ns: self.error_ns.max(drift_ns + later.error_ns),
            ..self
        }
    }

    /// A time of the other clock by this one. No time stays none.
    pub fn here(self, there_ns: u64) -> u64 {
        match there_ns {
            0 | u64::MAX => there_ns,
            _ => there_ns.saturating_add_signed(self.ahead_ns.saturating_neg()),
        }
    }

    /// A time of this clock by the other one. No time stays none.
    pub fn there(self, here_ns: u64) -> u64 {
        match here_ns {
            0 | u64::MAX => here_ns,
            _ => here_ns.saturating_add_signed(self.ahead_ns),
        }
    }
}

/// Which boot of which machine this is; `None` if the kernel does not say.
pub fn boot() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_is_within_the_error() {
        // The other clock is 1,000 ahead; the way there takes 30, the way back 10.
        let offset = ClockOffset::of_round_trip(500, 1530, 540);
        assert_eq!((offset.ahead_ns, offset.error_ns), (1010, 20));
        // And when it is behind.
        let behind = ClockOffset::of_round_trip(5000, 4030, 5040);
        assert_eq!((behind.ahead_ns, behind.error_ns), (-990, 20));
        assert_eq!(offset.or(ClockOffset::of_round_trip(0, 0, 2)).error_ns, 1);
        assert_eq!((behind.here(4030), behind.there(5020)), (5020, 4030));
        assert_eq!((behind.here(0), behind.there(u64::MAX)), (0, u64::MAX));
    }

    #[test]
    fn a_clock_is_the_same_only_on_one_machine() {
        let near = ClockOffset {
            ahead_ns: 5,
            error_ns: 20,
        };
        let far = ClockOffset {
            ahead_ns: 50,
            ..near
        };
        let (one, two) = (Some("a"), Some("b"));
        assert_eq!(near.unless_same((one, one)), ClockOffset::default());
        assert_eq!(near.unless_same((one, two)), near);
        assert_eq!(near.unless_same((None, None)), near);
        // Another time namespace.
        assert_eq!(far.unless_same((one, one)), far);
    }

    #[test]
    fn drift_widens_the_error() {
        let begin = ClockOffset {
            ahead_ns: 100,
            error_ns: 20,
        };
        let end = ClockOffset {
            ahead_ns: 400,
            error_ns: 30,
        };
        assert_eq!(begin.widened_by(end).error_ns, 330);
        assert_eq!(begin.widened_by(begin).error_ns, 20);
        assert_eq!(ClockOffset::default().widened_by(end).error_ns, 0);
    }
}
