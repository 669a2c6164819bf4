//! The time by which connections are young or old.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started, those it was suspended included: a backend closes idle connections
/// while this machine sleeps.
pub fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
