//! The clock all figures use: CLOCK_MONOTONIC, which every thread of a host shares.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some fixed point in the past.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Monotonic time starts at boot: neither part is negative, and 64 bits hold 584 years.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Seconds between two readings.
pub fn seconds_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}

/// CPU time this process has used, in seconds.
pub fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
