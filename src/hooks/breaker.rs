//! Stops calling a backend that keeps failing, and finds out when it is well again.
//!
//! Closed: calls go through. Open: calls are answered at once, until a pause is over. Half open: one call probes;
//! its success closes the breaker, its failure opens it for a pause twice as long. Plain data; time and chance come
//! in as numbers.

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures in a row that open it. At least 1.
    pub max_consecutive_failures: u32,
    /// Failures of 100 calls in one window that open it, 1 to 100.
    pub max_failure_percent: u32,
    /// Calls in a window before the percentage counts. At least 1.
    pub min_calls: u32,
    /// Length of the window, in milliseconds. At least 1.
    pub window_ms: u64,
    /// The first pause, in milliseconds, before chance makes it up to a half longer. At least 1.
    pub pause_ms: u64,
    /// The longest pause, in milliseconds. At least `pause_ms`.
    pub max_pause_ms: u64,
}

/// A call that may be made. Its outcome must be reported with it.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    /// The run of calls it belongs to. What ends after its run says nothing of the present.
    run: u64,
}

/// What the breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets calls through.
    Closed,
    /// Lets one call through, to see how it goes.
    HalfOpen,
    /// Lets none through.
    Open,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed(Window),
    HalfOpen,
    Open { until_ms: u64 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began_ms: u64,
    calls: u64,
    failures: u64,
    consecutive_failures: u32,
}

/// The breaker of one endpoint.
#[derive(Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    state: State,
    /// Changes with the state.
    run: u64,
    /// Pauses since it was last closed, the present one included.
    pauses: u32,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(limits: BreakerLimits) -> Self {
        Self {
            limits,
            state: State::Closed(Window::default()),
            run: 0,
            pauses: 0,
        }
    }

    /// Whether a call may be made now. After a pause the first to ask becomes the probe.
    pub fn admit(&mut self, now_ms: u64) -> Option<Permit> {
        match self.state {
            State::Closed(_) => {}
            State::Open { until_ms } if now_ms >= until_ms => self.change(State::HalfOpen),
            State::HalfOpen | State::Open { .. } => return None,
        }
        Some(Permit { run: self.run })
    }

    /// A call ended. `chance` is any random number; it spreads the ends of pauses.
    pub fn report(&mut self, permit: Permit, is_success: bool, now_ms: u64, chance: u32) {
        if permit.run != self.run {
            return;
        }
        match (&mut self.state, is_success) {
            (State::Closed(window), _) => {
                window.count(is_success, now_ms, self.limits.window_ms);
                if window.is_bad(&self.limits) {
                    self.open(now_ms, chance);
                }
            }
            (State::HalfOpen, true) => {
                self.pauses = 0;
                let began_ms = now_ms;
                self.change(State::Closed(Window {
                    began_ms,
                    ..Window::default()
                }));
            }
            (State::HalfOpen, false) => self.open(now_ms, chance),
            (State::Open { .. }, _) => {}
        }
    }

    /// A call was not made after all. If it was to be the probe, the next one is.
    pub fn abandon(&mut self, permit: Permit, now_ms: u64) {
        if permit.run == self.run && self.state() == BreakerState::HalfOpen {
            self.change(State::Open { until_ms: now_ms });
        }
    }

    /// What it does now.
    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed(_) => BreakerState::Closed,
            State::HalfOpen => BreakerState::HalfOpen,
            State::Open { .. } => BreakerState::Open,
        }
    }

    fn open(&mut self, now_ms: u64, chance: u32) {
        let until_ms = now_ms.saturating_add(self.pause_ms(chance));
        self.pauses = self.pauses.saturating_add(1);
        self.change(State::Open { until_ms });
    }

    /// Doubled with each pause up to the longest, then up to a half longer: servers that lost the same
    /// backend at the same moment do not all probe it at the same moment.
    fn pause_ms(&self, chance: u32) -> u64 {
        let doubled = self
            .limits
            .pause_ms
            .saturating_mul(1 << self.pauses.min(20));
        let pause_ms = doubled.min(self.limits.max_pause_ms);
        pause_ms + u64::from(chance) % (pause_ms / 2 + 1)
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.run += 1;
    }
}

impl Window {
    fn count(&mut self, is_success: bool, now_ms: u64, window_ms: u64) {
        if now_ms.saturating_sub(self.began_ms) >= window_ms {
            self.began_ms = now_ms;
            (self.calls, self.failures) = (0, 0);
        }
        self.calls += 1;
        self.failures += u64::from(!is_success);
        self.consecutive_failures = match is_success {
            true => 0,
            false => self.consecutive_failures.saturating_add(1),
        };
    }

    fn is_bad(&self, limits: &BreakerLimits) -> bool {
        let is_rate_high = self.calls >= u64::from(limits.min_calls)
            && self.failures * 100 >= self.calls * u64::from(limits.max_failure_percent);
        self.consecutive_failures >= limits.max_consecutive_failures || is_rate_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: BreakerLimits = BreakerLimits {
        max_consecutive_failures: 3,
        max_failure_percent: 50,
        min_calls: 10,
        window_ms: 1000,
        pause_ms: 100,
        max_pause_ms: 300,
    };

    fn call(breaker: &mut Breaker, is_success: bool, now_ms: u64) {
        let permit = breaker.admit(now_ms).expect("admitted");
        breaker.report(permit, is_success, now_ms, 0);
    }

    fn opened(now_ms: u64) -> Breaker {
        let mut breaker = Breaker::new(LIMITS);
        (0..3).for_each(|_| call(&mut breaker, false, now_ms));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(LIMITS);
        for is_success in [false, false, true, false, false] {
            call(&mut breaker, is_success, 0);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        call(&mut breaker, false, 0);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(99), None);
    }

    #[test]
    fn a_rate_of_failures_opens_it_once_there_are_enough_calls() {
        let mut breaker = Breaker::new(LIMITS);
        for n in 0..9 {
            call(&mut breaker, n % 2 == 0, n);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        call(&mut breaker, false, 9);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn a_new_window_forgets_the_rate() {
        let mut breaker = Breaker::new(LIMITS);
        for n in 0..9 {
            call(&mut breaker, n % 2 == 0, n);
        }
        call(&mut breaker, false, 1000);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn after_the_pause_one_call_probes_and_its_success_closes() {
        let mut breaker = opened(0);
        let probe = breaker.admit(100).expect("the pause is over");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(100), None, "one probe only");
        breaker.report(probe, true, 110, 0);
        assert_eq!(breaker.state(), BreakerState::Closed);
        call(&mut breaker, false, 110);
        assert_eq!(breaker.state(), BreakerState::Closed, "it begins anew");
    }

    #[test]
    fn each_failed_probe_doubles_the_pause_up_to_the_longest() {
        let mut breaker = opened(0);
        let mut now_ms = 0;
        for pause_ms in [100, 200, 300, 300] {
            assert_eq!(breaker.admit(now_ms + pause_ms - 1), None);
            now_ms += pause_ms;
            call(&mut breaker, false, now_ms);
        }
    }

    #[test]
    fn a_probe_that_is_not_made_leaves_it_to_the_next_call() {
        let mut breaker = opened(0);
        let probe = breaker.admit(100).unwrap();
        breaker.abandon(probe, 100);
        assert_eq!(breaker.state(), BreakerState::Open);
        call(&mut breaker, true, 100);
        assert_eq!(breaker.state(), BreakerState::Closed);
        let permit = breaker.admit(100).unwrap();
        breaker.abandon(permit, 100);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn what_began_before_it_opened_says_nothing_afterwards() {
        let mut breaker = Breaker::new(LIMITS);
        let early = breaker.admit(0).unwrap();
        (0..3).for_each(|_| call(&mut breaker, false, 0));
        let _probe = breaker.admit(100).unwrap();
        breaker.report(early, true, 101, 0);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
    }

    proptest! {
        #[test]
        fn chance_only_makes_a_pause_up_to_a_half_longer(chance: u32, pauses in 0u32..64) {
            let breaker = Breaker { pauses, ..Breaker::new(LIMITS) };
            let pause_ms = breaker.pause_ms(chance);
            prop_assert!((100..=450).contains(&pause_ms));
        }

        /// An open breaker never stays open for good.
        #[test]
        fn it_always_comes_back(outcomes in prop::collection::vec(any::<(bool, u32, u16)>(), 1..100)) {
            let mut breaker = Breaker::new(LIMITS);
            let mut now_ms = 0;
            for (is_success, chance, pass_ms) in outcomes {
                now_ms += u64::from(pass_ms);
                if let Some(permit) = breaker.admit(now_ms) {
                    breaker.report(permit, is_success, now_ms, chance);
                }
            }
            prop_assert!(breaker.admit(now_ms + 450).is_some());
        }
    }
}
