//! Is the peer still there? Heartbeat state of one session.

/// The heartbeat's times, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatTimes {
    /// From the last byte received to the next ping, at most.
    pub ping_interval_s: u32,
    /// From a ping to the miss it counts as when no byte came. Not above `ping_interval_s`.
    pub pong_timeout_s: u32,
    /// Misses in a row that mean the peer is gone.
    pub max_missed: u8,
}

/// What is to be done when a session's heartbeat deadline came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing.
    Quiet,
    /// Send a ping.
    Ping,
    /// Count a miss and ping again.
    Missed,
    /// Count a miss; the peer is gone.
    Dead,
}

/// When a session last heard and spoke, and what its heartbeat waits for; 16 bytes.
///
/// A byte received only stamps the session; the timer looks at the stamp when it comes. A peer that
/// falls silent is gone after `ping_interval + max_missed * pong_timeout` from its last byte.
#[derive(Clone, Debug)]
pub struct Vitals {
    received_s: u32,
    sent_s: u32,
    deadline_s: u32,
    waits_for: WaitsFor,
    missed: u8,
    /// Control frames received in the second of `received_s`.
    controls: u8,
}

const _: () = assert!(size_of::<Vitals>() == 16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    /// The first ping is due at the deadline, whatever was said: it sets the session's phase.
    FirstPing,
    /// The next ping is due at the deadline.
    Ping,
    /// A ping is out and nothing came since.
    Pong,
    /// A ping is out and was answered; the deadline was that of the pong.
    Answered,
}

impl Vitals {
    /// A session that began at `now_s`, whose first ping is due `first_ping_s` later: a random part
    /// of the interval, so that pings of sessions that began together are spread.
    pub fn new(now_s: u32, first_ping_s: u32) -> Self {
        Self {
            received_s: now_s,
            sent_s: now_s,
            deadline_s: now_s + first_ping_s,
            waits_for: WaitsFor::FirstPing,
            missed: 0,
            controls: 0,
        }
    }

    /// Bytes came.
    pub fn received(&mut self, now_s: u32) {
        if now_s != self.received_s {
            self.controls = 0;
        }
        self.received_s = now_s;
        self.missed = 0;
        if self.waits_for == WaitsFor::Pong {
            self.waits_for = WaitsFor::Answered;
        }
    }

    /// Bytes went.
    pub fn sent(&mut self, now_s: u32) {
        self.sent_s = now_s;
    }

    /// Counts a control frame; false when there were more than `limit` within this second.
    pub fn allows_control(&mut self, limit: u8) -> bool {
        self.controls = self.controls.saturating_add(1);
        self.controls <= limit
    }

    /// When [`Self::pulse`] wants to be called, in seconds.
    pub fn deadline_s(&self) -> u32 {
        self.deadline_s
    }

    /// Looks at what came since, and sets the next deadline. Before the deadline it does nothing.
    pub fn pulse(&mut self, times: &HeartbeatTimes, now_s: u32) -> Pulse {
        if now_s < self.deadline_s {
            return Pulse::Quiet;
        }
        match self.waits_for {
            WaitsFor::FirstPing => self.ping(times, now_s),
            WaitsFor::Ping => self.ping_due(times, now_s),
            WaitsFor::Pong => self.miss(times, now_s),
            WaitsFor::Answered => {
                self.waits_for = WaitsFor::Ping;
                let pinged_s = self.deadline_s.saturating_sub(times.pong_timeout_s);
                self.deadline_s = pinged_s + times.ping_interval_s;
                // A visit that comes late enough finds the next ping due too.
                self.pulse(times, now_s)
            }
        }
    }

    /// Pings, unless bytes went both ways within the interval: then both sides know already.
    fn ping_due(&mut self, times: &HeartbeatTimes, now_s: u32) -> Pulse {
        let quiet_since_s = self.received_s.min(self.sent_s);
        if now_s < quiet_since_s + times.ping_interval_s {
            self.deadline_s = quiet_since_s + times.ping_interval_s;
            return Pulse::Quiet;
        }
        self.ping(times, now_s)
    }

    fn ping(&mut self, times: &HeartbeatTimes, now_s: u32) -> Pulse {
        self.wait_for_pong(times, now_s);
        Pulse::Ping
    }

    fn miss(&mut self, times: &HeartbeatTimes, now_s: u32) -> Pulse {
        self.missed += 1;
        if self.missed >= times.max_missed {
            return Pulse::Dead;
        }
        self.wait_for_pong(times, now_s);
        Pulse::Missed
    }

    fn wait_for_pong(&mut self, times: &HeartbeatTimes, now_s: u32) {
        self.waits_for = WaitsFor::Pong;
        self.deadline_s = now_s + times.pong_timeout_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMES: HeartbeatTimes = HeartbeatTimes {
        ping_interval_s: 30,
        pong_timeout_s: 15,
        max_missed: 2,
    };

    /// Lets seconds pass from `from_s`; the seconds at which something had to be done.
    fn pulses(vitals: &mut Vitals, from_s: u32, to_s: u32) -> Vec<(u32, Pulse)> {
        (from_s..=to_s)
            .map(|now_s| (now_s, vitals.pulse(&TIMES, now_s)))
            .filter(|(_, pulse)| *pulse != Pulse::Quiet)
            .collect()
    }

    #[test]
    fn a_silent_peer_is_pinged_again_and_then_gone() {
        let mut vitals = Vitals::new(0, 30);
        let expected = [(30, Pulse::Ping), (45, Pulse::Missed), (60, Pulse::Dead)];
        assert_eq!(pulses(&mut vitals, 1, 60), expected);
    }

    #[test]
    fn a_peer_that_answers_is_pinged_every_interval_in_its_phase() {
        let mut vitals = Vitals::new(0, 7);
        let mut pinged = Vec::new();
        for now_s in 1..200 {
            if vitals.pulse(&TIMES, now_s) == Pulse::Ping {
                pinged.push(now_s);
                vitals.sent(now_s);
                vitals.received(now_s + 1);
            }
        }
        assert_eq!(pinged, [7, 37, 67, 97, 127, 157, 187]);
    }

    #[test]
    fn one_late_answer_clears_the_misses() {
        let mut vitals = Vitals::new(0, 30);
        assert_eq!(
            pulses(&mut vitals, 1, 45),
            [(30, Pulse::Ping), (45, Pulse::Missed)]
        );
        vitals.received(50);
        assert_eq!(pulses(&mut vitals, 51, 80), [(75, Pulse::Ping)]);
    }

    #[test]
    fn no_ping_while_bytes_go_both_ways() {
        let mut vitals = Vitals::new(0, 1);
        assert_eq!(vitals.pulse(&TIMES, 1), Pulse::Ping);
        for now_s in 2..300 {
            vitals.received(now_s);
            vitals.sent(now_s);
            assert_eq!(vitals.pulse(&TIMES, now_s), Pulse::Quiet);
        }
    }

    #[test]
    fn pushing_without_hearing_still_pings() {
        let mut vitals = Vitals::new(0, 30);
        let mut pinged = false;
        for now_s in 1..=30 {
            vitals.sent(now_s);
            pinged |= vitals.pulse(&TIMES, now_s) == Pulse::Ping;
        }
        assert!(pinged);
    }

    #[test]
    fn control_frames_are_counted_by_the_second() {
        let mut vitals = Vitals::new(0, 1);
        vitals.received(5);
        assert!((0..3).all(|_| vitals.allows_control(3)));
        assert!(!vitals.allows_control(3));
        vitals.received(6);
        assert!(vitals.allows_control(3));
    }

    proptest! {
        #[test]
        fn a_peer_is_gone_within_the_formula_and_never_while_it_answers(
            first_ping_s in 0u32..31,
            heard in prop::collection::btree_set(1u32..400, 0..40),
            spoken in prop::collection::btree_set(1u32..400, 0..40),
        ) {
            let mut vitals = Vitals::new(0, first_ping_s);
            let (mut last_heard, mut dead_at, mut last_ping) = (0, None, None);
            for now_s in 1..1000 {
                if heard.contains(&now_s) {
                    vitals.received(now_s);
                    last_heard = now_s;
                }
                if spoken.contains(&now_s) {
                    vitals.sent(now_s);
                }
                match vitals.pulse(&TIMES, now_s) {
                    Pulse::Quiet => {}
                    Pulse::Ping | Pulse::Missed => {
                        vitals.sent(now_s);
                        last_ping = Some(now_s);
                    }
                    Pulse::Dead => {
                        dead_at = Some(now_s);
                        break;
                    }
                }
            }
            let dead_at = dead_at.expect("everybody falls silent in the end");
            prop_assert!(dead_at <= last_heard + 30 + 2 * 15);
            // Two pings went unanswered before.
            prop_assert!(last_ping.is_some_and(|ping_s| dead_at >= ping_s + 15));
            prop_assert!(dead_at >= last_heard + 2 * 15);
        }
    }
}
