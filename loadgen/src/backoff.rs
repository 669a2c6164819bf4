//! How long a client waits before it tries again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Exponential backoff with full jitter: before attempt n (from 0) a client waits a random time below
/// base x 2^n, never more than the cap. What a server asks for with Retry-After comes on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Longest wait before the first attempt.
    pub base: Duration,
    /// Longest wait before any.
    pub cap: Duration,
    /// The first attempt comes at once, and `base` is the longest wait before the second.
    pub starts_at_once: bool,
}

/// Longest Retry-After that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

impl Backoff {
    /// Never any wait.
    pub const NONE: Self = Self {
        base: Duration::ZERO,
        cap: Duration::ZERO,
        starts_at_once: true,
    };

    /// The wait before attempt `attempt`, after an answer that said `retry_after`.
    pub fn wait(&self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        asked + self.longest(attempt).mul_f64(fastrand::f64())
    }

    fn longest(&self, attempt: u32) -> Duration {
        let Some(doublings) = attempt.checked_sub(u32::from(self.starts_at_once)) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.saturating_pow(doublings);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(5),
        starts_at_once: false,
    };

    #[test]
    fn waits_grow_up_to_the_cap() {
        let longest = [0, 1, 5, 6, 40].map(|attempt| BACKOFF.longest(attempt).as_millis());
        assert_eq!(longest, [100, 200, 3200, 5000, 5000]);
        let eager = Backoff {
            starts_at_once: true,
            ..BACKOFF
        };
        let longest = [0, 1, 2].map(|attempt| eager.longest(attempt).as_millis());
        assert_eq!(longest, [0, 100, 200]);
        for attempt in 0..10 {
            assert!(BACKOFF.wait(attempt, None) <= BACKOFF.longest(attempt));
        }
    }

    #[test]
    fn the_server_is_listened_to_within_reason() {
        let second = Duration::from_secs(1);
        assert!(BACKOFF.wait(0, Some(second)) >= second);
        assert!(BACKOFF.wait(0, Some(second * 100_000)) <= RETRY_AFTER_MAX + BACKOFF.base);
    }
}
