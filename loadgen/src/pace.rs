//! When things are due.

/// A fixed schedule: the n-th event of `lanes` that take turns at `rate` events per second in all.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When the first event of the first lane is due.
    pub start_ns: u64,
    /// Events per second over all lanes.
    pub rate: f64,
    /// Lanes that take turns.
    pub lanes: u64,
}

impl Schedule {
    /// When the `n`-th event (from 0) of `lane` is due. Computed from the start, so that rounding and
    /// lateness never add up.
    pub fn due_ns(&self, lane: u64, n: u64) -> u64 {
        let event = n * self.lanes + lane;
        self.start_ns + (event as f64 * 1e9 / self.rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_take_turns() {
        let schedule = Schedule {
            start_ns: 5,
            rate: 1000.0,
            lanes: 4,
        };
        assert_eq!(schedule.due_ns(0, 0), 5);
        assert_eq!(schedule.due_ns(1, 0), 1_000_005);
        assert_eq!(schedule.due_ns(0, 1), 4_000_005);
        assert_eq!(schedule.due_ns(3, 249), 999_000_005);
    }
}
