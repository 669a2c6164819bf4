//! Connections that have been there as long as they may: they are sent away to come back, so that load
//! spreads over new servers.
//!
//! A session does not know when it began. While there is a limit, a byte for each place of the table
//! counts the steps of its age that a connection has gone through: a sweep passes every place once a step
//! and sends away whoever has gone through all. Without a limit there is nothing.

use std::time::Duration;

use crate::clock::seconds_ceil;
use crate::config::Config;
use crate::hub::Key;

use super::Core;
use super::drain::Farewell;

/// Steps of the longest age; fewer where a step would be shorter than a second.
const STEPS_MAX: u32 = 100;

/// How old the connections of a shard are.
#[derive(Default)]
pub(super) struct Ages {
    /// How old a connection may become, in seconds; 0 for as old as it likes.
    max_age_s: u32,
    /// Steps of that.
    steps: u8,
    /// By how many steps, at most, a connection's own age is less.
    jitter_steps: u8,
    /// Steps that the connection at each place has gone through.
    passed: Vec<u8>,
    /// Where the sweep goes on.
    place: u32,
    /// Places that it is behind by.
    due: usize,
    /// What is left of a place, in parts of `max_age_s`.
    rest: u64,
}

impl Ages {
    pub fn new(config: &Config) -> Self {
        let age = Duration::from_millis(u64::from(config.max_connection_age_ms));
        let max_age_s = seconds_ceil(age);
        let steps = max_age_s.min(STEPS_MAX);
        let percent = config.max_connection_age_jitter_percent.min(100);
        Self {
            max_age_s,
            steps: steps as u8,
            jitter_steps: (steps * percent / 100) as u8,
            ..Self::default()
        }
    }

    /// A connection comes to a place.
    pub fn begin(&mut self, place: u32, random: &mut fastrand::Rng) {
        if self.max_age_s == 0 {
            return;
        }
        let place = place as usize;
        if place >= self.passed.len() {
            self.passed.resize(place + 1, 0);
        }
        if let Some(passed) = self.passed.get_mut(place) {
            *passed = random.u8(0..=self.jitter_steps);
        }
    }

    /// A second has passed.
    pub fn pass_second(&mut self) {
        if self.max_age_s == 0 {
            return;
        }
        let max_age_s = u64::from(self.max_age_s);
        let places = self.passed.len();
        let parts = self.rest + places as u64 * u64::from(self.steps);
        // Further behind than once around there is nothing more to see.
        self.due = (self.due + (parts / max_age_s) as usize).min(places);
        self.rest = parts % max_age_s;
    }

    /// The next place, if the sweep is behind; whether its connection has gone through all steps.
    fn visit(&mut self) -> Option<(u32, bool)> {
        self.due = self.due.checked_sub(1)?;
        self.place = (self.place + 1) % (self.passed.len() as u32).max(1);
        let passed = self.passed.get_mut(self.place as usize)?;
        *passed = passed.saturating_add(1);
        Some((self.place, *passed > self.steps))
    }
}

impl Core {
    /// Sends away connections that are old enough, after a look at up to `count`. True if there may be
    /// more.
    pub(super) fn end_aged(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some((place, is_old)) = self.ages.visit() else {
                return false;
            };
            let key: Option<Key> = self.sessions.key_at(place).filter(|_| is_old);
            if let Some(key) = key {
                self.send_away(key, &Farewell::AGED);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::testing::with_cores;

    fn config(age_ms: u32, jitter_percent: u32) -> Config {
        Config {
            max_connection_age_ms: age_ms,
            max_connection_age_jitter_percent: jitter_percent,
            ..Config::default()
        }
    }

    #[test]
    fn a_connection_is_sent_away_at_its_age_and_not_before() {
        for age_s in [1, 30, 250] {
            let mut random = fastrand::Rng::with_seed(1);
            let mut ages = Ages::new(&config(age_s * 1000, 0));
            (0..1000).for_each(|place| ages.begin(place, &mut random));
            let mut ended = Vec::new();
            for second in 1..=age_s * 2 {
                ages.pass_second();
                while let Some((place, is_old)) = ages.visit() {
                    if is_old && !ended.contains(&place) {
                        let step_s = age_s.div_ceil(100);
                        assert!(
                            (age_s..=age_s + step_s + 1).contains(&second),
                            "{age_s} {second}"
                        );
                        ended.push(place);
                    }
                }
            }
            assert_eq!(ended.len(), 1000);
        }
    }

    #[test]
    fn some_are_sent_away_sooner_and_a_new_connection_begins_anew() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut ages = Ages::new(&config(100_000, 50));
        (0..1000).for_each(|place| ages.begin(place, &mut random));
        let old = |ages: &mut Ages| {
            ages.pass_second();
            std::iter::from_fn(|| ages.visit())
                .filter(|(_, is_old)| *is_old)
                .count()
        };
        for _ in 0..49 {
            assert_eq!(old(&mut ages), 0);
        }
        (0..26).for_each(|_| {
            old(&mut ages);
        });
        let half = old(&mut ages);
        assert!((400..600).contains(&half), "{half}");
        (0..1000).for_each(|place| ages.begin(place, &mut random));
        assert_eq!(old(&mut ages), 0);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut ages = Ages::new(&Config::default());
        ages.begin(1000, &mut fastrand::Rng::new());
        ages.pass_second();
        assert_eq!(ages.visit(), None);
        assert_eq!(ages.passed.capacity(), 0);
    }

    #[test]
    fn an_old_websocket_gets_1001_and_an_idle_connection_its_end() {
        with_cores(1, config(5000, 0), |bed| {
            let mut client = bed.websocket(0, "/channels/a");
            let sweep = |bed: &mut crate::shard::testing::Bed| {
                bed.cores[0].ages.pass_second();
                while bed.cores[0].end_aged(1) {}
            };
            (0..4).for_each(|_| sweep(bed));
            assert_eq!(bed.cores[0].session_count(), 1);
            (0..2).for_each(|_| sweep(bed));
            let (first, payload) = client.frame();
            assert_eq!((first, &payload[..2]), (0x88, &1001u16.to_be_bytes()[..]));
        });
    }
}
