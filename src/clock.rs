//! Time, in the one unit the data structures take: whole seconds since the shard started. Tokens alone carry
//! moments of the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock of seconds since it was made. Wall-clock jumps do not move it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts at 0 and is `ahead` of its first second, which is less than one. Clocks of
    /// different shards whose seconds begin together would make their pings come all at once.
    pub fn start(ahead: Duration) -> Self {
        let now = Instant::now();
        Self {
            started: now.checked_sub(ahead).unwrap_or(now),
        }
    }

    /// Whole seconds since the start; 136 years fit.
    pub fn now_s(&self) -> u32 {
        self.started.elapsed().as_secs() as u32
    }

    /// Lets time pass, for tests.
    #[cfg(test)]
    pub fn advance(&mut self, by: Duration) {
        self.started -= by;
    }

    /// Whole milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// How long until the next whole second begins.
    pub fn until_next_second(&self) -> Duration {
        let part = self.started.elapsed().subsec_nanos();
        Duration::from_nanos(1_000_000_000 - u64::from(part))
    }
}

/// The wall clock, in milliseconds since 1970: for what people and tokens call time, never for a deadline.
pub fn unix_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// The same in whole seconds.
pub fn unix_s() -> i64 {
    unix_ms().div_euclid(1000)
}

/// Whole seconds that are at least `duration`: timers have one-second slots and never fire early.
pub fn seconds_ceil(duration: Duration) -> u32 {
    let rounded = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(rounded).unwrap_or(u32::MAX)
}
