//! When a document of keys is fetched again. Plain data; time and chance come in as numbers.

/// How often a document of keys is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTimes {
    /// From one successful fetch to the next, in milliseconds, before chance makes it up to a tenth shorter.
    pub interval_ms: u64,
    /// From any fetch's begin to the next one's at least, in milliseconds, whoever asks.
    pub min_interval_ms: u64,
}

/// What becomes of the wish for a document younger than the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Fetch it now.
    Fetch,
    /// A fetch is under way; it answers this wish too.
    UnderWay,
    /// The last fetch is too young. The present document stands.
    TooSoon,
}

/// The fetches of one document: one at a time, at most one per `min_interval_ms`.
#[derive(Debug)]
pub struct Refresh {
    times: RefreshTimes,
    is_under_way: bool,
    began_ms: Option<u64>,
    due_ms: u64,
}

impl Refresh {
    /// A document to be fetched at once.
    pub fn new(times: RefreshTimes) -> Self {
        Self {
            times,
            is_under_way: false,
            began_ms: None,
            due_ms: 0,
        }
    }

    /// True if it is time to fetch; the caller does so and reports with [`Self::ended`].
    pub fn poll(&mut self, now_ms: u64) -> bool {
        now_ms >= self.due_ms && self.ask(now_ms) == Asked::Fetch
    }

    /// Somebody needs a younger document. On [`Asked::Fetch`] the caller does so, and reports with [`Self::ended`].
    pub fn ask(&mut self, now_ms: u64) -> Asked {
        if self.is_under_way {
            return Asked::UnderWay;
        }
        let is_young = |began_ms| now_ms.saturating_sub(began_ms) < self.times.min_interval_ms;
        if self.began_ms.is_some_and(is_young) {
            return Asked::TooSoon;
        }
        self.is_under_way = true;
        self.began_ms = Some(now_ms);
        Asked::Fetch
    }

    /// The fetch ended. After a failure the old document stays in use, and is tried again soon.
    pub fn ended(&mut self, is_success: bool, now_ms: u64, chance: u32) {
        self.is_under_way = false;
        let wait_ms = match is_success {
            true => self.times.interval_ms,
            false => self.times.min_interval_ms,
        };
        let jitter_ms = u64::from(chance) % (wait_ms / 10 + 1);
        let wait_ms = match is_success {
            true => wait_ms - jitter_ms,
            false => wait_ms + jitter_ms,
        };
        self.due_ms = now_ms.saturating_add(wait_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: RefreshTimes = RefreshTimes {
        interval_ms: 60_000,
        min_interval_ms: 10_000,
    };

    fn fetched(now_ms: u64) -> Refresh {
        let mut refresh = Refresh::new(TIMES);
        assert!(refresh.poll(now_ms));
        refresh.ended(true, now_ms, 0);
        refresh
    }

    #[test]
    fn it_is_fetched_at_once_and_then_at_intervals() {
        let mut refresh = fetched(5);
        assert!(!refresh.poll(60_004));
        assert!(refresh.poll(60_005));
        assert!(!refresh.poll(60_005), "one at a time");
    }

    #[test]
    fn wishes_during_a_fetch_share_it() {
        let mut refresh = fetched(0);
        assert_eq!(refresh.ask(10_000), Asked::Fetch);
        assert_eq!(refresh.ask(10_001), Asked::UnderWay);
        assert_eq!(refresh.ask(99_000), Asked::UnderWay);
    }

    #[test]
    fn a_flood_of_wishes_fetches_once_per_shortest_interval() {
        let mut refresh = fetched(0);
        let mut fetches = 0;
        for now_ms in 0..50_000 {
            if refresh.ask(now_ms) == Asked::Fetch {
                fetches += 1;
                refresh.ended(true, now_ms, 0);
            }
        }
        assert_eq!(fetches, 4);
    }

    #[test]
    fn after_a_failure_it_is_tried_again_soon() {
        let mut refresh = fetched(0);
        assert!(refresh.poll(60_000));
        refresh.ended(false, 65_000, 0);
        assert!(!refresh.poll(74_999));
        assert!(refresh.poll(75_000));
    }

    #[test]
    fn chance_moves_the_next_fetch_by_a_tenth_at_most() {
        for chance in [0, 1, 6_000, u32::MAX] {
            let mut refresh = Refresh::new(TIMES);
            refresh.ended(true, 0, chance);
            assert!((54_000..=60_000).contains(&refresh.due_ms));
            refresh.ended(false, 0, chance);
            assert!((10_000..=11_000).contains(&refresh.due_ms));
        }
    }
}
